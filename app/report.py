"""The answers: what a run, a step, a status and the ledger look like in JSON and in Python.

Times are RFC 3339 in UTC, durations whole milliseconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

State = Literal["up_to_date", "pending", "database_ahead", "diverged", "multiple_heads"]
PoolMode = Literal["session", "transaction"]
Outcome = Literal["running", "upgraded", "downgraded", "stamped", "failed", "cancelled", "refused", "abandoned"]
Reached = Literal["upgraded", "downgraded", "stamped"]
Answered = Reached | Literal["up_to_date"]
RunState = Literal["running", "ended", "lost"]


class Report(BaseModel):
    """A part of an answer. Frozen: an answer is a fact."""

    # defer_build: most calls make few of these, and a cold start would wait for the validators of all.
    model_config = ConfigDict(frozen=True, populate_by_name=True, defer_build=True)


class Deployment(Report):
    """The deployment that answers: on Vercel its id, commit and environment, elsewhere nothing."""

    id: str | None = None
    git_sha: str | None = None
    environment: str | None = None


class Revision(Report):
    """A revision of the deployment's history, with the first line of its docstring."""

    revision: str
    message: str


class Step(Revision):
    """A revision that a run applied."""

    duration_ms: int


class Holder(Report):
    """Who holds the lock, as PostgreSQL shows it; a field is null where the role may not see it."""

    run_id: UUID | None = None
    since: datetime | None = None
    revision: str | None = None
    progress: str | None = Field(None, description="Which step of how many, such as `3/7`.")
    pid: int | None = None


class Blocker(Report):
    """A backend that a revision waited for; never its query."""

    pid: int
    application_name: str | None
    state: str | None
    query_age_ms: int | None


class BrokenIndex(Report):
    """An INVALID index: its concurrent build failed or was interrupted, and `IF NOT EXISTS` would take it as built."""

    name: str = Field(description="With its schema, quoted as SQL wants it.")
    table: str
    revision: str | None = Field(None, description="The revision that began to build it, if the ledger knows.")


class Waited(Report):
    """How long a run waited for the lock."""

    waited_ms: int


class Run(Report):
    """The answer of POST /migrate when the database is at the target."""

    outcome: Answered = Field(description="`downgraded` and `stamped` are only of the plain `alembic` command's runs.")
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


class RecordedStep(Report):
    """A step as the ledger keeps it."""

    revision: str
    direction: Literal["upgrade", "downgrade"]
    sha256: str = Field(description="Of the revision's file.")
    started_at: datetime
    duration_ms: int


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


class Lock(Report):
    """The lock, and who holds it. A DBA finds `key` in pg_locks: classid is its high half, objid its low."""

    key: int
    held: bool
    holder: Holder | None


class Database(Report):
    """Facts about the server."""

    server_version: str
    pooler: bool = Field(description="Something between us and PostgreSQL answers in its place.")
    pool_mode: PoolMode | None = Field(
        description="How it hands out backends; null without a pooler, or if it cannot be found out."
    )
    environment: str | None = Field(description="The environment that it belongs to; null before the first run.")


class Status(Report):
    """The answer of GET /status."""

    state: State
    current: list[str]
    heads: list[str]
    pending: list[Revision]
    lock: Lock
    runs: list[RecordedRun]
    broken_indexes: list[BrokenIndex]
    database: Database
    deployment: Deployment
    warnings: list[str]
    request_id: str


class Environment(Report):
    """The environment that a database belongs to, now and before it was changed; null for none."""

    environment: str | None
    before: str | None


class Health(Report):
    """The answer of GET /health; everything but `status` needs a key of scope read."""

    status: Literal["pass", "warn", "fail"]
    state: State | None = None
    pending: int | None = None
    broken_indexes: list[BrokenIndex] | None = None
    problem: dict[str, Any] | None = None
    deployment: Deployment | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run, for the log, a terminal, a stream; `name` is like `revision.applied`."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


Emit = Callable[[Event], None]
"""Takes an event, from whichever thread it happens in; must not raise."""
