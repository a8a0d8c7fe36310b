"""The runs on record: listed, looked at while they go on, followed to their end, and cancelled, from any instance."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from app.database import backends, connection, lock, url
from app.database.catalog import Facts
from app.database.connection import Session
from app.errors import BrokenHistory, LockLost, NotFound, RunEnded
from app.migrator import status, story
from app.report import Event, RunInDetail, Runs, Selection
from app.settings import Settings

if TYPE_CHECKING:
    from app.migrator.revisions import History

_LOOK_EVERY_S = 0.5
_LOST_AFTER = 3
"""Looks in a row at which a run has no lock although its record says that it goes on."""
_CANCEL_EVERY_S, _CANCEL_FOR_S = 0.25, 5.0
_MARGIN_S = 3
"""A follower leaves before the platform ends its invocation."""


async def runs(settings: Settings, selection: Selection) -> Runs:
    """The runs that are asked for, newest first; none without a ledger."""
    async with connection.session(url.database(settings)) as control:
        facts = await status.look(control, settings)
        if not facts.ledger_exists:
            return Runs(runs=[])
        return await status.ledger_of(settings, facts).runs(control, selection)


async def run(settings: Settings, run_id: UUID) -> RunInDetail:
    """One run, with its steps, and how far it is.

    Raises:
        NotFound: The ledger has no run of this id.
    """
    async with connection.session(url.database(settings)) as control:
        return await _detail(control, settings, await status.look(control, settings), run_id)


async def _detail(control: Session, settings: Settings, facts: Facts, run_id: UUID) -> RunInDetail:
    # The holder first: a run that ends between the two questions is on record as ended.
    holder = await lock.holder(control, lock.key(facts.version_table))
    recorded = await status.ledger_of(settings, facts).run(control, run_id) if facts.ledger_exists else None
    if recorded is None:
        raise NotFound(f"The ledger has no run {run_id}.", hint="GET /runs lists the runs.")
    found = RunInDetail(**dict(recorded), state="ended", revision=None, progress=None, index_build=None)
    if recorded.outcome != "running":
        return found
    if holder is None or holder.run_id not in (run_id, None):  # None: another role's, which ours may not see
        return found.model_copy(update={"state": "lost"})
    live: dict[str, Any] = {"state": "running", "progress": holder.progress}
    live["index_build"] = await backends.index_build(control, run_id)
    if holder.revision is not None:
        live["revision"] = holder.revision
        with contextlib.suppress(BrokenHistory):  # which keeps nobody from looking at a run, or from ending it
            # PostgreSQL has cut a long one, as it is part of a name.
            live["revision"] = (await status.history(settings)).completed(holder.revision)
    return found.model_copy(update=live)


async def cancel(settings: Settings, run_id: UUID) -> RunInDetail:
    """End a run: cancel its statement, and have none of its transactions commit from now on.

    A statement that is cancelled ends at once; between two statements the run meets the word that is left for it at
    its next BEGIN or COMMIT. So the answer may be that of a run that still goes on.

    Raises:
        NotFound: The ledger has no run of this id.
        RunEnded: It has ended otherwise.
    """
    async with connection.session(url.database(settings)) as control:
        facts = await status.look(control, settings)
        found = await _detail(control, settings, facts, run_id)
        if facts.ledger_is_current and found.state == "running":
            await status.ledger_of(settings, facts).ask_to_cancel(control, run_id)
        end = time.monotonic() + _CANCEL_FOR_S
        while found.state == "running" and time.monotonic() < end:
            await backends.cancel(control, run_id)
            await asyncio.sleep(_CANCEL_EVERY_S)
            found = await _detail(control, settings, facts, run_id)
    if found.state == "running" or found.outcome == "cancelled":
        return found
    if found.state == "lost":
        raise RunEnded(
            f"Run {run_id} has died; nobody has told how it ended.",
            hint="Nothing needs to be done: the next run ends what is left of it, and continues.",
        )
    raise RunEnded(f"Run {run_id} has ended: {found.outcome}.")


async def events(settings: Settings, run_id: UUID, *, until: datetime | None) -> AsyncIterator[Event]:
    """What happens in a run, from its beginning to its end, read from the ledger and from who holds the lock.

    Args:
        settings: The settings.
        run_id: The run.
        until: When the invocation ends; the events stop some seconds before, although the run goes on.

    Raises:
        NotFound: The ledger has no run of this id; before the first event.
    """
    history = await status.history(settings)
    follower = _Follower(history)
    async with connection.session(url.database(settings)) as control:
        facts = await status.look(control, settings)
        while True:
            for event in follower.news(await _detail(control, settings, facts, run_id)):
                yield event
            if follower.has_told_the_end or (until and until - datetime.now(UTC) < timedelta(seconds=_MARGIN_S)):
                return
            await asyncio.sleep(_LOOK_EVERY_S)


class _Follower:
    """Tells of a run what has not been told yet."""

    def __init__(self, history: "History") -> None:
        self.has_told_the_end = False
        self._history = history
        self._applied = 0
        self._begun = False
        self._started: set[str] = set()
        self._lost = 0

    def news(self, found: RunInDetail) -> list[Event]:
        """What has happened since the last look."""
        news: list[Event] = []
        if not self._begun:
            self._begun = True
            news += story.begins(found.run_id, target=found.target, pending=found.pending, waited_ms=found.waited_ms)
        for step in found.steps[self._applied :]:
            news += self._starts(found, step.revision)
            self._applied += 1
            applied = {
                "run_id": str(found.run_id),
                "revision": step.revision,
                "message": self._history.message(step.revision),
                **step.model_dump(include={"duration_ms", "locks", "rewrote", "committed_itself", "no_effect"}),
            }
            news.append(Event("revision.applied", applied))
        if found.revision is not None:
            news += self._starts(found, found.revision)
        self._lost = self._lost + 1 if found.state == "lost" else 0
        if found.state == "ended" or self._lost >= _LOST_AFTER:
            self.has_told_the_end = True
            news += _end(found)
        return news

    def _starts(self, found: RunInDetail, revision: str) -> list[Event]:
        if revision in self._started:
            return []
        self._started.add(revision)
        progress = f"{self._applied + 1}/{found.pending}" if found.pending else None
        fields = {"revision": revision, "message": self._history.message(revision), "progress": progress}
        return [Event("revision.started", {"run_id": str(found.run_id), **fields})]


def _end(found: RunInDetail) -> list[Event]:
    """The warnings and the result, as the caller of the run was told them."""
    if found.answer is not None:
        document, http_status = found.answer, 200
    else:
        died = LockLost("The run died; nobody has told how it ended.", run_id=str(found.run_id))
        document = found.error or died.document(request_id=found.request_id)
        http_status = int(document["status"])
    warnings = [
        Event("warning", {"run_id": str(found.run_id), "message": message}) for message in document.get("warnings", ())
    ]
    return [*warnings, story.result(document, http_status)]
