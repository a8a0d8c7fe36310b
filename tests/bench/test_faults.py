"""Behaviour under faults: this service is right everywhere, and each rule can be broken."""

import dataclasses
import re
from pathlib import Path

import psutil
import pytest

from bench import faults, ours
from bench.faults import at_once, blocked_reader, index, killed
from bench.faults.cell import Cell
from bench.faults.contender import Ending, Tool
from bench.faults.killed import Rerun
from bench.history import Migration
from bench.peers.drizzle import Drizzle
from bench.peers.psql import Psql
from tests import servers
from tests.servers import Database, Postgres, until


class Script(Psql):
    """psql with a script of a test's own, whatever the history."""

    def __init__(self, script: str) -> None:
        self._script = script

    def write(self, folder: Path, history: list[Migration]) -> None:  # noqa: ARG002 – as a peer's is called
        if why := self.missing():
            pytest.skip(why)
        (folder / "everything.sql").write_text(self._script)


def test_this_service_is_right_under_every_fault_and_who_does_nothing_is_not(
    postgres: Postgres, tmp_path: Path
) -> None:
    idle = Script("CREATE TABLE t (id int);")
    if why := idle.missing():
        pytest.skip(why)
    section = faults.measure(postgres, tmp_path, peers=[idle], callers=3, revisions=3, slow_s=4, old_s=0.3, held_s=3)
    _, _, mine, other = (line.strip("| ").split(" | ") for line in section.table.splitlines())
    assert (mine[0], other[0]) == (ours.NAME, idle.name)
    assert [cell for cell in mine[1:] if not cell.startswith("right: ")] == []
    assert [cell for cell in other[1:] if not cell.startswith("**wrong**: ")] == []
    assert [(goal.value, goal.at_most) for goal in section.goals] == [(0, 0), (len(other) - 1, None)]
    if section.skipped:
        pytest.skip(str(section.skipped))
    assert len(mine) == 6


def at_once_by(script: str, postgres: Postgres, folder: Path, callers: int, mode: str | None = None) -> Cell:
    alone = at_once.undisturbed(Tool(Script(script)), postgres, folder, revisions=0)
    with postgres.database() as database:
        if mode is None:
            return at_once.measure(alone, database, database, callers=callers)
        with servers.pgbouncer(database, mode=mode) as pooled:
            return at_once.measure(alone, database, pooled, callers=callers)


def test_a_row_of_history_too_many_is_wrong(postgres: Postgres, tmp_path: Path) -> None:
    script = (
        "BEGIN; SELECT pg_advisory_xact_lock(1); CREATE TABLE IF NOT EXISTS history (v int);"
        "INSERT INTO history VALUES (1); COMMIT;"
    )
    cell = at_once_by(script, postgres, tmp_path, 2)
    assert str(cell) == "**wrong**: 2 of 2 succeed; 2 rows instead of 1 in public.history"


def test_a_table_that_is_missing_is_wrong(postgres: Postgres, database: Database, tmp_path: Path) -> None:
    alone = at_once.undisturbed(Tool(Script("SELECT 1;")), postgres, tmp_path, revisions=0)
    expected = dataclasses.replace(alone, rows={"public.t_1": 0})
    cell = at_once.measure(expected, database, database, callers=1)
    assert str(cell) == "**wrong**: 1 of 1 succeed; tables: 1 missing, 0 too many"


def test_a_next_run_that_fails_is_wrong(postgres: Postgres, tmp_path: Path) -> None:
    cell = at_once_by("CREATE TABLE t (id int);", postgres, tmp_path, 1)
    assert str(cell) == "**wrong**: 1 of 1 succeed; the next run fails: relation already exists"


@pytest.mark.parametrize(("mode", "verdict"), [(None, "right"), ("transaction", "**wrong**")])
def test_a_session_s_lock_is_stranded_in_a_pool(
    mode: str | None, verdict: str, postgres: Postgres, tmp_path: Path
) -> None:
    cell = at_once_by("SELECT pg_try_advisory_lock(1);", postgres, tmp_path, 1, mode)
    assert str(cell) == f"{verdict}: 1 of 1 succeed" + ("; 1 advisory lock stranded" if mode else "")


