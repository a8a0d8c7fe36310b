"""The connection that revisions run on: fenced transactions, and statements as Alembic histories have them."""

import datetime as dt
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import connection, fence, lock, url, working
from app.database.drivers import asyncpg_connection
from app.database.fence import Move
from app.database.ledger import new_run_id
from app.errors import MigrationFailed
from tests.conftest import MakeSettings
from tests.servers import Database

KEY = lock.key("public.alembic_version")

Open = Callable[..., Any]


@pytest.fixture
def opened(settings: MakeSettings, on: Database, database: Database) -> Open:
    """A working connection of a run that holds the lock: `async with opened() as conn`."""

    @asynccontextmanager
    async def open_one(*, lease_s: float = 20, lock_timeout_s: float = 1) -> AsyncIterator[AsyncConnection]:
        address = url.database(settings(database_url=on.url))
        run_id = new_run_id()
        async with (
            connection.session(address) as session,
            lock.guard(session, lock_key=KEY, run_id=run_id, lease_s=lease_s) as guard,
        ):
            assert await guard.try_to_take_the_lock()
            around = fence.around(
                guard.fence(),
                run_id=run_id,
                lease_s=lease_s,
                lock_timeout_s=lock_timeout_s,
                pooler=on is not database,
            )
            engine = AsyncEngine(working.engine(address, around, run_id=run_id))
            async with engine.connect() as conn:
                yield conn
            await engine.dispose()

    return open_one


async def test_statements_as_they_are_found_in_histories(opened: Open, database: Database) -> None:
    async with opened() as conn:

        async def execute(sql: str, **parameters: object) -> "sa.CursorResult[Any]":
            result: sa.CursorResult[Any] = await conn.execute(sa.text(sql), parameters)
            return result

        await execute("CREATE TABLE t (id serial PRIMARY KEY, name text); INSERT INTO t (name) VALUES ('a'), ('b')")
        await execute(
            "CREATE FUNCTION f(n int) RETURNS int LANGUAGE plpgsql AS $body$ BEGIN RETURN n + 1; END; $body$;"
            "DO $$ DECLARE i int; BEGIN FOR i IN 1..3 LOOP INSERT INTO t (name) VALUES ('loop;'); END LOOP; END $$;"
        )
        assert (await execute("SELECT f(41)")).scalar_one() == 42
        assert (await execute("SELECT count(*) FROM t")).scalar_one() == 5
        assert (await execute("UPDATE t SET name = 'x' WHERE id <= 2")).rowcount == 2
        assert (await execute("DELETE FROM t WHERE name LIKE 'loop%'")).rowcount == 3
        assert (await execute("DELETE FROM t WHERE false")).rowcount == 0
        assert (await execute("INSERT INTO t (name) VALUES ('r') RETURNING name")).scalars().all() == ["r"]
        assert (await execute("INSERT INTO t (name) SELECT 's' FROM generate_series(1, 4)")).rowcount == 4
        assert (await execute("UPDATE t SET name = :name WHERE name = 's'", name="z")).rowcount == 4
        assert (await execute("WITH x AS (SELECT 1 AS a UNION ALL SELECT 2) SELECT a FROM x")).scalars().all() == [1, 2]
        moved = await execute("WITH gone AS (DELETE FROM t WHERE name = 'z' RETURNING id) SELECT count(*) FROM gone")
        assert moved.scalar_one() == 4
        assert (await execute("-- a comment; with a semicolon\nSELECT 'it''s; 100%' AS said")).mappings().one() == {
            "said": "it's; 100%"
        }
        assert (await execute(r"SELECT '5'\:\:int + 1, 7 % 4, $q$a:b;c$q$")).one() == (6, 3, "a:b;c")
        assert (await execute("SELECT 1 AS one; SELECT 2 AS two, 'b' AS b")).mappings().one() == {"two": 2, "b": "b"}
        assert (await execute("/* nothing */")).rowcount == -1
        await execute("COMMENT ON TABLE t IS '%s and %(name)s'")
        await conn.exec_driver_sql("SELECT 10 % 3, '%'")
        await conn.commit()
    assert database.value("SELECT string_agg(name, '' ORDER BY id) FROM t") == "xxr"
    assert database.value("SELECT obj_description('t'::regclass)") == "%s and %(name)s"


