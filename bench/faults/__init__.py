"""Behaviour under faults: the same five for every tool and for this service, each judged by a rule."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench import tool
from bench.faults import at_once, blocked_reader, index, killed
from bench.faults.at_once import Undisturbed
from bench.faults.cell import Cell
from bench.faults.contender import Contender, Ours, Tool
from bench.peers import PEERS
from bench.peers.peer import Peer
from bench.section import Goal, Section
from tests import servers
from tests.servers import Postgres

_SIDE_BY_SIDE = 4
"""Contenders that mostly wait, so that they do not disturb each other."""

_POOLED = "{} at once through PgBouncer"


def measure(
    postgres: Postgres,
    folder: Path,
    *,
    peers: Sequence[Peer] = PEERS,
    callers: int = 10,
    revisions: int = 20,
    slow_s: float = 20,
    old_s: float = 4,
    held_s: float = 12,
) -> Section:
    """Put this service, and each peer that is here, to all of them: some six minutes."""
    skipped = tool.missing(peers)
    contenders: list[Contender] = [Ours(), *map(Tool, tool.installed(peers))]

    def at_one_time(who: Contender, _: Path) -> Cell:
        with postgres.database() as database:
            return at_once.measure(alone[who.name], database, database, callers=callers)

    def through_a_pooler(who: Contender, _: Path) -> Cell:
        with postgres.database() as database, servers.pgbouncer(database, mode="transaction") as pooled:
            at_once.warm(pooled, callers)
            return at_once.measure(alone[who.name], database, pooled, callers=callers)

    def being_killed(who: Contender, where: Path) -> Cell:
        return killed.measure(who, postgres, where, slow_s=slow_s)

    def building(who: Contender, where: Path) -> Cell:
        return index.measure(who, postgres, where, old_s=old_s)

    def waiting(who: Contender, where: Path) -> Cell:
        return blocked_reader.measure(who, postgres, where, held_s=held_s)

    def by_itself(who: Contender, where: Path) -> Undisturbed:
        return at_once.undisturbed(who, postgres, where, revisions=revisions)

    each = _Each(contenders, folder)
    alone = {found.contender.name: found for found in each.side_by_side(by_itself)}
    columns = {f"{callers} at once": each.in_turn(at_one_time)}
    try:
        columns[_POOLED.format(callers)] = each.in_turn(through_a_pooler)
    except pytest.skip.Exception as reason:  # so tests/servers.py tells that PgBouncer is not installed
        skipped[_POOLED.format(callers)] = str(reason)
    columns |= {
        f"killed in a statement of {slow_s:g} s": each.side_by_side(being_killed),
        "an index built concurrently, a second runner waiting": each.side_by_side(building),
        f"a table held for {held_s:g} s": each.side_by_side(waiting),
    }
    return Section(
        name="faults",
        title="Behaviour under faults",
        explanation=_explanation(callers, revisions, slow_s, old_s, held_s),
        table=_table([each.name for each in contenders], columns),
        goals=[
            Goal(
                f"cells that are wrong, {contender.name}",
                sum(not column[number].is_right for column in columns.values()),
                0 if isinstance(contender, Ours) else None,
            )
            for number, contender in enumerate(contenders)
        ],
        skipped=skipped,
    )


class _Each:
    """Lets everybody do the same, each time in a new folder."""

    def __init__(self, contenders: list[Contender], folder: Path) -> None:
        self._contenders = contenders
        self._folders = (folder / str(number) for number in itertools.count())

    def in_turn[T](self, fault: Callable[[Contender, Path], T]) -> list[T]:
        return [fault(each, where) for each, where in self._with_folders()]

    def side_by_side[T](self, fault: Callable[[Contender, Path], T]) -> list[T]:
        """A few at a time, as for what mostly waits."""
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            return list(pool.map(lambda pair: fault(*pair), self._with_folders()))

    def _with_folders(self) -> list[tuple[Contender, Path]]:
        pairs = list(zip(self._contenders, self._folders, strict=False))
        for _, where in pairs:
            where.mkdir()
        return pairs


def _table(names: list[str], columns: dict[str, list[Cell]]) -> str:
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(str(column[row]) for column in columns.values())] for row, name in enumerate(names)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _explanation(callers: int, revisions: int, slow_s: float, old_s: float, held_s: float) -> str:
    return f"""
Every tool in its usual way, as a process for each run; this service with the settings that it has by itself, as a
server process for each caller, which is called with POST /migrate. A cell is right if its rule holds, and what a tool
only says in words, such as that somebody else is at work, does not make a deployment succeed.

{callers} at once: on an empty database, with {revisions} revisions. Nobody can read the catalogue before all of them
want to, so that who starts slowly doesn't find the work done. Right: all succeed, every table has the rows that it has
after a run that nobody disturbs (the history's rows too), no advisory lock is left when all have ended, and the next
run succeeds. The same through PgBouncer in transaction mode, whose pool has a connection for each caller before.

Killed: SIGKILL to the process and its children in a CREATE TABLE that takes {slow_s:g} s; the rerun, for which this
service is started anew, begins at once, is repeated while it fails, and finds the statement to be quick. Right: the
backend is gone within {killed.GONE_WITHIN_S:g} s, and a rerun comes through.

An index: CREATE INDEX CONCURRENTLY outside of a transaction has to wait for one that has written to the table; a
second runner starts, and {old_s:g} s after it has connected that transaction ends. Right: both succeed, and the index
is valid.

A table held: by a transaction that has read it and is idle, for {held_s:g} s after the migration's ALTER TABLE begins
to wait, while somebody else reads it every {blocked_reader.EVERY_S * 1000:.0f} ms. Right: no read waits for longer than
{blocked_reader.WAITS_AT_MOST_S:g} s, and the migration comes through by itself.

The first two were measured one after the other, the others {_SIDE_BY_SIDE} side by side in databases of their own,
since they mostly wait. Where callers race, another run has other figures.
""".strip()
