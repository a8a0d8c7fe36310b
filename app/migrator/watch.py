"""Watches over a run's work: ends it when the lock is lost, when its time is over, when the network is silent."""

import asyncio
import contextlib
import contextvars
import math
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg

from app.database import backends, connection
from app.database.connection import Session
from app.database.lock import Guard
from app.database.url import Database
from app.errors import DatabaseUnavailable
from app.migrator import ending
from app.migrator.turn import Turn
from app.migrator.work import Apply, Work
from app.problem import Problem
from app.report import Event

_LOOKS_PER_LOCK_TIMEOUT = 3
_LOOKS_PER_LEASE = 3
_LOOK_AGAIN_S = 1
_END_TIMEOUT_S = 5
_LEAST_TO_CONFIRM_S = 0.5
_SHARE_OF_MARGIN = 0.2
"""Of a deadline's margin: so long a cancelled statement has to end, and then a revision whose connection is cut."""

_SWITCH_INTERVAL_S = 0.0005
"""How long Python lets a revision that computes go on when the server's loop wakes up, which it does a dozen times for
an answer that needs the database. By itself it would be ten times as long."""

_NO_ANSWER = (DatabaseUnavailable, asyncpg.PostgresError, TimeoutError)


async def over(work: Work, apply: Apply, *, guard: Guard, turn: Turn) -> Problem | None:
    """Let a thread do the work; the problem that ended it before its target, if one did."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)  # for good: it costs nothing while nobody waits
    thread = _in_a_thread(lambda: work.do(apply), name=f"work of run {work.run_id}")
    turn.lasts_until(thread)
    control = _Control(work.database)
    watchers = [
        asyncio.create_task(watching, name=f"watch over run {work.run_id}")
        for watching in (
            _cut_without_the_lock(work, guard),
            _end_in_time(work, control),
            _notice_silence(work, control),
            _see_blockers(work, control),
        )
    ]
    try:
        await asyncio.wait([thread], timeout=_until_given_up_s(work))
    except asyncio.CancelledError:
        # Nobody waits for the run any more (Ctrl-C in a terminal). The lock is not given back before it has ended.
        work.abandon()
        await asyncio.wait([thread], timeout=_END_TIMEOUT_S)
        raise
    finally:
        for watcher in watchers:
            watcher.cancel()
        for failure in await asyncio.gather(*watchers, return_exceptions=True):
            if isinstance(failure, Exception):  # a defect of ours, which must not change how the run ended
                work.emit(Event("watcher.failed", {"error": type(failure).__name__}))
        await control.close()
    if not thread.done():
        # A revision that neither talks to the database nor returns. With its connection cut it changes nothing.
        work.abandon()
        return ending.problem(work, TimeoutError("it does not return"))
    error = thread.result()
    if error is None:
        return None
    left_s = work.deadline.left_to_answer_s
    with contextlib.suppress(TimeoutError):
        # A lock that is lost explains the rest.
        await asyncio.wait_for(guard.confirm(), None if math.isinf(left_s) else max(left_s / 2, _LEAST_TO_CONFIRM_S))
    return ending.problem(work, error)


def _in_a_thread(do: Callable[[], None], *, name: str) -> asyncio.Future[BaseException | None]:
    """Start a thread; a future for its end, whose result is what it raised.

    No executor's thread: the process would wait for a revision that does not return. In the caller's context, so
    that its logs belong to the request. And no task, where a SystemExit of a revision would end the server's loop.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    def run() -> None:
        raised: BaseException | None = None
        try:
            do()
        except BaseException as error:  # noqa: BLE001 – a revision may raise anything
            raised = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(ended.set_result, raised)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name, daemon=True).start()
    return ended


def _until_given_up_s(work: Work) -> float | None:
    margin_s = work.deadline.margin_s
    left_s = work.deadline.left_to_work_s + 2 * _SHARE_OF_MARGIN * margin_s
    # Never nothing at all: what has ended already must be seen.
    return None if math.isinf(left_s) else max(left_s, _SHARE_OF_MARGIN * margin_s)


class _Control:
    """The watchers' session: opened when there is a question, and anew after one that was not answered.

    One that was opened at the start may have gone silent in a long run, just when it is needed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stack = AsyncExitStack()
        self._session: Session | None = None
        self._one_at_a_time = asyncio.Lock()

    async def ask[Answer](self, question: Callable[[Session], Awaitable[Answer]]) -> Answer:
        """Ask the database something.

        Raises:
            DatabaseUnavailable, asyncpg.PostgresError: There is no answer.
        """
        async with self._one_at_a_time:
            try:
                if self._session is None:
                    self._session = await self._stack.enter_async_context(connection.session(self._database))
                return await question(self._session)
            except BaseException:
                self._session = None
                await self._stack.aclose()
                raise

    async def close(self) -> None:
        """Close the session, if one is open."""
        await self._stack.aclose()


async def _cut_without_the_lock(work: Work, guard: Guard) -> None:
    """End the work when the lock is lost.

    Rather than wait for the next fence, since what runs may hold table locks: PostgreSQL ends the statement when it
    sees that its client is gone.
    """
    await guard.lost.wait()
    work.abandon()


async def _end_in_time(work: Work, control: _Control) -> None:
    """Cancel what runs when the time is over: a limit of PostgreSQL's own may not reach it (an autocommit block)."""
    if math.isinf(work.deadline.left_to_work_s):
        return
    await asyncio.sleep(max(work.deadline.left_to_work_s, 0))
    grace_s = _SHARE_OF_MARGIN * work.deadline.margin_s
    with contextlib.suppress(*_NO_ANSWER):
        async with asyncio.timeout(grace_s):
            await control.ask(lambda session: backends.cancel(session, work.run_id))
    await asyncio.sleep(max(work.deadline.left_to_work_s + grace_s, 0))
    work.abandon()


async def _notice_silence(work: Work, control: _Control) -> None:
    """End the work when it waits for an answer that PostgreSQL is not working on: the network has lost it."""
    lease_s = work.settings.lease
    while True:
        await asyncio.sleep(lease_s / _LOOKS_PER_LEASE)
        asked_at = work.asked_at
        if asked_at is None or time.monotonic() - asked_at < lease_s:
            continue
        with contextlib.suppress(*_NO_ANSWER):
            if await control.ask(lambda session: backends.is_at_work(session, work.run_id, work.pid)):
                continue
            await asyncio.sleep(_LOOK_AGAIN_S)  # the answer may have been on its way
            at_work = await control.ask(lambda session: backends.is_at_work(session, work.run_id, work.pid))
            if work.asked_at == asked_at and not at_work:
                work.abandon()


async def _see_blockers(work: Work, control: _Control) -> None:
    """See who stands in the way, often enough to see each wait for a table lock before it times out."""
    while True:
        await asyncio.sleep(work.settings.lock_timeout / _LOOKS_PER_LOCK_TIMEOUT)
        if work.is_worth_watching:
            with contextlib.suppress(*_NO_ANSWER):
                seen = await control.ask(lambda session: backends.blockers(session, work.run_id))
                work.blockers, work.is_blocked = seen or work.blockers, bool(seen)