async def test_rows_have_the_types_that_sqlalchemy_gives_them(opened: Open) -> None:
    some = uuid.uuid4()
    sql = (
        f"SELECT 1.50::numeric AS n, '{some}'::uuid AS u, '{{\"a\": [1, null]}}'::jsonb AS j, ARRAY[1, 2] AS a, "
        "'2024-02-29 12:00+02'::timestamptz AS t, '1 day'::interval AS i, true AS b, 'x'::bytea AS y, NULL AS z"
    )
    async with opened() as conn:
        row = (await conn.execute(sa.text(sql))).mappings().one()
        typed = sa.text(sql).columns(n=sa.Numeric, u=sa.Uuid, j=JSONB, a=ARRAY(sa.Integer))
        again = (await conn.execute(typed)).mappings().one()
        with_parameter = (await conn.execute(sa.text(sql + ", :p AS p"), {"p": "q"})).mappings().one()
    assert row["n"] == Decimal("1.50")
    assert row["u"] == some
    assert row["a"] == [1, 2]
    assert row["t"] == dt.datetime(2024, 2, 29, 10, tzinfo=dt.UTC)
    assert row["i"] == dt.timedelta(days=1)
    assert (row["b"], row["y"], row["z"]) == (True, b"x", None)
    assert (again["n"], again["u"], again["j"], again["a"]) == (Decimal("1.50"), some, {"a": [1, None]}, [1, 2])
    assert {name: value for name, value in with_parameter.items() if name != "p"} == dict(row)


async def test_tables_bulk_inserts_and_the_inspector_work(opened: Open, database: Database) -> None:
    metadata = sa.MetaData()
    table = sa.Table(
        "things",
        metadata,
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.Enum("small", "large", name="kind")),
        sa.Column("data", JSONB),
        sa.Column("made", sa.DateTime(timezone=True), server_default=sa.func.now()),
    )
    many = [{"kind": "small" if n % 2 else "large", "data": {"n": n}} for n in range(2500)]
    async with opened() as conn:
        await conn.run_sync(metadata.create_all)
        await conn.execute(sa.insert(table), many)
        ids = (await conn.execute(sa.insert(table).returning(table.c.id), many[:3])).scalars().all()
        assert ids == [2501, 2502, 2503]
        await conn.execute(
            sa.update(table).where(table.c.id == sa.bindparam("the_id")).values(data=sa.bindparam("new")),
            [{"the_id": 1, "new": None}, {"the_id": 2, "new": {"x": "é"}}],
        )
        columns = await conn.run_sync(lambda sync: {each["name"] for each in sa.inspect(sync).get_columns("things")})
        assert columns == {"id", "kind", "data", "made"}
        await conn.commit()
    assert database.value("SELECT count(*) FROM things") == 2503
    assert database.value("SELECT data->>'x' FROM things WHERE id = 2") == "é"


async def test_a_large_result_is_streamed(opened: Open) -> None:
    async with opened() as conn:
        result = await conn.stream(sa.text("SELECT g FROM generate_series(1, 5000) g"))
        assert [row[0] async for row in result] == list(range(1, 5001))
        with_parameter = await conn.stream(sa.text("SELECT g FROM generate_series(1, :n) g"), {"n": 300})
        assert len([row async for row in with_parameter]) == 300


async def test_savepoints_hold_and_roll_back(opened: Open, database: Database) -> None:
    async with opened() as conn:
        await conn.execute(sa.text("CREATE TABLE t (id int PRIMARY KEY)"))
        async with conn.begin_nested():
            await conn.execute(sa.text("INSERT INTO t VALUES (1)"))
        with pytest.raises(sa.exc.IntegrityError):
            async with conn.begin_nested():
                await conn.execute(sa.text("INSERT INTO t VALUES (2); INSERT INTO t VALUES (1)"))
        await conn.execute(sa.text("INSERT INTO t VALUES (3)"))
        await conn.commit()
    assert database.execute("SELECT id FROM t ORDER BY 1") == [(1,), (3,)]


