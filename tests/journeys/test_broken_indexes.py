"""INVALID indexes: what a broken concurrent build leaves is named everywhere, and cleared away before a rebuild."""

import asyncio
import signal
from collections.abc import Callable

import httpx
import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database, Service, until

TABLE = "op.execute('CREATE TABLE t (id int, x int); INSERT INTO t SELECT 1, 1 FROM generate_series(1, 3)')"


def building(statement: str) -> str:
    return f"with op.get_context().autocommit_block():\n    op.execute({statement!r})"


UNIQUE = building("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_x ON t (x)")
"""Fails as long as the table holds duplicates, and leaves the index INVALID."""


def indexes(database: Database) -> list[tuple[str, bool]]:
    return [
        (name, valid)
        for name, valid in database.execute(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = to_regclass('t') ORDER BY 1"
        )
    ]


async def health(client: httpx.AsyncClient) -> dict[str, object]:
    found: dict[str, object] = (await client.get("/health", headers=READ)).json()
    return found


async def test_a_failed_build_is_named_everywhere_and_built_anew(
    on: Database, settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(a1=TABLE, b2=UNIQUE), database_url=on.url)) as client:
        failed = await client.post("/migrate", headers=APPLY)
        assert failed.status_code == 500, failed.text
        problem = failed.json()
        assert (problem["revision"], problem["sqlstate"], problem["rolled_back"]) == ("b2", "23505", False)
        broken = [{"name": "public.t_x", "table": "public.t", "revision": "b2"}]
        assert problem["broken_indexes"] == broken
        assert "The next run drops what its revision left (public.t_x)" in problem["hint"]
        assert indexes(database) == [("t_x", False)]

        status = (await client.get("/status", headers=READ)).json()
        assert status["broken_indexes"] == broken
        assert any("public.t_x is INVALID" in warning for warning in status["warnings"])
        assert status["runs"][0]["error"]["broken_indexes"] == broken
        told = await health(client)
        assert (told["status"], told["broken_indexes"]) == ("warn", broken)
        assert (await client.get("/health")).json() == {"status": "warn"}
        assert (await client.get("/health?strict=true")).status_code == 503

        database.execute("DELETE FROM t")
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 200, answer.text
        assert any("Dropped the INVALID index public.t_x" in warning for warning in answer.json()["warnings"])
        assert indexes(database) == [("t_x", True)]
        assert (await client.get("/status", headers=READ)).json()["broken_indexes"] == []
        assert (await health(client))["status"] == "pass"


async def test_an_index_whose_name_postgresql_chose_is_not_left_behind_either(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1=TABLE, b2=building('CREATE UNIQUE INDEX CONCURRENTLY ON public . "t" (x)'))
    async with client_of(settings(history)) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 500
        assert (await client.post("/migrate", headers=APPLY)).status_code == 500
        assert indexes(database) == [("t_x_idx", False)]  # and no t_x_idx1
        database.execute("DELETE FROM t")
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
    assert indexes(database) == [("t_x_idx", True)]


@pytest.mark.parametrize(
    ("statement", "in_the_way", "left"),
    [
        # It waits for a writer before the new index is built, and for a reader before the old one is dropped.
        ("REINDEX INDEX CONCURRENTLY t_id", "INSERT INTO t VALUES (1)", "t_id_ccnew"),
        ("REINDEX (VERBOSE) TABLE CONCURRENTLY public.t", "SELECT FROM t", "t_id_ccold"),
    ],
)
async def test_what_an_interrupted_reindex_leaves_is_dropped_before_the_next(
    statement: str,
    in_the_way: str,
    left: str,
    settings: MakeSettings,
    write_history: WriteHistory,
    database: Database,
) -> None:
    database.execute("CREATE TABLE t (id int)")
    database.execute("CREATE INDEX t_id ON t (id)")
    async with client_of(settings(write_history(b2=building(statement)))) as client:
        with database.connect() as reader, reader.transaction():
            reader.execute(in_the_way)
            call = asyncio.create_task(client.post("/migrate", headers=APPLY))
            await asyncio.to_thread(until, lambda: (left, False) in indexes(database), what="two indexes")
            database.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '/* migrate/%REINDEX%' "
                "AND datname = current_database()"
            )
            answer = await call
        assert answer.status_code == 504, answer.text
        assert [index["name"] for index in answer.json()["broken_indexes"]] == [f"public.{left}"]
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
    assert indexes(database) == [("t_id", True)]


@pytest.fixture
def stranger_s_index(database: Database) -> None:
    """An INVALID index that no revision began."""
    database.execute("CREATE TABLE t (id int, x int)")
    database.execute("INSERT INTO t SELECT 1, 1 FROM generate_series(1, 3)")
    with pytest.raises(Exception, match="could not create unique index"):
        database.execute("CREATE UNIQUE INDEX CONCURRENTLY t_x ON t (x)")
    database.execute("DELETE FROM t")
    assert indexes(database) == [("t_x", False)]


