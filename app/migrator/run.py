"""A run: one upgrade, from the look at the database to the answer. It reads from top to bottom.

take the turn → look → take the lock → end what is left of dead runs → look again → put the run on record
→ work → read back → put its end on record → give the lock back → answer
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from app.database import connection, lock, url
from app.database.catalog import Facts
from app.database.connection import Session
from app.database.ledger import Attempt, new_run_id, unwritable
from app.database.lock import Guard
from app.database.url import Database
from app.errors import DatabaseUnavailable, HistoryMismatch, LockHeld, MigrationFailed, PermissionDenied, Problem
from app.migrator import revisions, status, watch
from app.migrator.turn import Turn, held
from app.migrator.work import Apply, Work
from app.report import Emit, Event, Holder, Outcome, Revision, Run, Waited
from app.settings import Settings

_FIRST_POLL_S, _LONGEST_POLL_S = 0.1, 1.0
_RECORD_TIMEOUT_S = 2


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller wants, and who it is."""

    request_id: str
    target: str = "heads"
    lock_wait_s: float | None = None
    """How long to wait for the lock; None for the setting."""
    reason: str | None = None
    key_label: str | None = None


async def migrate(call: Call, settings: Settings, *, turn: Turn, emit: Emit) -> Run:
    """Upgrade the database to the call's target.

    Raises:
        NotConfigured, UnknownTarget, HistoryMismatch, LockHeld, DatabaseUnavailable: Nothing was changed.
        RunStopped, DatabaseUnavailable: A run began; the problem carries run_id, applied and remaining.
    """
    history = await revisions.loaded(settings.script_location)
    runner = Runner(call, settings, url.database(settings), turn=turn, emit=emit)

    async def pending(control: Session, facts: Facts) -> list[Revision]:
        history.resolve(call.target)  # a target that is not here at all is said first
        mismatch = await status.mismatch(control, settings, history, facts)
        if mismatch is not None:
            raise mismatch
        return history.pending(facts.heads, call.target)

    try:
        async with turn.taken(runner.wait_s) as runner.waited_s, connection.session(runner.database) as session:
            before = await runner.look(session)
            if not await pending(session, before):
                return runner.up_to_date(before)
            async with runner.guard(session, before) as guard:
                while not await runner.takes_the_lock(guard, session):
                    # The holder may have done the work meanwhile.
                    before = await runner.look(session)
                    if not await pending(session, before):
                        return runner.up_to_date(before)
                # From here on the first session is the guard's; what else is to be said needs another.
                async with connection.session(runner.database) as control:
                    await runner.ends_what_dead_runs_left(control)
                    before = await runner.look(control)
                    todo = await pending(control, before)
                    if not todo:
                        return runner.up_to_date(before)
                    work, after = await runner.carries_out(
                        lambda opened, work: history.upgrade(opened, call.target, work),
                        guard=guard,
                        control=control,
                        before=before,
                        pending=todo,
                        missing=lambda after: history.pending(after.heads, call.target),
                    )
            return runner.upgraded(before, work, after)
    except (LockHeld, HistoryMismatch) as refusal:
        await runner.refuses(refusal)
        raise


