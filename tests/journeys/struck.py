"""A call that is struck by a fault of the network, and what one then looks at."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import Settings
from tests.conftest import WriteHistory, client_of
from tests.servers import APPLY, Database, until

LEASE_S = 2
SPARE_S = 6
"""What a run may need beyond the lease: to see that something is wrong, and to put it on record."""

LOST, UNAVAILABLE = "lock-lost", "database-unavailable"

CONTROL = "^migration-endpoint$"
GUARD = 0
"""The first connection of a run is its guard's."""
WORKING = "^migrate/"


@dataclass(frozen=True)
class Struck:
    """What a caller was told whose call was struck, and how long after."""

    answer: httpx.Response
    after_s: float

    def problem(self, *slugs: str) -> dict[str, Any]:
        """The problem, which must be one of these and say that the same call may succeed later."""
        assert self.answer.status_code == 503, self.answer.text
        problem: dict[str, Any] = self.answer.json()
        assert problem["type"].partition("#")[2] in slugs, self.answer.text
        assert problem["retryable"] is True
        assert int(self.answer.headers["retry-after"]) > 0
        return problem


async def struck(
    configuration: Settings,
    fault: Callable[[], object],
    *,
    when: Callable[[], object],
    otherwise: Callable[[], object] = lambda: None,
) -> Struck:
    """Call, and let the fault happen when it is time for it; `otherwise` ends a call that does not end by itself."""
    async with client_of(configuration) as client:
        call = asyncio.create_task(client.post("/migrate", headers=APPLY))
        await comes_true(lambda: call.done() or when(), what="the run to be where the fault is to strike")
        assert not call.done(), call.result().text
        began = time.monotonic()
        await asyncio.to_thread(fault)
        await asyncio.wait([call], timeout=LEASE_S + 2 * SPARE_S)
        after_s = time.monotonic() - began
        if not call.done():  # a thread that waits for ever would keep the test's event loop from closing
            otherwise()
            await asyncio.wait([call], timeout=SPARE_S)
            pytest.fail(f"the call did not end within {after_s:.0f} s")
        return Struck(call.result(), after_s)


async def calls_again(configuration: Settings) -> dict[str, Any]:
    """Call once the network is well; the answer."""
    async with client_of(configuration) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text
    answered: dict[str, Any] = answer.json()
    return answered


async def comes_true(condition: Callable[[], object], *, seconds: float = 10, what: str) -> None:
    """`until`, in a thread, for the sake of the application in this process."""
    await asyncio.to_thread(until, condition, seconds=seconds, what=what)


def revisions(answer: dict[str, Any], member: str) -> list[str]:
    """The revisions in a member of an answer."""
    return [each["revision"] for each in answer[member]]


def a_history(write_history: WriteHistory, wait: str = "op.execute('SELECT pg_sleep(20)')") -> Path:
    """Three revisions; the second one does its `wait` in the middle, until there is a row in the table `patience`."""
    return write_history(
        a1="op.execute('CREATE TABLE a (id int)')",
        b2="op.execute('CREATE TABLE b (id int)')\n"
        f"if not op.get_bind().scalar(sa.text('SELECT count(*) FROM patience')):\n    {wait}\n"
        "op.execute('CREATE TABLE b_too (id int)')",
        c3="op.execute('CREATE TABLE c (id int)')",
    )


def at_work(database: Database) -> list[tuple[str, str, str | None]]:
    """The state, statement and wait of the working backends that are not idle."""
    return database.execute(
        "SELECT state, query, wait_event FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name ~ '^migrate/[0-9a-f-]{36}$' AND state <> 'idle'"
    )


def has_answered_once(database: Database) -> bool:
    """Whether a working backend has answered something, and has no transaction open."""
    return bool(
        database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name LIKE 'migrate/%' AND state = 'idle' AND query <> ''"
        )
    )


def is_asleep(database: Database) -> bool:
    return any(wait == "PgSleep" for _, _, wait in at_work(database))


def is_between_statements(database: Database) -> bool:
    """Whether a revision has asked for the patience there is, and does something without the database since."""
    return any(state == "idle in transaction" and "patience" in query for state, query, _ in at_work(database))


def is_committing(database: Database) -> bool:
    """Whether a COMMIT sleeps in a trigger."""
    return any("COMMIT" in query and wait == "PgSleep" for _, query, wait in at_work(database))


def is_on_record(database: Database) -> bool:
    return bool(database.value("SELECT to_regclass('migration_endpoint.run')")) and bool(outcomes(database))


def outcomes(database: Database) -> list[str]:
    """How the runs on record ended, the first one first."""
    rows = database.execute("SELECT outcome FROM migration_endpoint.run ORDER BY started_at, id")
    return [outcome for (outcome,) in rows]


def steps(database: Database) -> list[str]:
    """The revisions on record as applied, the first one first."""
    return [revision for (revision,) in database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id")]
