"""The plain `alembic` command from a laptop: the same database, the same lock, the same record."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.database import lock
from tests import servers
from tests.conftest import write_revision
from tests.servers import Database, Service, until

KEY = lock.key("public.alembic_version")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project whose history a test may change."""
    copy = tmp_path / "project"
    copy.mkdir()
    for name in ("app", "migrations"):
        shutil.copytree(servers.PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(servers.PROJECT / "pyproject.toml", copy)
    return copy


@pytest.fixture
def small(project: Path) -> Path:
    """The copy with two revisions of no weight instead of the sample ones."""
    shutil.rmtree(project / "migrations" / "versions")
    write_revision(
        project / "migrations", "a1", None, "op.execute('CREATE TABLE a (id int)')", downgrade="op.drop_table('a')"
    )
    write_revision(
        project / "migrations", "b2", "a1", "op.execute('CREATE TABLE b (id int)')", downgrade="op.drop_table('b')"
    )
    return project


def start(folder: Path, database: Database | None, *arguments: str, **settings: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=folder,
        env=servers.environment(database, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def alembic(
    folder: Path, database: Database | None, *arguments: str, fails: bool = False, **settings: object
) -> tuple[str, str]:
    """Run the command to its end; what it says on stdout and stderr."""
    process = start(folder, database, *arguments, **settings)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode != 0) == fails, f"alembic {arguments} ended with {process.returncode}:\n{out}\n{err}"
    return out, err


def test_the_sample_history_goes_up_and_down_and_up_again_to_the_same_schema(
    database: Database, serve: Callable[..., Service]
) -> None:
    def schema() -> list[tuple[object, ...]]:
        return database.execute(SCHEMA)

    alembic(servers.PROJECT, database, "upgrade", "head")
    by_command = schema()
    assert len(by_command) > 40
    assert "0007 (head)" in alembic(servers.PROJECT, database, "current")[0]
    alembic(servers.PROJECT, database, "downgrade", "base")
    assert schema() == []
    answer = serve().post()
    assert answer.status_code == 200, answer.text
    assert schema() == by_command
    assert database.execute(
        "SELECT outcome, target, reason LIKE 'alembic % by %' FROM migration_endpoint.run ORDER BY started_at"
    ) == [
        ("upgraded", "head", True),
        ("downgraded", "base", True),
        ("upgraded", "heads", None),
    ]
    assert database.execute("SELECT direction, count(*) FROM migration_endpoint.step GROUP BY 1 ORDER BY 1") == [
        ("downgrade", 7),
        ("upgrade", 14),
    ]


PLAIN_ENV = """
import os
import sqlalchemy as sa
from alembic import context

engine = sa.create_engine(sa.make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"))
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""


def test_the_endpoint_makes_the_schema_that_plain_alembic_makes_with_psycopg(
    project: Path, database: Database, serve: Callable[..., Service]
) -> None:
    (project / "migrations" / "env.py").write_text(PLAIN_ENV)
    with database.server.database() as other:
        alembic(project, other, "upgrade", "head")
        answer = serve().post()
        assert answer.status_code == 200, answer.text
        assert database.execute(SCHEMA) == other.execute(SCHEMA)
        alembic(project, database, "downgrade", "base")  # what the endpoint made, plain Alembic takes away
    assert database.execute(SCHEMA) == []


# Columns, constraints, indexes, enum values, functions and triggers of everything that is not ours.
SCHEMA = """
SELECT 'column', table_name || '.' || column_name,
    data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) || convalidated::text FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass
UNION ALL SELECT 'index', i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) || i.indisvalid::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'public'::regnamespace AND i.indrelid <> 'alembic_version'::regclass
UNION ALL SELECT 'enum', t.typname, string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)
FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid GROUP BY 2
UNION ALL SELECT 'function', proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
ORDER BY 1, 2, 3
"""


def test_the_sql_of_an_upgrade_is_written_without_a_database(small: Path) -> None:
    out, _ = alembic(small, None, "upgrade", "head", "--sql")
    assert "CREATE TABLE a (id int);" in out
    assert "UPDATE alembic_version SET version_num='b2'" in out


def test_a_new_revision_compares_the_models_with_the_database(small: Path, database: Database) -> None:
    env = small / "migrations" / "env.py"
    text = env.read_text()
    models = "sa.MetaData()\nsa.Table('shelf', target_metadata, sa.Column('id', sa.Integer, primary_key=True))"
    assert "target_metadata: sa.MetaData | None = None" in text
    env.write_text(text.replace("target_metadata: sa.MetaData | None = None", f"target_metadata = {models}"))
    alembic(small, database, "upgrade", "head")
    alembic(small, database, "revision", "--autogenerate", "-m", "Add shelves", "--rev-id", "c3")
    (made,) = (small / "migrations" / "versions").glob("c3_*.py")
    written = made.read_text()
    assert "create_table('shelf'" in written.replace('"', "'")
    assert "migration_endpoint" not in written, "autogenerate must not see the ledger"
    assert not list((servers.PROJECT / "migrations" / "versions").glob("c3*"))
    # The tables a and b are in no model: autogenerate wants them gone, which no test of ours should do.
    made.write_text("\n".join(line for line in written.splitlines() if "drop_table('a')" not in line.replace('"', "'")))
    out, _ = alembic(small, database, "history")
    assert "c3" in out


def test_the_settings_of_transactions_are_the_command_s_too(small: Path, database: Database) -> None:
    written = "SELECT count(DISTINCT xmin::text) FROM migration_endpoint.step WHERE direction = "
    alembic(small, database, "upgrade", "head", transaction_per_run=True)
    assert database.value(f"{written} 'upgrade'") == 1
    alembic(small, database, "downgrade", "base")
    assert database.value(f"{written} 'downgrade'") == 2
    assert database.execute("SELECT count(*) FROM alembic_version") == [(0,)]


def test_what_committed_by_itself_is_told_of_a_command_s_steps_too(project: Path, database: Database) -> None:
    shutil.rmtree(project / "migrations" / "versions")
    bodies = {
        "a1": "op.execute('CREATE TABLE a (id int)')",
        "b2": "with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY a_id ON a (id)')",
        "c3": "op.execute('CREATE TABLE c (id int)')",
        "d4": "op.execute('CREATE TABLE d (id int)')\nop.execute('COMMIT; BEGIN')",
        "e5": "op.execute('CREATE TABLE e (id int)')",
    }
    for (revision, body), before in zip(bodies.items(), [None, *bodies], strict=False):
        write_revision(project / "migrations", revision, before, body)
    alembic(project, database, "upgrade", "head")
    assert database.execute("SELECT revision, committed_itself FROM migration_endpoint.step ORDER BY id") == [
        (revision, revision in ("b2", "d4")) for revision in bodies
    ]


def test_stamping_takes_the_lock_and_is_on_record_without_steps(small: Path, database: Database) -> None:
    alembic(small, database, "stamp", "b2")
    assert database.value("SELECT version_num FROM alembic_version") == "b2"
    assert database.value("SELECT to_regclass('a')") is None
    assert database.execute("SELECT outcome, to_heads FROM migration_endpoint.run") == [("stamped", ["b2"])]
    assert database.value("SELECT count(*) FROM migration_endpoint.step") == 0


def test_a_command_that_moves_the_database_is_refused_while_somebody_holds_the_lock(
    small: Path, database: Database
) -> None:
    with database.connect() as somebody:
        somebody.execute(f"SELECT pg_advisory_lock({KEY})".encode())
        _, err = alembic(small, database, "upgrade", "head", fails=True, lock_wait=0.3)
        assert "Another run" in err
        assert "Traceback" not in err
        alembic(small, database, "current")  # reads only, and so needs no lock
    assert database.value("SELECT to_regclass('alembic_version')") is None


@pytest.fixture
def slow(project: Path) -> Path:
    shutil.rmtree(project / "migrations" / "versions")
    write_revision(project / "migrations", "a1", None, "op.execute('CREATE TABLE a (id int)')")
    write_revision(
        project / "migrations", "b2", "a1", "op.execute('CREATE TABLE b (id int)')\nop.execute('SELECT pg_sleep(2)')"
    )
    return project


@pytest.fixture
def processes() -> Iterator[list["subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def asleep(database: Database) -> bool:
    return bool(
        database.execute(
            "SELECT pid FROM pg_stat_activity WHERE query LIKE '%SELECT pg_sleep(2)%' AND state = 'active' "
            "AND datname = current_database() AND pid <> pg_backend_pid()"
        )
    )


def test_a_command_waits_for_a_run_of_the_endpoint_and_then_finds_the_work_done(
    slow: Path, database: Database, serve: Callable[..., Service], processes: list["subprocess.Popen[str]"]
) -> None:
    service = serve(slow / "migrations")
    waiter = None
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(service.post)
        until(lambda: asleep(database), what="the endpoint's run to be at work")
        waiter = start(slow, database, "upgrade", "head", lock_wait=20)
        processes.append(waiter)
        assert call.result().status_code == 200
    out, err = waiter.communicate(timeout=30)
    assert waiter.returncode == 0, out + err
    assert database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id") == [("a1",), ("b2",)]


def test_a_command_that_loses_its_guard_cannot_commit(
    slow: Path, database: Database, processes: list["subprocess.Popen[str]"]
) -> None:
    command = start(slow, database, "upgrade", "head")
    processes.append(command)
    until(lambda: asleep(database), what="the command to be at work")
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name ~ '^migrate/[0-9a-f-]{36} ' AND datname = current_database()"
    )
    out, err = command.communicate(timeout=30)
    assert command.returncode != 0
    assert "lost its lock" in err, out + err
    assert database.value("SELECT to_regclass('b')") is None
    assert database.value("SELECT version_num FROM alembic_version") == "a1"
    assert database.execute("SELECT outcome FROM migration_endpoint.run") == [("failed",)]


def test_a_command_without_a_database_says_which_variable_is_missing(small: Path) -> None:
    _, err = alembic(small, None, "upgrade", "head", fails=True)
    assert "DATABASE_URL" in err
    assert "Traceback" not in err