@pytest.mark.usefixtures("stranger_s_index")
async def test_a_stranger_s_broken_index_is_neither_dropped_nor_taken_for_built(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(b2=UNIQUE))) as client:
        assert (await health(client))["status"] == "warn"
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 500, answer.text
        problem = answer.json()
        assert problem["type"].endswith("#migration-failed")
        assert "public.t_x" in problem["detail"]
        assert "DROP INDEX CONCURRENTLY public.t_x" in problem["hint"]
        assert problem["revision"] == "b2"
        assert indexes(database) == [("t_x", False)]
        database.execute("DROP INDEX CONCURRENTLY t_x")
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
    assert indexes(database) == [("t_x", True)]


@pytest.mark.usefixtures("stranger_s_index")
async def test_a_leftover_is_found_however_the_statement_is_written(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    long = "t_" + "x" * 70  # PostgreSQL cuts it
    database.execute(f"ALTER INDEX t_x RENAME TO {long}")
    create = f"create unique /* not ON u */ index concurrently -- ON v\n if not exists {long}\non t (x)"
    for body in (building(create), f"op.execute('COMMIT')\nop.execute({create!r})"):
        async with client_of(settings(write_history(b2=body))) as client:
            answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 500, answer.text
        assert f"DROP INDEX CONCURRENTLY public.{long[:63]}" in answer.json()["hint"]


@pytest.mark.usefixtures("stranger_s_index")
async def test_a_build_of_another_index_does_not_care_about_a_stranger_s(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(b2=building("CREATE INDEX CONCURRENTLY IF NOT EXISTS t_id ON t (id)"))
    async with client_of(settings(history)) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 200, answer.text
        told = await health(client)
        assert (told["status"], told["state"]) == ("warn", "up_to_date")
    assert any("public.t_x is INVALID" in warning for warning in answer.json()["warnings"])
    assert indexes(database) == [("t_id", True), ("t_x", False)]


async def test_with_the_setting_off_nothing_is_dropped(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(a1=TABLE, b2=UNIQUE), drop_broken_indexes=False)) as client:
        first = await client.post("/migrate", headers=APPLY)
        assert "DROP INDEX CONCURRENTLY public.t_x" in first.json()["hint"]
        database.execute("DELETE FROM t")
        second = await client.post("/migrate", headers=APPLY)
    assert second.status_code == 500, second.text
    assert "DROP INDEX CONCURRENTLY public.t_x" in second.json()["hint"]
    assert indexes(database) == [("t_x", False)]


async def test_the_rebuild_of_a_dead_run_s_index_through_op_create_index(
    on: Database, settings: MakeSettings, write_history: WriteHistory, database: Database, serve: Callable[..., Service]
) -> None:
    database.execute("CREATE TABLE t (id int)")
    history = write_history(
        b2="with op.get_context().autocommit_block():\n"
        "    op.create_index('t_id', 't', ['id'], postgresql_concurrently=True, if_not_exists=True)"
    )
    service = serve(history, on=on, lease=2)
    with database.connect() as writer, writer.transaction():
        writer.execute("INSERT INTO t VALUES (1)")  # the build waits for it
        caller = asyncio.create_task(asyncio.to_thread(service.post))
        await asyncio.to_thread(until, lambda: indexes(database) == [("t_id", False)], what="the build to begin")
        # Not broken, since it is being built at this moment.
        async with client_of(settings(history)) as client:
            assert (await client.get("/status", headers=READ)).json()["broken_indexes"] == []
        service.signal(signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            await caller
        async with client_of(settings(history, database_url=on.url, lease=2, lock_wait=20)) as client:
            call = asyncio.create_task(client.post("/migrate", headers=APPLY))
            dropping = (
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE query LIKE '/* migrate/%DROP INDEX CONCURRENTLY%' AND datname = current_database()"
            )
            await asyncio.to_thread(
                until, lambda: database.value(dropping) or call.done(), what="the way to be cleared"
            )
            assert not call.done()
            writer.execute("COMMIT")
            answer = await call
    assert answer.status_code == 200, answer.text
    assert indexes(database) == [("t_id", True)]
    assert any("Dropped the INVALID index public.t_id" in warning for warning in answer.json()["warnings"])


async def test_a_ledger_of_an_earlier_version_is_read_and_gets_what_it_lacks(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1=TABLE, b2=UNIQUE)
    async with client_of(settings(history)) as client:
        assert (await client.post("/migrate", headers=APPLY, json={"target": "a1"})).status_code == 200
        database.execute("DROP TABLE migration_endpoint.index_build")
        assert len((await client.get("/runs", headers=READ)).json()["runs"]) == 1
        assert (await client.get("/status", headers=READ)).status_code == 200
        failed = await client.post("/migrate", headers=APPLY)
        assert failed.json()["broken_indexes"][0]["revision"] == "b2", failed.text
        database.execute("DELETE FROM t")
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
    assert indexes(database) == [("t_x", True)]


async def test_the_parent_of_partitions_is_invalid_by_design(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute("CREATE TABLE p (id int) PARTITION BY RANGE (id)")
    database.execute("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (2)")
    history = write_history(a1="op.execute('CREATE INDEX p_id ON ONLY p (id)')")
    async with client_of(settings(history)) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert (answer.status_code, answer.json()["warnings"]) == (200, [])
        assert (await health(client))["status"] == "pass"
    assert not database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'p_id'::regclass")