class Runner:
    """One run: what it was asked for, what it knows so far, and what it does, in the order of the methods."""

    def __init__(self, call: Call, settings: Settings, database: Database, *, turn: Turn, emit: Emit) -> None:
        self.run_id = new_run_id()
        self.database = database
        self.wait_s = settings.lock_wait if call.lock_wait_s is None else call.lock_wait_s
        self._call = call
        self._settings = settings
        self._turn = turn
        self._emit = emit
        self._attempt = Attempt(
            run_id=self.run_id,
            target=call.target,
            deployment=settings.deployment,
            request_id=call.request_id,
            key_label=call.key_label,
            reason=call.reason,
        )
        self._started_at, self._clock = datetime.now(UTC), time.perf_counter()
        self.waited_s = 0.0
        self._polls = 0
        self._warnings: list[str] = []

    async def look(self, control: Session) -> Facts:
        """Look at the database."""
        return await status.look(control, self._settings)

    def guard(self, session: Session, facts: Facts) -> contextlib.AbstractAsyncContextManager[Guard]:
        """A guard for this run, which has not taken the lock yet."""
        return lock.guard(
            session, lock_key=lock.key(facts.version_table), run_id=self.run_id, lease_s=self._settings.lease
        )

    async def takes_the_lock(self, guard: Guard, session: Session) -> bool:
        """Try to take the lock; False after a pause when somebody holds it.

        Raises:
            LockHeld: The caller has waited long enough.
        """
        if await guard.try_to_take_the_lock():
            self._turn.holder = lambda: guard.holder
            return True
        holder = await lock.holder(session, guard.key)
        self._turn.holder = lambda: holder
        elapsed_s = time.perf_counter() - self._clock
        if elapsed_s >= self.wait_s:
            raise held(holder, waited_s=elapsed_s)
        pause_s = min(_FIRST_POLL_S * 1.5**self._polls, _LONGEST_POLL_S)
        self._polls += 1
        # The jitter keeps instances that started together from asking together.
        pause_s = min(self.wait_s - elapsed_s, pause_s * random.uniform(0.5, 1))  # noqa: S311 – jitter, not a secret
        await asyncio.sleep(pause_s)
        self.waited_s += pause_s
        return False

    async def ends_what_dead_runs_left(self, control: Session) -> None:
        """End the backends of dead runs; only then what the database says of its version stays true."""
        self._warnings += await lock.end_leftovers(control)

    async def carries_out(
        self,
        apply: Apply,
        *,
        guard: Guard,
        control: Session,
        before: Facts,
        pending: list[Revision],
        missing: Callable[[Facts], list[Revision]],
        outcome: Outcome = "upgraded",
    ) -> tuple[Work, Facts]:
        """Do the work while the guard holds the lock, and put it on record.

        Args:
            apply: Runs Alembic.
            guard: Holds the lock.
            control: Reads the state and writes the ledger.
            before: What a look at the database told since the lock is held.
            pending: What is expected to run.
            missing: What the database still lacks, when it is read back afterwards.
            outcome: How a run that succeeds is recorded.

        Returns:
            The work, and what a look at the database told after it.

        Raises:
            Problem: What ended the run before its target; it is on record.
        """
        ledger = status.ledger_of(self._settings, before)
        warning = await ledger.start(control, self._attempt, from_heads=before.heads, exists=before.ledger_exists)
        self._warnings += [warning] if warning else []
        work = Work(
            run_id=self.run_id,
            database=self.database,
            settings=self._settings,
            guard=guard,
            ledger=None if warning else ledger,
            pooler=before.pooler,
            pending=pending,
            emit=self._tell,
        )
        self._tell(Event("run.started", {"target": self._call.target, "pending": len(pending)}))
        problem = await watch.over(work, apply, guard=guard, control=control)
        after = before
        try:
            # On a fresh connection: what was used so far may have gone silent during a long run.
            async with connection.session(self.database) as fresh:
                after = await self.look(fresh)
                if problem is None and (lacking := missing(after)):
                    problem = _not_applied(work, lacking)
                await self._finishes(fresh, work, after, outcome, problem)
        except DatabaseUnavailable as gone:
            problem = problem or work.problem(gone)
        ended = problem.slug if problem else outcome
        self._tell(Event("run.ended", {"outcome": ended, "duration_ms": self._elapsed_ms()}))
        if problem is not None:
            problem.members["warnings"] = self._warnings
            raise problem
        return work, after

    async def _finishes(
        self, session: Session, work: Work, after: Facts, outcome: Outcome, problem: Problem | None
    ) -> None:
        """Put the end of the run on record, if its beginning is."""
        if work.ledger is None:
            return
        try:
            await work.ledger.finish(
                session,
                self.run_id,
                "failed" if problem else outcome,
                to_heads=after.heads,
                retries=work.retries,
                error=problem.document(request_id=self._call.request_id) if problem else None,
            )
        except (PermissionDenied, asyncpg.PostgresError) as error:
            self._warnings.append(unwritable(error))

    async def refuses(self, refusal: Problem) -> None:
        """Log a refusal, and put it on record where there is a record already."""
        self._tell(Event("run.refused", {"problem": refusal.slug, "detail": refusal.detail}))
        # The caller has waited long enough, so there is little time for the record.
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with (
                asyncio.timeout(_RECORD_TIMEOUT_S),
                self._turn.to_record_a_refusal(),
                connection.session(self.database) as control,
            ):
                facts = await self.look(control)
                if isinstance(refusal, LockHeld) and refusal.members["holder"]["run_id"] is None:
                    # Who waited for the turn of this process has not seen the lock itself.
                    seen = await lock.holder(control, lock.key(facts.version_table))
                    refusal.members["holder"] = (seen or Holder()).model_dump(mode="json")
                if facts.ledger_exists:
                    await status.ledger_of(self._settings, facts).refuse(
                        control,
                        self._attempt,
                        from_heads=facts.heads,
                        error=refusal.document(request_id=self._call.request_id),
                    )

    def up_to_date(self, facts: Facts) -> Run:
        """The answer when nothing was left to do."""
        return self._answer(facts, facts, applied=None)

    def upgraded(self, before: Facts, work: Work, after: Facts) -> Run:
        """The answer when the work is done."""
        return self._answer(before, after, applied=work)

    def _answer(self, before: Facts, after: Facts, *, applied: Work | None) -> Run:
        return Run(
            outcome="upgraded" if applied else "up_to_date",
            run_id=self.run_id if applied else None,
            target=self._call.target,
            from_=list(before.heads),
            to=list(after.heads),
            applied=applied.applied if applied else [],
            remaining=[],
            lock=Waited(waited_ms=round(self.waited_s * 1000)),
            started_at=self._started_at,
            duration_ms=self._elapsed_ms(),
            deployment=self._settings.deployment,
            warnings=[*self._warnings, *status.warnings(after)],
            request_id=self._call.request_id,
        )

    def _tell(self, event: Event) -> None:
        self._emit(Event(event.name, {"run_id": str(self.run_id), "request_id": self._call.request_id, **event.fields}))

    def _elapsed_ms(self) -> int:
        return round((time.perf_counter() - self._clock) * 1000)


def _not_applied(work: Work, missing: list[Revision]) -> Problem:
    names = ", ".join(revision.revision for revision in missing)
    return MigrationFailed(
        f"Every revision ran without an error, but read back, the database lacks {names}.",
        hint="A revision probably ended its transaction by itself; see whether it rolled back.",
        run_id=str(work.run_id),
        revision=missing[0].revision,
        sqlstate=None,
        message=None,
        rolled_back=False,
        applied=[step.model_dump() for step in work.applied],
        remaining=[revision.model_dump() for revision in missing],
    )
