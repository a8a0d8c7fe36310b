"""psycopg2's connection, as the fence speaks over it: it waits in the thread that it is used in."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, override

import asyncpg
import psycopg2
from psycopg2 import extensions

from app.database import connection
from app.database.drivers.asyncpg_wire import AsyncpgWire
from app.database.simple_query import ResultSet
from app.database.url import Database
from app.database.wire import LAST, Wire

_CASTERS = {
    type_oid: caster
    for caster in (
        extensions.BOOLEAN,
        extensions.INTEGER,
        extensions.INTEGERARRAY,
        extensions.LONGINTEGER,
        psycopg2.ROWID,
        extensions.UNICODE,
        extensions.UNICODEARRAY,
        extensions.JSON,
        extensions.JSONB,
    )
    for type_oid in caster.values
}
"""psycopg2's own for the types that our statements have, by the type's OID. A revision may have others registered, for
its connection or for all of them."""


class Psycopg2Wire(Wire):
    """A wire of psycopg2's, open.

    Args:
        opened: The connection.
        database: Where it leads to.
    """

    tells_all = False

    def __init__(self, opened: extensions.connection, database: Database) -> None:
        self._opened = opened
        self._database = database
        self._reader: _Reader | None = None
        # Python's own handle of it, since libpq must not be used by two threads at once.
        self._socket = socket.socket(fileno=os.dup(opened.fileno()))

    @property
    @override
    def is_closed(self) -> bool:
        return bool(self._opened.closed)

    @property
    @override
    def is_in_transaction(self) -> bool:
        states = (extensions.TRANSACTION_STATUS_INTRANS, extensions.TRANSACTION_STATUS_INERROR)
        return not self.is_closed and self._opened.get_transaction_status() in states

    @property
    @override
    def pid(self) -> int:
        return self._opened.get_backend_pid()

    @override
    def setting(self, name: str) -> str | None:
        return self._opened.get_parameter_status(name)

    @override
    async def send(self, sql: Sequence[str], wanted: Sequence[int] = LAST) -> list[ResultSet]:
        results, sent = [], 0
        for end in [position % len(sql) + 1 for position in wanted]:
            results.append(self._send(sql[sent:end]))
            sent = end
        if sent < len(sql):
            self._send(sql[sent:])
        return results

    def _send(self, sql: Sequence[str]) -> ResultSet:
        # Not a cursor of the connection's own class, which is fenced.
        with extensions.cursor(self._opened) as cursor:
            cursor.string_types = _CASTERS  # which psycopg2 looks at first
            cursor.execute("; ".join(sql))
            rows = cursor.fetchall() if cursor.description else []
            return ResultSet(rows=rows, status=cursor.statusmessage or "")

    @override
    async def is_one_statement(self, sql: str) -> bool:
        if self._reader is None:
            self._reader = _Reader(self._database)
        return self._reader.reads_as_one(sql)

    @override
    def waits_for[Result](self, work: Coroutine[Any, Any, Result]) -> Result:
        # Over this wire nothing has to be waited for in an event loop, so the first step is the whole way.
        try:
            work.send(None)
        except StopIteration as done:
            result: Result = done.value
            return result
        finally:
            work.close()
        raise AssertionError("something waited for an event loop")

    @override
    def cutter(self) -> Callable[[], None]:
        def cut() -> None:
            with contextlib.suppress(OSError):  # it has ended already
                self._socket.shutdown(socket.SHUT_RDWR)

        return cut

    def close(self) -> None:
        """Close what was opened beside the connection."""
        self._socket.close()
        if self._reader is not None:
            self._reader.close()


class _Reader:
    """Has PostgreSQL read statements without running them, which the simple query protocol cannot.

    In a transaction that has failed: there it reads a text, sees that it is one statement, and goes no further, so no
    lock is waited for (`exec_parse_message` in PostgreSQL's postgres.c).
    """

    _FAILED = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SELECT 1/0"

    def __init__(self, database: Database) -> None:
        self._loop = asyncio.Runner()
        self._wire = AsyncpgWire(self._loop.run(connection.connect(database, application_name=connection.CONTROL)))
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            self._loop.run(self._wire.send([self._FAILED]))

    def reads_as_one(self, sql: str) -> bool:
        """Whether a text is one statement. What else is wrong with it whoever runs it will tell."""
        try:
            return self._loop.run(self._wire.is_one_statement(sql))
        except (asyncpg.InFailedSQLTransactionError, asyncpg.PostgresSyntaxError):
            return True

    def close(self) -> None:
        self._loop.run(connection.close(self._wire.opened))
        self._loop.close()
