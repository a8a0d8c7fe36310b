"""The fenced connection: SQLAlchemy over asyncpg, with two things changed.

Statements without parameters go over the simple query protocol, so that several in one string work and each takes one
round trip, the BEGIN before the first of them included; the one that moves the version goes with the COMMIT. And every
transaction is fenced (see fence.py), so that a run that has lost its guard cannot commit.

SQLAlchemy's asyncpg dialect takes another DBAPI module by `create_engine(module=...)`; the classes below are that
module's, and change as little of its own as they can.
"""

import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
from sqlalchemy.dialects.postgresql import asyncpg as dialect
from sqlalchemy.util import await_only

from app.database import connection, footprint, indexes, simple_query, statements
from app.database.fence import Fence, Move
from app.database.prepared import Prepared
from app.database.simple_query import ResultSet
from app.database.transaction import Transaction, rollback


class Dbapi(dialect.AsyncAdapt_asyncpg_dbapi):
    """asyncpg as SQLAlchemy sees it, making fenced connections."""

    def __init__(self, fence: Fence) -> None:
        super().__init__(asyncpg)  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are not typed
        self._fence = fence

    def connect(self, *_: Any, async_creator_fn: Any, **options: Any) -> "Connection":  # noqa: ANN401 – DBAPI
        """Open a connection the way `engine` says; called in SQLAlchemy's greenlet."""

        async def create() -> Connection:
            return self.connection(await async_creator_fn(), **options)

        return await_only(create())

    def connection(self, opened: Any, **options: Any) -> "Connection":  # noqa: ANN401 – DBAPI
        """Make a connection of this kind of asyncpg's."""
        return Connection(self, opened, self._fence, **options)


