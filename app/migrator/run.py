"""A run: one upgrade, from the look at the database to the answer. It reads from top to bottom.

take the turn → look → take the lock → end what is left of dead runs → look again → put the run on record
→ work → read back → put its end on record → give the lock back → answer
"""

import asyncio
from typing import TYPE_CHECKING

from app.database import connection, url
from app.database.catalog import Facts
from app.database.connection import Session
from app.errors import HistoryMismatch, LockHeld, PlanRefused, WrongEnvironment
from app.migrator import condition, glance, modified, status
from app.migrator.call import Call
from app.migrator.runner import Runner
from app.migrator.turn import Turn
from app.report import Emit, Revision, Run
from app.settings import Settings

if TYPE_CHECKING:
    from app.migrator.revisions import History


async def migrate(call: Call, settings: Settings, *, turn: Turn, emit: Emit) -> Run:
    """Upgrade the database to the call's target.

    Raises:
        NotConfigured, UnknownTarget, HistoryMismatch, WrongEnvironment, PlanRefused, LockHeld, DatabaseUnavailable:
            Nothing was changed.
        StillRunning, IdempotencyKeyReused, Replayed: An earlier call had the same Idempotency-Key.
        RunStopped, DatabaseUnavailable: A run began; the problem carries run_id, applied and remaining.
    """
    if (answer := await _at_a_glance(call, settings, turn=turn, emit=emit)) is not None:
        return answer
    history = await _history(settings)
    runner = Runner(call, settings, url.database(settings), turn=turn, emit=emit, heads=history.heads)
    upgrade = _Upgrade(call, settings, history, runner)
    try:
        async with (
            turn.of_the_first(call, runner.run_id),
            turn.taken(runner.wait_s) as runner.waited_s,
            connection.session(runner.database) as session,
        ):
            before = await runner.look(session)
            if (answer := await upgrade.answer_without_a_run(session, before)) is not None:
                return answer
            async with runner.guard(session, before) as guard:
                while not await runner.takes_the_lock(guard, session):
                    # The holder may have done the work meanwhile.
                    before = await runner.look(session)
                    if (answer := await upgrade.answer_without_a_run(session, before)) is not None:
                        return answer
                # From here on the first session is the guard's; what else is to be said needs another.
                async with connection.session(runner.database) as control:
                    await runner.ends_what_dead_runs_left(control)
                    before = await runner.look(control)
                    if (answer := await upgrade.answer_without_a_run(control, before)) is not None:
                        return answer
                    await runner.goes_on_record(control, before, pending=len(upgrade.pending))
                return await runner.carries_out(
                    lambda opened, work: history.upgrade(opened, call.target, work),
                    guard=guard,
                    before=before,
                    pending=upgrade.pending,
                    missing=upgrade.missing,
                )
    except (LockHeld, HistoryMismatch, PlanRefused, WrongEnvironment) as refusal:
        await runner.refuses(refusal)
        raise


class _Upgrade:
    """What an upgrade is to do, which each look at the database may change."""

    def __init__(self, call: Call, settings: Settings, history: "History", runner: Runner) -> None:
        self.pending: list[Revision] = []
        self._call = call
        self._settings = settings
        self._history = history
        self._runner = runner

    async def answer_without_a_run(self, control: Session, facts: Facts) -> Run | None:
        """The answer when an earlier call got it, or when nothing is to be done; None when something is `pending`.

        Raises:
            Problem: as `migrate` says of what comes before a run.
        """
        if (first := await self._runner.record.first_answer(control, facts)) is not None:
            return first
        self._history.resolve(self._call.target)  # a target that is not here at all is said first
        condition.insist_on_environment(facts, self._settings)
        mismatch = await status.mismatch(control, self._settings, self._history, facts)
        if mismatch is not None:
            raise mismatch
        self.pending = self._history.pending(facts.heads, self._call.target)
        if not self.pending:
            return await self._runner.nothing_to_do(control, facts)
        await modified.insist_on_none(control, self._settings, self._history, facts)
        return None

    def missing(self, after: Facts) -> list[Revision]:
        """What the database lacks after the work."""
        if all(map(self._history.knows, after.heads)):
            return self._history.pending(after.heads, self._call.target)
        return self.pending  # a run that has lost its lock may find what another deployment's has done meanwhile


async def _at_a_glance(call: Call, settings: Settings, *, turn: Turn, emit: Emit) -> Run | None:
    """Answer that nothing is to be done, if that can be said without Alembic, as the first call of a cold function can.

    Raises:
        NotConfigured, DatabaseUnavailable: as `migrate` does.
    """
    if status.alembic_is_loaded() or turn.glances or call.idempotency_key is not None:
        return None
    turn.glances = True  # one at a time: those who call meanwhile must not open a connection each
    try:
        seen = await glance.at(settings.script_location)
        if not seen.answers(call.target):
            return None
        runner = Runner(call, settings, url.database(settings), turn=turn, emit=emit)
        async with connection.session(runner.database) as session:
            facts = await runner.look(session)
            if facts.heads != (seen.head,) or condition.is_foreign(facts, settings):
                return None
            return await runner.nothing_to_do(session, facts)
    finally:
        turn.glances = False


async def _history(settings: Settings) -> "History":
    """The deployment's history, once all that a run needs is imported; in a thread, since that takes a while."""

    def load() -> None:
        from app.migrator import watch  # noqa: F401 – for what importing does

    await asyncio.to_thread(load)
    return await status.history(settings)
