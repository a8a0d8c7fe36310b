"""A table that somebody keeps locked: the revision is tried again, and who stands in the way is named."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, Database

type Blocker = psycopg.Connection[Any]


BODY = {"a1": "op.execute('CREATE TABLE other (id int)')", "b2": "op.execute('ALTER TABLE busy ADD COLUMN more int')"}


@pytest.fixture
def blocker(database: Database) -> Iterator[Blocker]:
    """A session that reads a table and then does nothing, in an open transaction."""
    database.execute("CREATE TABLE busy (id int)")
    with database.connect() as opened:
        opened.execute("SET application_name = 'a report'")
        # Without a lock timeout the run would wait for this transaction, and the test's end for the run: for ever.
        opened.execute("SET idle_in_transaction_session_timeout = '8s'")
        opened.execute("BEGIN")
        opened.execute("SELECT count(*) FROM busy WHERE id <> 4711")
        yield opened


async def test_a_table_that_stays_locked_is_a_problem_that_names_who_holds_it(
    blocker: Blocker, on: Database, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    chosen = settings(write_history(**BODY), database_url=on.url, lock_timeout=0.3, lock_retries=2)
    async with client_of(chosen) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    problem = answer.json()
    assert problem["type"].endswith("#lock-timeout")
    assert problem["retryable"] is True
    assert problem["revision"] == "b2"
    assert problem["attempts"] == 3
    assert problem["sqlstate"] == "55P03"
    assert [step["revision"] for step in problem["applied"]] == ["a1"]
    assert [step["revision"] for step in problem["remaining"]] == ["b2"]
    (named,) = problem["blockers"]
    assert named["pid"] == blocker.info.backend_pid
    assert named["application_name"] == "a report"
    assert named["state"] == "idle in transaction"
    assert named["query_age_ms"] >= 300
    assert "4711" not in answer.text
    assert database.execute("SELECT outcome, retries FROM migration_endpoint.run") == [("failed", 2)]
    assert blocker.execute("SELECT count(*) FROM busy").fetchone() == (0,)  # whoever was there first goes on


async def test_without_retries_the_blocker_is_named_all_the_same(
    blocker: Blocker, write_history: WriteHistory, settings: MakeSettings
) -> None:
    async with client_of(settings(write_history(**BODY), lock_timeout=0.5, lock_retries=0)) as client:
        problem = (await client.post("/migrate", headers=APPLY)).json()
    assert problem["attempts"] == 1
    assert [blocking["pid"] for blocking in problem["blockers"]] == [blocker.info.backend_pid]


async def test_a_table_that_is_freed_meanwhile_costs_a_retry_and_nothing_else(
    blocker: Blocker, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(a1=BODY["a1"], b2="op.execute('INSERT INTO other VALUES (1)')\n" + BODY["b2"])
    async with client_of(settings(history, lock_timeout=0.2, lock_retries=20)) as client:
        call = asyncio.create_task(client.post("/migrate", headers=APPLY))
        waits = 0
        while waits < 2 and not call.done():  # two lock timeouts at least
            waited = database.value(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            waits += waited
            await asyncio.sleep(0.25 if waited else 0.02)
        blocker.execute("ROLLBACK")
        answer = await call
    assert answer.status_code == 200, answer.text
    assert [step["revision"] for step in answer.json()["applied"]] == ["a1", "b2"]
    assert database.value("SELECT count(*) FROM other") == 1
    assert database.execute("SELECT outcome, retries > 0 FROM migration_endpoint.run") == [("upgraded", True)]
    assert database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id") == [("a1",), ("b2",)]


async def test_a_revision_that_committed_something_by_itself_is_not_run_again(
    blocker: Blocker, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1=BODY["a1"],
        b2="with op.get_context().autocommit_block():\n    op.execute('INSERT INTO other VALUES (1)')\n" + BODY["b2"],
    )
    async with client_of(settings(history, lock_timeout=0.2, lock_retries=5)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"].endswith("#lock-timeout")
    assert answer.json()["attempts"] == 1
    assert database.value("SELECT count(*) FROM other") == 1


async def test_a_reader_never_queues_for_longer_than_the_lock_timeout(
    blocker: Blocker, on: Database, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    chosen = settings(write_history(**BODY), database_url=on.url, lock_timeout=0.5, lock_retries=3)
    async with client_of(chosen) as client:
        call = asyncio.create_task(client.post("/migrate", headers=APPLY))
        longest = 0.0
        with database.connect() as reader:
            reader.execute("SET lock_timeout = '5s'")
            while not call.done():
                began = asyncio.get_running_loop().time()
                await asyncio.to_thread(reader.execute, "SELECT count(*) FROM busy")
                longest = max(longest, asyncio.get_running_loop().time() - began)
                await asyncio.sleep(0.01)
        assert (await call).status_code == 503
    # The room is for a busy machine; without a lock timeout it would be the eight seconds of the blocker.
    assert 0.2 < longest < 0.5 + 0.7


async def test_a_deadlock_is_tried_again(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE TABLE one (id int); CREATE TABLE two (id int)")
    history = write_history(
        a1="op.execute('LOCK TABLE one')\nop.execute(\"SET LOCAL lock_timeout = '20s'\")\nop.execute('LOCK TABLE two')"
    )
    with database.connect() as other:
        other.execute("SET deadlock_timeout = '60s'")  # so that the run is the one that finds the deadlock
        other.execute("BEGIN")
        other.execute("LOCK TABLE two")
        async with client_of(settings(history, lock_retries=5)) as client:
            call = asyncio.create_task(client.post("/migrate", headers=APPLY))
            for _ in range(500):
                if database.value(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'two'::regclass"
                    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                ):
                    break
                await asyncio.sleep(0.02)
            await asyncio.to_thread(other.execute, "LOCK TABLE one")
            other.execute("ROLLBACK")
            answer = await call
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT retries FROM migration_endpoint.run") >= 1
