"""Has anything got worse? `make bench-check`, or `python -m bench.check crowd memory` for parts of it.

A short form of the parts whose goals are ratios or counts, compared with what bench/results has on record. Times by
themselves are never compared: they are those of a machine. What looks worse is measured once more, since a busy machine
can do that to a ratio: only what is worse both times counts.
"""

import functools
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import bundle, cold_start, crowd, memory, round_trips
from bench.section import Goal, Section
from tests import servers
from tests.servers import Postgres

type Part = Callable[[Postgres, Path], Section]

TOLERANCE = 1.25
"""How many times the figure on record one may be, as long as it keeps the goal that the record has reached."""
WOBBLE = 1.02
"""By so much a figure differs from one time to the next: one that has just reached its goal may miss it by as much."""

RECORD = Path(__file__).parent / "results"

SHORT: dict[str, Part] = {
    "bundle": bundle.measure,
    "round_trips": functools.partial(round_trips.measure, few=2, many=7),
    "memory": functools.partial(memory.measure, times=1),
    "crowd": functools.partial(crowd.measure, times=3),
    "cold_start": functools.partial(cold_start.measure, times=5),
}
"""Fewer times than on record, but of the same size wherever that changes a ratio."""


@dataclass(frozen=True)
class Compared:
    """One figure beside the one on record."""

    part: str
    what: str
    recorded: float | None
    now: float | None
    """None where it is on record, and is not measured any more."""
    goal: float | None

    @property
    def limit(self) -> float:
        """What the figure may be at most."""
        if self.recorded is None:
            return math.inf if self.goal is None else self.goal
        allowed = self.recorded * TOLERANCE
        if self.goal is None or self.recorded > self.goal:
            return allowed
        return min(allowed, max(self.goal, self.recorded * WOBBLE))

    @property
    def is_worse(self) -> bool:
        """Whether the figure is beyond that, or gone."""
        return self.now is None or self.now > self.limit


def main(names: list[str]) -> int:
    """Compare the parts with these names, or all; an exit code."""
    if unknown := [name for name in names if name not in SHORT]:
        print(f"There is no {', '.join(unknown)}; there are {', '.join(SHORT)}.", file=sys.stderr)
        return 2
    with servers.postgres(durable=True) as postgres:
        return judge(postgres, names or list(SHORT), RECORD)


def judge(postgres: Postgres, names: list[str], record: Path) -> int:
    """The same with what is on record in a folder."""
    found = [each for name in names for each in worse(postgres, name, SHORT[name], record)]
    if not found:
        print("Nothing has got worse.")
        return 0
    print(f"Worse than on record (more than {TOLERANCE} times, or beyond the goal), measured twice:\n\n{table(found)}")
    return 1


def worse(postgres: Postgres, name: str, part: Part, record: Path) -> list[Compared]:
    """Measure a part; what of it is worse both times than in the folder `record`."""
    file = record / f"{name}.json"
    if not file.exists():
        print(f"{name}: nothing is on record; `python -m bench {name}` puts it there.")
        return [Compared(name, "everything", None, None, None)]
    recorded = {goal["what"]: float(goal["value"]) for goal in json.loads(file.read_text())["goals"]}
    found = _compared(postgres, name, part, recorded)
    if any(each.is_worse for each in found):
        again = {each.what: each for each in _compared(postgres, name, part, recorded)}
        found = [each if each.is_worse and again[each.what].is_worse else again[each.what] for each in found]
    print(table(found))
    return [each for each in found if each.is_worse]


def _compared(postgres: Postgres, name: str, part: Part, recorded: dict[str, float]) -> list[Compared]:
    print(f"Measuring {name} …", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        section = part(postgres, Path(folder))
    for what, why in section.skipped.items():
        print(f"{name}: {what} is skipped: {why}")
    return compare(name, section.goals, recorded if section.goals or not section.skipped else {})


def compare(part: str, goals: Iterable[Goal], recorded: dict[str, float]) -> list[Compared]:
    """Each figure beside the one on record of the same name, and what is only on record."""
    now = {goal.what: goal for goal in goals}
    return [
        *(Compared(part, what, recorded.get(what), goal.value, goal.at_most) for what, goal in now.items()),
        *(Compared(part, what, value, None, None) for what, value in recorded.items() if what not in now),
    ]


def table(found: Iterable[Compared]) -> str:
    """In Markdown."""
    return "| part | what | on record | now | at most | |\n|---|---|---|---|---|---|\n" + "".join(
        f"| {each.part} | {each.what} | {_figure(each.recorded)} | {_figure(each.now)} | {_figure(each.limit)} "
        f"| {'worse' if each.is_worse else 'ok'} |\n"
        for each in found
    )


def _figure(value: float | None) -> str:
    return "–" if value is None or math.isinf(value) else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
