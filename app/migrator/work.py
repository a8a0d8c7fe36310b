"""What a run does to the database, in a worker thread with an event loop of its own.

Revisions are other people's code: they hold the CPU, sleep, commit by themselves. The thread keeps them away
from the server's loop, where /livez and the heartbeat go on.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from app.database import working
from app.database.connection import DRIVER_ERRORS, Connection
from app.database.ledger import Ledger
from app.database.lock import Guard
from app.database.url import Database
from app.errors import (
    DatabaseUnavailable,
    LockLost,
    LockTimeout,
    MigrationFailed,
    PermissionDenied,
    Problem,
    StatementTimeout,
)
from app.migrator import cause, revisions
from app.migrator.revisions import Applying
from app.report import Blocker, Emit, Event, Revision, Step
from app.settings import Settings

_PASSING = ("55P03", "40P01", "40001")
"""SQLSTATEs that pass: lock_not_available, deadlock_detected, serialization_failure."""
_QUERY_CANCELED, _INSUFFICIENT_PRIVILEGE = "57014", "42501"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0

type Apply = Callable[[sa.Connection, "Work"], None]
"""Runs Alembic on a connection that has no transaction open, telling the Work what happens."""


@dataclass(slots=True)
class Work:
    """The work of one run: what is to be done, and how far it has got. An `Observer` of the revisions."""

    run_id: UUID
    database: Database
    settings: Settings
    guard: Guard
    ledger: Ledger | None
    """None when the steps cannot be written."""
    pooler: bool
    pending: list[Revision]
    emit: Emit

    applied: list[Step] = field(default_factory=list)
    retries: int = 0
    blockers: list[Blocker] = field(default_factory=list)
    """Who stood in the way when somebody last looked; written by the watcher."""

    _fence: working.Fence = field(init=False)
    _running: Revision | None = None
    _cut: Callable[[], object] = lambda: None
    _tries: int = 0
    _committed_before: int = 0
    _started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = 0.0

    def __post_init__(self) -> None:
        self._fence = working.fence(
            self.guard.fence,
            run_id=self.run_id,
            lease_s=self.settings.lease,
            lock_timeout_s=self.settings.lock_timeout,
        )

    @property
    def remaining(self) -> list[Revision]:
        """What is still to be done."""
        done = {step.revision for step in self.applied}
        return [revision for revision in self.pending if revision.revision not in done]

    @property
    def is_worth_watching(self) -> bool:
        """Whether somebody should look who stands in the way: a lock timeout was met, or will not be forgiven."""
        return self._tries > 0 or self.settings.lock_retries == 0

    def do(self, apply: Apply) -> None:
        """Do the work in this thread, which must have no event loop running.

        Raises:
            Exception: whatever a revision raises; `problem` says it in our words.
        """
        asyncio.run(self._do(apply))

    async def _do(self, apply: Apply) -> None:
        loop = asyncio.get_running_loop()

        def cut_by(opened: Connection) -> None:
            self._cut = lambda: loop.call_soon_threadsafe(opened.terminate)

        engine = working.engine(self.database, self._fence, run_id=self.run_id, pooler=self.pooler, on_open=cut_by)
        try:
            while True:
                try:
                    async with engine.connect() as opened:
                        await opened.run_sync(apply, self)
                        # A revision that committed by itself may have left its version in an open transaction.
                        await opened.commit()
                        return
                except Exception as error:
                    if not self._deserves_another_try(error):
                        raise
                await self._pause()
        finally:
            # The run's end has been decided; a connection that will not close must not change it.
            with contextlib.suppress(OSError, SQLAlchemyError, asyncpg.PostgresError, *DRIVER_ERRORS):
                await engine.dispose()

    def abandon(self) -> None:
        """Cut the working connection, from any thread, without a word to a database that may not answer."""
        with contextlib.suppress(RuntimeError):  # the thread's loop has closed: the work is over
            self._cut()

    def begins(self, revision: Revision) -> None:
        """A revision is about to run."""
        if self._running != revision:
            self._tries = 0
        self._running = revision
        self._committed_before = self._fence.commits
        self.mark()
        progress = f"{len(self.applied) + 1}/{len(self.pending)}"
        self.guard.show(revision.revision, progress)
        self.emit(Event("revision.started", {**revision.model_dump(), "progress": progress}))

    def mark(self) -> None:
        """Start the clock of a step."""
        self._started_at, self._clock = datetime.now(UTC), time.perf_counter()

    def applies(self, applying: Applying) -> None:
        """A revision has run; its step goes on record with the COMMIT that follows."""
        if self.ledger is not None:
            step = self.ledger.step(
                self.run_id,
                revision=applying.revision,
                direction=applying.direction,
                down_revisions=applying.down_revisions,
                sha256=applying.sha256,
                started_at=self._started_at,
                duration_ms=self._elapsed_ms(),
            )
            # Beside a step that still waits, when its revision had ended Alembic's transaction by itself.
            self._fence.at_commit = "; ".join(filter(None, [self._fence.at_commit, step]))

    def ends(self, revision: Revision) -> None:
        """A revision is committed."""
        step = Step(revision=revision.revision, message=revision.message, duration_ms=self._elapsed_ms())
        self.applied.append(step)
        self._running, self._tries = None, 0
        self.emit(Event("revision.applied", step.model_dump()))

    def _elapsed_ms(self) -> int:
        return round((time.perf_counter() - self._clock) * 1000)

    @property
    def _left_something(self) -> bool:
        """Whether the revision that runs has committed something already."""
        return self._fence.commits > self._committed_before

    def _deserves_another_try(self, error: BaseException) -> bool:
        passes = cause.sqlstate(error) in _PASSING and self._running is not None and not self._left_something
        if not passes or self.guard.lost.is_set() or self._tries >= self.settings.lock_retries:
            return False
        self._tries += 1
        self.retries += 1
        return True

    async def _pause(self) -> None:
        longest = min(_FIRST_PAUSE_S * 2 ** (self._tries - 1), _LONGEST_PAUSE_S)
        await asyncio.sleep(longest * random.uniform(0.5, 1))  # noqa: S311 – jitter, not a secret

    def problem(self, error: BaseException) -> Problem:
        """Say in our words what ended the run before its target."""
        members: dict[str, Any] = {
            "run_id": str(self.run_id),
            "revision": self._running.revision if self._running else None,
            "applied": [step.model_dump() for step in self.applied],
            "remaining": [revision.model_dump() for revision in self.remaining],
        }
        if isinstance(error, LockLost) or self.guard.lost.is_set():
            return LockLost("The lock was lost during the run; what was not committed is rolled back.", **members)
        if isinstance(error, Problem):
            error.members = {**members, **error.members}
            return error
        where = f"Revision {self._running.revision}" if self._running else "The upgrade"
        words = cause.message(error)
        match cause.sqlstate(error):
            case code if code in _PASSING:
                return LockTimeout(
                    f"{where} could not get its locks in {self._tries + 1} attempts ({words}).",
                    attempts=self._tries + 1,
                    rolled_back=not self._left_something,
                    blockers=[blocker.model_dump() for blocker in self.blockers],
                    sqlstate=code,
                    **members,
                )
            case code if code == _QUERY_CANCELED:
                return StatementTimeout(f"{where} was cancelled ({words}).", sqlstate=code, **members)
            case code if code == _INSUFFICIENT_PRIVILEGE and self._running is None:
                return PermissionDenied(f"{words}.", sqlstate=code, **members)
            case _ if cause.is_a_lost_connection(error):
                return DatabaseUnavailable(
                    f"{where} lost its connection ({words}); what was not committed is rolled back.",
                    hint=(
                        "Call again: the next run continues here. If it happens each time, the revision may hold a "
                        "transaction without a statement for longer than MIGRATION_LEASE."
                    ),
                    **members,
                )
            case code:
                place = cause.place(error, revisions.folder(self.settings.script_location))
                return self._failure(where, words, sqlstate=code, where=place, **members)

    def _failure(self, who: str, words: str, *, sqlstate: str | None, **members: Any) -> Problem:  # noqa: ANN401 – members of a problem
        rolled_back = not self._left_something
        state = "it is rolled back" if rolled_back else "what it had committed by itself stays"
        hint = (
            "Grant the role what is missing, or use the role that owns the tables; then call again."
            if sqlstate == _INSUFFICIENT_PRIVILEGE
            else None
        )
        return MigrationFailed(
            f"{who} failed: {words}; {state}.",
            hint=hint,
            sqlstate=sqlstate,
            message=words,
            rolled_back=rolled_back,
            **members,
        )
