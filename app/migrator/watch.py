"""Watches over the work of a run, from the server's event loop, while a thread does it."""

import asyncio
import contextlib

import asyncpg

from app.database import catalog
from app.database.connection import Session
from app.database.lock import Guard
from app.errors import DatabaseUnavailable, Problem
from app.migrator.work import Apply, Work

_LOOKS_PER_LOCK_TIMEOUT = 3


async def over(work: Work, apply: Apply, *, guard: Guard, control: Session) -> Problem | None:
    """Let a thread do the work; the problem that ended it before its target, if one did."""
    watcher = asyncio.create_task(_watch(work, guard, control), name=f"watch over run {work.run_id}")
    try:
        await asyncio.to_thread(work.do, apply)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 – a revision may raise anything
        # `sys.exit()` in a revision must not end the server; a real Ctrl-C never arrives in a worker thread.
        await guard.confirm()  # a lock that is lost explains the rest
        return work.problem(error)
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
    return None


async def _watch(work: Work, guard: Guard, control: Session) -> None:
    """See who stands in the way of the work, and end it when the lock is lost."""
    with contextlib.suppress(DatabaseUnavailable, asyncpg.PostgresError):
        while not guard.lost.is_set():
            with contextlib.suppress(TimeoutError):
                # Often enough to see each wait for a table lock before it times out.
                await asyncio.wait_for(guard.lost.wait(), work.settings.lock_timeout / _LOOKS_PER_LOCK_TIMEOUT)
            if work.is_worth_watching:
                work.blockers = await catalog.blockers(control, work.run_id) or work.blockers
        # Rather than wait for the next fence: what runs may hold table locks.
        await catalog.end_work(control, work.run_id)
