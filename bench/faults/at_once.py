"""Many at once on an empty database, directly and through PgBouncer in transaction mode."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import Connection, sql

from bench.faults.cell import Cell
from bench.faults.contender import Attempt, Contender
from bench.history import tables
from tests.servers import Database, Postgres

_PATIENCE_S = 60
"""For all of them together: far more than the work takes."""
_NEXT_S = 15
"""For a single run that finds the work done."""
_ARRIVED_S = 40
"""Until the last of them has asked the database something."""
_DISCONNECTED_S = 2
"""Until PostgreSQL has noticed that its clients are gone."""


@dataclass(frozen=True)
class Undisturbed:
    """What a contender leaves behind that runs by itself."""

    contender: Contender
    folder: Path
    """With the history in it."""
    rows: dict[str, int]
    """How many each table has, that of the history included."""


def undisturbed(contender: Contender, postgres: Postgres, folder: Path, *, revisions: int) -> Undisturbed:
    """Write the history and run it on a database of its own; it must succeed."""
    contender.write(folder, tables(revisions))
    with postgres.database() as database, contender.runners(folder, database, 1) as [start]:
        ending = start().ending(_PATIENCE_S)
        assert ending.succeeded, f"{contender.name} fails even by itself: {ending.said}"
        return Undisturbed(contender, folder, _rows(database, contender.counts_attempts))


def measure(alone: Undisturbed, database: Database, on: Database, *, callers: int) -> Cell:
    """Right: all succeed, each table and each row of history is there once, no lock stays, and the next run succeeds.

    `on` is the database as the callers reach it.
    """
    with (
        alone.contender.runners(alone.folder, on, callers + 1) as [*runners, start_another],
        _meeting(database, callers) as meet,
    ):
        attempts = [start() for start in runners]
        meet(attempts)
        end = time.monotonic() + _PATIENCE_S
        endings = [each.ending(end - time.monotonic()) for each in attempts]
        rows = _rows(database, alone.contender.counts_attempts)
        stranded = _locks_that_stay(database)
        following = start_another().ending(_NEXT_S)

    succeeded = sum(each.succeeded for each in endings)
    reasons = Counter(each.reason for each in endings if not each.succeeded)
    happened = [f"{succeeded} of {callers} succeed", *(f"{count}: {why}" for why, count in reasons.most_common())]
    if rows != alone.rows:
        happened.append(_difference(alone.rows, rows))
    if stranded:
        happened.append(f"{stranded} advisory lock{'s' if stranded > 1 else ''} stranded")
    if not following.succeeded:
        happened.append(f"the next run fails: {following.reason}")
    is_right = succeeded == callers and rows == alone.rows and not stranded and following.succeeded
    return Cell(is_right, "; ".join(happened))


def warm(pooled: Database, callers: int) -> None:
    """Let the pool have a connection for each caller: PgBouncer opens one after the other."""
    with ExitStack() as stack:
        for _ in range(callers):
            stack.enter_context(pooled.connect()).execute("BEGIN")


@contextmanager
def _meeting(database: Database, callers: int) -> Iterator[Callable[[list[Attempt]], None]]:
    """Let nobody read the catalogue before so many want to: else who starts slowly finds the work done by the first."""
    with database.connect() as door:
        door.execute("BEGIN")
        door.execute("LOCK TABLE pg_class IN ACCESS EXCLUSIVE MODE")

        def meet(attempts: list[Attempt]) -> None:
            end = time.monotonic() + _ARRIVED_S
            # Some are over: they took a lock first, or tried to, which needs no look at the catalogue in a warm pool.
            while _waiting(database) + sum(each.is_over() for each in attempts) < callers and time.monotonic() < end:
                time.sleep(0.05)
            door.execute("ROLLBACK")

        yield meet


def _waiting(database: Database) -> int:
    """Seen from another database: in this one nobody reads anything."""
    ((count,),) = database.server.execute(
        "SELECT count(DISTINCT pid) FROM pg_locks WHERE relation = 'pg_class'::regclass AND NOT granted "
        f"AND database = (SELECT oid FROM pg_database WHERE datname = '{database.address.database}')"
    )
    return int(count)


def _rows(database: Database, but: frozenset[str]) -> dict[str, int]:
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
    """When nobody is at work any more: those that a pool keeps, since PostgreSQL ends backends whose client is gone."""
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
        return f"tables: {len(missing)} missing, {len(more)} too many"
    differing = [table for table in right if rows[table] != right[table]]
    return ", ".join(f"{rows[table]} rows instead of {right[table]} in {table}" for table in differing)
