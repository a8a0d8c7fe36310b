"""A rehearsal: what is pending is run in one transaction, measured, and rolled back. It reads from top to bottom.

take the turn → look → refuse → take the lock → end what is left of dead runs → look again → rehearse → roll back
→ give the lock back → answer. Nothing goes on record.
"""

from app.database import connection, url
from app.database.catalog import Facts
from app.database.connection import Session
from app.database.lock import Guard
from app.errors import (
    HistoryMismatch,
    LockHeld,
    RehearsalFailed,
    RehearsalNotAllowed,
    TimeBudgetExhausted,
    WrongEnvironment,
)
from app.migrator import condition, revisions, status, watch
from app.migrator.call import Call
from app.migrator.rehearsal_work import RehearsalWork
from app.migrator.revisions import History
from app.migrator.runner import Runner
from app.migrator.turn import Turn
from app.problem import Problem
from app.report import Emit, Event, Rehearsal, Revision, Waited
from app.settings import Settings

_LONGEST_LOCK_TIMEOUT_S = 1.0
_STARTS_ANEW = (
    "A rehearsal starts anew each time. Raise MIGRATION_TIME_BUDGET or the function's maxDuration, rehearse with a "
    "nearer `target`, or where nothing limits it: python -m app rehearse."
)
_MAY_HAVE_LEFT = (
    "Revision {} ended the rehearsal's transaction by itself, which was seen too late: what followed may have been "
    "left behind in the database."
)
_LOOK = "Look what was left behind, with GET /status?drift=true and by hand; then correct the revision."


async def rehearse(call: Call, settings: Settings, *, turn: Turn, emit: Emit) -> Rehearsal:
    """Rehearse an upgrade to the call's target.

    Raises:
        NotConfigured, UnknownTarget, HistoryMismatch, WrongEnvironment, RehearsalNotAllowed, LockHeld,
            DatabaseUnavailable: Nothing was rehearsed.
        RehearsalFailed: A revision failed; it carries the steps, the problem, and what remains.
        RunStopped, DatabaseUnavailable: Something came between; the same call may end otherwise.
    """
    history = await status.history(settings)
    # Whoever queues behind a rehearsal's DDL gains nothing by it: it is given up soon, and not tried again.
    gentle = settings.model_copy(
        update={"lock_timeout": min(settings.lock_timeout, _LONGEST_LOCK_TIMEOUT_S), "lock_retries": 0}
    )
    rehearser = _Rehearser(call, gentle, url.database(settings), turn=turn, emit=emit, heads=history.heads)
    try:
        async with (
            turn.taken(rehearser.wait_s) as rehearser.waited_s,
            connection.session(rehearser.database) as session,
        ):
            before = await rehearser.look(session)
            pending = await rehearser.pending(session, before, history)
            if not pending:
                return rehearser.nothing_to_rehearse(before)
            async with rehearser.guard(session, before) as guard:
                while not await rehearser.takes_the_lock(guard, session):
                    pass
                async with connection.session(rehearser.database) as control:
                    await rehearser.ends_what_dead_runs_left(control)
                    before = await rehearser.look(control)
                    pending = await rehearser.pending(control, before, history)
                if not pending:  # the holder has done the work meanwhile
                    return rehearser.nothing_to_rehearse(before)
                return await rehearser.rehearses(history, pending, guard=guard, before=before)
    except (LockHeld, HistoryMismatch, WrongEnvironment, RehearsalNotAllowed) as refusal:
        rehearser.tells_of(refusal)
        raise


