"""Ways to the same end, measured in turn: whatever else the machine does disturbs each of them alike."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

type Measure = Callable[[], float]
"""Does it once; how long that took, in seconds."""


@dataclass(frozen=True)
class Comparison:
    """How long ours took, and how long the other way did, time after time."""

    what: str
    other: str
    ours_s: list[float]
    others_s: list[float]
    at_most: float | None
    """The goal: how many times as long as the other one ours may take; None where nothing is promised."""

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.ours_s) / statistics.median(self.others_s)

    @property
    def verdict(self) -> str:
        """Whether the medians reach the goal, in words."""
        if self.at_most is None:
            return "no goal"
        return f"{'reaches' if self.ratio <= self.at_most else 'misses'} at most {self.at_most:g}"


def compare(what: str, ours: Measure, other: str, others: Measure, *, at_most: float | None, times: int) -> Comparison:
    """Measure both, in turn: `times` times, and once before that for what only the first time costs."""
    ours(), others()
    pairs = [(ours(), others()) for _ in range(times)]
    return Comparison(what, other, [pair[0] for pair in pairs], [pair[1] for pair in pairs], at_most)
