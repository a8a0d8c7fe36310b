"""One run at a time in this process, and one poller at the database on behalf of all who wait here.

Alembic cannot do two upgrades in one process, and fifty waiting callers must not hold fifty connections.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from app.errors import IdempotencyKeyReused, LockHeld, StillRunning
from app.migrator.call import Call
from app.report import Holder

if TYPE_CHECKING:
    from app.database.catalog import Facts

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_SHARE_OF_THE_WAIT = 0.1
"""How long a pause is: who has waited long may notice the end a little later."""


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
        self._seen: tuple[float, Facts] | None = None

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

    async def waits_for_the_holder(
        self, ask: Callable[[], Awaitable[Holder | None]], *, came_at: float, wait_s: float
    ) -> None:
        """Wait until a run elsewhere, which holds the database's lock, has got further or has given it back.

        Args:
            ask: Asks the database who holds it.
            came_at: When the caller came, by `time.perf_counter`.
            wait_s: How long it wants to wait, in seconds.

        Raises:
            LockHeld: The caller has waited long enough.
        """
        first = holder = await ask()
        while True:
            self.holder = lambda holder=holder: holder  # type: ignore[misc]  # mypy and the default of a lambda
            elapsed_s = time.perf_counter() - came_at
            if elapsed_s >= wait_s:
                raise held(holder, waited_s=elapsed_s)
            pause_s = min(max(elapsed_s * _SHARE_OF_THE_WAIT, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
            # The jitter keeps instances that started together from asking together.
            pause_s *= random.uniform(0.5, 1)  # noqa: S311 – jitter, not a secret
            await asyncio.sleep(min(wait_s - elapsed_s, pause_s))
            holder = await ask()
            if holder is None or holder != first:
                return

    def lasts_until(self, work: asyncio.Future[BaseException | None]) -> None:
        """Keep the turn until the work has ended, even where its run did not wait for that."""
        self._work, self._seen = work, None

    def saw(self, facts: "Facts", *, at: float) -> None:
        """Keep what a look at the database has told, for those who wait: fifty need not look one after another.

        Args:
            facts: What it has told.
            at: When it began, by `time.perf_counter`.
        """
        self._seen = at, facts

    def seen_since(self, came_at: float) -> "Facts | None":
        """What a look has told that began after a caller came, as good as one of its own; None without such a look."""
        return self._seen[1] if self._seen and self._seen[0] >= came_at else None

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
