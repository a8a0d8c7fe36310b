"""What a session of ours keeps ready: the same fence as ever, in fewer and quicker statements."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import connection, fence, lock, tables, url, working
from app.database.drivers import asyncpg_connection
from app.database.fence import Move
from app.database.footprint import Footprint
from app.database.footprint import told as in_short
from app.database.ledger import Ledger, new_run_id
from app.database.lock import Guard
from app.errors import Cancelled, LockLost, MigrationFailed
from tests.conftest import MakeSettings
from tests.servers import Database

KEY = lock.key("public.v")
LEDGER = Ledger("migration_endpoint", "public.v")
READY = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'migration_endpoint%'"

type Revision = Callable[..., Awaitable[None]]


@pytest.fixture
async def run(
    settings: MakeSettings, on: Database, database: Database
) -> AsyncIterator[tuple[AsyncConnection, Guard, Revision]]:
    """A working connection, its guard, and what runs a revision on it that has nothing to do but a statement."""
    database.execute(f"{tables.statements('migration_endpoint')}; CREATE TABLE v (n text)")
    address, run_id = url.database(settings(database_url=on.url)), new_run_id()
    async with (
        connection.session(address) as session,
        lock.guard(session, lock_key=KEY, run_id=run_id, lease_s=20) as guard,
    ):
        assert await guard.try_to_take_the_lock()
        around = fence.around(
            guard.fence(cancelled=LEDGER.cancelled(run_id)),
            run_id=run_id,
            lease_s=20,
            lock_timeout_s=1,
            pooler=on is not database,
            remaining_s=lambda: 100,
            footprint=Footprint("migration_endpoint", "v"),
        )
        database.execute(
            "INSERT INTO migration_endpoint.run (id, version_table, outcome, target, from_heads, request_id) "
            f"VALUES ('{run_id}', 'public.v', 'running', 'heads', '{{}}', 'r')"
        )
        engine = AsyncEngine(working.engine(address, around, run_id=run_id))

        async def revision(
            number: int, statement: str = "SET LOCAL seq_page_cost = 2", *, was: int | None = None
        ) -> None:
            around.footprint.starts_afresh()
            await opened.execute(sa.text(statement))
            entry = LEDGER.step(
                run_id,
                revision=f"it's {number}",
                direction="upgrade",
                down_revisions=(f"it's {number - 1}",),
                sha256="a" * 64,
                started_at=datetime.now(UTC),
                duration_ms=number,
            )
            around.at_commit.append(entry)
            before = number - 1 if was is None else was
            raw: object = (await opened.get_raw_connection()).dbapi_connection
            assert isinstance(raw, asyncpg_connection.Connection)
            assert raw.fenced.lets_it_wait(
                Move("UPDATE v SET n = $1 WHERE n = $2", f"'it''s {number}'", f"'it''s {before}'")
            )
            await opened.commit()

        async with engine.connect() as opened:
            database.execute("INSERT INTO v VALUES ('it''s 0')")
            yield opened, guard, revision
        await engine.dispose()


async def run_through(revision: Revision, revisions: int) -> None:
    for number in range(1, revisions + 1):
        await revision(number)


def assert_stands_at(revisions: int, database: Database) -> None:
    """What came behind, the table `t`, was rolled back with its version."""
    assert database.execute("SELECT n, to_regclass('t') IS NULL FROM v") == [(f"it's {revisions}", True)]


async def test_only_a_session_of_ours_keeps_anything_ready_and_only_what_comes_again(
    run: tuple[AsyncConnection, Guard, Revision], on: Database, database: Database
) -> None:
    opened, _, revision = run
    ready = []
    for number in range(1, 5):
        await revision(number)
        ready.append((await opened.execute(sa.text(READY))).scalar_one())
        await opened.rollback()
    # The first BEGIN and COMMIT go as they are; each asking above begins a transaction too.
    assert ready == ([1, 2, 2, 2] if on is database else [0, 0, 0, 0])
    assert database.value("SELECT n FROM v") == "it's 4"
    assert database.execute(
        "SELECT revision, down_revisions, duration_ms FROM migration_endpoint.step ORDER BY id"
    ) == [(f"it's {number}", [f"it's {number - 1}"], number) for number in range(1, 5)]


async def test_what_is_ready_sets_what_a_transaction_is_to_have_and_leaves_none_of_it(
    run: tuple[AsyncConnection, Guard, Revision],
) -> None:
    opened, _, revision = run
    settings = ("application_name", "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    shown = sa.text(f"SELECT {', '.join(f'current_setting({name!r})' for name in settings)}")
    seen = set()
    for number in range(1, 5):
        await revision(number)
        seen.add(tuple((await opened.execute(shown)).one()))
        await opened.rollback()
    assert len(seen) == 1
    ((name, *timeouts),) = seen
    assert name.startswith("migrate/")
    assert timeouts == ["1s", "100s", "20s"]


@pytest.mark.parametrize("revisions", [0, 3])
async def test_without_its_guard_nothing_begins_and_nothing_commits(
    run: tuple[AsyncConnection, Guard, Revision], database: Database, revisions: int
) -> None:
    opened, guard, revision = run
    await run_through(revision, revisions)
    await opened.execute(sa.text("CREATE TABLE t (id int)"))
    database.execute(f"SELECT pg_terminate_backend({guard.holder.pid}, 5000)")
    with pytest.raises(LockLost):
        await revision(revisions + 1)
    await opened.rollback()
    with pytest.raises(LockLost):
        await opened.execute(sa.text("CREATE TABLE t (id int)"))
    assert_stands_at(revisions, database)
    assert database.value("SELECT count(*) FROM migration_endpoint.step") == revisions


@pytest.mark.parametrize("revisions", [0, 3])
async def test_a_run_that_is_cancelled_commits_nothing_more(
    run: tuple[AsyncConnection, Guard, Revision], database: Database, revisions: int
) -> None:
    opened, _, revision = run
    await run_through(revision, revisions)
    await opened.execute(sa.text("CREATE TABLE t (id int)"))
    database.execute("UPDATE migration_endpoint.run SET cancel_asked_at = now()")
    with pytest.raises(Cancelled):
        await revision(revisions + 1)
    await opened.rollback()
    assert_stands_at(revisions, database)


@pytest.mark.parametrize("revisions", [0, 3])
async def test_a_version_that_is_not_where_it_should_be_is_not_moved(
    run: tuple[AsyncConnection, Guard, Revision], database: Database, revisions: int
) -> None:
    opened, _, revision = run
    await run_through(revision, revisions)
    with pytest.raises(MigrationFailed, match="version table"):
        await revision(revisions + 1, "CREATE TABLE t (id int)", was=77)
    await opened.rollback()
    assert_stands_at(revisions, database)
    await revision(revisions + 1)
    assert database.value("SELECT n FROM v") == f"it's {revisions + 1}"


@pytest.mark.parametrize("column", ["char(12)", "tagged"])
async def test_the_version_may_be_of_another_type_than_alembic_makes_it(
    run: tuple[AsyncConnection, Guard, Revision], database: Database, column: str
) -> None:
    tags = ", ".join(f"'it''s {number}'" for number in range(5))
    database.execute(f"CREATE TYPE tagged AS ENUM ({tags}); ALTER TABLE v ALTER n TYPE {column} USING n::{column}")
    _, _, revision = run
    for number in range(1, 5):
        await revision(number)
    assert database.value("SELECT trim(n::text) FROM v") == "it's 4"


@pytest.mark.parametrize("taking", ["DEALLOCATE ALL", "discard plans; deallocate prepare all"])
async def test_a_revision_may_deallocate_whatever_is_ready(
    run: tuple[AsyncConnection, Guard, Revision], database: Database, taking: str
) -> None:
    _, _, revision = run
    for number in range(1, 7):
        await revision(number, *([taking] if number == 4 else []))
    assert database.value("SELECT n FROM v") == "it's 6"


async def test_what_a_revision_locks_is_told_however_it_is_asked(
    run: tuple[AsyncConnection, Guard, Revision], database: Database
) -> None:
    _, _, revision = run
    database.execute("CREATE TABLE kept (id int)")
    for number in range(1, 16, 3):
        await revision(number, "LOCK kept IN SHARE MODE")
        await revision(number + 1, f"ALTER TABLE kept ADD x{number} uuid DEFAULT gen_random_uuid()")
        await revision(number + 2, "CREATE TABLE made (id int); DROP TABLE made")
    told = database.execute("SELECT locks, rewrote FROM migration_endpoint.step ORDER BY id")
    assert [
        ([(lock["relation"], lock["mode"]) for lock in in_short(locks)], rewrote) for locks, rewrote in told
    ] == 5 * [
        ([("kept", "ShareLock")], []),
        ([("kept", "AccessExclusiveLock")], ["kept"]),
        ([], []),
    ]
