"""One run at a time in this process, and one poller at the database on behalf of all who wait here.

Alembic cannot do two upgrades in one process, and fifty waiting callers must not hold fifty connections.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from app.errors import IdempotencyKeyReused, LockHeld, StillRunning
from app.migrator.call import Call
from app.report import Holder


class Turn:
    """The turn that a caller takes before it opens a connection. One per application."""

    def __init__(self) -> None:
        self.holder: Callable[[], Holder | None] = _nobody
        """Tells who holds the database's lock, as far as is known here: a run of ours, or one elsewhere."""
        self.glances = False
        """Whether somebody looks, without the turn, if there is anything to do at all."""
        self._lock = asyncio.Lock()
        self._work: asyncio.Future[BaseException | None] | None = None
        self._recording = asyncio.Lock()
        self._keys: dict[str, tuple[str, UUID]] = {}

    @asynccontextmanager
    async def of_the_first(self, call: Call, run_id: UUID) -> AsyncIterator[None]:
        """While a call with an Idempotency-Key is here, the same one need not wait to hear that it is not the first.

        Raises:
            StillRunning: The first one is still here.
            IdempotencyKeyReused: Another one with this key is here, and has another body.
        """
        key = call.idempotency_key
        if key is None:
            yield
            return
        if key in self._keys:
            body, first = self._keys[key]
            if body != call.body:
                raise IdempotencyKeyReused("This Idempotency-Key came a moment ago, with another body.")
            holder = self.holder()
            if holder is not None and holder.run_id == first:
                raise StillRunning(f"Run {first} is still going on.", run_id=str(first))
            raise StillRunning("The first call with this Idempotency-Key is still waiting for its turn.")
        self._keys[key] = (call.body, run_id)
        try:
            yield
        finally:
            del self._keys[key]

    @asynccontextmanager
    async def taken(self, wait_s: float) -> AsyncIterator[float]:
        """Hold the turn; yields how long it was waited for, in seconds.

        Args:
            wait_s: How long to wait for it, in seconds.

        Raises:
            LockHeld: It did not come in time.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(wait_s):  # unlike wait_for, it lets a caller through who will not wait at all
                await self._lock.acquire()
        except TimeoutError:
            raise held(self.holder(), waited_s=time.monotonic() - began) from None
        try:
            yield time.monotonic() - began
        finally:
            self.holder = _nobody
            work, self._work = self._work, None
            if work is None or work.done():
                self._lock.release()
            else:
                work.add_done_callback(lambda _: self._lock.release())

    def lasts_until(self, work: asyncio.Future[BaseException | None]) -> None:
        """Keep the turn until the work has ended, even where its run did not wait for that."""
        self._work = work

    @asynccontextmanager
    async def to_record_a_refusal(self) -> AsyncIterator[None]:
        """Keep those who are refused at the same time from opening a connection each."""
        async with self._recording:
            yield


def _nobody() -> Holder | None:
    return None


def held(holder: Holder | None, *, waited_s: float) -> LockHeld:
    """The refusal of a caller who has waited long enough."""
    who = f"Run {holder.run_id} holds the lock" if holder and holder.run_id else "Another run holds the lock"
    at = f", at {holder.revision} ({holder.progress})" if holder and holder.revision else ""
    return LockHeld(
        f"{who}{at}; gave up after {waited_s:.1f} s.",
        holder=(holder or Holder()).model_dump(mode="json"),
        waited_ms=round(waited_s * 1000),
    )
