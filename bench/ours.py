"""This project as its callers meet it: a service that has answered before, and a client that keeps its connection."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.side_by_side import Measure
from tests import servers
from tests.servers import APPLY, READ, Database

NAME = "Migration Endpoint"
"""As the tables show it."""
_LONGEST_S = 600


@contextmanager
def warm(database: Database, folder: Path, history: Path) -> Iterator[httpx.Client]:
    """The service under uvicorn, with the history in that folder, after it has been asked for its status."""
    with (
        servers.service(database, folder, script_location=history) as service,
        httpx.Client(base_url=service.url, timeout=_LONGEST_S) as client,
    ):
        assert client.get("/status", headers=READ).status_code == 200, service.logged()
        yield client


def migrate(client: httpx.Client, *, applies: int) -> float:
    """POST /migrate, which has to apply that many revisions; how long the answer took, in seconds."""
    began = time.perf_counter()
    answer = client.post("/migrate", headers=APPLY)
    took = time.perf_counter() - began
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["applied"]) == applies, answer.text
    return took


def migrating(client: httpx.Client, *, applies: int) -> Measure:
    """The same, to be measured in turn with others."""
    return lambda: migrate(client, applies=applies)
