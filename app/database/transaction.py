"""An open transaction of a revision, as SQLAlchemy's connection keeps it: begun, and ended with the fence around it."""

from typing import Any

from app.database import footprint
from app.database.fence import Fence


class Transaction:
    """An open transaction.

    Args:
        opened: asyncpg's connection, as SQLAlchemy has it.
        fence: Stands around it.
        is_watched: Whether its BEGIN was for telling what it locks.
    """

    def __init__(self, opened: Any, fence: Fence, *, is_watched: bool) -> None:  # noqa: ANN401 – as above
        self._connection = opened
        self._fence = fence
        self.is_watched = is_watched

    async def start(self) -> None:
        """Nothing is left to do: the connection began the transaction."""

    async def commit(self) -> None:
        """COMMIT, with the footprint, the step's row, the version and the check before it.

        Raises:
            LockLost: The guard is gone; the transaction is rolled back.
        """
        fence = self._fence
        steps, fence.at_commit = fence.at_commit, []
        if steps:
            left = fence.footprint.left() if self.is_watched else footprint.NOTHING
            looks = [step(left) for step in steps]
        else:
            looks = [fence.footprint.look_back()] if self.is_watched else []
        # Marked, for pg_stat_activity, which shows the first kilobyte of a message.
        sql = "; ".join([*looks, *filter(None, [fence.moves_the_version()]), fence.check, "COMMIT"])
        try:
            told = await fence.send(self._connection, f"/* COMMIT */ {sql}")
        except BaseException:
            await rollback(self._connection, fence)
            raise
        if self.is_watched:
            ((locks, rewrote),) = told[0].rows
            fence.footprint.commits(locks, rewrote, is_whole=bool(steps))
        fence.commits += 1
        fence.pid = None

    async def rollback(self) -> None:
        """ROLLBACK; what was waiting for the COMMIT goes with it."""
        self._fence.at_commit, self._fence.version, self._fence.pid = [], "", None
        with self._fence.asking():
            await self._connection.execute("ROLLBACK")


async def rollback(opened: Any, fence: Fence) -> None:  # noqa: ANN401 – asyncpg's connection, as SQLAlchemy has it
    """End the transaction, if one is open."""
    if not opened.is_closed() and opened.is_in_transaction():
        with fence.asking():
            await opened.execute("ROLLBACK")
