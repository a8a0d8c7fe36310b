"""A rehearsal: what a run would do, as it was done and taken back."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from app.report.base import Deployment, Report, Revision
from app.report.run import Step, Waited


class RowsChanged(Report):
    """How many rows of a table a revision wrote; triggers' and cascades' count too."""

    relation: str
    inserted: int
    updated: int
    deleted: int


class Rewritten(Report):
    """A table that a revision wrote anew."""

    relation: str
    rows: int = Field(description="Counted afterwards.")
    bytes: int = Field(description="The size of the new table, with its TOAST and without its indexes.")


class RehearsedStep(Step):
    """A revision that was rehearsed. `held_ms` of its locks ends with the revision, as it would in a run."""

    rows: list[RowsChanged] = Field(default_factory=list)
    rewritten: list[Rewritten] = Field(default_factory=list)
    problem: dict[str, Any] | None = Field(None, description="What a run would have ended with, if it failed.")


class Rehearsal(Report):
    """The answer of POST /rehearse. Everything is rolled back."""

    outcome: Literal["passed", "incomplete"] = Field(
        description="`incomplete`: it stopped before a revision that cannot be rehearsed."
    )
    target: str
    from_: list[str] = Field(alias="from", description="The database's heads, before and after.")
    steps: list[RehearsedStep]
    stopped_at: str | None = Field(None, description="The revision that cannot be rehearsed.")
    stopped_because: str | None = None
    remaining: list[Revision] = Field(description="What was not rehearsed, beginning with `stopped_at`.")
    lock: Waited
    started_at: datetime
    duration_ms: int
    deployment: Deployment
    warnings: list[str]
    request_id: str
