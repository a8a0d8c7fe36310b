"""A run that must end: between revisions, in mid-statement, in an autocommit block, in Python code."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, Database, until

FIVE = {f"r{number}": f"op.execute('CREATE TABLE t{number} (id int)')\ntime.sleep(0.5)" for number in range(1, 6)}
AT_WORK = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
)


def steps(database: Database) -> list[str]:
    return [revision for (revision,) in database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id")]


async def test_a_run_stops_between_revisions_and_the_next_call_continues(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**FIVE), time_budget=2)) as client:
        first = await client.post("/migrate", headers=APPLY)
        assert first.status_code == 503, first.text
        assert first.headers["retry-after"] == "1"
        problem = first.json()
        assert problem["type"].endswith("#time-budget-exhausted")
        assert problem["retryable"] is True
        applied = [step["revision"] for step in problem["applied"]]
        remaining = [step["revision"] for step in problem["remaining"]]
        assert applied
        assert remaining
        assert applied + remaining == list(FIVE)
        assert steps(database) == applied
        assert database.value("SELECT outcome FROM migration_endpoint.run") == "failed"
        answer = first
        for _ in range(5):
            if answer.status_code != 503:
                break
            answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text
    assert steps(database) == list(FIVE)


async def test_the_platform_s_deadline_counts_like_the_budget(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=2)
    async with client_of(settings(write_history(**FIVE)), invocation_ends=lambda: ends) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert datetime.now(UTC) < ends + timedelta(seconds=1)
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"].endswith("#time-budget-exhausted")
    assert steps(database) == [step["revision"] for step in answer.json()["applied"]]


async def test_an_invocation_that_is_over_starts_no_revision(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**FIVE)), invocation_ends=lambda: datetime.now(UTC)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.json()["type"].endswith("#time-budget-exhausted"), answer.text
    assert answer.json()["applied"] == []
    assert database.value("SELECT to_regclass('t1') IS NULL")


SLOW = {
    "one statement": "op.execute('CREATE TABLE late (id int)')\nop.execute('SELECT pg_sleep(20)')",
    "a timeout of its own": "op.execute('SET LOCAL statement_timeout = 0')\nop.execute('SELECT pg_sleep(20)')",
    "many statements": "for _ in range(200):\n    op.execute('SELECT pg_sleep(0.1)')",
    "autocommit": "with op.get_context().autocommit_block():\n    op.execute('SELECT pg_sleep(20)')",
}


@pytest.mark.parametrize(
    ("slow", "way"),
    [*((slow, "direct") for slow in SLOW), ("one statement", "transaction"), ("autocommit", "transaction")],
)
async def test_a_statement_that_would_outlast_the_budget_is_cancelled_and_the_next_call_has_more_time_for_it(
    slow: str,
    way: str,
    settings: MakeSettings,
    write_history: WriteHistory,
    database: Database,
    through_pgbouncer: Callable[..., Database],
) -> None:
    on = database if way == "direct" else through_pgbouncer(way)
    history = write_history(first="op.execute('CREATE TABLE first (id int)')\ntime.sleep(0.9)", slow=SLOW[slow])
    async with client_of(settings(history, database_url=on.url, time_budget=2)) as client:
        began = time.monotonic()
        answer = await client.post("/migrate", headers=APPLY)
        assert time.monotonic() - began < 5
        problem = answer.json()
        assert answer.status_code == 503, answer.text
        assert problem["type"].endswith("#time-budget-exhausted")
        assert problem["revision"] == "slow"
        assert steps(database) == ["first"]
        assert database.value("SELECT to_regclass('late') IS NULL")
        until(lambda: database.value(AT_WORK) == 0, seconds=2, what="the statement to end")
        # With the whole budget for itself it is still too slow: to call again would never end.
        again = await client.post("/migrate", headers=APPLY)
    assert again.status_code == 504, again.text
    assert again.json()["type"].endswith("#statement-timeout")
    assert again.json()["retryable"] is False
    assert "MIGRATION_TIME_BUDGET" in again.json()["hint"]
    until(lambda: database.value(AT_WORK) == 0, seconds=2, what="the statement to end")


async def test_a_stricter_statement_timeout_of_the_role_stays(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute(f"ALTER DATABASE \"{database.address.database}\" SET statement_timeout = '300ms'")
    history = write_history(slow="op.execute('SELECT pg_sleep(20)')")
    async with client_of(settings(history, time_budget=30)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 504, answer.text
    assert "statement timeout" in answer.json()["detail"]
    assert "MIGRATION_TIME_BUDGET" not in answer.json()["hint"]


async def test_python_code_that_does_not_return_does_not_keep_the_answer_nor_the_lock(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(
        first="op.execute('CREATE TABLE first (id int)')\ntime.sleep(0.5)",
        stuck="op.execute('CREATE TABLE late (id int)')\ntime.sleep(4)\nop.execute('INSERT INTO late VALUES (1)')",
    )
    async with client_of(settings(history, time_budget=2)) as client:
        began = time.monotonic()
        answer = await client.post("/migrate", headers=APPLY)
        assert time.monotonic() - began < 4
        assert answer.status_code == 503, answer.text
        assert answer.json()["revision"] == "stuck"
        assert steps(database) == ["first"]
        assert not database.is_locked
        until(lambda: database.value(AT_WORK) == 0, seconds=2, what="the transaction to end")
        # Alembic is still busy in this process, so the next caller has to wait for it.
        refused = await client.post("/migrate", headers=APPLY, json={"lock_wait_s": 0})
        assert refused.json()["type"].endswith("#lock-held"), refused.text
        for _ in range(6):
            answer = await client.post("/migrate", headers=APPLY, json={"target": "first"})
            if answer.status_code != 409:
                break
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT to_regclass('late') IS NULL")


async def test_a_caller_does_not_wait_for_the_lock_until_its_invocation_is_killed(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(slow="op.execute('SELECT pg_sleep(3)')")
    async with client_of(settings(history)) as holder, client_of(settings(history, time_budget=1)) as client:
        call = asyncio.create_task(holder.post("/migrate", headers=APPLY))
        await asyncio.to_thread(until, lambda: database.is_locked, what="the lock to be held")
        began = time.monotonic()
        answer = await client.post("/migrate", headers=APPLY, json={"lock_wait_s": 60})
        assert time.monotonic() - began < 2
        assert answer.json()["type"].endswith("#lock-held"), answer.text
        assert (await call).status_code == 200


async def test_lock_timeouts_are_not_tried_again_when_the_time_is_over(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute("CREATE TABLE busy (id int)")
    history = write_history(a1="op.execute('ALTER TABLE busy ADD x int')")
    with database.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE busy")
        async with client_of(settings(history, time_budget=2, lock_timeout=0.3, lock_retries=1000)) as client:
            began = time.monotonic()
            answer = await client.post("/migrate", headers=APPLY)
            assert time.monotonic() - began < 3
    assert answer.json()["type"].endswith("#lock-timeout"), answer.text
    assert answer.json()["blockers"]
    assert 1 < answer.json()["attempts"] < 10


async def test_postgresql_itself_knows_the_limit_wherever_one_can_be_set(
    on: Database, settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    look = "INSERT INTO seen SELECT extract(epoch FROM current_setting('statement_timeout')::interval)"
    history = write_history(
        a1="op.execute('CREATE TABLE seen (seconds float)')",
        b2=f"op.execute({look!r})",
        c3=f"time.sleep(1)\nwith op.get_context().autocommit_block():\n    op.execute({look!r})",
        d4=f"op.execute({look!r})",
    )
    async with client_of(settings(history, database_url=on.url, time_budget=100)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text
    first, alone, last = (seconds for (seconds,) in database.execute("SELECT seconds FROM seen ORDER BY ctid"))
    assert 85 < last < first - 1 < 95
    # A session's setting would stay behind in a pooler, for a stranger.
    assert (85 < alone < first - 1) if on is database else alone == 0
