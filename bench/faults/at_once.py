"""Many at once on an empty database, directly and through PgBouncer in transaction mode."""

import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from psycopg import Connection, sql

from bench.faults.cell import Cell
from bench.faults.contender import Contender, Ending
from bench.history import tables
from tests import servers
from tests.servers import Database, Postgres

_PATIENCE_S = 60
"""For all of them together: far more than the work takes."""
_NEXT_S = 15
"""For a single run that finds the work done."""
_DISCONNECTED_S = 2
"""Until PostgreSQL has noticed that its clients are gone."""


def measure(
    contender: Contender, postgres: Postgres, folder: Path, *, callers: int, revisions: int, through: str | None = None
) -> Cell:
    """Right: all succeed, each table and each row of history is there once, no lock stays, and the next run succeeds.

    `through` is a pool mode of PgBouncer's. What the database has to look like is seen from a run that nobody disturbs.
    """
    contender.write(folder, tables(revisions))
    with postgres.database() as database:
        (alone,) = _run(contender, folder, database, 1, _PATIENCE_S)
        assert alone.succeeded, f"{contender.name} fails even by itself: {alone.said}"
        right = _rows(database, contender.counts_attempts)
    with postgres.database() as database, _reached(database, through) as on:
        endings = _run(contender, folder, on, callers, _PATIENCE_S)
        rows = _rows(database, contender.counts_attempts)
        stranded = _locks_that_stay(database)
        (following,) = _run(contender, folder, on, 1, _NEXT_S)

    succeeded = sum(each.succeeded for each in endings)
    reasons = Counter(each.reason for each in endings if not each.succeeded)
    happened = [f"{succeeded} of {callers} succeed", *(f"{count}: {why}" for why, count in reasons.most_common())]
    if rows != right:
        happened.append(_difference(right, rows))
    if stranded:
        happened.append(f"{stranded} advisory lock{'s' if stranded > 1 else ''} stranded")
    if not following.succeeded:
        happened.append(f"the next run fails: {following.reason}")
    is_right = succeeded == callers and rows == right and not stranded and following.succeeded
    return Cell(is_right, "; ".join(happened))


def _reached(database: Database, through: str | None) -> AbstractContextManager[Database]:
    return servers.pgbouncer(database, mode=through) if through else nullcontext(database)


def _run(contender: Contender, folder: Path, on: Database, callers: int, patience_s: float) -> list[Ending]:
    with contender.runners(folder, on, callers) as runners:
        attempts = [start() for start in runners]
        end = time.monotonic() + patience_s
        return [each.ending(end - time.monotonic()) for each in attempts]


def _rows(database: Database, but: frozenset[str]) -> dict[str, int]:
    """How many rows each table has, that of the history included."""
    with database.connect() as connection:
        found = connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        return {table: _count(connection, table) for (table,) in found if table not in but}


def _count(connection: "Connection[tuple[Any, ...]]", table: str) -> int:
    quoted = sql.Identifier(*table.split("."))
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(quoted)).fetchone()
    assert row is not None
    return int(row[0])


def _locks_that_stay(database: Database) -> int:
    """Of backends whose client is gone: those that a pool keeps, since PostgreSQL ends the others."""
    end = time.monotonic() + _DISCONNECTED_S
    while database.is_locked and time.monotonic() < end:
        time.sleep(0.05)
    return int(
        database.value(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    )


def _difference(right: dict[str, int], rows: dict[str, int]) -> str:
    missing, more = right.keys() - rows.keys(), rows.keys() - right.keys()
    if missing or more:
        return f"{len(missing)} tables missing, {len(more)} too many"
    return ", ".join(
        f"{table} has {rows[table]} rows instead of {right[table]}" for table in right if rows[table] != right[table]
    )