async def test_errors_are_sqlalchemys_own(opened: Open) -> None:
    async with opened() as conn:
        for sql, kind in (
            ("SELECT * FROM nowhere", sa.exc.ProgrammingError),
            ("SELEC", sa.exc.ProgrammingError),
            ("CREATE TABLE x (id int); SELECT 1/0", sa.exc.DBAPIError),
        ):
            with pytest.raises(kind):
                await conn.execute(sa.text(sql))
            with pytest.raises(sa.exc.DBAPIError):  # the transaction is aborted, as everywhere
                await conn.execute(sa.text("SELECT 1"))
            await conn.rollback()
        assert (await conn.execute(sa.text("SELECT to_regclass('x')"))).scalar_one() is None


async def test_an_autocommit_block_takes_what_no_transaction_can(opened: Open, database: Database) -> None:
    async with opened() as conn:
        await conn.execute(sa.text("CREATE TABLE t (id int); CREATE TYPE mood AS ENUM ('ok')"))
        await conn.commit()
        auto = await conn.execution_options(isolation_level="AUTOCOMMIT")
        await auto.execute(sa.text("CREATE INDEX CONCURRENTLY t_id ON t (id)"))
        await auto.execute(sa.text("ALTER TYPE mood ADD VALUE 'fine'"))
        await auto.execute(sa.text("VACUUM t"))
        await auto.execute(sa.text("INSERT INTO t SELECT generate_series(1, :n)"), {"n": 7})
        await auto.execute(sa.text("INSERT INTO t VALUES (:n)"), [{"n": 8}, {"n": 9}])
        assert (await auto.execute(sa.text("SELECT count(*) FROM t WHERE id > :n"), {"n": 1})).scalar_one() == 8
        assert (await auto.execute(sa.text("SELECT 'fine'::mood::text"))).scalar_one() == "fine"
        # Committed at once, each of them.
        assert database.value("SELECT count(*) FROM t") == 9
        await auto.execute(
            sa.text("CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (10); COMMIT; END $$")
        )
        await auto.execute(sa.text("CALL p()"))
        assert database.value("SELECT count(*) FROM t") == 10
    assert database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_id'::regclass") is True


SETTINGS = (
    "application_name",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "client_connection_check_interval",
)
READ_THEM = "SELECT " + ", ".join(f"current_setting('{name}')" for name in SETTINGS)


async def test_every_transaction_has_the_settings_of_its_run_and_leaves_none_behind(
    opened: Open, on: Database, database: Database
) -> None:
    def of_strangers() -> set[tuple[Any, ...]]:
        """What every backend that the pooler hands out has, when it is nobody's."""
        with on.connect() as one, on.connect() as two:
            two.execute("BEGIN")  # so that the pooler needs another backend for the first
            rows = {tuple(row) for each in (one, two) for row in each.execute(READ_THEM.encode()).fetchall()}
            two.execute("ROLLBACK")
        return {row[1:] for row in rows}

    before = of_strangers()
    async with opened(lease_s=7, lock_timeout_s=0.25) as conn:
        for _ in range(2):
            name, lock_timeout, idle, check = (await conn.execute(sa.text(READ_THEM))).one()
            assert name.startswith("migrate/")
            assert " " not in name
            assert (lock_timeout, idle, check) == ("250ms", "7s", "1s")
            await conn.commit()
        await conn.rollback()
        auto = await conn.execution_options(isolation_level="AUTOCOMMIT")
        assert (
            await auto.execute(sa.text("SHOW lock_timeout; SELECT current_setting('lock_timeout')"))
        ).scalar_one() == "0"
    assert of_strangers() == before
    if on is not database:
        names = database.execute(
            "SELECT application_name FROM pg_stat_activity WHERE state = 'idle' AND datname = current_database() "
            "AND application_name LIKE 'migrate/% %'"
        )
        assert names == []


async def test_the_isolation_level_that_a_revision_asks_for_holds(opened: Open) -> None:
    async with opened() as conn:
        chosen = await conn.execution_options(isolation_level="SERIALIZABLE")
        assert (await chosen.execute(sa.text("SHOW transaction_isolation"))).scalar_one() == "serializable"
        await chosen.rollback()
        plain = await conn.execution_options(isolation_level="READ COMMITTED")
        assert (await plain.execute(sa.text("SHOW transaction_isolation"))).scalar_one() == "read committed"