class Connection(dialect.AsyncAdapt_asyncpg_connection):
    """A DBAPI connection whose transactions are fenced."""

    __slots__ = ("_fence", "_prepared", "upcoming")

    _connection: Any  # asyncpg's connection; SQLAlchemy's own protocol for it leaves out what is used here
    _transaction: Any

    def __init__(self, dbapi: Dbapi, opened: Any, fence: Fence, **options: Any) -> None:  # noqa: ANN401 – DBAPI
        super().__init__(dbapi, opened, **options)  # type: ignore[no-untyped-call]  # as above
        self._fence = fence
        self._prepared = Prepared(may_keep=fence.session_is_ours)
        self.upcoming = ""
        """The statement that is to be sent, for which a transaction may have to be begun."""

    def close(self) -> None:
        """Close the connection. SQLAlchemy's own way waits for the server's farewell, which may never come."""
        if not self._connection.is_closed():
            self.rollback()  # type: ignore[no-untyped-call]  # as above
        await_only(connection.close(self._connection))

    async def _start_transaction(self) -> None:
        """SQLAlchemy's hook before each statement that finds no transaction open."""
        if self.isolation_level == "autocommit":
            # No transaction to hold the statement back: look right before it instead.
            await self._fence.send(self._connection, self._fence.before_a_statement)
            self._fence.commits += 1
        else:
            await self.begin()

    @property
    def is_outside_of_transactions(self) -> bool:
        """In an autocommit block, or behind a COMMIT in a revision's SQL: what is sent now commits by itself."""
        return self.isolation_level == "autocommit" or self.has_lost_its_transaction()

    def marked(self, operation: str) -> str:
        """The statement as it shows outside of a transaction, so that it can be told whose it is."""
        return self._fence.mark + operation

    async def clear_the_way_for(self, wanted: indexes.Build) -> None:
        """Before a concurrent build: put it on record, and drop what an interrupted one of this revision left.

        Raises:
            MigrationFailed: An INVALID index of its name is in the way, and not ours to drop.
        """
        fence = self._fence
        looked = f"{indexes.before(wanted, fence.builds)}; {fence.before_a_statement}"
        left = (await fence.send(self._connection, looked))[0].rows
        for name in indexes.to_drop(left, fence.builds):
            await fence.send(self._connection, f"{fence.mark}DROP INDEX CONCURRENTLY {name}")
            fence.dropped.append(name)

    @contextlib.asynccontextmanager
    async def watching_for_a_commit(self) -> AsyncIterator[None]:
        """Around each statement: a revision may end Alembic's transaction by a COMMIT in its SQL.

        What follows then commits by itself, so it is looked at like a statement in an autocommit block.
        """
        if self.has_lost_its_transaction():
            await self._fence.send(self._connection, self._fence.check)
        try:
            with self._fence.asking():
                yield
        finally:
            if self.has_lost_its_transaction():
                self._fence.commits += 1

    async def sent(self, operation: str) -> list[ResultSet]:
        """The results of a statement without parameters; what its footprint needs goes before it."""
        seen = self._fence.footprint
        note = look = ""
        if self._is_watched and not statements.ends_a_transaction(operation):
            note = seen.note(operation)
            look = footprint.LOOK if seen.wants_a_look(alone=False) else ""
        at = time.monotonic()
        before = [each for each in (look, note) if each]
        results = await simple_query.send(self._connection, "; ".join([*before, operation]))
        if look:
            seen.sees(results[0].rows, at=at)
        return results[len(before) :]

    async def looks_at_its_locks(self) -> None:
        """Before a statement of the extended protocol, whose message has no room for a look."""
        async with self._execute_mutex:
            if not self._is_watched or not self._fence.footprint.wants_a_look(alone=True):
                return
            at, note = time.monotonic(), self._fence.footprint.note(self.upcoming)
            try:
                look = await self._fence.send(self._connection, "; ".join(filter(None, [footprint.LOOK, note])))
            except Exception as error:  # noqa: BLE001 – SQLAlchemy's own translation follows
                self._handle_exception(error)
            self._fence.footprint.sees(look[0].rows, at=at)

    @property
    def _is_watched(self) -> bool:
        """In a transaction whose locks are to be told."""
        return self._transaction is not None and self._transaction.is_watched and self._connection.is_in_transaction()

    def has_lost_its_transaction(self) -> bool:
        """Whether the transaction that SQLAlchemy takes for open has ended, by a statement of the revision's."""
        opened = self._connection
        return self._transaction is not None and not opened.is_closed() and not opened.is_in_transaction()

    def lets_it_wait(self, move: Move) -> bool:
        """Let a move of the version wait for the COMMIT, if there is a transaction that it can wait in.

        It is taken for made until then, and fails there if it does not move one row.
        """
        if self._fence.move or self._transaction is None or self.is_outside_of_transactions:
            return False
        self._fence.move = move
        return True

    async def goes_on_to(self, operation: str) -> None:
        """Before another statement: make the move of the version that waits."""
        self._prepared.before(operation)
        move, self._fence.move = self._fence.move, None
        if move:
            async with self._execute_mutex:
                try:
                    await self._fence.send(self._connection, move.confirmed)
                except Exception as error:  # noqa: BLE001 – SQLAlchemy's own translation follows
                    self._handle_exception(error)

    @property
    def begin_words(self) -> str:
        """BEGIN, with the modes of the transaction."""
        level = "" if self.isolation_level in (None, "autocommit") else self.isolation_level.replace("_", " ").upper()
        modes = f" ISOLATION LEVEL {level}" if level else ""
        return "BEGIN" + modes + " READ ONLY" * self.readonly + " DEFERRABLE" * self.deferrable

    async def begin(self) -> None:
        """Begin a fenced transaction.

        Raises:
            LockLost: The guard is gone.
        """
        words = self._begins()
        try:
            told = await self._fence.send(self._connection, "; ".join(words))
        except Exception as error:  # noqa: BLE001 – whatever it is, the transaction must not stay open
            self._transaction = self._fence.pid = None
            self._prepared.forget()
            await rollback(self._connection, self._fence)
            self._handle_exception(error)
        self._fence.pid = told[-1].rows[0][0]

    async def begin_with(self, operation: str) -> list[ResultSet]:
        """Begin a fenced transaction in the message of its first statement; the results of that statement.

        Raises:
            LockLost: The guard is gone.
        """
        words, results = self._begins(), list[ResultSet]()
        begin = f"/* {statements.beginning(operation)} */ {'; '.join(words)}"  # for pg_stat_activity, which cuts
        if self._fence.session_is_ours:
            self._fence.pid = self._connection.get_server_pid()  # its answer comes only with the statement's
        try:
            await self._fence.send(self._connection, f"{begin}; {operation}", results)
        except Exception as error:
            self._prepared.forget()
            if results or not isinstance(error, asyncpg.PostgresSyntaxError):
                raise
            # PostgreSQL reads a message as a whole before it runs any of it, so not even the BEGIN was run. The
            # statement is to fail inside of a transaction, which ends there for whoever goes on regardless.
            await self.begin()
            return await self.sent(operation)
        self._fence.pid = results[len(words) - 1].rows[0][0]
        return results[len(words) :]

    def _begins(self) -> list[str]:
        """What begins a transaction, from here on: a result for each."""
        is_watched = self.isolation_level != "autocommit"
        note = footprint.note_before(self.upcoming) if is_watched else ""
        self._fence.footprint.begins(is_noted=bool(note))
        self._transaction = Transaction(self._connection, self._fence, self._prepared, is_watched=is_watched)
        return [self.begin_words, *self._fence.at_begin(note, self._prepared)]

    @contextlib.asynccontextmanager
    async def in_a_transaction_of_its_own(self) -> AsyncIterator[None]:
        """For a statement of several messages in an autocommit block.

        The statement commits by itself as ever, but fenced, with our settings, and on one backend: a
        transaction pooler may hand each message that is outside of a transaction to another.
        """
        await self.begin()
        try:
            yield
        except BaseException:
            await rollback(self._connection, self._fence)
            raise
        else:
            await self._transaction.commit()
        finally:
            self._transaction = None


