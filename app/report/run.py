"""A run and its steps, as its caller is told of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from app.report.base import Deployment, Report, Revision

Reached = Literal["upgraded", "downgraded", "stamped"]
Answered = Reached | Literal["up_to_date"]


class TableLock(Report):
    """A lock on a table that a revision took, and kept until its transaction ended (PostgreSQL manual, 13.3.1)."""

    relation: str = Field(description="Quoted as SQL wants it; with its schema where the search path does not find it.")
    mode: str = Field(description="As pg_locks names it, such as `AccessExclusiveLock`.")
    held_ms: int = Field(description="At most: from the start of the statement that took it, so its waiting counts.")


class Step(Revision):
    """A revision that a run applied."""

    duration_ms: int
    locks: list[TableLock] = Field(
        [],
        description="What its transactions locked of what was there before, the strongest hundred. A lock that kept "
        "nobody out beyond another one on the same table is left out. Statements in an autocommit block are not seen, "
        "nor those before a COMMIT in the revision's own SQL.",
    )
    rewrote: list[str] = Field([], description="The tables whose rows were all written anew, or that were emptied.")
    committed_itself: bool = Field(
        default=False,
        description="It committed something before its end, by an autocommit block, `commit()` or a COMMIT in its SQL: "
        "it was not all or nothing, and had it failed, that would have stayed.",
    )
    no_effect: bool = Field(
        default=False,
        description="Its transaction changed nothing in the catalog and wrote no row. A merge is so by design. Not "
        "told (false) of one that committed by itself, nor of one that shares a transaction with others before it.",
    )


class Blocker(Report):
    """A backend that a revision waited for; never its query."""

    pid: int
    application_name: str | None
    state: str | None
    query_age_ms: int | None


class Waited(Report):
    """How long a run waited for the lock."""

    waited_ms: int


class Run(Report):
    """The answer of POST /migrate when the database is at the target."""

    outcome: Answered = Field(description="`stamped` only in a terminal; `downgraded` by POST /downgrade.")
    run_id: UUID | None = Field(description="Null when nothing was left to do, since no run took place.")
    target: str
    from_: list[str] = Field(alias="from", description="The database's heads before.")
    to: list[str] = Field(description="The database's heads after, as read back.")
    applied: list[Step]
    remaining: list[Revision]
    lock: Waited
    started_at: datetime
    duration_ms: int
    deployment: Deployment
    warnings: list[str]
    request_id: str
    replayed: bool = Field(default=False, exclude=True)
    """It is the answer to an earlier call with the same Idempotency-Key."""


class Accepted(Report):
    """The answer to a caller who does not wait for the end of a run."""

    outcome: Literal["running"] = "running"
    run_id: UUID
    target: str | None = Field(None, description="Null to a webhook that came again while its run goes on.")
    pending: int | None = Field(None, description="How many revisions the run is to apply; null likewise.")
    location: str = Field(description="GET it to see how far the run is, and how it ended.")
    request_id: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run, for the log, a terminal, a stream; `name` is like `revision.applied`."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


Emit = Callable[[Event], None]
"""Takes an event, from whichever thread it happens in; must not raise."""
