"""A run: one upgrade or downgrade, from the look at the database to the answer. It reads from top to bottom.

take the turn → look → take the lock → end what is left of dead runs → look again → put the run on record
→ work → read back → put its end on record → give the lock back → answer
"""

from typing import TYPE_CHECKING

from app.database import connection, url
from app.database.catalog import ALL, Costly, Facts
from app.database.connection import Session
from app.errors import (
    DatabaseUnavailable,
    DowngradeNotAllowed,
    HistoryMismatch,
    LockHeld,
    LockLost,
    PlanRefused,
    PlanRequired,
    WrongEnvironment,
)
from app.migrator import condition, glance, modified, once, status, terms
from app.migrator.aim import Aim
from app.migrator.call import Call
from app.migrator.runner import Runner
from app.migrator.terms import Terms
from app.migrator.turn import Turn
from app.problem import Problem
from app.report import Emit, Revision, Run
from app.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from app.migrator.revisions import History
    from app.migrator.work import Work

_LITTLE: frozenset[Costly] = frozenset({"environment"})
"""All that it takes to say that nothing is to be done."""


async def migrate(call: Call, settings: Settings, *, turn: Turn, emit: Emit) -> Run:
    """Move the database to the call's target, up or down.

    Raises:
        NotConfigured, UnknownTarget, HistoryMismatch, WrongEnvironment, DowngradeNotAllowed, PlanRefused, LockHeld,
            DatabaseUnavailable: Nothing was changed.
        StillRunning, IdempotencyKeyReused, Replayed: An earlier call had the same Idempotency-Key.
        RunStopped, DatabaseUnavailable: A run began; the problem carries run_id, applied and remaining.
    """
    try:
        terms.insist_on_a_plan(call, settings)
    except (PlanRequired, DowngradeNotAllowed) as refusal:
        await Runner(call, settings, url.database(settings), turn=turn, emit=emit).refuses(refusal)
        raise
    if (answer := await _at_a_glance(call, settings, turn=turn, emit=emit)) is not None:
        return answer
    history = await _history(settings)
    runner = Runner(call, settings, url.database(settings), turn=turn, emit=emit, heads=history.heads)
    errand = _Errand(call, settings, history, runner)
    try:
        async with turn.of_the_first(call, runner.run_id), turn.taken(runner.wait_s) as runner.waited_s:
            if (answer := errand.answer_by_what_others_saw()) is not None:
                return answer
            async with connection.session(runner.database) as session:
                before = await runner.look(session, errand.costly)
                if (answer := await errand.answer_without_a_run(session, before)) is not None:
                    return answer
                async with runner.guard(session, before) as guard:
                    while not await runner.takes_the_lock(guard, session):
                        # The holder may have done the work meanwhile.
                        before = await runner.look(session, errand.costly)
                        if (answer := await errand.answer_without_a_run(session, before)) is not None:
                            return answer
                    # From here on the first session is the guard's; what else is to be said needs another.
                    async with connection.session(runner.database) as control:
                        await runner.ends_what_dead_runs_left(control)
                        before = await runner.look(control)
                        if (answer := await errand.answer_without_a_run(control, before)) is not None:
                            return answer
                        await errand.terms.insist_on_the_pin(control, before)
                        await errand.terms.insist_on_findings(before)
                        await runner.goes_on_record(
                            control, before, pending=len(errand.aim.pending), terms=errand.terms
                        )
                    return await runner.carries_out(
                        errand.apply,
                        guard=guard,
                        before=before,
                        pending=errand.aim.pending,
                        missing=errand.missing,
                        settle=errand.settle,
                        outcome="upgraded" if call.direction == "upgrade" else "downgraded",
                    )
    except (LockHeld, HistoryMismatch, WrongEnvironment, PlanRefused) as refusal:
        await runner.refuses(refusal)
        raise


