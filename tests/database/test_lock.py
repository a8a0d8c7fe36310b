"""The lock: its key, its guard, its fence, its lease, and what it does about the leftovers of dead runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import backends, connection, fence, lock, url, working
from app.database.connection import Session
from app.database.ledger import new_run_id
from app.database.lock import Guard
from app.errors import LockLost
from tests.conftest import MakeSettings
from tests.servers import Database, until

KEY = lock.key("public.alembic_version")

Hold = Callable[..., Any]


@pytest.fixture
def address(settings: MakeSettings) -> Callable[..., url.Database]:
    """A test's database as the application speaks to it."""
    return lambda on=None: url.database(settings(**({"database_url": on.url} if on else {})))


@pytest.fixture
def hold(address: Callable[..., url.Database]) -> Hold:
    """Hold the lock: `async with hold(lease_s=1) as guard`."""

    @asynccontextmanager
    async def held(
        *, lock_key: int = KEY, lease_s: float = 20, run_id: UUID | None = None, on: Database | None = None
    ) -> AsyncIterator[Guard]:
        async with (
            connection.session(address(on)) as session,
            lock.guard(session, lock_key=lock_key, run_id=run_id or new_run_id(), lease_s=lease_s) as guard,
        ):
            assert await guard.try_to_take_the_lock()
            yield guard

    return held


