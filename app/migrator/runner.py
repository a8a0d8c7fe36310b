"""The parts of a run, in the order in which a run goes through them; run.py is the sentence that they make."""

import asyncio
import contextlib
import dataclasses
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

from app.database import backends, connection, lock, pooler
from app.database.catalog import Facts
from app.database.connection import Session
from app.database.ledger import Attempt, Ledger, new_run_id, unwritable
from app.database.lock import Guard
from app.database.url import Database
from app.errors import DatabaseUnavailable, LockHeld, LockLost, PermissionDenied
from app.migrator import condition, deadline, status
from app.migrator.turn import Turn, held
from app.problem import Problem
from app.report import Emit, Event, Holder, Outcome, PoolMode, Revision, Run, Waited
from app.settings import Settings

if TYPE_CHECKING:
    from app.migrator.work import Apply, Work

_FIRST_POLL_S, _LONGEST_POLL_S = 0.1, 1.0
_RECORD_TIMEOUT_S = 2
_LEAST_TO_CONNECT_S, _LEAST_TO_READ_BACK_S = 0.5, 0.5


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller wants, and who it is."""

    request_id: str
    target: str = "heads"
    lock_wait_s: float | None = None
    """How long to wait for the lock; None for the setting."""
    reason: str | None = None
    key_label: str | None = None
    invocation_ends: datetime | None = None
    """When the platform will end the invocation that asks, where it does."""


class Runner:
    """One run: what it was asked for, what it knows so far, and what it does, in the order of the methods."""

    def __init__(self, call: Call, settings: Settings, database: Database, *, turn: Turn, emit: Emit) -> None:
        self.run_id = new_run_id()
        self._deadline = deadline.of_a_run(settings.time_budget, call.invocation_ends)
        # No answer to an attempt to connect must not keep the answer to the caller.
        connect_timeout_s = min(database.connect_timeout_s, max(self._deadline.left_to_work_s, _LEAST_TO_CONNECT_S))
        self.database = dataclasses.replace(database, connect_timeout_s=connect_timeout_s)
        wanted_s = settings.lock_wait if call.lock_wait_s is None else call.lock_wait_s
        self.wait_s = max(0.0, min(wanted_s, self._deadline.left_to_work_s))
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
        self._ledger: Ledger | None = None
        self._pool_mode: PoolMode | None = None

    async def look(self, control: Session) -> Facts:
        """Look at the database."""
        return await status.look(control, self._settings)

    def guard(self, session: Session, facts: Facts) -> contextlib.AbstractAsyncContextManager[Guard]:
        """A guard for this run, which has not taken the lock yet.

        Raises:
            ReadOnlyDatabase: The lock would be of no use, and a replica has none.
        """
        condition.insist_on_writes(facts)
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
        self._warnings += await backends.end_leftovers(control)

    async def goes_on_record(self, control: Session, before: Facts) -> None:
        """Put the run on record, and tell what a pooler between us and the database takes away."""
        ledger = status.ledger_of(self._settings, before)
        warning = await ledger.start(control, self._attempt, from_heads=before.heads, exists=before.ledger_knows_builds)
        if warning is None:
            self._ledger = ledger
        else:
            self._warnings.append(warning)
        self._pool_mode = await pooler.mode(control, self.database) if before.pooler else None

    async def carries_out(
        self,
        apply: "Apply",
        *,
        guard: Guard,
        before: Facts,
        pending: list[Revision],
        missing: Callable[[Facts], list[Revision]],
        outcome: Outcome = "upgraded",
    ) -> "tuple[Work, Facts]":
        """Do the work while the guard holds the lock, and put its end on record.

        Args:
            apply: Runs Alembic.
            guard: Holds the lock.
            before: What a look at the database told since the lock is held.
            pending: What is expected to run.
            missing: What the database still lacks, when it is read back afterwards.
            outcome: How a run that succeeds is recorded.

        Returns:
            The work, and what a look at the database told after it.

        Raises:
            Problem: What ended the run before its target; it is on record.
        """
        from app.migrator import ending, watch  # they bring SQLAlchemy, and most calls find nothing to do
        from app.migrator.work import Work

        work = Work(
            run_id=self.run_id,
            database=self.database,
            settings=self._settings,
            guard=guard,
            ledger=self._ledger,
            deadline=self._deadline,
            pooler=before.pooler,
            pending=pending,
            emit=self._tell,
        )
        self._tell(Event("run.started", {"target": self._call.target, "pending": len(pending)}))
        problem = await watch.over(work, apply, guard=guard, turn=self._turn)
        self._warnings += work.warnings
        after = before
        try:
            # On a fresh connection: what was used so far may have gone silent during a long run.
            async with asyncio.timeout(self._time_to_read_back_s()), connection.session(self.database) as fresh:
                if problem is not None:
                    await backends.end_work_of(fresh, self.run_id)
                after = await self.look(fresh)
                problem = await self._believes(fresh, work, problem, after, missing(after))
                await self._finishes(fresh, work, after, outcome, problem)
        except DatabaseUnavailable as gone:
            problem = problem or ending.problem(work, gone)
        except TimeoutError:
            silent = DatabaseUnavailable("The database did not answer in the time that was left to read it back.")
            problem = problem or ending.problem(work, silent)
        ended = problem.slug if problem else outcome
        self._tell(Event("run.ended", {"outcome": ended, "duration_ms": self._elapsed_ms()}))
        if problem is not None:
            problem.members["warnings"] = self._told(after)
            raise problem
        return work, after

    async def _believes(
        self, fresh: Session, work: "Work", problem: Problem | None, after: Facts, missing: list[Revision]
    ) -> Problem | None:
        """What the run's end is, now that the database has been read back."""
        from app.migrator import ending  # as above

        if problem is None:
            return ending.not_applied(work, missing) if missing else None
        if work.ledger is not None:
            work.learns_what_it_applied(await work.ledger.applied_by(fresh, self.run_id))
        if work.applied and not work.remaining and not missing and isinstance(problem, DatabaseUnavailable | LockLost):
            self._warnings.append(f"{problem.detail} But read back, the database is at the target.")
            return None
        problem.members |= ending.so_far(work)
        await condition.tell_of_broken_indexes(fresh, self._settings, after, problem)
        return problem

    def _time_to_read_back_s(self) -> float | None:
        left_s = self._deadline.left_to_answer_s
        return None if math.isinf(left_s) else max(left_s, _LEAST_TO_READ_BACK_S)

    async def _finishes(
        self, session: Session, work: "Work", after: Facts, outcome: Outcome, problem: Problem | None
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

    def upgraded(self, before: Facts, work: "Work", after: Facts) -> Run:
        """The answer when the work is done."""
        return self._answer(before, after, applied=work)

    def _answer(self, before: Facts, after: Facts, *, applied: "Work | None") -> Run:
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
            warnings=self._told(after),
            request_id=self._call.request_id,
        )

    def _told(self, facts: Facts) -> list[str]:
        return [*self._warnings, *condition.warnings(facts, self._pool_mode)]

    def _tell(self, event: Event) -> None:
        self._emit(Event(event.name, {"run_id": str(self.run_id), "request_id": self._call.request_id, **event.fields}))

    def _elapsed_ms(self) -> int:
        return round((time.perf_counter() - self._clock) * 1000)
