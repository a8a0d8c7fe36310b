"""A run and its steps, as the ledger keeps them."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from app.report.base import Deployment, Direction, Report
from app.report.plan import Level
from app.report.run import TableLock

Outcome = Literal["running", "upgraded", "downgraded", "stamped", "failed", "cancelled", "refused", "abandoned"]
RunState = Literal["running", "ended", "lost"]


class AcceptedFinding(Report):
    """A finding that the caller of a run has accepted, and that would have stopped it otherwise."""

    revision: str
    rule: str
    level: Level


class RecordedStep(Report):
    """A step as the ledger keeps it."""

    revision: str
    direction: Direction
    sha256: str = Field(description="Of the revision's file.")
    started_at: datetime
    duration_ms: int
    locks: list[TableLock] = Field(default_factory=list)
    rewrote: list[str] = Field(default_factory=list)
    committed_itself: bool = Field(default=False, description="It committed something before its end.")
    no_effect: bool = Field(default=False, description="Its transaction wrote nothing, as far as that is known.")


class RecordedRun(Report):
    """A run as the ledger keeps it."""

    run_id: UUID
    outcome: Outcome
    target: str | None
    from_: list[str] | None = Field(alias="from")
    to: list[str] | None
    started_at: datetime
    finished_at: datetime | None
    duration_ms: int | None
    waited_ms: int | None = Field(description="How long it waited for the lock.")
    pending: int | None = Field(description="How many revisions it was to apply.")
    retries: int = Field(description="How often a revision was tried again after a lock timeout.")
    key_label: str | None = Field(
        description="The first 8 hex digits of the SHA-256 of the caller's key; of a webhook, whose it is."
    )
    reason: str | None
    deployment: Deployment
    request_id: str | None
    error: dict[str, Any] | None = Field(description="The problem that ended the run.")
    revisions: list[str] = Field(description="Those of its steps, in their order.")
    accepted: list[AcceptedFinding] = Field(description="What its caller has accepted of the plan's findings.")
    plan_digest: str | None = Field(None, description="The plan that its caller had pinned.")


class IndexBuild(Report):
    """An index build that goes on, as pg_stat_progress_create_index shows it."""

    table: str
    index: str | None = Field(description="Null as long as PostgreSQL has not made it.")
    phase: str
    percent: float | None = Field(description="Of this phase; null where PostgreSQL does not count.")


class RecordedRunWithSteps(RecordedRun):
    """A run and its steps as the ledger keeps them."""

    steps: list[RecordedStep]
    answer: dict[str, Any] | None = Field(None, exclude=True)
    """What its caller got, where it reached its target."""


class RunInDetail(RecordedRunWithSteps):
    """The answer of GET /runs/{id}."""

    state: RunState = Field(
        description="`lost`: it is on record as running, and holds no lock; the next run ends what is left of it."
    )
    revision: str | None = Field(description="The revision that is under way.")
    progress: str | None = Field(description="Which step of how many that is, such as `3/7`.")
    index_build: IndexBuild | None


class Runs(Report):
    """The answer of GET /runs, newest first."""

    runs: list[RecordedRun]
    next: str | None = Field(None, description="The `cursor` of the next page; null where this is the last.")