async def soon(condition: Callable[[], Any], *, seconds: float = 10, what: str) -> Any:
    """Like `servers.until`, for a test whose event loop has work to do meanwhile."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come true within {seconds} s"
        await asyncio.sleep(0.02)
    return value


def engine_of(guard: Guard, address: url.Database, *, lease_s: float = 20) -> AsyncEngine:
    run_id = guard.holder.run_id
    assert run_id is not None
    around = fence.around(guard.fence(), run_id=run_id, lease_s=lease_s, lock_timeout_s=1, pooler=False)
    return AsyncEngine(working.engine(address, around, run_id=run_id))


def test_the_key_is_what_the_documented_sql_computes(database: Database) -> None:
    for table in ("public.alembic_version", "shop.alembic_version", 'Straße "x".alembic_version'):
        quoted = "migrate:" + table
        assert lock.key(table) == database.value(
            f"select ('x' || left(encode(sha256('{quoted}'), 'hex'), 16))::bit(64)::bigint"
        )
    assert lock.key("public.alembic_version") != lock.key("shop.alembic_version")


async def test_the_lock_is_found_in_pg_locks_as_the_key_split_in_two(database: Database, hold: Hold) -> None:
    async with hold() as guard:
        rows = database.execute(
            "SELECT pid, mode, (classid::bigint << 32) | objid::bigint FROM pg_locks "
            "WHERE locktype = 'advisory' AND objsubid = 1 "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        assert rows == [(guard.holder.pid, "ExclusiveLock", KEY)]


async def test_the_guard_keeps_no_snapshot_neither_at_first_nor_after_heartbeats(
    database: Database, hold: Hold
) -> None:
    async with hold(lease_s=0.6) as guard:
        seen: set[str] = set()
        backend = f"FROM pg_stat_activity WHERE pid = {guard.holder.pid}"

        def beats() -> int:
            ((state, snapshot, beat),) = database.execute(f"SELECT state, backend_xmin, state_change::text {backend}")
            assert state in ("idle in transaction", "active")
            assert snapshot is None
            seen.add(beat)
            return len(seen)

        await soon(lambda: beats() >= 4, what="a few heartbeats")


@pytest.mark.parametrize("mode", ["direct", "transaction", "session"])
async def test_a_second_guard_is_refused_until_the_first_gives_the_lock_back(
    mode: str,
    hold: Hold,
    address: Callable[..., url.Database],
    through_pgbouncer: Callable[..., Database],
    database: Database,
) -> None:
    on = database if mode == "direct" else through_pgbouncer(mode)
    async with connection.session(address(on)) as session:
        second = Guard(session, lock_key=KEY, run_id=new_run_id(), lease_s=20)
        async with hold(on=on):
            for _ in range(3):
                assert not await second.try_to_take_the_lock()
            assert not session._connection.is_in_transaction(), "a waiter would hold a snapshot or a backend"
        assert await second.try_to_take_the_lock()
        await second.release()
    assert not database.is_locked


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_the_lock_is_not_stranded_in_a_pooler_whose_client_vanished(
    mode: str,
    hold: Hold,
    address: Callable[..., url.Database],
    through_pgbouncer: Callable[..., Database],
) -> None:
    on = through_pgbouncer(mode)
    async with connection.session(address(on)) as gone:
        first = Guard(gone, lock_key=KEY, run_id=new_run_id(), lease_s=20)
        assert await first.try_to_take_the_lock()
        gone._connection.terminate()
    for _ in range(100):
        async with connection.session(address(on)) as session:
            second = Guard(session, lock_key=KEY, run_id=new_run_id(), lease_s=20)
            if await second.try_to_take_the_lock():
                await second.release()
                return
        await asyncio.sleep(0.05)
    pytest.fail("the lock was still held after five seconds, with a lease of twenty")


async def test_another_version_table_has_a_lock_of_its_own(hold: Hold) -> None:
    async with hold(), hold(lock_key=lock.key("shop.alembic_version")):
        pass


async def test_a_guard_whose_backend_is_ended_knows_that_it_lost(database: Database, hold: Hold) -> None:
    async with hold() as guard:
        assert not guard.lost.is_set()
        database.execute(f"SELECT pg_terminate_backend({guard.holder.pid})")
        await asyncio.wait_for(guard.lost.wait(), 5)


async def test_a_guard_that_gave_the_lock_back_did_not_lose_it(hold: Hold) -> None:
    async with hold() as guard:
        pass
    assert not guard.lost.is_set()


async def test_confirming_finds_out_that_the_lock_is_lost(database: Database, hold: Hold) -> None:
    async with hold() as guard:
        database.execute(f"SELECT pg_terminate_backend({guard.holder.pid}, 5000)")  # the event loop hears of nothing
        await guard.confirm()
        assert guard.lost.is_set()


async def test_a_run_that_lost_its_guard_can_neither_begin_nor_commit(
    database: Database, hold: Hold, address: Callable[..., url.Database]
) -> None:
    async with hold() as guard:
        engine = engine_of(guard, address())
        async with engine.connect() as early, engine.connect() as late:
            await early.execute(sa.text("CREATE TABLE early (id int)"))
            database.execute(f"SELECT pg_terminate_backend({guard.holder.pid}, 5000)")
            with pytest.raises(LockLost):
                await early.commit()
            with pytest.raises(LockLost):
                await late.execute(sa.text("CREATE TABLE late (id int)"))
            await late.rollback()
            autocommit = await late.execution_options(isolation_level="AUTOCOMMIT")
            with pytest.raises(LockLost):
                await autocommit.execute(sa.text("CREATE TABLE late (id int)"))
    assert database.execute("SELECT to_regclass('early'), to_regclass('late')") == [(None, None)]


async def test_a_lock_that_somebody_else_took_meanwhile_does_not_help_the_one_who_lost_it(
    database: Database, hold: Hold, address: Callable[..., url.Database]
) -> None:
    async with hold() as guard:
        engine = engine_of(guard, address())
        async with engine.connect() as working_connection:
            await working_connection.execute(sa.text("CREATE TABLE mine (id int)"))
            database.execute(f"SELECT pg_terminate_backend({guard.holder.pid}, 5000)")
            async with hold() as heir:
                with pytest.raises(LockLost):
                    await working_connection.commit()
                assert not heir.lost.is_set()
    assert database.value("SELECT to_regclass('mine')") is None


async def test_postgresql_ends_a_guard_whose_heart_stopped(database: Database, hold: Hold) -> None:
    async with hold(lease_s=0.5) as guard:
        pid = guard.holder.pid
        await asyncio.sleep(0)
        # A blocked event loop is a process that is frozen: nothing beats while this waits.
        until(
            lambda: not database.execute(f"SELECT pid FROM pg_stat_activity WHERE pid = {pid}"),
            seconds=5,
            what="the guard's backend to be gone",
        )
        await asyncio.wait_for(guard.lost.wait(), 5)


async def test_a_guard_whose_heart_beats_outlives_its_lease(database: Database, hold: Hold) -> None:
    async with hold(lease_s=0.6) as guard:
        began = database.value(f"SELECT xact_start FROM pg_stat_activity WHERE pid = {guard.holder.pid}")
        await soon(
            lambda: database.value(f"SELECT clock_timestamp() - '{began}'::timestamptz > interval '1.9 s'"),
            what="three leases",
        )
        assert not guard.lost.is_set()
        assert database.value(f"SELECT xact_start FROM pg_stat_activity WHERE pid = {guard.holder.pid}") == began


async def test_a_role_with_a_transaction_timeout_does_not_lose_its_lock(
    database: Database, hold: Hold, address: Callable[..., url.Database]
) -> None:
    if database.value("SELECT current_setting('server_version_num')::int") < 170000:
        pytest.skip("transaction_timeout came with PostgreSQL 17")
    database.execute(f'ALTER DATABASE "{database.address.database}" SET transaction_timeout = 200')
    async with hold() as guard:
        await asyncio.sleep(0.5)
        assert not guard.lost.is_set()
        async with connection.session(address()) as session:
            assert await lock.holder(session, KEY) is not None


async def test_the_name_of_the_guard_tells_run_revision_and_progress_and_holder_reads_it(
    database: Database, hold: Hold, address: Callable[..., url.Database]
) -> None:
    run_id = new_run_id()

    def name(guard: Guard) -> str:
        found: str = database.value(f"SELECT application_name FROM pg_stat_activity WHERE pid = {guard.holder.pid}")
        return found

    async with hold(run_id=run_id) as guard, connection.session(address()) as session:
        assert name(guard) == f"migrate/{run_id} 0/0"
        first = await lock.holder(session, KEY)
        assert first is not None
        assert (first.pid, first.run_id, first.revision, first.progress) == (guard.holder.pid, run_id, None, "0/0")
        assert first.since is not None
        assert abs(time.time() - first.since.timestamp()) < 60

        guard.show("ae1027a6acf", "3/7")
        await soon(lambda: name(guard) == f"migrate/{run_id} ae1027a6acf 3/7", what="the progress")
        second = await lock.holder(session, KEY)
        assert second is not None
        assert (second.run_id, second.revision, second.progress) == (run_id, "ae1027a6acf", "3/7")
        assert second == guard.holder.model_copy(update={"since": second.since})


async def test_a_long_or_strange_revision_is_cut_so_that_the_progress_still_fits(
    database: Database, hold: Hold, address: Callable[..., url.Database]
) -> None:
    async with hold() as guard, connection.session(address()) as session:
        guard.show("a_very_long_revision_identifier_indeed", "1234/5678")
        expected = f"migrate/{guard.holder.run_id} a_very_l 1234/5678"
        await soon(
            lambda: database.execute(f"SELECT 1 FROM pg_stat_activity WHERE application_name = '{expected}'"),
            what="the cut name",
        )
        assert len(expected.encode()) <= 63
        guard.show("größer 'x'", "2/3")
        expected = f"migrate/{guard.holder.run_id} gr??er?'x' 2/3"
        await soon(
            lambda: database.execute(f"SELECT 1 FROM pg_stat_activity WHERE application_name = $name${expected}$name$"),
            what="the plain name",
        )
        found = await lock.holder(session, KEY)
        assert found is not None
        assert (found.revision, found.progress) == ("gr??er?'x'", "2/3")


async def test_a_lock_taken_by_hand_has_a_holder_without_a_run(
    database: Database, address: Callable[..., url.Database]
) -> None:
    with database.connect() as dba:
        dba.execute(f"SELECT pg_advisory_lock({KEY})".encode())
        pid = dba.info.backend_pid
        async with connection.session(address()) as session:
            guard = Guard(session, lock_key=KEY, run_id=new_run_id(), lease_s=20)
            assert not await guard.try_to_take_the_lock()
            holder = await lock.holder(session, KEY)
    assert holder is not None
    assert holder.pid == pid
    assert holder.run_id is None


async def test_nobody_holds_a_free_lock(address: Callable[..., url.Database]) -> None:
    async with connection.session(address()) as session:
        assert await lock.holder(session, KEY) is None


async def test_a_waiter_that_polls_does_not_stop_a_concurrent_index_build(
    database: Database, hold: Hold, address: Callable[..., url.Database]
) -> None:
    database.execute("CREATE TABLE big AS SELECT generate_series(1, 1000) AS id")
    async with hold(lease_s=1), connection.session(address()) as session:
        waiter = Guard(session, lock_key=KEY, run_id=new_run_id(), lease_s=1)

        polls, builds = 0, 0

        def build() -> None:
            nonlocal builds
            with database.connect() as builder:
                builder.execute("SET statement_timeout = '10s'")
                while polls < 20 or builds < 3:
                    builder.execute("CREATE INDEX CONCURRENTLY big_id ON big (id)")
                    builder.execute("DROP INDEX CONCURRENTLY big_id")
                    builds += 1

        building = asyncio.create_task(asyncio.to_thread(build))
        while not building.done():
            assert not await waiter.try_to_take_the_lock()
            polls += 1
        await building


def pose_as_a_working_backend(database: Database, run_id: UUID) -> "psycopg.Connection[Any]":
    """A backend of a dead run, in a transaction that holds a table."""
    opened = database.connect()
    opened.execute("BEGIN")
    opened.execute(f"SET LOCAL application_name = 'migrate/{run_id}'".encode())
    opened.execute("CREATE TABLE IF NOT EXISTS leftover (id int)")
    return opened


def is_alive(database: Database, opened: "psycopg.Connection[Any]") -> bool:
    return bool(database.execute(f"SELECT 1 FROM pg_stat_activity WHERE pid = {opened.info.backend_pid}"))


async def test_the_working_backend_of_a_dead_run_is_ended_and_gone_and_named(
    database: Database, address: Callable[..., url.Database]
) -> None:
    dead = new_run_id()
    leftover = pose_as_a_working_backend(database, dead)
    async with connection.session(address()) as session:
        assert await backends.end_leftovers(session) == [
            f"Ended backend {leftover.info.backend_pid}, left behind by run {dead}."
        ]
        assert not is_alive(database, leftover)
        assert await backends.end_leftovers(session) == []
    assert database.value("SELECT to_regclass('leftover')") is None
    leftover.close()


async def test_a_leftover_that_is_in_a_statement_is_ended_too(
    database: Database, address: Callable[..., url.Database]
) -> None:
    leftover = pose_as_a_working_backend(database, new_run_id())

    def sleep() -> None:
        with pytest.raises(psycopg.OperationalError):
            leftover.execute("SELECT pg_sleep(30)")

    sleeping = asyncio.create_task(asyncio.to_thread(sleep))
    await soon(
        lambda: database.execute(
            "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND datname = current_database()"
        ),
        what="sleep",
    )
    async with connection.session(address()) as session:
        assert len(await backends.end_leftovers(session)) == 1
    assert not is_alive(database, leftover)
    await sleeping


async def test_a_live_run_of_another_history_in_the_same_database_is_left_alone(
    database: Database, hold: Hold, address: Callable[..., url.Database]
) -> None:
    other = new_run_id()
    async with hold(lock_key=lock.key("shop.alembic_version"), run_id=other), connection.session(address()) as session:
        live = pose_as_a_working_backend(database, other)
        assert await backends.end_leftovers(session) == []
        assert is_alive(database, live)
        live.close()


async def test_a_pooled_backend_that_idles_under_the_name_of_a_run_is_left_alone(
    database: Database, address: Callable[..., url.Database]
) -> None:
    with database.connect() as pooled, database.connect() as stranger:
        pooled.execute(f"SET application_name = 'migrate/{new_run_id()}'".encode())
        stranger.execute("SET application_name = 'migrate/not-a-run'")
        stranger.execute("BEGIN")
        async with connection.session(address()) as session:
            assert await backends.end_leftovers(session) == []
        assert is_alive(database, pooled)
        assert is_alive(database, stranger)


async def test_a_leftover_in_another_database_is_none_of_our_business(
    database: Database, address: Callable[..., url.Database]
) -> None:
    with database.server.database() as other:
        theirs = pose_as_a_working_backend(other, new_run_id())
        async with connection.session(address()) as session:
            assert await backends.end_leftovers(session) == []
        assert is_alive(other, theirs)
        theirs.close()


async def test_a_session_is_used_by_one_at_a_time(address: Callable[..., url.Database]) -> None:
    async with connection.session(address()) as session:
        assert isinstance(session, Session)
        rows = await asyncio.gather(*(session.execute(f"SELECT {number}") for number in range(20)))
    assert rows == [[(number,)] for number in range(20)]