@pytest.mark.parametrize(
    ("gone_s", "through_s", "tables", "is_right"),
    [
        (2.9, 40.0, 3, True),
        (3.1, 40.0, 3, False),
        (None, 40.0, 3, False),
        (0.1, None, 3, False),
        (0.1, 40.0, 2, False),
    ],
)
def test_whoever_is_killed_has_to_be_gone_and_a_rerun_through(
    gone_s: float | None, through_s: float | None, tables: int, is_right: bool
) -> None:
    assert killed.judge(gone_s, Rerun(through_s, 1, "locked"), tables).is_right is is_right


def test_a_statement_that_outlives_its_client_is_wrong(postgres: Postgres, tmp_path: Path) -> None:
    script = (
        "BEGIN; CREATE TABLE t_1 (); CREATE TABLE t_2 AS SELECT pg_sleep(seconds)::text AS slept FROM slow;"
        "CREATE TABLE t_3 (); COMMIT;"
    )
    cell = killed.measure(Tool(Script(script)), postgres, tmp_path, slow_s=4)
    assert re.fullmatch(r"backend gone after [\d.]+ s, rerun through after [\d.]+ s", cell.happened)
    assert not cell.is_right


def test_a_reader_who_waits_as_long_as_the_table_is_held_is_wrong(postgres: Postgres, tmp_path: Path) -> None:
    cell = blocked_reader.measure(Tool(Script("ALTER TABLE busy ADD more text;")), postgres, tmp_path, held_s=3)
    assert "migration through" in cell.happened
    assert not cell.is_right


def test_who_never_gets_to_the_statement_is_not_killed(postgres: Postgres, tmp_path: Path) -> None:
    cell = killed.measure(Tool(Script("SELECT FROM nowhere;")), postgres, tmp_path, slow_s=1)
    assert str(cell) == "**wrong**: does not get to the statement (relation does not exist)"


def test_who_waits_with_a_snapshot_for_whoever_builds_an_index_is_wrong(postgres: Postgres, tmp_path: Path) -> None:
    script = "SELECT pg_advisory_lock(1); CREATE INDEX CONCURRENTLY IF NOT EXISTS written_v ON written (v);"
    cell = index.measure(Tool(Script(script)), postgres, tmp_path, old_s=0.2)
    assert not cell.is_right
    assert "deadlock detected" in cell.happened


def test_who_knows_transactions_only_cannot_build_an_index_concurrently(postgres: Postgres, tmp_path: Path) -> None:
    if why := Drizzle().missing():
        pytest.skip(why)
    cell = index.measure(Tool(Drizzle()), postgres, tmp_path, old_s=0.2)
    assert str(cell) == "**wrong**: cannot build it (cannot run inside a transaction block)"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("SET lock_timeout = '200ms'; ALTER TABLE busy ADD more text;", "migration fails (lock timeout)"),
        ("SELECT 1;", "migration fails (changes nothing)"),
    ],
)
def test_a_migration_that_does_not_come_through_is_wrong(
    script: str, told: str, postgres: Postgres, tmp_path: Path
) -> None:
    cell = blocked_reader.measure(Tool(Script(script)), postgres, tmp_path, held_s=1)
    assert not cell.is_right
    assert told in cell.happened


def test_who_does_not_end_is_killed_with_what_it_has_started(database: Database, tmp_path: Path) -> None:
    tool = Tool(Script("\\! sleep 60"))
    tool.write(tmp_path, [])
    with tool.runners(tmp_path, database, 1) as [start]:
        attempt = start()
        children = until(psutil.Process(attempt._process.pid).children, what="psql to start a child")  # type: ignore[attr-defined]  # of a process only
        assert attempt.ending(0).reason == "did not end"
        until(lambda: not any(each.is_running() and each.status() != "zombie" for each in children))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('ERROR:  relation "t_1" already exists\nLINE 1', "relation already exists"),
        ("psycopg.errors.UniqueViolation: duplicate key value violates …", "duplicate key"),
        ("Error: process 4711 has the lock\n    at lock (/somewhere/index.js:1)", "process … has the lock"),
        ("Traceback:\n  File\nbroken.LockTimeout: a | b", "a / b"),
        ("\n", "said nothing"),
    ],
)
def test_failures_of_one_kind_have_one_reason(said: str, reason: str) -> None:
    assert Ending(succeeded=False, said=said).reason == reason
