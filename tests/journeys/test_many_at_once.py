"""Many callers, many server processes, one database: every revision is applied exactly once."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import WriteHistory
from tests.servers import APPLY, Database, Service

CALLS = 50
REVISIONS = [f"r{number:02}" for number in range(1, 21)]
SLEEPER = "r10"
SHORT_WAIT_S, LONG_WAIT_S = 0.4, 30.0

SLACK_S = 5.0
"""Beside its wait a caller pays for a connection, a look, and the record of its refusal: fifty at once, on two cores
that other tests use as well."""


@dataclass(frozen=True)
class Answered:
    wait_s: float
    took_s: float
    response: httpx.Response

    @property
    def body(self) -> Any:
        return self.response.json()


def twenty_revisions(write_history: WriteHistory) -> Path:
    bodies = {revision: f"op.execute(\"INSERT INTO seen VALUES ('{revision}')\")" for revision in REVISIONS}
    bodies[REVISIONS[0]] = "op.execute('CREATE TABLE seen (revision text)')\n" + bodies[REVISIONS[0]]
    bodies[SLEEPER] += "\ntime.sleep(1)"
    return write_history(**bodies)


def call_all(services: list[Service]) -> list[Answered]:
    """Fifty calls at once, every other one in a hurry, spread over the services."""

    def call(number: int) -> Answered:
        wait_s = SHORT_WAIT_S if number % 2 else LONG_WAIT_S
        began = time.monotonic()
        response = client.post(
            f"{services[number % len(services)].url}/migrate", json={"lock_wait_s": wait_s}, headers=APPLY
        )
        return Answered(wait_s, time.monotonic() - began, response)

    with (
        httpx.Client(timeout=90, limits=httpx.Limits(max_connections=CALLS)) as client,
        ThreadPoolExecutor(CALLS) as pool,
    ):
        return list(pool.map(call, range(CALLS)))


def see_that_each_revision_ran_once(database: Database, answers: list[Answered]) -> None:
    texts = [answer.response.text for answer in answers if answer.response.status_code not in (200, 409)]
    assert texts == []
    assert database.execute("SELECT revision, count(*) FROM seen GROUP BY 1 ORDER BY 1") == [
        (revision, 1) for revision in REVISIONS
    ]
    assert database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id") == [
        (revision,) for revision in REVISIONS
    ]
    assert database.execute("SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]
    assert database.value("SELECT count(*) FROM migration_endpoint.run WHERE outcome = 'upgraded'") == 1
    assert database.value("SELECT count(*) FROM migration_endpoint.run WHERE outcome IN ('running', 'failed')") == 0
    outcomes = Counter(
        answer.body["outcome"] if answer.response.status_code == 200 else answer.body["type"].partition("#")[2]
        for answer in answers
    )
    assert outcomes["upgraded"] == 1
    assert set(outcomes) <= {"upgraded", "up_to_date", "lock-held"}
    assert outcomes["lock-held"] > 0, outcomes
    (run,) = database.execute("SELECT id::text FROM migration_endpoint.run WHERE outcome = 'upgraded'")
    for answer in answers:
        if answer.response.status_code == 409:
            assert answer.body["holder"]["run_id"] == run[0], answer.body
            assert answer.body["holder"]["progress"], answer.body
            assert answer.wait_s == SHORT_WAIT_S, "a caller with all the time in the world was refused"
            assert answer.body["waited_ms"] <= (answer.wait_s + SLACK_S) * 1000
            assert answer.took_s <= answer.wait_s + SLACK_S
        elif answer.body["outcome"] == "up_to_date":
            assert answer.took_s <= answer.wait_s + SLACK_S
            assert answer.body["applied"] == []


def test_ten_processes_and_fifty_calls_apply_each_of_twenty_revisions_exactly_once(
    write_history: WriteHistory, database: Database, serve_many: Callable[..., list[Service]]
) -> None:
    services = serve_many(10, twenty_revisions(write_history))
    see_that_each_revision_ran_once(database, call_all(services))


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_ten_processes_and_fifty_calls_through_pgbouncer_apply_each_revision_exactly_once(
    mode: str,
    write_history: WriteHistory,
    database: Database,
    through_pgbouncer: Callable[..., Database],
    serve_many: Callable[..., list[Service]],
) -> None:
    # In session mode each connection keeps one of the pool: one for a process that waits, one for a refusal that it
    # puts on record, three for the one at work.
    services = serve_many(10, twenty_revisions(write_history), through_pgbouncer(mode, pool_size=25))
    see_that_each_revision_ran_once(database, call_all(services))
