"""What is told of a run to those who follow it, whether it is heard live or read from the ledger.

`run`, `lock`, `revision.started`, `revision.applied`, `warning`, and last `result`. Read from the ledger, the warnings
come with the result, and a revision's duration is that of its step, to which its COMMIT does not count.
"""

from typing import Any
from uuid import UUID

from app.report import Event

STARTED = "run.started"
"""The event of a run that holds the lock; what is settled before it, such as a refusal, is the whole answer."""

_AS_THEY_ARE = {
    "revision.started": ("run_id", "revision", "message", "progress"),
    "revision.applied": (
        "run_id",
        "revision",
        "message",
        "duration_ms",
        "locks",
        "rewrote",
        "committed_itself",
        "no_effect",
    ),
    "warning": ("run_id", "message"),
}


def begins(run_id: UUID | str, *, target: str | None, pending: int | None, waited_ms: int | None) -> list[Event]:
    """A run has taken the lock; one that was refused has not, and has waited for None."""
    run = Event("run", {"run_id": str(run_id), "target": target, "pending": pending})
    return [run] if waited_ms is None else [run, Event("lock", {"run_id": str(run_id), "waited_ms": waited_ms})]


def told(event: Event) -> list[Event]:
    """What is told of an event that a run has emitted; nothing of one that is for the log alone."""
    fields = event.fields
    if event.name == STARTED:
        return begins(
            fields["run_id"], target=fields["target"], pending=fields["pending"], waited_ms=fields["waited_ms"]
        )
    if names := _AS_THEY_ARE.get(event.name):
        return [Event(event.name, {name: fields[name] for name in names})]
    return []


def result(document: dict[str, Any], http_status: int) -> Event:
    """The end: exactly what a plain call is answered, and with which status."""
    return Event("result", {**document, "http_status": http_status})
