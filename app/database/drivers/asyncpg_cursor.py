"""asyncpg's cursors as SQLAlchemy adapts them, whose statements are fenced.

Statements without parameters go over the simple query protocol, so that several in one string work and each takes one
round trip, the BEGIN before the first of them included.
"""

import contextlib
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from sqlalchemy.dialects.postgresql import asyncpg as dialect
from sqlalchemy.util import await_only

from app.database import driver_error, footprint, indexes, simple_query, statements
from app.database.fenced import Fenced
from app.database.simple_query import ResultSet

_ROWS_AT_ONCE = 1000
"""Of a stream, where no number is asked for."""


class Cursor(dialect.AsyncAdapt_asyncpg_cursor):
    """A cursor that sends statements without parameters over the simple query protocol."""

    __slots__ = ()

    _adapt_connection: Any  # our Connection, behind SQLAlchemy's narrower type
    _connection: Any
    _description: Any

    @property
    def _fenced(self) -> Fenced:
        fenced: Fenced = self._adapt_connection.fenced
        return fenced

    async def _prepare_and_execute(self, operation: str, parameters: Sequence[Any] | None) -> None:
        fenced = self._fenced
        try:
            with fenced.failing():
                await self._meets(operation)
                operation = fenced.mark + operation
                if parameters or statements.wants_types(operation):
                    await self._prepares(operation, parameters)
                else:
                    await self._sends(operation)
        except Exception as error:  # noqa: BLE001 – SQLAlchemy's own translation follows
            self._handle_exception(error)  # type: ignore[no-untyped-call]  # as above

    async def _meets(self, operation: str) -> None:
        fenced = self._fenced
        # Between transactions there are no locks, so somebody else may have changed them.
        if fenced.transaction is None or not statements.leaves_types_as_they_are(operation):
            self._adapt_connection.forgets_what_is_prepared()
        await fenced.meets(operation)

    async def _prepares(self, operation: str, parameters: Sequence[Any] | None) -> None:
        fenced = self._fenced
        await fenced.looks_at_its_locks(operation)
        async with fenced.watching_for_a_commit(operation), self._alone(operation):
            await fenced.insists_on_a_transaction(operation)  # SQLAlchemy would begin it not knowing for what
            await super()._prepare_and_execute(operation, parameters)  # type: ignore[no-untyped-call]  # as above

    async def _sends(self, operation: str) -> None:
        fenced = self._fenced
        async with self._adapt_connection._execute_mutex:
            if fenced.is_outside_of_transactions and (wanted := indexes.build(operation)):
                await fenced.clear_the_way_for(wanted)
            begins = False
            if fenced.transaction is None:
                if self._adapt_connection.autocommit:
                    await fenced.stands_alone()
                elif fenced.may_begin_with_a_statement:
                    begins = True
                else:
                    await fenced.begin(operation)
            async with fenced.watching_for_a_commit(operation) as told:
                results = await (self._begins_with(operation, told) if begins else self._sent(operation, told))
        last = results[-1] if results else ResultSet()
        self._description = [
            (column.name, column.type_oid, None, None, None, None, None) for column in last.columns
        ] or None
        self._rows = deque(last.rows)
        self._rowcount = statements.rowcount(last.status)

    async def _begins_with(self, operation: str, results: list[ResultSet]) -> list[ResultSet]:
        """Begin a fenced transaction in the message of its first statement; the results of that statement.

        Args:
            operation: The statement.
            results: A list to fill, so that what came before an error is known; with those of the BEGIN.

        Raises:
            LockLost: The guard is gone.
        """
        fenced, fence = self._fenced, self._fenced.fence
        words = fenced.begins(operation)
        begin = f"/* {statements.beginning(operation)} */ {'; '.join(words)}"  # for pg_stat_activity, which cuts
        if fence.session_is_ours:
            fence.pid = fenced.wire.pid  # its answer comes only with the statement's
        try:
            with fence.explaining():
                await simple_query.send(self._connection, f"{begin}; {operation}", results)
        except Exception as error:
            fenced.prepared.forget()
            if results or not driver_error.is_of_the_parser(error):
                raise
            # PostgreSQL reads a message as a whole before it runs any of it, so not even the BEGIN was run. The
            # statement is to fail inside of a transaction, which ends there for whoever goes on regardless.
            await fenced.begin(operation)
            return await self._sent(operation, results)
        fence.pid = results[len(words) - 1].rows[0][0]
        fence.footprint.has_begun()
        return results[len(words) :]

    async def _sent(self, operation: str, results: list[ResultSet]) -> list[ResultSet]:
        """The results of a statement without parameters; what its footprint needs goes before it.

        Args:
            operation: The statement.
            results: A list to fill, as `_begins_with` has it; with those of what goes before it.
        """
        fenced, seen = self._fenced, self._fenced.fence.footprint
        own: list[ResultSet] = []
        async for part in fenced.parts(operation):
            note = look = ""
            if fenced.is_watched and not statements.ends_a_transaction(part):
                note = seen.note(part)
                look = footprint.LOOK if seen.wants_a_look(alone=False) else ""
            at = time.monotonic()
            before = [each for each in (look, note) if each]
            first = len(results)
            await simple_query.send(self._connection, "; ".join([*before, part]), results)
            if look:
                seen.sees(results[first].rows, at=at)
            own += results[first + len(before) :]
        return own

    async def _executemany(self, operation: str, seq_of_parameters: Sequence[Any]) -> None:
        fenced = self._fenced
        try:
            with fenced.failing():
                await self._meets(operation)
                operation = fenced.mark + operation
                await fenced.looks_at_its_locks(operation)
                async with fenced.watching_for_a_commit(operation), self._alone(operation):
                    await fenced.insists_on_a_transaction(operation)  # as above
                    await super()._executemany(operation, seq_of_parameters)  # type: ignore[no-untyped-call]  # as above
        except Exception as error:  # noqa: BLE001 – SQLAlchemy's own translation follows
            self._handle_exception(error)  # type: ignore[no-untyped-call]  # as above

    def _alone(self, operation: str) -> AbstractAsyncContextManager[None]:
        # A procedure may commit by itself, which it cannot do inside of a transaction block.
        if not self._adapt_connection.autocommit or statements.calls_a_procedure(operation):
            return contextlib.nullcontext()
        return self._fenced.in_a_transaction_of_its_own(operation)


