"""A run: one upgrade, from the look at the database to the answer. It reads from top to bottom.

take the turn → look → take the lock → end what is left of dead runs → look again → put the run on record
→ work → read back → put its end on record → give the lock back → answer
"""

import asyncio
from typing import TYPE_CHECKING

from app.database import connection, url
from app.database.catalog import Facts
from app.database.connection import Session
from app.errors import HistoryMismatch, LockHeld
from app.migrator import glance, status
from app.migrator.runner import Call, Runner
from app.migrator.turn import Turn
from app.report import Emit, Revision, Run
from app.settings import Settings

if TYPE_CHECKING:
    from app.migrator.revisions import History


async def migrate(call: Call, settings: Settings, *, turn: Turn, emit: Emit) -> Run:
    """Upgrade the database to the call's target.

    Raises:
        NotConfigured, UnknownTarget, HistoryMismatch, LockHeld, DatabaseUnavailable: Nothing was changed.
        RunStopped, DatabaseUnavailable: A run began; the problem carries run_id, applied and remaining.
    """
    if (answer := await _at_a_glance(call, settings, turn=turn, emit=emit)) is not None:
        return answer
    history = await _history(settings)
    runner = Runner(call, settings, url.database(settings), turn=turn, emit=emit)

    async def pending(control: Session, facts: Facts) -> list[Revision]:
        history.resolve(call.target)  # a target that is not here at all is said first
        mismatch = await status.mismatch(control, settings, history, facts)
        if mismatch is not None:
            raise mismatch
        return history.pending(facts.heads, call.target)

    def missing(after: Facts) -> list[Revision]:
        # A run that has lost its lock may find what another deployment's has done meanwhile.
        return history.pending(after.heads, call.target) if all(map(history.knows, after.heads)) else todo

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
                    await runner.goes_on_record(control, before)
                work, after = await runner.carries_out(
                    lambda opened, work: history.upgrade(opened, call.target, work),
                    guard=guard,
                    before=before,
                    pending=todo,
                    missing=missing,
                )
            return runner.upgraded(before, work, after)
    except (LockHeld, HistoryMismatch) as refusal:
        await runner.refuses(refusal)
        raise


async def _at_a_glance(call: Call, settings: Settings, *, turn: Turn, emit: Emit) -> Run | None:
    """Answer that nothing is to be done, if that can be said without Alembic, as the first call of a cold function can.

    Raises:
        NotConfigured, DatabaseUnavailable: as `migrate` does.
    """
    if status.alembic_is_loaded() or turn.glances:
        return None
    turn.glances = True  # one at a time: those who call meanwhile must not open a connection each
    try:
        seen = await glance.at(settings.script_location)
        if not seen.answers(call.target):
            return None
        runner = Runner(call, settings, url.database(settings), turn=turn, emit=emit)
        async with connection.session(runner.database) as session:
            facts = await runner.look(session)
    finally:
        turn.glances = False
    return runner.up_to_date(facts) if facts.heads == (seen.head,) else None


async def _history(settings: Settings) -> "History":
    """The deployment's history, once all that a run needs is imported; in a thread, since that takes a while."""

    def load() -> None:
        from app.migrator import watch  # noqa: F401 – for what importing does

    await asyncio.to_thread(load)
    return await status.history(settings)
