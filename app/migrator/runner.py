"""The parts of a run, in the order in which a run goes through them; run.py is the sentence that they make."""

import asyncio
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.database import backends, connection, lock, pooler
from app.database.catalog import ALL, Costly, Facts
from app.database.connection import Session
from app.database.ledger import new_run_id
from app.database.lock import Guard
from app.database.url import Database
from app.errors import DatabaseUnavailable, LockLost
from app.migrator import condition, deadline, status, story
from app.migrator.call import Call
from app.migrator.record import Record
from app.migrator.terms import Terms
from app.migrator.turn import Turn
from app.problem import Problem
from app.report import Answered, Emit, Event, PoolMode, Reached, Revision, Run, Waited
from app.settings import Settings

if TYPE_CHECKING:
    from app.migrator.work import Apply, Work

_LEAST_TO_CONNECT_S, _LEAST_TO_READ_BACK_S = 0.5, 0.5


class Runner:
    """One run: what it was asked for, what it knows so far, and what it does, in the order of the methods."""

    def __init__(
        self,
        call: Call,
        settings: Settings,
        database: Database,
        *,
        turn: Turn,
        emit: Emit,
        heads: tuple[str, ...] = (),
    ) -> None:
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
        self.record = Record(call, settings, self.run_id, heads=heads)
        self._started_at, self._clock = datetime.now(UTC), time.perf_counter()
        self.waited_s = 0.0
        self._warnings: list[str] = []
        self._pool_mode: PoolMode | None = None

    async def look(self, control: Session, costly: frozenset[Costly] = ALL) -> Facts:
        """Look at the database; `costly` as in `status.look`."""
        began = time.perf_counter()
        facts = await status.look(control, self._settings, costly)
        self._turn.saw(facts, at=began)
        return facts

    @property
    def seen(self) -> Facts | None:
        """What others here have seen of the database since this call came, if that is all that its answer needs."""
        facts = self._turn.seen_since(self._clock)
        return facts if facts and self.record.says_nothing_of(facts) else None

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
        """Try to take the lock; False when somebody held it, who has got further meanwhile or has given it back.

        Raises:
            LockHeld: The caller has waited long enough.
        """
        if await guard.try_to_take_the_lock():
            self._turn.holder = lambda: guard.holder
            return True
        began = time.perf_counter()
        await self._turn.waits_for_the_holder(
            lambda: lock.holder(session, guard.key), came_at=self._clock, wait_s=self.wait_s
        )
        self.waited_s += time.perf_counter() - began
        return False

    async def ends_what_dead_runs_left(self, control: Session) -> None:
        """End the backends of dead runs; only then what the database says of its version stays true."""
        self._warn(*await backends.end_leftovers(control))

    async def goes_on_record(
        self, control: Session, before: Facts, *, pending: int | None, terms: Terms | None = None
    ) -> None:
        """Put the run on record, and tell what a pooler between us and the database takes away."""
        if terms is not None:
            self._warn(*terms.warnings)
        self._warn(
            await self.record.starts(
                control,
                before,
                waited_ms=self._waited_ms,
                pending=pending,
                accepted=terms.accepted if terms else [],
                plan_digest=terms.pinned if terms else None,
            )
        )
        self._pool_mode = await pooler.mode(control, self.database) if before.pooler else None

    async def carries_out(
        self,
        apply: "Apply",
        *,
        guard: Guard,
        before: Facts,
        pending: list[Revision],
        missing: Callable[[Facts], list[Revision]],
        settle: Callable[[Problem], None] = lambda _: None,
        outcome: Reached = "upgraded",
    ) -> Run:
        """Do the work while the guard holds the lock, and put its end on record.

        Args:
            apply: Runs Alembic.
            guard: Holds the lock.
            before: What a look at the database told since the lock is held.
            pending: What is expected to run.
            missing: What the database still lacks, when it is read back afterwards.
            settle: Says what else is to be said of the problem that a run has ended in.
            outcome: How a run that succeeds is recorded.

        Raises:
            Problem: What ended the run before its target; it is on record.
        """
        from app.migrator import ending, watch  # they bring SQLAlchemy, and most calls find nothing to do
        from app.migrator.one_transaction import WorkInOne
        from app.migrator.work import Work

        work = (WorkInOne if self._settings.transaction_per_run else Work)(
            run_id=self.run_id,
            database=self.database,
            settings=self._settings,
            guard=guard,
            ledger=self.record.ledger,
            deadline=self._deadline,
            pooler=before.pooler,
            pending=pending,
            emit=self._tell,
            is_from_base=not before.heads,
        )
        self._tell(
            Event(
                story.STARTED,
                {
                    "target": self._call.target,
                    "pending": len(pending),
                    "waited_ms": self._waited_ms,
                    "on_record": work.ledger is not None,
                },
            )
        )
        problem = await watch.over(work, apply, guard=guard, turn=self._turn)
        after = before
        answer: Run | None = None
        try:
            # On a fresh connection: what was used so far may have gone silent during a long run.
            async with asyncio.timeout(self._time_to_read_back_s()), connection.session(self.database) as fresh:
                if problem is not None:
                    await backends.end_work_of(fresh, self.run_id)
                after = await self.look(fresh)
                problem = await self._believes(fresh, work, problem, after, missing(after))
                self._warn(*work.warnings, *self._conditions(after))
                answer = self._answer(before, after, outcome=outcome, work=work)
                if problem is not None:
                    settle(problem)
                    problem.members["warnings"] = self._warnings
                told = problem or answer
                unwritten = await self.record.ends(fresh, after, outcome, retries=work.retries, told=told)
                if problem is None and unwritten is None:
                    limit_s = self._deadline.left_to_answer_s / 2
                    unwritten = await self.record.takes_a_fingerprint(fresh, limit_s=limit_s)
                if unwritten is not None:
                    self._warn(unwritten)
                    answer = self._answer(before, after, outcome=outcome, work=work)
        except DatabaseUnavailable as gone:
            problem = problem or ending.problem(work, gone)
        except TimeoutError:
            silent = DatabaseUnavailable("The database did not answer in the time that was left to read it back.")
            problem = problem or ending.problem(work, silent)
        self._warn(*work.warnings)
        ended = problem.slug if problem else outcome
        self._tell(Event("run.ended", {"outcome": ended, "duration_ms": self._elapsed_ms()}))
        if problem is not None:
            settle(problem)
            problem.members["warnings"] = self._warnings
            raise problem
        assert answer is not None  # noqa: S101 – without one there is a problem
        return answer

    async def _believes(
        self, fresh: Session, work: "Work", problem: Problem | None, after: Facts, missing: list[Revision]
    ) -> Problem | None:
        """What the run's end is, now that the database has been read back."""
        from app.migrator import ending  # as above

        if problem is None and not missing:
            return None
        steps, was_to_end = await work.ledger.applied_by(fresh, self.run_id) if work.ledger else (None, False)
        work.learns_what_it_applied(steps)
        if problem is None:
            return ending.not_applied(work, missing)
        if work.applied and not work.remaining and not missing and isinstance(problem, DatabaseUnavailable | LockLost):
            self._warn(f"{problem.detail} But read back, the database is at the target.")
            return None
        if was_to_end:
            problem = ending.on_request(problem)
        problem.members |= ending.so_far(work)
        if any(step.revision == problem.members.get("revision") for step in work.applied):
            problem.members.pop("rolled_back", None)  # it was committed, although nobody has heard of it
        await condition.tell_of_broken_indexes(fresh, self._settings, after, problem)
        return problem

    def _time_to_read_back_s(self) -> float | None:
        left_s = self._deadline.left_to_answer_s
        return None if math.isinf(left_s) else max(left_s, _LEAST_TO_READ_BACK_S)

    async def refuses(self, refusal: Problem) -> None:
        """Log a refusal, and put it on record where there is a record already."""
        self._tell(Event("run.refused", {"problem": refusal.slug, "detail": refusal.detail}))
        await self.record.refused(self.database, refusal, self._turn.to_record_a_refusal())

    async def nothing_to_do(self, control: Session, facts: Facts) -> Run:
        """The answer when nothing was left to do."""
        answer = self.up_to_date(facts)
        await self.record.keeps(control, facts, answer)
        await self.record.binds(control, facts)
        return answer

    def up_to_date(self, facts: Facts) -> Run:
        """The same, where nothing of it is to be put on record."""
        self._warn(*self._conditions(facts))
        return self._answer(facts, facts, outcome="up_to_date")

    def _answer(self, before: Facts, after: Facts, *, outcome: Answered, work: "Work | None" = None) -> Run:
        return Run(
            outcome=outcome,
            run_id=self.run_id if work else None,
            target=self._call.target,
            from_=list(before.heads),
            to=list(after.heads),
            applied=work.applied if work else [],
            remaining=[],
            lock=Waited(waited_ms=self._waited_ms),
            started_at=self._started_at,
            duration_ms=self._elapsed_ms(),
            deployment=self._settings.deployment,
            warnings=self._warnings,
            request_id=self._call.request_id,
        )

    def _conditions(self, facts: Facts) -> list[str]:
        return condition.warnings(facts, self.database, self._pool_mode, self._settings)

    def _warn(self, *warnings: str | None) -> None:
        """Tell what a caller should know, once."""
        for warning in warnings:
            if warning is not None and warning not in self._warnings:
                self._warnings.append(warning)
                self._tell(Event("warning", {"message": warning}))

    def _tell(self, event: Event) -> None:
        self._emit(Event(event.name, {"run_id": str(self.run_id), "request_id": self._call.request_id, **event.fields}))

    @property
    def _waited_ms(self) -> int:
        return round(self.waited_s * 1000)

    def _elapsed_ms(self) -> int:
        return round((time.perf_counter() - self._clock) * 1000)