async def test_the_dialect_knows_of_the_session_what_sqlalchemys_own_would_have_asked(
    opened: Open, on: Database, database: Database, settings: MakeSettings
) -> None:
    name = database.address.database
    database.execute("CREATE SCHEMA shop")
    database.execute(f'ALTER DATABASE "{name}" SET search_path = shop')
    database.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'")
    database.execute(f'ALTER DATABASE "{name}" SET standard_conforming_strings = off')
    facts = (
        "server_version_info",
        "default_schema_name",
        "default_isolation_level",
        "_backslash_escapes",
        "max_identifier_length",
        "supports_virtual_generated_columns",
    )
    plain = AsyncEngine(working.plain_engine(url.database(settings(database_url=on.url))))
    async with plain.connect() as theirs:
        known = {fact: getattr(theirs.dialect, fact) for fact in facts}
    await plain.dispose()
    assert known["default_schema_name"] == "shop"
    assert known["_backslash_escapes"] is True
    async with opened() as conn:
        assert {fact: getattr(conn.dialect, fact) for fact in facts} == known
        assert (conn.dialect.name, conn.dialect.driver) == ("postgresql", "asyncpg")


async def test_the_first_statement_of_a_transaction_is_seen_by_whoever_looks_what_takes_so_long(
    opened: Open, database: Database
) -> None:
    long = "CREATE TABLE /* the one */ t (\n    id int\n); SELECT '" + "x" * 2000 + "' AS y"
    async with opened() as conn:
        await conn.execute(sa.text(long))
        ((query,),) = database.execute(
            "SELECT query FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%CREATE TABLE%' "
            "AND datname = current_database()"
        )
        assert query.startswith("/* CREATE TABLE / * the one * / t ( id int ); SELECT 'xxx")


async def test_a_statement_that_moves_the_version_goes_with_the_commit_and_ahead_of_any_other_statement(
    opened: Open, database: Database
) -> None:
    move = Move("UPDATE v SET n = $1 WHERE n = $2", "2", "1")

    def moves(connection: sa.Connection) -> bool:
        opened: object = connection.connection.dbapi_connection
        assert isinstance(opened, asyncpg_connection.Connection)
        return opened.fenced.lets_it_wait(move)

    async with opened() as conn:
        await conn.execute(sa.text("CREATE TABLE v (n int); INSERT INTO v VALUES (1)"))
        assert await conn.run_sync(moves)
        assert (await conn.execute(sa.text("SELECT n FROM v"))).scalar_one() == 2
        await conn.commit()
        assert database.value("SELECT n FROM v") == 2

        await conn.execute(sa.text("INSERT INTO v VALUES (1)"))
        await conn.run_sync(moves)
        await conn.execute(sa.text("DELETE FROM v WHERE n > :n"), {"n": 1})
        await conn.commit()
        assert database.execute("SELECT n FROM v") == []

        await conn.execute(sa.text("INSERT INTO v VALUES (1)"))
        await conn.run_sync(moves)
        await conn.execute(sa.text("UPDATE v SET n = n + :n"), [{"n": 10}, {"n": 10}])
        assert (await conn.execute(sa.text("DELETE FROM v RETURNING n"))).scalar_one() == 22

        await conn.execute(sa.text("INSERT INTO v VALUES (1)"))
        await conn.run_sync(moves)
        await conn.rollback()  # what waited goes with it
        await conn.execute(sa.text("INSERT INTO v VALUES (7)"))
        await conn.commit()
        assert database.execute("SELECT n FROM v") == [(7,)]

        await conn.execute(sa.text("INSERT INTO v VALUES (8)"))
        await conn.run_sync(moves)
        with pytest.raises(MigrationFailed, match="version table"):
            await conn.commit()
        await conn.rollback()
        assert database.execute("SELECT n FROM v") == [(7,)]

        # Behind a COMMIT it has a transaction of its own.
        assert (await conn.execute(sa.text("UPDATE v SET n = 1"))).rowcount == 1
        await conn.exec_driver_sql("COMMIT")
        assert await conn.run_sync(moves)
        await conn.commit()
        assert database.execute("SELECT n FROM v") == [(2,)]
