"""What one part of the benchmark has found: a table for people, and the goals for whoever compares."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Goal:
    """A figure that a machine can compare with an earlier one: a ratio or a count, never a time by itself."""

    what: str
    value: float
    at_most: float | None
    """None where nothing is promised."""

    @property
    def is_reached(self) -> bool:
        """Whether the figure is as good as was promised."""
        return self.at_most is None or self.value <= self.at_most


@dataclass(frozen=True)
class Section:
    """One part of the benchmark, as it goes into a file of bench/results."""

    name: str
    """Of the file, and on the command line, such as `cold_start`."""
    title: str
    explanation: str
    """How it was measured, in whole sentences."""
    table: str
    """In Markdown."""
    goals: list[Goal] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Why a tool is not in the table, by its name."""
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """What each tool took, time after time, by what it did: the README's table and picture are made from it."""
