"""How the database and the deployment stand to each other."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from app.report.base import Deployment, Report, Revision
from app.report.drift import Drift
from app.report.plan import ModifiedRevision
from app.report.record import RecordedRun

State = Literal["up_to_date", "pending", "database_ahead", "diverged", "multiple_heads"]
PoolMode = Literal["session", "transaction"]


class Holder(Report):
    """Who holds the lock, as PostgreSQL shows it; a field is null where the role may not see it."""

    run_id: UUID | None = None
    since: datetime | None = None
    revision: str | None = None
    progress: str | None = Field(None, description="Which step of how many, such as `3/7`.")
    pid: int | None = None


class BrokenIndex(Report):
    """An INVALID index: its concurrent build failed or was interrupted, and `IF NOT EXISTS` would take it as built."""

    name: str = Field(description="With its schema, quoted as SQL wants it.")
    table: str
    revision: str | None = Field(None, description="The revision that began to build it, if the ledger knows.")


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
    modified: list[ModifiedRevision]
    unrecorded: list[str] = Field(
        description="Applied revisions that the ledger knows nothing of, such as those of an older tool, or of a stamp."
    )
    lock: Lock
    runs: list[RecordedRun]
    broken_indexes: list[BrokenIndex]
    drift: Drift | None = Field(None, description="Null unless asked for, or where a warning says why.")
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
    modified: list[str] | None = None
    problem: dict[str, Any] | None = None
    deployment: Deployment | None = None
