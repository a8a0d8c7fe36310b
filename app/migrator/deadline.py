"""When a run must end: its time budget, or the deadline of the platform's invocation, whichever comes first."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

_SHARE, _LONGEST_S = 0.1, 5.0
"""A tenth of the time, and no more than five seconds, are kept for the end; as much is the least to start with."""
_MOST = 0.5
_ABOUT_NOW_S = 0.05

type InvocationEnds = Callable[[], datetime | None]
"""Tells when the platform will end the invocation that is under way, or None where it will not."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a run must end. All in seconds; infinite where nothing limits it."""

    given_s: float
    """How long the run might take when it began."""
    at: float
    """When it has to be over, by `time.monotonic`."""

    @property
    def margin_s(self) -> float:
        """What is kept for the end: cancelling what still runs, reading back, the record, the answer."""
        return min(self.given_s * _SHARE, _LONGEST_S) if self.given_s > 0 else 0

    @property
    def left_to_answer_s(self) -> float:
        """How long until the answer must be on its way."""
        return self.at - time.monotonic()

    @property
    def left_to_work_s(self) -> float:
        """How long revisions may still go on."""
        return self.left_to_answer_s - self.margin_s

    @property
    def is_over(self) -> bool:
        """Whether no revision may go on; PostgreSQL's timers and ours need not agree to the millisecond."""
        return self.left_to_work_s <= _ABOUT_NOW_S

    @property
    def left_to_start_s(self) -> float:
        """How long another revision may be started; what is left after that would be too little for it."""
        return self.left_to_work_s - self.margin_s

    @property
    def allows_a_start(self) -> bool:
        """Whether enough is left to start a revision."""
        return self.left_to_start_s > 0

    def is_most(self, left_to_work_s: float) -> bool:
        """Whether so much is most of what a run has, after what connecting and taking the lock may cost."""
        return left_to_work_s >= _MOST * (self.given_s - self.margin_s)


def of_a_run(time_budget_s: float | None, invocation_ends: datetime | None) -> Deadline:
    """The deadline of a run that begins now."""
    given_s = math.inf if time_budget_s is None else time_budget_s
    if invocation_ends is not None:
        given_s = min(given_s, (invocation_ends - datetime.now(UTC)).total_seconds())
    return Deadline(given_s=given_s, at=time.monotonic() + given_s)
