"""SIGKILL in the middle of a long statement: how long the statement lives on, and until a rerun is through."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.faults.cell import Cell
from bench.faults.contender import Contender, seen
from bench.history import Migration
from tests.servers import Database, Postgres

GONE_WITHIN_S = 3.0
_STARTED_S = 60
_PATIENCE_S = 15
"""Beyond the statement's own time."""

# Slow for as long as the table `slow` says, and one statement, which every tool takes.
_SLOW = "CREATE TABLE t_2 AS SELECT pg_sleep(seconds)::text AS slept FROM slow"
_HISTORY = [
    Migration(1, "CREATE TABLE t_1 (id bigint PRIMARY KEY, v text)"),
    Migration(2, _SLOW),
    Migration(3, "CREATE TABLE t_3 (id bigint PRIMARY KEY, v text)"),
]


@dataclass(frozen=True)
class Rerun:
    """What came of starting again after the kill."""

    through_s: float | None
    """Since the kill; None if it never was."""
    tries: int
    reason: str


def measure(contender: Contender, postgres: Postgres, folder: Path, *, slow_s: float) -> Cell:
    """Right: the backend is gone within GONE_WITHIN_S, and a rerun comes through, to all three tables."""
    contender.write(folder, _HISTORY)
    with postgres.database() as database, ThreadPoolExecutor(1) as pool:
        database.execute(f"CREATE TABLE slow AS SELECT {slow_s}::float8 AS seconds")
        with contender.runners(folder, database, 1) as [start]:
            attempt = start()
            if not seen(lambda: _sleeping(database), attempt, _STARTED_S):
                return Cell(is_right=False, happened=f"does not get to the statement ({attempt.ending(0).reason})")
            [pid] = _sleeping(database)
            database.execute("UPDATE slow SET seconds = 0")
            attempt.kill()
            killed = time.monotonic()
        watched = pool.submit(_until_gone, database, pid, killed, slow_s + _PATIENCE_S)
        rerun = _rerun(contender, folder, database, killed, slow_s + _PATIENCE_S)
        gone_s = watched.result()
        tables = _tables(database)
    return judge(gone_s, rerun, tables)


def judge(gone_s: float | None, rerun: Rerun, tables: int) -> Cell:
    """The rule."""
    happened = ["the backend is still there" if gone_s is None else f"backend gone after {gone_s:.1f} s"]
    if rerun.through_s is None:
        happened.append(f"no rerun comes through ({rerun.reason})")
    else:
        happened.append(f"rerun through after {rerun.through_s:.1f} s")
        if rerun.tries > 1:
            happened.append(f"{rerun.tries} tries")
        if tables < len(_HISTORY):
            happened.append(f"{tables} of {len(_HISTORY)} tables")
    is_gone = gone_s is not None and gone_s <= GONE_WITHIN_S
    return Cell(is_gone and rerun.through_s is not None and tables == len(_HISTORY), ", ".join(happened))


def _sleeping(database: Database) -> list[int]:
    rows = database.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )
    return [pid for (pid,) in rows]


def _until_gone(database: Database, pid: int, killed: float, within_s: float) -> float | None:
    """Seconds since the kill; None if it stays."""
    with database.connect() as connection:
        while (waited_s := time.monotonic() - killed) < within_s:
            if connection.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() is None:
                return waited_s
            time.sleep(0.02)
    return None


def _rerun(contender: Contender, folder: Path, database: Database, killed: float, within_s: float) -> Rerun:
    """Start again at once, and again until one succeeds or the time is over."""
    tries, reason = 0, ""
    with contender.runners(folder, database, 1) as [start]:
        while (left_s := killed + within_s - time.monotonic()) > 0:
            ending = start().ending(left_s)
            tries += 1
            if ending.succeeded:
                return Rerun(time.monotonic() - killed, tries, "")
            reason = reason if ending.hung and reason else ending.reason
            time.sleep(0.2)
    return Rerun(None, tries, reason)


def _tables(database: Database) -> int:
    return int(database.value("SELECT count(*) FROM pg_tables WHERE tablename IN ('t_1', 't_2', 't_3')"))
