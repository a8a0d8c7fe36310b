"""An open transaction of a revision: begun, and ended with the fence around it."""

from app.database import entry, footprint
from app.database.entry import Entry
from app.database.fence import CONFIRMED, Fence, Move
from app.database.literals import literal
from app.database.prepared import Prepared
from app.database.wire import Wire

_TYPES = (*entry.TYPES, "integer", "unknown", "unknown")
"""Of a version PostgreSQL finds out itself what it is: whoever made the table may have made it of another type."""
_PLACES = [f"${place}" for place in range(1, len(_TYPES) + 1)]


class Transaction:
    """An open transaction.

    Args:
        wire: The connection.
        fence: Stands around it.
        prepared: What the session keeps ready.
        is_watched: Whether its BEGIN was for telling what it locks.
    """

    def __init__(self, wire: Wire, fence: Fence, prepared: Prepared, *, is_watched: bool) -> None:
        self._wire = wire
        self._fence = fence
        self._prepared = prepared
        self.is_watched = is_watched

    async def commit(self) -> None:
        """COMMIT, with the footprint, the step's entry, the version and the check before it.

        Raises:
            LockLost: The guard is gone; the transaction is rolled back.
        """
        fence = self._fence
        entries, fence.at_commit = fence.at_commit, []
        move, fence.move = fence.move, None
        is_last = bool(entries) or fence.footprint.is_last
        before = self._in_short(entries, move)
        tells = len(before) - 1  # which of them tells the footprint
        if not before:
            before, tells = self._in_full(entries, move)
        if not self._wire.is_in_transaction:
            # A COMMIT of the revision's has ended it; what is ours is to be one all the same, in whichever messages.
            before, tells = ["BEGIN", *before], tells + 1
        # Marked, for pg_stat_activity, which shows the first kilobyte of a message.
        first, *others = [*before, "COMMIT"]
        fence.commits += not is_last  # its answer may be lost
        try:
            told = await fence.send(
                self._wire, [f"/* COMMIT */ {first}", *others], wanted=(tells,) if self.is_watched else ()
            )
        except BaseException:
            self._prepared.forget()
            await rollback(self._wire, fence)
            if not self._wire.is_closed:  # PostgreSQL has refused it
                fence.commits -= not is_last
            raise
        if self.is_watched:
            ((locks, rewrote, wrote_nothing, *_),) = told[0].rows
            fence.footprint.commits(locks, rewrote, wrote_nothing, is_whole=is_last)
            fence.commits -= not is_last and wrote_nothing
        fence.pid = None

    def _in_short(self, entries: list[Entry], move: Move | None) -> list[str]:
        """What nearly every COMMIT of a history carries, as one statement that is ready; nothing where it is not so."""
        fence, prepared = self._fence, self._prepared
        if not (move and move.is_an_update and len(entries) == 1) or fence.knows_roles:
            return []
        if not (self.is_watched and fence.footprint.is_plain):
            return []
        (entry,) = entries
        *values, held_ms, to, was = _PLACES
        shape = (
            f"WITH step AS ({entry.insert(fence.footprint.left(held_ms), values)}), {move.made(to, was)} "
            f"SELECT step.*, ({CONFIRMED}), ({fence.check}) FROM step"
        )
        if not prepared.is_worth(shape):
            return []
        # What is handed over is evaluated before any of the statement is run.
        own = [*entry.values, entry.no_effect, literal(fence.footprint.held_ms)]
        return prepared.execute(shape, _TYPES, [*own, move.to, move.before])

    def _in_full(self, entries: list[Entry], move: Move | None) -> tuple[list[str], int]:
        """The same as several statements, and which of them tells the footprint."""
        seen = self._fence.footprint
        if entries:
            left = seen.left() if self.is_watched else footprint.NOTHING
            looks = [each.insert(left) for each in entries]
        else:
            looks = [seen.look_back()] if self.is_watched else []
        # The ledger is the login's, and the version the role's that the revision is run as.
        fence = self._fence
        moves = [*fence.as_role, *move.confirmed, *fence.as_login] if move else []
        return [*fence.as_login, *looks, *moves, fence.check], len(fence.as_login)

    async def rollback(self) -> None:
        """ROLLBACK; what was waiting for the COMMIT goes with it."""
        self._fence.at_commit, self._fence.move, self._fence.pid = [], None, None
        await self._fence.send(self._wire, ["ROLLBACK"], wanted=())


async def commit_the_rest(wire: Wire, fence: Fence) -> None:
    """Commit what no COMMIT has carried, as where a revision has left autocommit mode on.

    Raises:
        LockLost: The guard is gone.
    """
    if fence.at_commit or wire.is_in_transaction:
        await Transaction(wire, fence, Prepared(may_keep=False), is_watched=False).commit()


async def rollback(wire: Wire, fence: Fence) -> None:
    """End the transaction, if one is open."""
    if not wire.is_closed and wire.is_in_transaction:
        await fence.send(wire, ["ROLLBACK"], wanted=())