class StreamingCursor(Cursor):
    """A cursor whose rows come as they are wanted, as long as no statement needs the table for itself.

    SQLAlchemy's own never closes its portal, and PostgreSQL then alters no table that it reads.
    """

    __slots__ = ()

    server_side = True

    async def _prepares(self, operation: str, parameters: Sequence[Any] | None) -> None:
        fenced, commits_by_itself = self._fenced, self._adapt_connection.autocommit
        await fenced.looks_at_its_locks(operation)
        async with fenced.watching_for_a_commit(operation), self._alone(operation):
            await fenced.insists_on_a_transaction(operation)
            statement = await self._connection.prepare(operation, name="")
            self._description = [
                (each.name, each.type.oid, None, None, None, None, None) for each in statement.get_attributes()
            ] or None
            if commits_by_itself:  # and with it goes what a portal could live in
                self._rows.extend(await statement.fetch(*parameters or ()))
                return
            self._cursor = await statement.cursor(*parameters or ())
        fenced.streams.append(self)

    async def finish(self) -> None:
        """Fetch what is left, and let the server forget the portal."""
        while self._cursor is not None:
            await self._fetches(_ROWS_AT_ONCE)

    async def _fetches(self, count: int) -> None:
        """Fetch so many rows more, or the rest."""
        if self._cursor is None:
            return
        cursor: Any = self._cursor
        with self._fenced.fence.asking():
            rows = await cursor.fetch(count)
        self._rows.extend(rows)
        if len(rows) < count:
            await self._leaves()

    async def _leaves(self) -> None:
        cursor: Any = self._cursor
        self._cursor = None
        if self in self._fenced.streams:
            self._fenced.streams.remove(self)
            await cursor._close_portal(None)

    def _awaits(self, work: Any) -> None:  # noqa: ANN401 – a coroutine
        try:
            await_only(work)
        except Exception as error:  # noqa: BLE001 – SQLAlchemy's own translation follows
            self._handle_exception(error)  # type: ignore[no-untyped-call]  # as above

    def fetchone(self) -> Any:  # noqa: ANN401 – DBAPI
        """The next row, or None."""
        if not self._rows:
            self._awaits(self._fetches(_ROWS_AT_ONCE))
        return super().fetchone()

    def fetchmany(self, size: int | None = None) -> Any:  # noqa: ANN401 – DBAPI
        """The next rows."""
        wanted = size or self.arraysize
        if len(self._rows) < wanted:
            self._awaits(self._fetches(wanted - len(self._rows)))
        return super().fetchmany(wanted)

    def fetchall(self) -> Any:  # noqa: ANN401 – DBAPI
        """The rest."""
        self._awaits(self.finish())
        return super().fetchall()

    def close(self) -> None:
        """Let the server forget the rest."""
        self._rows.clear()
        if self._cursor is not None:
            self._awaits(self._leaves())