class _Errand:
    """What a run is to do, which each look at the database may change."""

    def __init__(self, call: Call, settings: Settings, history: "History", runner: Runner) -> None:
        self.aim = Aim(call, settings, history)
        self.terms = Terms(call, settings, history, self.aim)
        self._call = call
        self._settings = settings
        self._history = history
        self._runner = runner

    @property
    def costly(self) -> frozenset[Costly]:
        """What else a look has to ask, which mostly tells that nothing is to be done."""
        asks_for_more = self._call.idempotency_key is not None or self.aim.counts_from_its_pin
        return ALL if asks_for_more or self.terms.judge_findings else _LITTLE

    async def answer_without_a_run(self, control: Session, facts: Facts) -> Run | None:
        """The answer when an earlier call got it, or when nothing is to be done; None when something is `pending`.

        That holds for a pinned plan too: what it was to do is done, by whomever (RFC 9110, section 13.1.1).

        Raises:
            Problem: as `migrate` says of what comes before a run.
        """
        if (first := await self._runner.record.first_answer(control, facts)) is not None:
            return first
        call = self._call
        self._history.resolve(call.target, call.direction)  # a target that is not here at all is said first
        condition.insist_on_environment(facts, self._settings)
        await status.insist_on_a_match(control, self._settings, self._history, facts)
        await self.aim.take(control, facts, self._runner.record.first_heads)
        if not self.aim.pending:
            return await self._runner.nothing_to_do(control, facts)
        await modified.insist_on_none(control, self._settings, self._history, facts)
        if call.plans is None:  # else it is first to be seen, under the lock, that this is the plan which was reviewed
            await self.terms.insist_on_findings(facts)
        return None

    def answer_by_what_others_saw(self) -> Run | None:
        """The same by a look of those who had the turn before, where that tells it; without a connection.

        Raises:
            UnknownTarget, MultipleHeads: as before.
        """
        facts, call = self._runner.seen, self._call
        if facts is None or condition.is_foreign(facts, self._settings) or call.is_relative:
            return None
        if not all(map(self._history.knows, facts.heads)):
            return None
        self._history.resolve(call.target, call.direction)
        if self._history.pending(facts.heads, call.target, call.direction):
            return None
        return self._runner.up_to_date(facts)

    def apply(self, opened: "sa.Connection", work: "Work") -> None:
        """Run Alembic."""
        from app.migrator import revisions  # brings Alembic, which most calls do without

        revisions.run(self._history, opened, self.aim.destination, work, self._call.direction)

    def missing(self, after: Facts) -> list[Revision]:
        """What is still to be done after the work."""
        if all(map(self._history.knows, after.heads)):
            return self._history.pending(after.heads, self.aim.destination, self._call.direction)
        return self.aim.pending  # a run that has lost its lock may find what another deployment's has done meanwhile

    def settle(self, problem: Problem) -> None:
        """Have nobody repeat a call whose target counts from somewhere else by now."""
        may_have_applied = problem.members.get("applied") or isinstance(problem, DatabaseUnavailable | LockLost)
        if problem.retryable and may_have_applied and self._call.is_relative and self._call.plans is None:
            problem.retryable = False
            problem.hint = (
                f"Call again with the target `{self.aim.destination}`, which `{self._call.target}` meant in this run: "
                "by now it would count from where this run has stopped. A pinned plan can be continued as it is."
            )


async def _at_a_glance(call: Call, settings: Settings, *, turn: Turn, emit: Emit) -> Run | None:
    """Answer that nothing is to be done, if that can be said without Alembic, as the first call of a cold function can.

    Raises:
        NotConfigured, DatabaseUnavailable: as `migrate` does.
    """
    is_simple = call.direction == "upgrade" and call.idempotency_key is None
    if status.alembic_is_loaded() or turn.glances or not is_simple:
        return None
    turn.glances = True  # one at a time: those who call meanwhile must not open a connection each
    try:
        seen = await glance.at(glance.places(settings))
        if not seen.answers(call.target):
            return None
        runner = Runner(call, settings, url.database(settings), turn=turn, emit=emit)
        async with connection.session(runner.database) as session:
            facts = await runner.look(session, _LITTLE)
            if facts.heads != (seen.head,) or condition.is_foreign(facts, settings):
                return None
            return await runner.nothing_to_do(session, facts)
    finally:
        turn.glances = False


async def _history(settings: Settings) -> "History":
    """The deployment's history, once all that a run needs is imported."""
    await _all_of_it()
    return await status.history(settings)


@once.InAThread
def _all_of_it() -> None:
    from app.migrator import watch  # noqa: F401 – for what importing does
