"""Behaviour under faults: the same five for every tool and for this service, each judged by a rule."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.faults import at_once, blocked_reader, index, killed
from bench.faults.cell import Cell
from bench.faults.contender import Contender, Ours, Tool
from bench.peers import PEERS
from bench.peers.peer import Peer
from bench.section import Goal, Section
from tests.servers import Postgres

_SIDE_BY_SIDE = 4
"""Contenders that mostly wait, so that they do not disturb each other."""

type Fault = Callable[[Contender, Path], Cell]


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
    """Put this service and each peer that is here to all of them; minutes, with ten peers."""
    skipped = {peer.name: why for peer in peers if (why := peer.missing())}
    contenders: list[Contender] = [Ours(), *(Tool(peer) for peer in peers if peer.name not in skipped)]

    def through_a_pooler(contender: Contender, where: Path) -> Cell:
        return at_once.measure(contender, postgres, where, callers=callers, revisions=revisions, through="transaction")

    faults: dict[str, tuple[Fault, int]] = {
        f"{callers} at once": (
            lambda who, where: at_once.measure(who, postgres, where, callers=callers, revisions=revisions),
            1,
        ),
        f"{callers} at once through PgBouncer": (through_a_pooler, 1),
        f"killed in a statement of {slow_s:g} s": (
            lambda who, where: killed.measure(who, postgres, where, slow_s=slow_s),
            _SIDE_BY_SIDE,
        ),
        "an index built concurrently, a second runner waiting": (
            lambda who, where: index.measure(who, postgres, where, old_s=old_s),
            1,
        ),
        f"a table held for {held_s:g} s": (
            lambda who, where: blocked_reader.measure(who, postgres, where, held_s=held_s),
            _SIDE_BY_SIDE,
        ),
    }
    columns: dict[str, list[Cell]] = {}
    for number, (what, (fault, workers)) in enumerate(faults.items()):
        try:
            columns[what] = _column(fault, contenders, folder / f"fault{number}", workers)
        except pytest.skip.Exception as reason:  # so tests/servers.py tells that PgBouncer is not installed
            skipped[what] = str(reason)
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


def _column(fault: Fault, contenders: list[Contender], folder: Path, workers: int) -> list[Cell]:
    def cell(numbered: tuple[int, Contender]) -> Cell:
        number, contender = numbered
        where = folder / str(number)
        where.mkdir(parents=True)
        return fault(contender, where)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(cell, enumerate(contenders)))


def _table(names: list[str], columns: dict[str, list[Cell]]) -> str:
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(str(column[row]) for column in columns.values())] for row, name in enumerate(names)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _explanation(callers: int, revisions: int, slow_s: float, old_s: float, held_s: float) -> str:
    return f"""
TODO {callers} {revisions} {slow_s} {old_s} {held_s}
"""
