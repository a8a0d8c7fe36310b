"""A call: what somebody wants of the migrator, and who it is."""

import re
from dataclasses import dataclass
from datetime import datetime

from app.report import Direction

RELATIVE = re.compile(r"(?:(?P<branch>[^@]+)@)?(?P<symbol>\w+)?(?P<steps>[+-][0-9]{1,9})")
"""A relative target, as Alembic reads it; but Alembic looks at its beginning only, and passes over what follows."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller wants, and who it is."""

    request_id: str
    target: str = "heads"
    direction: Direction = "upgrade"
    plans: frozenset[str] | None = None
    """The digests of the plans that may be run, one of them; None where the caller has pinned none."""
    accept: tuple[str, ...] = ()
    """The rules whose findings the caller accepts."""
    lock_wait_s: float | None = None
    """How long to wait for the lock; None for the setting."""
    reason: str | None = None
    key_label: str | None = None
    invocation_ends: datetime | None = None
    """When the platform will end the invocation that asks, where it does."""
    instance: str | None = None
    """The path that was called, for a problem's `instance`; None from a terminal."""
    idempotency_key: str | None = None
    """By which the same call is known when it comes again; callers must not be able to use each other's."""
    replays_failures: bool = True
    """Whether the same call gets a failure again, rather than another try."""
    body: str = ""
    """What the call asks for, in a form that is the same whenever it asks for the same."""

    @property
    def is_relative(self) -> bool:
        """Whether the target counts from somewhere, as `+1`, `label@-2` and `a1+3` do."""
        return is_relative(self.target)


def is_relative(target: str) -> bool:
    """Whether a target counts from somewhere."""
    return RELATIVE.fullmatch(target) is not None
