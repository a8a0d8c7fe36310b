"""What the tests of the HTTP door ask of every answer."""

from typing import Any

import httpx

from app.settings import Settings
from tests import servers

DEAD_PASSWORD = "Gustav+Gans=13"
DEAD = f"postgresql://somebody:{DEAD_PASSWORD}@127.0.0.1:1/nowhere"
"""A database that is not there: nothing listens on port 1."""

MEMBERS = {"type", "title", "status", "detail", "instance", "retryable", "hint", "request_id"}


def without_database(**changes: Any) -> Settings:
    """Settings with the tests' keys, and a database that is not there."""
    chosen = {"api_key": servers.API_KEY, "read_key": servers.READ_KEY, "database_url": DEAD}
    return Settings(**(chosen | changes))


def problem(answer: httpx.Response, slug: str, status: int) -> dict[str, Any]:
    """See that the answer is this problem, complete and without anything that must not leave; its document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    document: dict[str, Any] = answer.json()
    assert document.keys() >= MEMBERS
    assert document["type"].startswith("https://")
    assert document["type"].endswith(f"#{slug}"), document
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["hint"]
    assert document["instance"] == answer.request.url.raw_path.decode().partition("?")[0]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["retryable"] is ("retry-after" in answer.headers)
    assert_tells_no_secret(answer.text)
    return document


def assert_tells_no_secret(text: str, *secrets: str) -> None:
    """See that a text holds no key of the tests, no connection string, no traceback, and none of `secrets`."""
    for secret in (servers.API_KEY, servers.READ_KEY, DEAD_PASSWORD, "://somebody", "Traceback", 'File "', *secrets):
        assert secret not in text, f"{secret!r} is in {text!r}"