class Cursor(dialect.AsyncAdapt_asyncpg_cursor):
    """A cursor that sends statements without parameters over the simple query protocol."""

    __slots__ = ()

    _adapt_connection: Any  # our Connection, behind SQLAlchemy's narrower type
    _connection: Any
    _description: Any

    async def _prepare_and_execute(self, operation: str, parameters: Sequence[Any] | None) -> None:
        adapted = self._adapt_connection
        await adapted.goes_on_to(operation)
        if adapted.is_outside_of_transactions:
            operation = adapted.marked(operation)
        adapted.upcoming = operation
        if parameters or self.server_side or statements.wants_types(operation):
            await adapted.looks_at_its_locks()
            async with adapted.watching_for_a_commit(), self._alone(operation):
                await super()._prepare_and_execute(operation, parameters)  # type: ignore[no-untyped-call]  # as above
            return
        async with adapted._execute_mutex:
            try:
                if adapted.is_outside_of_transactions and (wanted := indexes.build(operation)):
                    await adapted.clear_the_way_for(wanted)
                send = adapted.sent
                if adapted._transaction is None:
                    if adapted.isolation_level == "autocommit":
                        await adapted._start_transaction()
                    else:
                        send = adapted.begin_with
                async with adapted.watching_for_a_commit():
                    results = await send(operation)
            except Exception as error:  # noqa: BLE001 – SQLAlchemy's own translation follows
                adapted._handle_exception(error)
            last = results[-1] if results else ResultSet()
            self._description = [
                (column.name, column.type_oid, None, None, None, None, None) for column in last.columns
            ] or None
            self._rows = deque(last.rows)
            self._rowcount = statements.rowcount(last.status)

    async def _executemany(self, operation: str, seq_of_parameters: Sequence[Any]) -> None:
        await self._adapt_connection.goes_on_to(operation)
        await self._adapt_connection.looks_at_its_locks()
        async with self._adapt_connection.watching_for_a_commit(), self._alone(operation):
            await super()._executemany(operation, seq_of_parameters)  # type: ignore[no-untyped-call]  # as above

    def _alone(self, operation: str) -> AbstractAsyncContextManager[None]:
        adapted = self._adapt_connection
        # A procedure may commit by itself, which it cannot do inside of a transaction block.
        if adapted.isolation_level != "autocommit" or self.server_side or statements.calls_a_procedure(operation):
            return contextlib.nullcontext()
        return adapted.in_a_transaction_of_its_own()  # type: ignore[no-any-return]  # see _adapt_connection


Connection._cursor_cls = Cursor
