"""This project among the tools that do the same: a table of times, and what share of each tool's time ours takes."""

import statistics
from collections.abc import Mapping

from bench.section import Goal
from bench.side_by_side import Took, median_s

type Times = Mapping[str, list[Took]]
"""By the tool's name, or by whatever else was measured."""


def goals(what: str, times: Times, ours: str, at_most: Mapping[str, float]) -> list[Goal]:
    """The share of each tool's time that ours takes, and what was promised, if anything was."""
    return [
        Goal(f"{what}, beside {name}", _share(times, ours, name), at_most.get(name)) for name in times if name != ours
    ]


def table(times: Times, ours: str, at_most: Mapping[str, float]) -> str:
    """In Markdown, the fastest first."""
    rows = [
        f"| **{name}** | {spread(took)} | | |\n" if name == ours else _row(times, ours, name, at_most.get(name))
        for name, took in sorted(times.items(), key=lambda each: median_s(each[1]))
    ]
    return "| tool | takes | ours takes | goal |\n|---|---|---|---|\n" + "".join(rows)


def noise(*measured: Times) -> str:
    """How far the same thing was from itself, in a sentence."""
    apart = statistics.median(max(took) / min(took) for times in measured for took in seconds(times).values())
    return (
        f"The slowest time of a tool was {apart:.2f} times its fastest (the median of all): a ratio nearer to 1 than "
        "that may be noise."
    )


def seconds(times: Times) -> dict[str, list[float]]:
    """For the picture."""
    return {name: [each.wall_s for each in took] for name, took in times.items()}


def spread(took: list[Took]) -> str:
    """The median, and in brackets the fastest and the slowest."""
    every = [each.wall_s for each in took]
    middle, least, most = statistics.median(every), min(every), max(every)
    factor, _, digits = _unit(middle)
    return f"{told(middle)} ({least * factor:.{digits}f}–{most * factor:.{digits}f})"


def told(seconds: float) -> str:
    """A time in the unit that suits it, with about three digits."""
    factor, unit, digits = _unit(seconds)
    return f"{seconds * factor:.{digits}f} {unit}"


def _unit(seconds: float) -> tuple[int, str, int]:
    """What to multiply it with, the unit, and how many digits come after the point."""
    if seconds >= 1:
        return 1, "s", 2
    return 1000, "ms", 0 if seconds >= 0.02 else 1


def _row(times: Times, ours: str, name: str, at_most: float | None) -> str:
    share = _share(times, ours, name)
    verdict = "" if at_most is None else f"{'reaches' if share <= at_most else 'misses'} at most {_fraction(at_most)}"
    return f"| {name} | {spread(times[name])} | {_fraction(share)} of it | {verdict} |\n"


def _fraction(share: float) -> str:
    return f"{share:.2f}".rstrip("0").rstrip(".") if share >= 0.1 else f"1/{1 / share:.0f}"


def _share(times: Times, ours: str, name: str) -> float:
    return median_s(times[ours]) / median_s(times[name])
