"""Which of the runs on record somebody asks for: the parameters of GET /runs, and the options of `runs`."""

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from app.report.base import Report
from app.report.record import Outcome

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(r"A[A-P][A-Za-z0-9_-]{30}")
"""Base64url of 24 bytes, the first of them zero: so every text of this form is a position, and has one form only."""
_SHA = re.compile(r"[0-9A-Fa-f]{4,64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _time(sent: object) -> datetime:
    """A time of RFC 3339, of which pydantic would also take numbers, dates, and times of nowhere."""
    try:
        if isinstance(sent, str) and _TIME.fullmatch(sent):
            # To UTC, since PostgreSQL takes no offset of 16 hours or more.
            return datetime.fromisoformat(sent.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # such as February 30th, or before the year 1
        pass
    raise PydanticCustomError(
        "rfc3339", "should be a time of RFC 3339, such as 2026-11-22T20:47:20Z; in a URL, a + is written %2B"
    )


def _cursor(sent: str) -> str:
    if not _CURSOR.fullmatch(sent):
        raise PydanticCustomError("cursor", "should be the `next` of an earlier answer, as it was; or left out")
    return sent


def _git_sha(sent: str) -> str:
    if not _SHA.fullmatch(sent):
        raise PydanticCustomError("git_sha", "should be a commit's hash, or the first four or more hex digits of one")
    return sent


Time = Annotated[datetime, BeforeValidator(_time)]
Cursor = Annotated[str, AfterValidator(_cursor), Field(json_schema_extra={"pattern": f"^{_CURSOR.pattern}$"})]
GitSha = Annotated[str, AfterValidator(_git_sha), Field(json_schema_extra={"pattern": f"^{_SHA.pattern}$"})]


class Selection(Report):
    """Runs that meet all of this, newest first."""

    # Built at once, since FastAPI makes a field of it, and keeps pydantic from warning of that only while it does so.
    model_config = ConfigDict(defer_build=False)

    limit: int = Field(20, ge=1, le=200, description="How many of them.")
    cursor: Cursor | None = Field(None, description="Those after a page: its `next`.")
    outcome: tuple[Outcome, ...] = Field((), description="How they ended; any of several.")
    revision: str | None = Field(None, min_length=1, max_length=200, description="Those with a step of this revision.")
    deployment: str | None = Field(None, min_length=1, max_length=200, description="The deployment's id.")
    git_sha: GitSha | None = Field(None, description="The deployment's commit, or its beginning.")
    environment: str | None = Field(None, min_length=1, max_length=100, description="The deployment's environment.")
    since: Time | None = Field(None, description="Those that started then or later.")
    until: Time | None = Field(None, description="Those that started before.")

    @property
    def position(self) -> tuple[datetime, UUID] | None:
        """The run that the cursor stands for: when it started, and its id."""
        if self.cursor is None:
            return None
        told = base64.urlsafe_b64decode(self.cursor)
        return _EPOCH + timedelta(microseconds=int.from_bytes(told[:8])), UUID(bytes=told[8:])


def cursor(started_at: datetime, run_id: UUID) -> str:
    """The cursor that stands for a run: its place in the order, which later runs do not change."""
    microseconds = (started_at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(microseconds.to_bytes(8) + run_id.bytes).decode()
