"""Drift: what of the schema is not as the last run left it."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from app.report.base import Report

Change = Literal["added", "removed", "changed"]


class Difference(Report):
    """An object of the schema that is not as it was."""

    object: str = Field(description="Its kind and name, quoted as SQL wants it; `public.` is left out.")
    change: Change
    message: str


class Fingerprint(Report):
    """The fingerprint that a run took of the schema it left."""

    fingerprint: str
    run_id: UUID | None
    taken_at: datetime
    server_version: str


class Drift(Report):
    """How the schema differs from what the last run left."""

    fingerprint: str = Field(description="Of the schema as it is now: SHA-256 in hex.")
    recorded: Fingerprint | None = Field(description="Of the schema as the last run left it; null where none has.")
    differs: bool | None = Field(description="Null where there is nothing to compare with.")
    differences: list[Difference]
