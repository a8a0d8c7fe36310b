"""Poolers: their mode is told apart, what they take away is said, and nothing of ours stays behind in them."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database

CREATE_A = "op.execute('CREATE TABLE a (id int)')"
OURS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "client_connection_check_interval")
LOOK = (
    "SELECT application_name, "
    + ", ".join(f"current_setting('{name}')" for name in OURS)
    + """, pid
FROM pg_stat_activity WHERE pid = pg_backend_pid()"""
)


@pytest.mark.parametrize("pool_size", [2, 20])
async def test_a_transaction_pooler_is_recognised_and_reported(
    pool_size: int,
    settings: MakeSettings,
    write_history: WriteHistory,
    through_pgbouncer: Callable[..., Database],
) -> None:
    on = through_pgbouncer("transaction", pool_size=pool_size)
    async with client_of(settings(write_history(a1=CREATE_A), database_url=on.url)) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 200, answer.text
        status = (await client.get("/status", headers=READ)).json()
    assert (status["database"]["pooler"], status["database"]["pool_mode"]) == (True, "transaction")
    for warnings in (answer.json()["warnings"], status["warnings"]):
        (warning,) = warnings
        assert "transaction pooler" in warning
        assert "autocommit block no limit can be set" in warning
        assert "MIGRATION_DATABASE_URL" in warning


async def test_a_busy_transaction_pooler_is_recognised_too(
    settings: MakeSettings, write_history: WriteHistory, through_pgbouncer: Callable[..., Database]
) -> None:
    on = through_pgbouncer("transaction", pool_size=5)
    ended = asyncio.Event()

    async def use() -> None:
        async with await psycopg.AsyncConnection.connect(on.url, autocommit=True, prepare_threshold=None) as strangers:
            while not ended.is_set():
                await strangers.execute("SELECT pg_sleep(0.002)")

    async with client_of(settings(write_history(a1=CREATE_A), database_url=on.url)) as client:
        users = [asyncio.create_task(use()) for _ in range(8)]
        try:
            found = [(await client.get("/status", headers=READ)).json()["database"]["pool_mode"] for _ in range(5)]
        finally:
            ended.set()
            await asyncio.gather(*users)
    assert found == ["transaction"] * 5


async def test_a_session_pooler_is_recognised_and_reported(
    settings: MakeSettings, write_history: WriteHistory, through_pgbouncer: Callable[..., Database]
) -> None:
    on = through_pgbouncer("session")
    async with client_of(settings(write_history(a1=CREATE_A), database_url=on.url)) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 200, answer.text
        status = (await client.get("/status", headers=READ)).json()
    assert (status["database"]["pooler"], status["database"]["pool_mode"]) == (True, "session")
    for warnings in (answer.json()["warnings"], status["warnings"]):
        (warning,) = warnings
        assert "session pooler" in warning


async def test_an_exhausted_pool_costs_the_status_nothing_but_the_mode(
    settings: MakeSettings, write_history: WriteHistory, through_pgbouncer: Callable[..., Database]
) -> None:
    on = through_pgbouncer("session", pool_size=1)
    async with client_of(settings(write_history(a1=CREATE_A), database_url=on.url)) as client:
        answer = await client.get("/status", headers=READ)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["database"]["pooler"], answer.json()["database"]["pool_mode"]) == (True, None)


async def test_a_hundred_clients_of_a_pool_of_three_find_nothing_of_a_run_s_in_their_sessions(
    settings: MakeSettings,
    write_history: WriteHistory,
    database: Database,
    through_pgbouncer: Callable[..., Database],
) -> None:
    on = through_pgbouncer("transaction", pool_size=3)
    database.execute("CREATE TABLE t (id int)")
    history = write_history(
        **{
            f"r{number}": f"op.execute('ALTER TABLE t ADD c{number} int; SELECT pg_sleep(0.02)')\n"
            "op.get_bind().execute(sa.text('INSERT INTO t (id) VALUES (:n)'), {'n': 1})\n"
            "with op.get_context().autocommit_block():\n"
            f"    op.execute('CREATE INDEX CONCURRENTLY ON t (c{number})')"
            for number in range(20)
        }
    )
    seen: list[tuple[str, tuple[object, ...]]] = []
    ended = asyncio.Event()

    async def be_a_client(number: int) -> None:
        # Every other one gives no name, and must not wear that of the run whose backend it gets.
        name = f"client-{secrets.token_hex(4)}" if number % 2 else ""
        options: dict[str, Any] = {"application_name": name} if name else {}
        while not ended.is_set() or not seen:
            async with await psycopg.AsyncConnection.connect(
                on.url, autocommit=True, prepare_threshold=None, **options
            ) as client:
                for _ in range(3):
                    row = await (await client.execute(LOOK)).fetchone()
                    assert row is not None
                    seen.append((name, row))
                    await asyncio.sleep(0.05)

    async with client_of(settings(history, database_url=on.url, lock_timeout=3, time_budget=120, lease=7)) as client:
        clients = [asyncio.create_task(be_a_client(number)) for number in range(100)]
        for _ in range(10):
            answer = await client.post("/migrate", headers=APPLY)
            if answer.status_code == 200:
                break
        await client.get("/status", headers=READ)
        ended.set()
        await asyncio.gather(*clients)
    assert answer.status_code == 200, answer.text
    assert len({name for name, _ in seen}) == 51
    # They share the run's backends. A few more than three: PgBouncer replaces one whose client left in mid-statement.
    assert len({row[-1] for _, row in seen}) < 20
    defaults = database.execute(LOOK)[0][1:5]
    assert {row[1:5] for _, row in seen} == {defaults}
    assert [(name, row[0]) for name, row in seen if name and row[0] != name] == []
    # PgBouncer gives a client without a name that of whoever was there before; it must not be a run's.
    assert {str(row[0]).partition("-")[0] for name, row in seen if not name} <= {"", "client", "migration"}
