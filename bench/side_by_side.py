"""Ways to the same end, measured in turn: whatever else the machine does disturbs each of them alike."""

import resource
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

type Measure = Callable[[], float]
"""Does it once; how long that took, in seconds. A child process that it starts has ended afterwards."""


@dataclass(frozen=True)
class Took:
    """What doing it once took, in seconds."""

    wall_s: float
    cpu_s: float
    """Of the processor, in child processes that have ended; a busy machine changes it less."""


@dataclass(frozen=True)
class Comparison:
    """What ours took, and what the other way did, time after time."""

    what: str
    other: str
    ours: list[Took]
    others: list[Took]
    at_most: float | None
    """The goal: how many times as long as the other one ours may take; None where nothing is promised."""

    @property
    def ratio(self) -> float:
        """Of the medians of the time on the wall."""
        return median_s(self.ours) / median_s(self.others)

    @property
    def cpu_ratio(self) -> float:
        """Of the medians of the processor's time."""
        return statistics.median(each.cpu_s for each in self.ours) / statistics.median(
            each.cpu_s for each in self.others
        )

    @property
    def verdict(self) -> str:
        """Whether the medians reach the goal, in words."""
        if self.at_most is None:
            return "no goal"
        return f"{'reaches' if self.ratio <= self.at_most else 'misses'} at most {self.at_most:g}"


def median_s(took: list[Took]) -> float:
    """The median of the time on the wall, in seconds."""
    return statistics.median(each.wall_s for each in took)


def compare(what: str, ours: Measure, other: str, others: Measure, *, at_most: float | None, times: int) -> Comparison:
    """Measure both, in turn."""
    took = in_turn({"ours": ours, "others": others}, times=times)
    return Comparison(what, other, took["ours"], took["others"], at_most)


def in_turn(ways: Mapping[str, Measure], *, times: int) -> dict[str, list[Took]]:
    """Measure each way, in turn: `times` times, and once before that for what only the first time costs."""
    for measure in ways.values():
        measure()
    rounds = [{name: _took(measure) for name, measure in ways.items()} for _ in range(times)]
    return {name: [each[name] for each in rounds] for name in ways}


def _took(measure: Measure) -> Took:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall_s = measure()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