class _Rehearser(Runner):
    """A rehearsal: what it was asked for, what it knows so far, and what it does beyond what a run does too."""

    _destination: str
    """What the target means, by the last look."""

    async def pending(self, control: Session, facts: Facts, history: History) -> list[Revision]:
        """What is to be rehearsed.

        Raises:
            UnknownTarget, HistoryMismatch, WrongEnvironment, RehearsalNotAllowed: as `rehearse` says.
        """
        history.resolve(self._call.target)
        condition.insist_on_environment(facts, self._settings)
        _insist_on_a_stage(facts, self._settings)
        await status.insist_on_a_match(control, self._settings, history, facts)
        self._destination = history.destination(facts.heads, self._call.target)
        return history.pending(facts.heads, self._destination)

    async def rehearses(self, history: History, pending: list[Revision], *, guard: Guard, before: Facts) -> Rehearsal:
        """Rehearse while the guard holds the lock.

        Raises:
            Problem: as `rehearse` says.
        """
        work = RehearsalWork(
            run_id=self.run_id,
            database=self.database,
            settings=self._settings,
            guard=guard,
            ledger=None,
            deadline=self._deadline,
            pooler=before.pooler,
            pending=pending,
            emit=self._tell,
            is_from_base=not before.heads,
        )
        self._tell(Event("rehearsal.started", {"target": self._call.target, "pending": len(pending)}))
        problem = await watch.over(
            work,
            lambda opened, _: revisions.rehearse(history, opened, self._destination, work),
            guard=guard,
            turn=self._turn,
        )
        self._warn(*self._conditions(before))
        if problem is None or (work.refused and not work.left_something and not guard.lost.is_set()):
            answer = self._rehearsal(before, work)
            self._tell(Event("rehearsal.ended", {"outcome": answer.outcome, "duration_ms": answer.duration_ms}))
            return answer
        self._tell(Event("rehearsal.ended", {"outcome": problem.slug, "duration_ms": self._elapsed_ms()}))
        raise self._failure(work, problem)

    def nothing_to_rehearse(self, facts: Facts) -> Rehearsal:
        """The answer when nothing is pending."""
        self._warn(*self._conditions(facts))
        return self._rehearsal(facts, None)

    def tells_of(self, refusal: Problem) -> None:
        """Log a refusal."""
        self._tell(Event("rehearsal.refused", {"problem": refusal.slug, "detail": refusal.detail}))

    def _rehearsal(self, before: Facts, work: RehearsalWork | None) -> Rehearsal:
        because = work.refused if work else None
        remaining = work.remaining if work else []
        return Rehearsal(
            outcome="incomplete" if because else "passed",
            target=self._call.target,
            from_=list(before.heads),
            steps=work.steps if work else [],
            stopped_at=remaining[0].revision if because else None,
            stopped_because=because,
            remaining=remaining,
            lock=Waited(waited_ms=self._waited_ms),
            started_at=self._started_at,
            duration_ms=self._elapsed_ms(),
            deployment=self._settings.deployment,
            warnings=self._warnings,
            request_id=self._call.request_id,
        )

    def _failure(self, work: RehearsalWork, problem: Problem) -> Problem:
        """Say what ended a rehearsal before its time, in a rehearsal's words: nothing is applied, or on record."""
        for member in ("run_id", "applied", "rolled_back"):
            problem.members.pop(member, None)
        steps = [step.model_dump() for step in work.steps]
        remaining = [revision.model_dump() for revision in work.remaining]
        if work.running is not None and (work.left_something or not problem.retryable):
            problem.members.pop("remaining", None)
            document = self.record.document(problem)
            steps.append(work.failed(work.running, document).model_dump())
            return RehearsalFailed(
                _MAY_HAVE_LEFT.format(work.running.revision)
                if work.left_something
                else f"{problem.detail.removesuffix('.')}. Everything is rolled back.",
                hint=_LOOK if work.left_something else None,
                steps=steps,
                problem=document,
                remaining=[revision for revision in remaining if revision["revision"] != work.running.revision],
                warnings=self._warnings,
            )
        if isinstance(problem, TimeBudgetExhausted):
            problem.hint, problem.retryable = _STARTS_ANEW, False
        problem.members |= {"steps": steps, "remaining": remaining, "warnings": self._warnings}
        return problem


def _insist_on_a_stage(facts: Facts, settings: Settings) -> None:
    """See that this is not production, as far as anybody says so, or that rehearsals may take place there.

    Raises:
        RehearsalNotAllowed: It is, and they may not.
    """
    if settings.rehearse_in == "production":
        return
    for whose, name in (("This deployment", settings.deployment.environment), ("The database", facts.environment)):
        if name is not None and name.casefold() == "production":
            raise RehearsalNotAllowed(f"{whose} is production's, and MIGRATION_REHEARSE_IN does not allow it there.")
