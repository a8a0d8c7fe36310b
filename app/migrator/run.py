"""A run: one upgrade, from the look at the database to the answer. It reads from top to bottom.

take the turn → look → take the lock → look again → end what is left of dead runs → put the run on record
→ work → read back → put its end on record → give the lock back → answer
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from app.database import catalog, connection, lock, url
from app.database.catalog import Facts
from app.database.connection import Session
from app.database.ledger import UNWRITABLE, Attempt
from app.database.lock import Guard
from app.database.url import Database
from app.errors import DatabaseUnavailable, HistoryMismatch, LockHeld, MigrationFailed, Problem
from app.migrator import revisions, status
from app.migrator.turn import Turn, held
from app.migrator.work import Apply, Work
from app.report import Emit, Event, Holder, Outcome, Revision, Run, Waited
from app.settings import Settings

_FIRST_POLL_S, _LONGEST_POLL_S = 0.1, 1.0
_LOOKS_PER_LOCK_TIMEOUT = 3


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

    async def upgrade(control: Session) -> Run:
        facts = await runner.look(control)
        if not await pending(control, facts):
            return runner.up_to_date(facts)
        async with runner.guard(facts) as guard:
            while not await runner.takes_the_lock(guard, control):
                # The holder may have done the work meanwhile.
                facts = await runner.look(control)
                if not await pending(control, facts):
                    return runner.up_to_date(facts)
            facts = await runner.look(control)
            todo = await pending(control, facts)
            if not todo:
                return runner.up_to_date(facts)
            work, after = await runner.carries_out(
                lambda opened, work: history.upgrade(opened, call.target, work),
                guard=guard,
                control=control,
                facts=facts,
                pending=todo,
                missing=lambda after: history.pending(after.heads, call.target),
            )
        return runner.upgraded(facts, work, after)

    try:
        async with turn.taken(runner.wait_s), connection.session(runner.database) as control:
            return await upgrade(control)
    except (LockHeld, HistoryMismatch) as refusal:
        await runner.refuses(refusal)
        raise


class Runner:
    """One run: what it was asked for, what it knows so far, and what it does, in the order of the methods."""

    def __init__(self, call: Call, settings: Settings, database: Database, *, turn: Turn, emit: Emit) -> None:
        self.run_id = uuid7()
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
        self._waited_ms = 0
        self._polls = 0
        self._warnings: list[str] = []

    async def look(self, control: Session) -> Facts:
        """Look at the database."""
        return await status.look(control, self._settings)

    def guard(self, facts: Facts) -> contextlib.AbstractAsyncContextManager[Guard]:
        """A guard for this run, which has not taken the lock yet."""
        return lock.guard(
            self.database,
            lock_key=lock.key(facts.version_table),
            run_id=self.run_id,
            lease_s=self._settings.lease,
        )

    async def takes_the_lock(self, guard: Guard, control: Session) -> bool:
        """Try to take the lock; False after a pause when somebody holds it.

        Raises:
            LockHeld: The caller has waited long enough.
        """
        if await guard.try_to_take_the_lock():
            self._waited_ms = self._elapsed_ms() if self._polls else 0
            self._turn.holder = lambda: guard.holder
            return True
        holder = await lock.holder(control, guard.key)
        self._turn.holder = lambda: holder
        left_s = self.wait_s - self._elapsed_ms() / 1000
        if left_s <= 0:
            raise held(holder, waited_s=self._elapsed_ms() / 1000)
        pause_s = min(_FIRST_POLL_S * 1.5**self._polls, _LONGEST_POLL_S)
        self._polls += 1
        # The jitter keeps instances that started together from asking together.
        await asyncio.sleep(min(left_s, pause_s * random.uniform(0.5, 1)))  # noqa: S311 – jitter, not a secret
        return False

    async def carries_out(
        self,
        apply: Apply,
        *,
        guard: Guard,
        control: Session,
        facts: Facts,
        pending: list[Revision],
        missing: Callable[[Facts], list[Revision]],
        outcome: Outcome = "upgraded",
    ) -> tuple[Work, Facts]:
        """Do the work while the guard holds the lock, and put it on record.

        Args:
            apply: Runs Alembic.
            guard: Holds the lock.
            control: Reads the state and writes the ledger.
            facts: What a look at the database told since the lock is held.
            pending: What is expected to run.
            missing: What the database still lacks, when it is read back afterwards.
            outcome: How a run that succeeds is recorded.

        Returns:
            The work, and what a look at the database told after it.

        Raises:
            Problem: What ended the run before its target; it is on record.
        """
        self._warnings += await lock.end_leftovers(control)
        ledger = status.ledger_of(self._settings, facts)
        unwritable = await ledger.start(control, self._attempt, from_heads=facts.heads, exists=facts.ledger_exists)
        self._warnings += [unwritable] if unwritable else []
        work = Work(
            run_id=self.run_id,
            database=self.database,
            settings=self._settings,
            guard=guard,
            ledger=None if unwritable else ledger,
            pooler=facts.pooler,
            pending=pending,
            emit=self._tell,
        )
        self._tell(Event("run.started", {"target": self._call.target, "pending": len(pending)}))
        problem = await self._does(work, apply, guard, control)
        async with _alive(control, self.database) as after:
            facts = await self.look(after)
            if problem is None and missing(facts):
                problem = self._not_applied(work, missing(facts))
            if work.ledger is not None:
                try:
                    await work.ledger.finish(
                        after,
                        self.run_id,
                        "failed" if problem else outcome,
                        to_heads=facts.heads,
                        retries=work.retries,
                        error=problem.document(request_id=self._call.request_id) if problem else None,
                    )
                except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                    self._warnings.append(UNWRITABLE.format(why=f"{type(error).__name__}."))
        self._tell(
            Event("run.ended", {"outcome": problem.slug if problem else outcome, "duration_ms": self._elapsed_ms()})
        )
        if problem is not None:
            problem.members["warnings"] = self._warnings
            raise problem
        return work, facts

    async def refuses(self, refusal: Problem) -> None:
        """Log a refusal, and put it on record where there is a record already."""
        self._emit(
            Event(
                "run.refused",
                {"request_id": self._call.request_id, "problem": refusal.slug, "detail": refusal.detail},
            )
        )
        with contextlib.suppress(DatabaseUnavailable):
            async with self._turn.to_record_a_refusal(), connection.session(self.database) as control:
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
            lock=Waited(waited_ms=self._waited_ms),
            started_at=self._started_at,
            duration_ms=self._elapsed_ms(),
            deployment=self._settings.deployment,
            warnings=[*self._warnings, *status.warnings(after)],
            request_id=self._call.request_id,
        )

    async def _does(self, work: Work, apply: Apply, guard: Guard, control: Session) -> Problem | None:
        """Let a thread do the work, and watch over it from here."""
        watch = asyncio.create_task(self._watches(work, guard, control), name=f"watch of run {self.run_id}")
        try:
            await asyncio.to_thread(work.do, apply)
        except Exception as error:  # noqa: BLE001 – a revision may raise anything
            await guard.confirm()  # a lock that is lost explains the rest
            return work.problem(error)
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        return None

    async def _watches(self, work: Work, guard: Guard, control: Session) -> None:
        """See who stands in the way of the work, and end it when the lock is lost."""
        with contextlib.suppress(DatabaseUnavailable, asyncpg.PostgresError):
            while not guard.lost.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(guard.lost.wait(), self._settings.lock_timeout / _LOOKS_PER_LOCK_TIMEOUT)
                if work.is_worth_watching:
                    work.blockers = await catalog.blockers(control, self.run_id) or work.blockers
            # Rather than wait for the next fence: what runs may hold table locks.
            await catalog.end_work(control, self.run_id)

    def _not_applied(self, work: Work, missing: list[Revision]) -> Problem:
        names = ", ".join(revision.revision for revision in missing)
        return MigrationFailed(
            f"Every revision ran without an error, but read back, the database lacks {names}.",
            hint="A revision probably ended its transaction by itself; see whether it rolled back.",
            run_id=str(self.run_id),
            revision=missing[0].revision,
            sqlstate=None,
            message=None,
            rolled_back=False,
            applied=[step.model_dump() for step in work.applied],
            remaining=[revision.model_dump() for revision in missing],
        )

    def _tell(self, event: Event) -> None:
        self._emit(Event(event.name, {"run_id": str(self.run_id), "request_id": self._call.request_id, **event.fields}))

    def _elapsed_ms(self) -> int:
        return round((time.perf_counter() - self._clock) * 1000)


@asynccontextmanager
async def _alive(control: Session, database: Database) -> AsyncIterator[Session]:
    """The control session if it still answers, else a new one: a run may outlive its idle connections."""
    try:
        await control.execute("SELECT")
    except (DatabaseUnavailable, asyncpg.PostgresError):
        async with connection.session(database) as again:
            yield again
    else:
        yield control


def uuid7() -> UUID:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then random bits; sorts by time."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10))
    value = (value & ~(0xF << 76)) | (0x7 << 76)  # the version
    value = (value & ~(0x3 << 62)) | (0x2 << 62)  # the variant
    return UUID(int=value)
