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
Outcome = Literal["running", "upgraded", "downgraded", "stamped", "failed", "refused", "abandoned"]


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

    outcome: Literal["upgraded", "up_to_date"]
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
    retries: int = Field(description="How often a revision was tried again after a lock timeout.")
    key_label: str | None = Field(description="The first 8 hex digits of the SHA-256 of the caller's key.")
    reason: str | None
    deployment: Deployment
    request_id: str | None
    error: dict[str, Any] | None = Field(description="The problem that ended the run.")


class RecordedRunWithSteps(RecordedRun):
    """The answer of GET /runs/{id}."""

    steps: list[RecordedStep]


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
    """Something that happened in a run, for the log and for a terminal; `name` is like `revision.applied`."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


Emit = Callable[[Event], None]
"""Takes an event, from whichever thread it happens in; must not raise."""
