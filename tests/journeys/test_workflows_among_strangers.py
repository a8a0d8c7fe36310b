"""The workflows and whom they must not trust: what an event says, and servers that are not a Migration Endpoint."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests import servers
from tests.workflows import AFTER, BYPASS, DEPLOYMENT, GATE, Repository


@contextmanager
def stranger(answer: Callable[[str], tuple[int, str]], **headers: str) -> Iterator[tuple[str, list[str]]]:
    """A server that is not ours: its URL, and the requests that it got, of which `answer` makes a status and a body."""
    got: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = f"{self.requestline}\n{self.headers}"
            got.append(sent)
            status, body = answer(sent)
            content = body.encode()
            self.send_response(status)
            for header, value in headers.items():
                self.send_header(header.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing: `got` has it."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


BUSY = '{"title": "Busy", "detail": "In a moment.", "hint": "Call again.", "retryable": true}'


def done(deployment: str | None = None) -> str:
    """The part of a run's answer that counts."""
    return json.dumps({"outcome": "up_to_date", "deployment": {"id": deployment}})


HOSTILE = (
    "$(touch x)",
    "`touch x`",
    '"; touch x; "',
    "'; touch x; '",
    "a\ntouch x\n",
    "\n::error::x",
    "${IFS}",
    "--config=x",
)


def test_a_key_that_nobody_has_set_is_told_without_a_call(repository: Repository) -> None:
    del repository.runner.secrets["MIGRATION_API_KEY"]
    with stranger(lambda _: (200, "{}")) as (url, got):
        job = repository.deployed(AFTER, url)
    assert not job.succeeded
    assert "set the secret MIGRATION_API_KEY" in job.summary
    assert got == []


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", [GATE, AFTER])
def test_a_hostile_url_is_refused_and_nothing_of_it_is_run(name: str, hostile: str, repository: Repository) -> None:
    for url in (hostile, f"https://shop.example/{hostile}", f"http://127.0.0.1:1{hostile}"):
        job = repository.deployed(name, url)
        assert not job.succeeded
        assert "not of the form" in job.summary
    assert list(repository.runner.workspace.iterdir()) == []


def test_an_answer_that_names_no_deployment_does_not_open_the_gate(repository: Repository) -> None:
    with stranger(lambda _: (200, done())) as (url, _):
        job = repository.deployed(GATE, url)
    assert not job.succeeded
    assert "another deployment" in job.summary


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_id_is_only_an_id_that_nobody_has(hostile: str, repository: Repository) -> None:
    with stranger(lambda _: (200, done(DEPLOYMENT))) as (url, got):
        job = repository.deployed(GATE, url, id=hostile)
    assert not job.succeeded
    assert len(got) == 1
    assert "another deployment" in job.summary
    assert list(repository.runner.workspace.iterdir()) == []


def test_the_key_and_the_bypass_travel_in_headers(repository: Repository) -> None:
    with stranger(lambda _: (200, done())) as (url, got):
        assert repository.deployed(AFTER, url).succeeded
    assert got[0].startswith("POST /migrate ")
    assert f"Authorization: Bearer {servers.API_KEY}\n" in got[0]
    assert f"x-vercel-protection-bypass: {BYPASS}\n" in got[0]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "<html>the shop</html>"),
        (200, ""),
        (200, "[]"),
        (200, '{"outcome": "refused"}'),
        (202, '{"outcome": "upgraded"}'),
        (401, "<html>Authentication Required</html>"),
        (404, '{"error": {"code": "DEPLOYMENT_NOT_FOUND"}}'),
        (504, "FUNCTION_INVOCATION_TIMEOUT"),
    ],
)
def test_an_answer_that_is_not_ours_fails_at_once(status: int, body: str, repository: Repository) -> None:
    with stranger(lambda _: (status, body)) as (url, got):
        job = repository.deployed(AFTER, url)
    assert not job.succeeded
    assert len(got) == 1
    assert f"answered with {status}" in job.output
    assert "no answer of a Migration Endpoint" in job.summary


def test_a_server_that_sends_back_what_it_got_neither_brings_the_key_out_nor_commands_the_runner(
    repository: Repository,
) -> None:
    with stranger(lambda sent: (200, f"::set-output name=x::y\n{sent}")) as (url, _):
        job = repository.deployed(AFTER, url)  # which sees that no secret came out
    assert not job.succeeded
    assert "Bearer ***" in job.output
    stop, *_, resume = job.output.splitlines()
    token = stop.removeprefix("::stop-commands::")
    assert len(token) == 36
    assert resume == f"::{token}::"


def test_nobody_who_listens_fails_the_job(repository: Repository) -> None:
    job = repository.deployed(AFTER, f"http://127.0.0.1:{servers.free_port()}")
    assert not job.succeeded
    assert "No answer came" in job.summary
    assert repository.slept == []


@pytest.mark.parametrize(("said", "waits_s"), [("7", 7), ("soon", 5), ("9999", 60), ("99999", 5), ("0", 5)])
def test_it_waits_as_long_as_it_is_told_within_reason(said: str, waits_s: int, repository: Repository) -> None:
    answers = iter([(503, BUSY), (200, done())])
    with stranger(lambda _: next(answers), Retry_After=said) as (url, _):
        job = repository.deployed(AFTER, url)
    assert job.succeeded, job.output
    assert repository.slept == [waits_s]


def test_it_tries_again_a_bounded_number_of_times(repository: Repository) -> None:
    repository.sleeps("true")
    with stranger(lambda _: (503, BUSY)) as (url, got):
        job = repository.deployed(AFTER, url)
    assert not job.succeeded
    assert len(got) == 40
    assert "Gave up after 40 calls" in job.output
    assert job.summary == "### Not migrated: Busy\n\nIn a moment.\n\nCall again.\n\n"


def test_it_does_not_try_again_when_its_time_would_be_over(repository: Repository) -> None:
    repository.runner.environment["SECONDS"] = "1795"  # what bash begins to count from
    with stranger(lambda _: (503, BUSY), Retry_After="5") as (url, got):
        job = repository.deployed(AFTER, url)
    assert not job.succeeded
    assert (len(got), repository.slept) == (1, [])
