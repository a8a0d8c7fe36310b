"""SQLAlchemy over asyncpg, with every transaction fenced.

SQLAlchemy's asyncpg dialect takes another DBAPI module by `create_engine(module=...)`; the classes below are that
module's, and change as little of its own as they can.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql import asyncpg as dialect
from sqlalchemy.util import await_only

from app.database import connection, simple_query
from app.database.drivers import asyncpg_cursor, asyncpg_values
from app.database.drivers.asyncpg_wire import AsyncpgWire
from app.database.drivers.opening import Opening, Told


class Dialect(Told, dialect.PGDialect_asyncpg):
    """SQLAlchemy's dialect, which need not ask."""

    supports_statement_cache = True  # SQLAlchemy wants it said by each dialect anew

    def get_driver_connection(self, connection: Any) -> Any:  # noqa: ANN401 – SQLAlchemy's
        """The connection of asyncpg itself, for a revision."""
        return connection.driver_connection


registry.register("postgresql.fenced_asyncpg", __name__, Dialect.__name__)


def engine(opening: Opening, **options: Any) -> Engine:  # noqa: ANN401 – SQLAlchemy's
    """An engine whose connections are opened so."""

    async def connect() -> connection.Connection:
        opened = await connection.connect(opening.database, application_name=opening.application_name)
        await asyncpg_values.say_what_they_say(opened)
        opening.after(AsyncpgWire(opened))
        with opening.fence.asking():
            results = await simple_query.send(opened, opening.question)
        version = opened.get_server_version()
        # As `Session.server_version` has it.
        made.dialect.learn((version.major, version.micro), results[-1].rows[0])  # type: ignore[attr-defined]  # Dialect
        return opened

    module = Dbapi(opening)
    # Behind a pooler a prepared statement's name may be taken, or its statement gone: use the unnamed one.
    unnamed = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
    kept = {} if opening.fence.session_is_ours else unnamed
    made = create_engine(
        "postgresql+fenced_asyncpg://",
        module=module,
        creator=lambda: module.connect(async_creator_fn=connect, **kept),
        **options,
    )
    made.url = opening.url("asyncpg")
    return made


class Dbapi(dialect.AsyncAdapt_asyncpg_dbapi):
    """asyncpg as SQLAlchemy sees it, making fenced connections."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(asyncpg)  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are not typed
        self.opening = opening

    def connect(self, *_: Any, async_creator_fn: Any, **options: Any) -> "Connection":  # noqa: ANN401 – DBAPI
        """Open a connection; called in SQLAlchemy's greenlet."""
        self.opening.before()

        async def create() -> Connection:
            return Connection(self, await async_creator_fn(), **options)

        return await_only(create())


class Connection(dialect.AsyncAdapt_asyncpg_connection):
    """A DBAPI connection whose transactions are fenced."""

    __slots__ = ("fenced",)

    _connection: Any  # asyncpg's connection; SQLAlchemy's own protocol for it leaves out what is used here

    def __init__(self, dbapi: Dbapi, opened: connection.Connection, **options: Any) -> None:  # noqa: ANN401 – DBAPI
        self.fenced = dbapi.opening.fencing(AsyncpgWire(opened), dbapi.opening.fence, self)
        super().__init__(dbapi, opened, **options)  # type: ignore[no-untyped-call]  # as above

    @property
    def _transaction(self) -> Any:  # noqa: ANN401 – the attribute of SQLAlchemy's, which looks whether it is there
        return self.fenced.transaction

    @_transaction.setter
    def _transaction(self, transaction: Any) -> None:  # noqa: ANN401 – as above
        if transaction is None:
            self.fenced.ends()
        else:
            self.fenced.transaction = transaction

    def forgets_what_is_prepared(self) -> None:
        """Have each statement prepared anew: the columns and types that it was prepared for may be others by now.

        SQLAlchemy keeps both by a statement's text, and asyncpg sends the text without a look at what has become of
        them: it would take a double for an integer, and one column for another.
        """
        if self._prepared_statement_cache:
            self._prepared_statement_cache.clear()

    # asyncpg's own connection, which nobody stands in front of

    @property
    def driver_connection(self) -> Any:  # noqa: ANN401 – as below
        """The connection of asyncpg itself, in a transaction that was begun."""
        self._is_left_to_the_revision()
        return self._connection

    def run_async(self, fn: Callable[[Any], Awaitable[Any]]) -> Any:  # noqa: ANN401 – SQLAlchemy's
        """What a revision does with asyncpg's own connection, likewise."""
        self._is_left_to_the_revision()
        return super().run_async(fn)

    def _is_left_to_the_revision(self) -> None:
        self.forgets_what_is_prepared()
        await_only(self.fenced.insists_on_a_transaction(""))

    @property
    def begin_words(self) -> str:
        """BEGIN, with the modes of the transaction."""
        level = "" if self.isolation_level in (None, "autocommit") else self.isolation_level.replace("_", " ").upper()
        modes = f" ISOLATION LEVEL {level}" if level else ""
        return "BEGIN" + modes + " READ ONLY" * self.readonly + " DEFERRABLE" * self.deferrable

    async def _start_transaction(self) -> None:
        """SQLAlchemy's hook before each statement that finds no transaction open."""
        try:
            await (self.fenced.stands_alone() if self.autocommit else self.fenced.begin())
        except Exception as error:  # noqa: BLE001 – SQLAlchemy's own translation follows
            self._handle_exception(error)

    def commit(self) -> None:
        """COMMIT, if there is a transaction."""
        self.fenced.may_end("commit()")
        super().commit()  # type: ignore[no-untyped-call]  # as above

    def rollback(self) -> None:
        """ROLLBACK, likewise."""
        self.fenced.may_end("rollback()")
        super().rollback()  # type: ignore[no-untyped-call]  # as above

    def set_isolation_level(self, level: str | int | None) -> None:
        """Set it for the transactions that follow.

        Raises:
            TypeError: It is one of psycopg2's.
        """
        if not isinstance(level, str):
            raise TypeError(f"the isolation level {level!r} is one of psycopg2's; asyncpg's have names")
        self.fenced.may_end(f"isolation level {level}")
        super().set_isolation_level(level)  # type: ignore[no-untyped-call]  # as above

    def close(self) -> None:
        """Close the connection. SQLAlchemy's own way waits for the server's farewell, which may never come."""
        if not self._connection.is_closed():
            self.rollback()
        await_only(connection.close(self._connection))


Connection._cursor_cls = asyncpg_cursor.Cursor
Connection._ss_cursor_cls = asyncpg_cursor.StreamingCursor  # type: ignore[assignment]  # none of SQLAlchemy's own
