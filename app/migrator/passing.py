"""What passes by itself: a lock that was not to be had, a deadlock. What met it is run again after a pause.

The pause grows from try to try, and is drawn by lot, so that two that were in each other's way do not meet again.
"""

import random

from app.database import prepared
from app.migrator import cause

_SQLSTATES = ("55P03", "40P01", "40001")
"""lock_not_available, deadlock_detected, serialization_failure."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0


def is_passing(error: BaseException) -> bool:
    """Whether somebody else was in the way, for as long as they are."""
    return cause.sqlstate(error) in _SQLSTATES


def may_be_forgiven(error: BaseException) -> bool:
    """Whether the revision that met it may be run again: it is passing, or a statement of ours was no longer there."""
    return is_passing(error) or prepared.is_gone(cause.of(error))


def pause_s(tries: int) -> float:
    """How long to wait before a revision is run again, in seconds, after it was tried so often in vain."""
    longest = min(_FIRST_PAUSE_S * 2.0 ** (tries - 1), _LONGEST_PAUSE_S)
    return longest * random.uniform(0.5, 1)  # noqa: S311 – jitter, not a secret
