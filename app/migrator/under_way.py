"""A run that is under way: it goes on by itself, whether or not its caller listens, and tells what happens."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from app.migrator import story
from app.report import Emit, Event, Run


class UnderWay:
    """A run in a task of its own, begun when this is made. One caller may follow its events.

    Without `is_followed` there are no `events`: to hear of each, and to keep it, costs a quick revision more than it is
    worth to nobody.

    A task alone would be frozen with its invocation once the response is out: whoever answers before the end awaits
    `answer` in the invocation that began the run.
    """

    def __init__(self, begin: Callable[[Emit], Coroutine[Any, Any, Run]], *, is_followed: bool) -> None:
        self.started: Event | None = None
        """The event that says so, once the run holds the lock."""
        self._loop = asyncio.get_running_loop()
        self._is_followed = is_followed
        self._told: asyncio.Queue[Event | None] = asyncio.Queue()
        self._settled = asyncio.Event()
        self._task = asyncio.create_task(begin(self._hear), name="run")
        self._task.add_done_callback(self._end)

    def _hear(self, event: Event) -> None:
        if not self._is_followed and event.name != story.STARTED:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: Event) -> None:
        self._told.put_nowait(event)
        if event.name == story.STARTED:
            self.started = event
            self._settled.set()

    def _end(self, task: asyncio.Task[Run]) -> None:
        if not task.cancelled():
            task.exception()  # seen, so that asyncio does not complain where nobody asks for the answer
        # Behind the events that are on their way.
        self._loop.call_soon(self._told.put_nowait, None)
        self._settled.set()

    @property
    def is_on_record(self) -> bool:
        """Whether the run can be found in the ledger."""
        return self.started is not None and bool(self.started.fields["on_record"])

    async def begins(self) -> bool:
        """Wait until the run holds the lock; False where it was answered before, since none was needed or to be had."""
        await self._settled.wait()
        return self.started is not None

    async def goes_on(self, after_s: float) -> bool:
        """Wait until the run holds the lock, then `after_s` seconds; whether it still goes on."""
        await self._settled.wait()
        if after_s > 0:
            await asyncio.wait({self._task}, timeout=after_s)
        return not self._task.done()

    async def answer(self) -> Run:
        """Wait for the end; a caller who gives up waiting does not end the run.

        Raises:
            Problem: What ended the run before its target.
        """
        return await asyncio.shield(self._task)

    async def events(self) -> AsyncIterator[Event]:
        """What happens in the run, as those who follow it are told, until its end; first that it holds the lock."""
        early: list[Event] = []
        begun, revision = False, None
        while (event := await self._told.get()) is not None:
            if not begun and event.name != story.STARTED:
                early.append(event)  # a warning, such as that nothing can be put on record
                continue
            if event.name == "revision.started" and event.fields["revision"] == revision:
                continue  # tried again, after a lock timeout
            revision = event.fields.get("revision", revision)
            for each in [event] if begun else [event, *early]:
                for told in story.told(each):
                    yield told
            begun = True
