"""What a review found: commits in a revision's SQL, silence, a locked version table, a damaged ledger, Ctrl-C."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi

from app.database import connection, url
from app.errors import DatabaseUnavailable
from app.migrator import cause
from tests import servers
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database

GUARD = "application_name LIKE 'migrate/% %' AND datname = current_database()"
END_THE_GUARD = f'op.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {GUARD}")'


@pytest.mark.parametrize(
    "insert",
    ["op.execute('INSERT INTO a VALUES (1)')", "op.get_bind().execute(sa.text('INSERT INTO a VALUES (:n)'), {'n': 1})"],
    ids=["simple", "with parameters"],
)
async def test_after_a_commit_in_its_sql_a_revision_that_has_lost_its_lock_changes_nothing_more(
    insert: str, settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(
        a1=f"op.execute('CREATE TABLE a (id int)')\nop.execute('COMMIT')\n{END_THE_GUARD}\n{insert}"
    )
    async with client_of(settings(history)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"].endswith("#lock-lost")
    assert database.value("SELECT count(*) FROM a") == 0
    assert database.execute("SELECT version_num FROM alembic_version") == []


@pytest.mark.parametrize(
    "body",
    [
        "op.execute('CREATE TABLE a (id int)')\nop.execute('COMMIT')\nop.execute('SELECT 1/0')",
        "op.execute('CREATE TABLE a (id int); COMMIT; SELECT 1/0')",
    ],
    ids=["statements", "one string"],
)
async def test_what_a_commit_in_its_sql_left_is_not_called_rolled_back(
    body: str, settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(a1=body))) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 500, answer.text
    assert answer.json()["rolled_back"] is False
    assert "what it had committed by itself stays" in answer.json()["detail"]
    assert database.value("SELECT to_regclass('a') IS NOT NULL")


async def test_a_revision_that_committed_in_its_sql_is_not_run_again_after_a_lock_timeout(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute("CREATE TABLE busy (id int)")
    database.execute("CREATE TABLE tries (id int)")
    history = write_history(
        a1="op.execute('INSERT INTO tries VALUES (1)')\nop.execute('COMMIT')\n"
        "op.execute(\"SET lock_timeout = '200ms'\")\nop.execute('ALTER TABLE busy ADD x int')"
    )
    with database.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE busy")
        async with client_of(settings(history, lock_retries=3)) as client:
            answer = await client.post("/migrate", headers=APPLY)
    assert answer.json()["type"].endswith("#lock-timeout"), answer.text
    assert (answer.json()["attempts"], answer.json()["rolled_back"]) == (1, False)
    assert database.value("SELECT count(*) FROM tries") == 1


@pytest.mark.parametrize("statement", ["SELECT forgets()", "DO 'BEGIN PERFORM forgets(); END'", "DEALLOCATE ALL"])
async def test_a_revision_that_deallocates_what_the_run_keeps_ready_is_run_all_the_same(
    settings: MakeSettings, write_history: WriteHistory, database: Database, statement: str
) -> None:
    database.execute(
        "CREATE FUNCTION forgets() RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE 'DEALLOCATE ' || 'ALL'; END$$"
    )
    revisions = {f"r{number}": f"op.execute('CREATE TABLE t{number} (id int)')" for number in range(6)}
    revisions["r3"] += f"\nop.execute({statement!r})"
    async with client_of(settings(write_history(**revisions))) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text
    assert [step["revision"] for step in answer.json()["applied"]] == list(revisions)
    assert database.value("SELECT count(*) FROM pg_tables WHERE tablename ~ '^t[0-9]$'") == 6
    assert database.value("SELECT retries FROM migration_endpoint.run") == (statement != "DEALLOCATE ALL")


async def test_a_session_does_not_wait_for_ever_for_an_answer(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_ANSWER_TIMEOUT_S", 0.3)
    began = time.monotonic()
    async with connection.session(url.database(settings())) as session:
        with pytest.raises(DatabaseUnavailable, match="did not answer a short statement within"):
            await session.execute("SELECT pg_sleep(20)")
        # A late answer must not be taken for that of the next statement.
        with pytest.raises(DatabaseUnavailable):
            await session.execute("SELECT 'new'")
    assert time.monotonic() - began < 5


async def test_a_locked_version_table_is_a_problem_and_not_a_hang(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(a1="op.execute('CREATE TABLE a (id int)')"))) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
        with database.connect() as holder, holder.transaction():
            holder.execute("LOCK TABLE alembic_version")
            began = time.monotonic()
            health = await client.get("/health", headers=READ)
            migrate = await client.post("/migrate", headers=APPLY)
            assert time.monotonic() - began < 10
    assert (health.status_code, health.json()["status"]) == (503, "fail")
    assert migrate.status_code == 503
    assert migrate.json()["type"].endswith("#database-unavailable")
    assert migrate.json()["retryable"] is True


async def test_a_ledger_whose_steps_cannot_be_written_does_not_stop_a_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="op.execute('CREATE TABLE b (id int)')")
    async with client_of(settings(history)) as client:
        assert (await client.post("/migrate", headers=APPLY, json={"target": "a1"})).status_code == 200
        database.execute("ALTER TABLE migration_endpoint.step RENAME sha256 TO checksum")
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text
    assert answer.json()["to"] == ["b2"]
    assert any("could not be written" in warning for warning in answer.json()["warnings"])


async def test_a_ledger_that_has_lost_its_steps_gets_them_again(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="op.execute('CREATE TABLE b (id int)')")
    async with client_of(settings(history)) as client:
        assert (await client.post("/migrate", headers=APPLY, json={"target": "a1"})).status_code == 200
        database.execute("DROP TABLE migration_endpoint.step")
        answer = await client.post("/migrate", headers=APPLY)
        assert (answer.status_code, answer.json()["warnings"]) == (200, [])
    assert database.execute("SELECT revision FROM migration_endpoint.step") == [("b2",)]


async def test_a_connection_that_is_lost_in_an_autocommit_block_is_not_the_revision_s_fault(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1="with op.get_context().autocommit_block():\n    op.execute('SELECT pg_sleep(20)')")
    sleeping = "FROM pg_stat_activity WHERE query LIKE '/* migrate/%pg_sleep(20)' AND datname = current_database()"
    async with client_of(settings(history)) as client:
        call = asyncio.create_task(client.post("/migrate", headers=APPLY))
        await asyncio.to_thread(servers.until, lambda: database.value(f"SELECT count(*) {sleeping}"), what="sleep")
        database.execute(f"SELECT pg_terminate_backend(pid) {sleeping}")
        answer = await call
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"].endswith("#database-unavailable")


async def test_a_connection_that_is_lost_right_before_an_autocommit_block_is_not_the_revision_s_fault_either(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')\ntime.sleep(3)\n"
        "with op.get_context().autocommit_block():\n    op.execute('SELECT 1')"
    )
    waiting = (
        "FROM pg_stat_activity WHERE query LIKE '%CREATE TABLE a %' AND state = 'idle in transaction' "
        "AND datname = current_database()"
    )
    async with client_of(settings(history)) as client:
        call = asyncio.create_task(client.post("/migrate", headers=APPLY))
        await asyncio.to_thread(servers.until, lambda: database.value(f"SELECT count(*) {waiting}"), what="the pause")
        database.execute(f"SELECT pg_terminate_backend(pid) {waiting}")
        answer = await call
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"].endswith("#database-unavailable")
    assert database.value("SELECT to_regclass('a') IS NULL")


def test_a_loss_that_sqlalchemy_has_not_wrapped_is_a_loss() -> None:
    # So it comes out of Connection.execution_options(isolation_level=...), when the server's farewell came first.
    dbapi: Any = AsyncAdapt_asyncpg_dbapi
    with pytest.raises(dbapi.Error) as raised:
        raise dbapi.InternalClientError("cannot switch to state 15") from asyncpg.InternalClientError("as it says")
    assert cause.is_a_lost_connection(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        "op.execute(\"SET LOCAL application_name = 'nightly backfill'\")\nop.execute('SELECT pg_sleep(3.5)')",
        "op.execute('COMMIT')\nop.execute('SELECT pg_sleep(3.5)')",
        "op.execute(\"SELECT repeat('x', 1000) FROM generate_series(1, 500000)\")",
    ],
    ids=["renamed", "after a COMMIT", "many rows"],
)
async def test_a_statement_that_lasts_longer_than_the_lease_is_left_alone(
    body: str, on: Database, settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(a1=body), database_url=on.url, lease=1)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text


def test_ctrl_c_in_a_terminal_ends_the_work_before_it_gives_the_lock_back(
    database: Database, write_history: WriteHistory, tmp_path: Path
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')\nop.execute('SELECT pg_sleep(30)')")
    sleeping = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE query LIKE '%SELECT pg_sleep(30)%' AND state = 'active' AND datname = current_database() "
        "AND pid <> pg_backend_pid()"
    )
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "migrate"],
            cwd=servers.PROJECT,
            env=servers.environment(database, script_location=history),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        servers.until(lambda: database.value(sleeping), seconds=30, what="the revision to sleep")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=15) == 130
    finally:
        process.kill()
        process.wait()
    servers.until(lambda: not database.value(sleeping), seconds=5, what="the backend to be gone")
    assert database.value("SELECT to_regclass('a') IS NULL")
    assert "Traceback" not in (tmp_path / "output").read_text()
