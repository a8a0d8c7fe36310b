"""Watches over the work of a run, from the server's event loop, while a thread does it."""

import asyncio
import contextlib
import contextvars
import functools

import asyncpg

from app.database import catalog
from app.database.connection import Session
from app.database.lock import Guard
from app.errors import DatabaseUnavailable, Problem
from app.migrator.work import Apply, Work

_LOOKS_PER_LOCK_TIMEOUT = 3
_END_TIMEOUT_S = 5


async def over(work: Work, apply: Apply, *, guard: Guard, control: Session) -> Problem | None:
    """Let a thread do the work; the problem that ended it before its target, if one did."""
    watcher = asyncio.create_task(_watch(work, guard, control), name=f"watch over run {work.run_id}")
    # As asyncio.to_thread does it, but not in a task, where a SystemExit would end the server's loop.
    do_in_context = functools.partial(contextvars.copy_context().run, work.do, apply)
    thread = asyncio.get_running_loop().run_in_executor(None, do_in_context)
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        # Nobody waits for the run any more (Ctrl-C in a terminal). The lock is not given back before it has ended.
        work.abandon()
        # How it ended interests nobody either; unread, asyncio would print it, statement and all.
        thread.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.wait([thread], timeout=_END_TIMEOUT_S)
        raise
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
    while not guard.lost.is_set():
        with contextlib.suppress(TimeoutError):
            # Often enough to see each wait for a table lock before it times out.
            await asyncio.wait_for(guard.lost.wait(), work.settings.lock_timeout / _LOOKS_PER_LOCK_TIMEOUT)
        if work.is_worth_watching and not guard.lost.is_set():
            with contextlib.suppress(DatabaseUnavailable, asyncpg.PostgresError):
                work.blockers = await catalog.blockers(control, work.run_id) or work.blockers
    # Rather than wait for the next fence, since what runs may hold table locks: PostgreSQL ends the statement when
    # it sees that its client is gone, and a network that has gone silent cannot keep the thread.
    work.abandon()
