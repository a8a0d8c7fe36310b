"""What is fenced of a connection, whichever driver it belongs to: its transactions, and what is sent outside of them.

The DBAPI connection of each driver has one of these (see drivers/), tells it of what is about to happen, and leaves to
it what goes over the wire besides. Every transaction is fenced (see fence.py), so that a run that has lost its guard
cannot commit.
"""

import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from app.database import committed, driver_error, footprint, indexes, statements
from app.database.fence import Fence, Move
from app.database.prepared import Prepared
from app.database.session_settings import sets_a_role
from app.database.simple_query import ResultSet
from app.database.transaction import Transaction, rollback
from app.database.wire import Wire

_FAILED_ALREADY = "25P02"
"""What PostgreSQL says in a transaction that has failed, which it would not commit anyway."""


class Modes(Protocol):
    """The modes that a DBAPI connection was set to."""

    @property
    def autocommit(self) -> bool:
        """Whether each statement commits by itself, as in an autocommit block."""

    @property
    def begin_words(self) -> str:
        """BEGIN, with the modes of the transaction."""


class Stream(Protocol):
    """Rows that the server hands out as they are wanted."""

    async def finish(self) -> None:
        """Fetch what is left, let the server forget them, and be one of `Fenced.streams` no more."""


class Fenced:
    """What is fenced of a connection.

    Args:
        wire: What it is sent over.
        fence: Stands around each transaction.
        modes: Of the DBAPI connection.
    """

    def __init__(self, wire: Wire, fence: Fence, modes: Modes) -> None:
        self.wire = wire
        self.fence = fence
        self.prepared = Prepared(may_keep=fence.session_is_ours)
        self.transaction: Transaction | None = None
        """As SQLAlchemy takes it to be open; a statement of the revision's may have ended it."""
        self.streams: list[Stream] = []
        """Those that are open."""
        self.met = 0
        """How many statements it has met."""
        self._modes = modes

    # What a driver tells before and after each statement of the revision's

    async def meets(self, operation: str) -> None:
        """Before a statement: make the move of the version that waits, and have no stream in its way.

        Before one that begins with a COMMIT: check, since no COMMIT of ours will.

        Raises:
            LockLost, Cancelled, MigrationFailed: as `Fence.send` says.
        """
        self.met += 1
        self.prepared.before(operation)
        self.fence.knows_roles |= sets_a_role(operation)
        move, self.fence.move = self.fence.move, None
        if move:
            await self.fence.send(self.wire, [*move.confirmed, *self.fence.checked_within])
        elif statements.begins_with_a_commit(operation):
            await self._checks_within()
        if self.streams and not statements.leaves_tables_as_they_are(operation):
            # PostgreSQL alters no table that a query still reads in the same session.
            for stream in list(self.streams):
                await stream.finish()

    async def _checks_within(self) -> None:
        """Check in the transaction that is open, if one is: outside of it each statement is checked."""
        if self.transaction is None or not self.wire.is_in_transaction:
            return
        try:
            await self.fence.send(self.wire, self.fence.checked_within, wanted=())
        except Exception as error:
            if driver_error.sqlstate(error) != _FAILED_ALREADY:
                raise

    @property
    def mark(self) -> str:
        """What is to go before a statement, so that it can be told whose it is outside of a transaction."""
        return self.fence.mark if self.is_outside_of_transactions else ""

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Around a statement, for a rehearsal, which wants to know why one failed."""
        yield

    async def parts(self, operation: str) -> AsyncIterator[str]:
        """What a string of statements is sent as: whole, since only PostgreSQL knows where each one ends."""
        yield operation

    def may_end(self, what: str) -> None:
        """Before the revision ends its transaction by the driver: a run allows it."""

    # Where a statement stands

    @property
    def is_outside_of_transactions(self) -> bool:
        """In an autocommit block, or behind a COMMIT in a revision's SQL: what is sent now commits by itself."""
        return self._modes.autocommit or self.has_lost_its_transaction()

    @property
    def is_watched(self) -> bool:
        """In a transaction whose locks are to be told."""
        return self.transaction is not None and self.transaction.is_watched and self.wire.is_in_transaction

    @property
    def may_begin_with_a_statement(self) -> bool:
        """Whether a BEGIN may go in the message of the first statement."""
        return True

    def has_lost_its_transaction(self) -> bool:
        """Whether the transaction that SQLAlchemy takes for open has ended, by a statement of the revision's."""
        return self.transaction is not None and not self.wire.is_closed and not self.wire.is_in_transaction

    # Outside of transactions

    async def stands_alone(self) -> None:
        """Before a statement in an autocommit block: no transaction will hold it back, so look right before it.

        Raises:
            LockLost: The guard is gone.
        """
        await self.fence.send(self.wire, self.fence.before_a_statement, wanted=())

    async def clear_the_way_for(self, wanted: indexes.Build) -> None:
        """Before a concurrent build: put it on record, and drop what an interrupted one of this revision left.

        Raises:
            MigrationFailed: An INVALID index of its name is in the way, and not ours to drop.
        """
        fence = self.fence
        off = fence.as_login
        left, *recorded = indexes.before(wanted, fence.builds)
        # A driver may send what comes after the rows that are wanted in another message.
        before = [*off, left, *off, *recorded, *fence.before_a_statement]
        looked = await fence.send(self.wire, before, wanted=(len(off),))
        for name in indexes.to_drop(looked[0].rows, fence.builds):
            await fence.send(self.wire, [f"{fence.mark}DROP INDEX CONCURRENTLY {name}"], wanted=())
            fence.dropped.append(name)

    def watching_for_a_commit(self, operation: str) -> AbstractAsyncContextManager[list[ResultSet]]:
        """Around each statement: a revision may end Alembic's transaction by a COMMIT in its SQL."""
        return committed.watching(self, operation)

    # Within them

    async def looks_at_its_locks(self, operation: str) -> None:
        """Before a statement in whose message there is no room for a look, or none for its result."""
        seen = self.fence.footprint
        if not self.is_watched or statements.ends_a_transaction(operation):
            return
        if not seen.wants_a_look(alone=True, always=not self.wire.tells_all):
            return
        note, at = seen.note(operation), time.monotonic()
        looked = await self.fence.send(self.wire, [footprint.LOOK, *filter(None, [note])], wanted=(0,))
        seen.sees(looked[0].rows, at=at)

    def lets_it_wait(self, move: Move) -> bool:
        """Let a move of the version wait for the COMMIT, unless there is none; called in the midst of the revisions.

        It is taken for made until then, and fails there if it does not move one row.
        """
        if self._modes.autocommit:
            return False
        if self.transaction is None:  # the revision has sent nothing
            self.wire.waits_for(self.begin())
        # Where a COMMIT of the revision's has ended the transaction, it goes with the step in one of their own.
        self.fence.move = dataclasses.replace(move, earlier=self.fence.move)
        return True

    async def insists_on_a_transaction(self, operation: str) -> None:
        """Before a statement in whose message there is no room for a BEGIN: begin, unless it commits by itself.

        Raises:
            LockLost: The guard is gone.
        """
        if self.transaction is None and not self._modes.autocommit:
            await self.begin(operation)

    async def begin(self, operation: str = "") -> None:
        """Begin a fenced transaction.

        Args:
            operation: The statement that is to be sent next.

        Raises:
            LockLost: The guard is gone.
        """
        words = self.begins(operation)
        try:
            told = await self.fence.send(self.wire, words)
        except Exception:  # whatever it is, the transaction must not stay open
            self.transaction = self.fence.pid = None
            self.prepared.forget()
            await rollback(self.wire, self.fence)
            raise
        self.fence.pid = told[0].rows[0][0]

    def begins(self, operation: str) -> list[str]:
        """What begins a transaction, from here on, for a statement; the last of these tells the pid."""
        is_watched = not self._modes.autocommit
        note = footprint.note_before(operation) if is_watched else ""
        self.fence.footprint.begins(is_noted=bool(note))
        self.transaction = Transaction(self.wire, self.fence, self.prepared, is_watched=is_watched)
        return [
            f"{self._modes.begin_words} {statements.modes_to_begin_with(operation)}".rstrip(),
            *self.fence.at_begin(note, self.prepared),
        ]

    @contextlib.asynccontextmanager
    async def in_a_transaction_of_its_own(self, operation: str) -> AsyncIterator[None]:
        """For a statement of several messages in an autocommit block.

        The statement commits by itself as ever, but fenced, with our settings, and on one backend: a
        transaction pooler may hand each message that is outside of a transaction to another.
        """
        await self.begin(operation)
        try:
            yield
        except BaseException:
            await rollback(self.wire, self.fence)
            raise
        else:
            assert self.transaction is not None  # noqa: S101 – begun above
            await self.transaction.commit()
        finally:
            self.transaction = None

    def ends(self) -> None:
        """The transaction has ended, and its streams with it."""
        self.transaction = None
        self.streams = []
