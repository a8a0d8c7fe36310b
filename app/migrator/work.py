"""What a run does to the database, in a worker thread with an event loop of its own.

Revisions are other people's code: they hold the CPU, sleep, commit by themselves. The thread keeps them away
from the server's loop, where /livez and the heartbeat go on.
"""

import asyncio
import contextlib
import random
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.database import working
from app.database.connection import DRIVER_ERRORS
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
    redacted,
)
from app.migrator import revisions
from app.migrator.revisions import Applying
from app.report import Blocker, Emit, Event, Revision, Step
from app.settings import Settings

_LOCK_NOT_AVAILABLE, _DEADLOCK, _SERIALIZATION = "55P03", "40P01", "40001"
_QUERY_CANCELED, _INSUFFICIENT_PRIVILEGE = "57014", "42501"
_DATA_EXCEPTION = "22"
"""The class of SQLSTATEs whose messages quote a value."""
_PASSING = (_LOCK_NOT_AVAILABLE, _DEADLOCK, _SERIALIZATION)
_DRIVERS_VALUE = re.compile(r"(invalid input for query argument \$\d+[^:]*): .*", re.DOTALL)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0

type Apply = Callable[[Connection, "Work"], None]
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
        engine = working.engine(self.database, self._fence, run_id=self.run_id, pooler=self.pooler)
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
        passes = _sqlstate(error) in _PASSING and self._running is not None and not self._left_something
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
        cause = _driver_error(error)
        match _sqlstate(error):
            case code if code in _PASSING:
                return LockTimeout(
                    f"{where} could not get its locks in {self._tries + 1} attempts ({_message(cause)}).",
                    attempts=self._tries + 1,
                    blockers=[blocker.model_dump() for blocker in self.blockers],
                    sqlstate=code,
                    **members,
                )
            case code if code == _QUERY_CANCELED:
                return StatementTimeout(f"{where} was cancelled ({_message(cause)}).", sqlstate=code, **members)
            case code if code == _INSUFFICIENT_PRIVILEGE and self._running is None:
                return PermissionDenied(f"{_message(cause)}.", sqlstate=code, **members)
            case _ if isinstance(cause, _CONNECTION_GONE):
                return DatabaseUnavailable(
                    f"{where} lost its connection ({_message(cause)}); what was not committed is rolled back.",
                    hint=(
                        "Call again: the next run continues here. If it happens each time, the revision may hold a "
                        "transaction without a statement for longer than MIGRATION_LEASE."
                    ),
                    **members,
                )
            case code:
                place = _place(error, revisions.folder(self.settings.script_location))
                return self._failure(where, cause, sqlstate=code, where=place, **members)

    def _failure(self, who: str, cause: BaseException, *, sqlstate: str | None, **members: Any) -> Problem:  # noqa: ANN401 – members of a problem
        rolled_back = not self._left_something
        state = "it is rolled back" if rolled_back else "what it had committed by itself stays"
        hint = (
            "Grant the role what is missing, or use the role that owns the tables; then call again."
            if sqlstate == _INSUFFICIENT_PRIVILEGE
            else None
        )
        return MigrationFailed(
            f"{who} failed: {_message(cause)}; {state}.",
            hint=hint,
            sqlstate=sqlstate,
            message=_message(cause),
            rolled_back=rolled_back,
            **members,
        )


_CONNECTION_GONE = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    *DRIVER_ERRORS,
    ConnectionError,
)


def _driver_error(error: BaseException) -> BaseException:
    """The driver's own error behind SQLAlchemy's, whose text would quote statement and parameters."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def _sqlstate(error: BaseException) -> str | None:
    return getattr(_driver_error(error), "sqlstate", None)


def _message(cause: BaseException) -> str:
    """The first line of an error, without DETAIL, which may quote rows, and without credentials."""
    if isinstance(cause, SQLAlchemyError):
        text = str(cause.args[0]) if cause.args else ""
    elif isinstance(cause, asyncpg.PostgresError | asyncpg.InterfaceError):
        text = _without_values(cause)
    else:
        text = f"{type(cause).__name__}: {cause}"
    return redacted(next(iter(text.strip().splitlines()), type(cause).__name__))[:500].rstrip(".")


def _without_values(cause: BaseException) -> str:
    """The error's words without the value that it is about: a statement's parameter, or somebody's data."""
    text = str(cause.args[0])
    if (getattr(cause, "sqlstate", None) or "").startswith(_DATA_EXCEPTION):
        text = re.sub(r'".*"', '"…"', text, flags=re.DOTALL)
    return _DRIVERS_VALUE.sub(r"\1", text)


def _place(error: BaseException, folder: Path) -> str | None:
    """File and line of the revision that raised, if one did."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(folder) and frame.name != "<module>"]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else None
