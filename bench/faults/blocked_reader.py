"""A table that an idle transaction holds, a migration that wants to change it, and readers in between."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.faults.cell import Cell
from bench.faults.contender import Contender, seen
from bench.history import Migration
from tests.servers import Database, Postgres

WAITS_AT_MOST_S = 2.0
_STARTED_S = 60
_PATIENCE_S = 30
"""From the end of the idle transaction on."""
EVERY_S = 0.05

_HISTORY = [
    Migration(1, "CREATE TABLE t_1 (id bigint PRIMARY KEY, v text)"),
    Migration(2, "ALTER TABLE busy ADD COLUMN more text"),
]


def measure(contender: Contender, postgres: Postgres, folder: Path, *, held_s: float) -> Cell:
    """Right: no reader waits for longer than WAITS_AT_MOST_S, and the migration comes through by itself.

    The table is held for so many seconds from when the migration waits for it.
    """
    contender.write(folder, _HISTORY)
    with (
        postgres.database() as database,
        database.connect() as idle,
        ThreadPoolExecutor(1) as pool,
        contender.runners(folder, database, 1) as [start],
    ):
        database.execute("CREATE TABLE busy (id int)")
        idle.execute("BEGIN")
        idle.execute("SELECT FROM busy")
        over = threading.Event()
        reader = pool.submit(_longest_wait, database, over)
        try:
            attempt = start()
            if seen(lambda: _waits(database), attempt, _STARTED_S):
                time.sleep(held_s)
            idle.execute("ROLLBACK")
            ending = attempt.ending(_PATIENCE_S)
        finally:
            over.set()
        longest_s = reader.result()
        is_through = ending.succeeded and _is_changed(database)
    why = "changes nothing" if ending.succeeded else ending.reason
    end = "migration through" if is_through else f"migration fails ({why})"
    return Cell(longest_s <= WAITS_AT_MOST_S and is_through, f"a reader waits {longest_s:.1f} s; {end}")


def _longest_wait(database: Database, over: threading.Event) -> float:
    """Of one reader, each of whose reads is a transaction of its own."""
    longest_s = 0.0
    with database.connect() as connection:
        while not over.wait(EVERY_S):
            began = time.monotonic()
            connection.execute("SELECT FROM busy LIMIT 1")
            longest_s = max(longest_s, time.monotonic() - began)
    return longest_s


def _waits(database: Database) -> bool:
    return bool(database.value("SELECT count(*) FROM pg_locks WHERE relation = to_regclass('busy') AND NOT granted"))


def _is_changed(database: Database) -> bool:
    return bool(
        database.value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'busy'::regclass AND attname = 'more'")
    )
