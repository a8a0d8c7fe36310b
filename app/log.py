"""Structured logs: one line of JSON per event.

The line is the message itself. Vercel's own log handler ignores formatters, so nothing may depend on one.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.report import Event

_logger = logging.getLogger("migration_endpoint")


def to_stderr_if_nobody_listens() -> None:
    """Show the events when no log handler is installed, as under plain uvicorn; a platform's own is kept."""
    _logger.setLevel(logging.INFO)
    if not _logger.hasHandlers():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        _logger.addHandler(handler)


def leave_runs_to_our_events() -> None:
    """Keep Alembic from telling a run a second time, in prose, where a platform listens to everything from INFO on."""
    alembic = logging.getLogger("alembic")
    if alembic.level == logging.NOTSET:
        alembic.setLevel(logging.WARNING)


def event(name: str, **fields: Any) -> None:  # noqa: ANN401 – whatever JSON can say
    """Log one event; `fields` must hold no secret, since none is looked for here."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    _logger.info(json.dumps({"event": name, "at": at, **fields}, default=str))


def defect(error: Exception, request_id: str) -> None:
    """Log a defect of ours: its kind and the places it went through, since its message may quote anything."""
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-5:]]
    event("internal_error", request_id=request_id, error=type(error).__name__, places=places)


def emit(happened: "Event") -> None:
    """Log an event of a run."""
    event(happened.name, **happened.fields)
