"""An index that is built concurrently, and has to wait for a transaction, while a second runner waits for it."""

import time
from pathlib import Path

from bench.faults.cell import Cell
from bench.faults.contender import Attempt, Contender, seen
from bench.history import Migration
from tests.servers import Database, Postgres

_STARTED_S = 60
_PATIENCE_S = 30
"""From the end of the old transaction on: nothing is in the way any more, and the table is all but empty."""

_HISTORY = [
    Migration(1, "CREATE TABLE t_1 (id bigint PRIMARY KEY, v text)"),
    Migration(2, "CREATE INDEX CONCURRENTLY written_v ON written (v)", in_transaction=False),
]


def measure(contender: Contender, postgres: Postgres, folder: Path, *, old_s: float) -> Cell:
    """Right: both succeed, and the index is valid.

    The second runner starts when the build waits. So many seconds after it has connected, the old transaction ends.
    """
    contender.write(folder, _HISTORY)
    with (
        postgres.database() as database,
        database.connect() as old,
        contender.runners(folder, database, 2) as [start_first, start_second],
    ):
        database.execute("CREATE TABLE written (v text)")
        # The build waits first for who has written, then, at its end, for every snapshot that was there before: so
        # the second runner comes early enough to be waited for, if it holds one.
        old.execute("BEGIN")
        old.execute("INSERT INTO written VALUES ('a')")
        first = start_first()
        if not seen(lambda: _waits(database), first, _STARTED_S):
            return Cell(is_right=False, happened=f"cannot build it ({first.ending(0).reason})")
        before = _backends(database)
        second = start_second()
        seen(lambda: _backends(database) - before, second, _STARTED_S)
        time.sleep(old_s)
        old.execute("ROLLBACK")
        freed = time.monotonic()
        return _judge(database, first, second, freed)


def _judge(database: Database, first: Attempt, second: Attempt, freed: float) -> Cell:
    endings = [each.ending(freed + _PATIENCE_S - time.monotonic()) for each in (first, second)]
    took_s = time.monotonic() - freed
    found = database.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('written_v')")
    is_valid = found == [(True,)]
    index = "index valid" if is_valid else "index INVALID" if found else "no index"

    happened = [
        f"{which} fails ({ending.reason})"
        for which, ending in zip(("builder", "second"), endings, strict=True)
        if not ending.succeeded
    ]
    both = all(each.succeeded for each in endings)
    if both:
        happened.append(f"both succeed, {took_s:.1f} s after the transaction")
    return Cell(both and is_valid, "; ".join([*happened, index]))


def _waits(database: Database) -> bool:
    return bool(
        database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND query ~ 'CREATE INDEX CONCURRENTLY' AND wait_event = 'virtualxid'"
        )
    )


def _backends(database: Database) -> set[int]:
    rows = database.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return {pid for (pid,) in rows}
