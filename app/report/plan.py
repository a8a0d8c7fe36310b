"""A plan: what a run would do, revision by revision, and what is to be said against it."""

from typing import Literal

from pydantic import Field

from app.report.base import Direction, Report, Revision

Level = Literal["notice", "warning", "danger"]
LEVELS: tuple[Level, ...] = ("notice", "warning", "danger")
"""From the mildest on."""


class Finding(Report):
    """Something that is to be said against a revision, and what to do instead."""

    revision: str
    rule: str = Field(description="Its name, by which `accept` lets it pass.")
    level: Level
    line: int | None = Field(None, description="Of the revision's SQL, from 1; null where it is about the whole of it.")
    message: str
    safe_way: str | None = Field(None, description="What to do instead, in code.")
    source: Literal["squawk", "migration-endpoint"]
    url: str | None = Field(None, description="Where the rule is explained.")


class PlannedRevision(Revision):
    """A revision that a run would run."""

    file: str = Field(description="Its path; a relative one starts at the project's root.")
    sha256: str = Field(description="Of the file.")
    transactional: bool | None = Field(
        description="Whether all of it is in one transaction, so that it happens as a whole or not at all; null where "
        "only running it can tell."
    )
    sql: str = Field(
        description="What it sends, as Alembic's offline mode renders it: without its version's row, and passwords."
    )
    unrendered: str | None = Field(
        None, description="Why `sql` ends early: the revision asks the database something; null where it is complete."
    )
    findings: list[Finding] = Field(default_factory=list)


class ModifiedRevision(Revision):
    """An applied revision whose file is not the one that was applied."""

    file: str = Field(description="Its path; a relative one starts at the project's root.")
    applied_sha256: str = Field(description="Of the file as it was when it was applied, last.")
    sha256: str = Field(description="Of the file as it is.")


class Plan(Report):
    """The answer of GET /plan. Nothing in it tells when it was made, or by which deployment."""

    direction: Direction
    digest: str = Field(description="SHA-256 in hex of what would be run, and on which database; also the ETag.")
    current: list[str] = Field(description="The database's heads.")
    target: str
    pending: list[PlannedRevision] = Field(description="What would run, in this order.")
    level: Level | None = Field(description="The worst of the findings; null where there are none.")
    modified: list[ModifiedRevision] = Field(
        default_factory=list,
        description="Applied revisions that were edited since: nobody will run what they say now.",
    )
    lint: str = Field(description="`unavailable`, or the linter that the findings of source `squawk` come from.")
