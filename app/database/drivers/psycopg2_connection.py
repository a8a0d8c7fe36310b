"""SQLAlchemy over psycopg2, with every transaction fenced.

psycopg2 puts parameters into the text of a statement, which most histories were written for, and sends it over the
simple query protocol. What it hands out are its own connection and cursors, as revisions expect that reach for them.

Towards libpq the connection is in autocommit mode, and the BEGIN is ours: it goes in the message of the first
statement. Only named cursors and large objects want psycopg2 to believe in a transaction; then it does until that ends.

Source: psycopg2's documentation, "The connection class".
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Self

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from app.database import connection, driver_error
from app.database.drivers import libpq, psycopg2_cursor
from app.database.drivers.opening import Opening, Told
from app.database.drivers.psycopg2_wire import Psycopg2Wire
from app.database.fenced import Fenced
from app.database.url import Database
from app.errors import DatabaseUnavailable
from app.redaction import redacted

_Native = extensions.connection
_LEVELS = {
    extensions.ISOLATION_LEVEL_READ_COMMITTED: "READ COMMITTED",
    extensions.ISOLATION_LEVEL_REPEATABLE_READ: "REPEATABLE READ",
    extensions.ISOLATION_LEVEL_SERIALIZABLE: "SERIALIZABLE",
    extensions.ISOLATION_LEVEL_READ_UNCOMMITTED: "READ UNCOMMITTED",
}


class Dialect(Told, PGDialect_psycopg2):
    """SQLAlchemy's dialect, which need not ask."""

    supports_statement_cache = True  # SQLAlchemy wants it said by each dialect anew

    def _hstore_oids(self, dbapi_connection: object) -> tuple[int, int] | None:  # noqa: ARG002 – SQLAlchemy's hook
        return tuple(json.loads(self.hstore)) if self.hstore else None


registry.register("postgresql.fenced_psycopg2", __name__, Dialect.__name__)


def engine(opening: Opening, **options: Any) -> Engine:  # noqa: ANN401 – SQLAlchemy's
    """An engine whose connections are opened so."""

    def connect() -> Connection:
        opening.before()
        opened = _connected(opening)
        wire = opened.fenced.wire
        try:
            opening.after(wire)
            with opening.fence.asking():
                (told,) = wire.waits_for(wire.send([opening.question]))
        except BaseException:
            opened.close()
            raise
        version = opened.server_version
        made.dialect.learn((version // 10_000, version % 10_000), told.rows[0])  # type: ignore[attr-defined]  # Dialect
        return opened

    made = create_engine("postgresql+fenced_psycopg2://", module=psycopg2, creator=connect, **options)
    made.url = opening.url("psycopg2")
    return made


def _connected(opening: Opening) -> "Connection":
    """Open a connection.

    Raises:
        DatabaseUnavailable: or one of its children.
    """
    arguments = libpq.arguments(opening.database, application_name=opening.application_name)
    try:
        opened: Connection = psycopg2.connect(connection_factory=Connection, **arguments)
    except psycopg2.OperationalError:
        # libpq tells it in words alone. asyncpg knows what passes, is patient then, and says what to check.
        asyncio.run(_see_that_it_is_there(opening.database, opening.application_name))
        try:
            opened = psycopg2.connect(connection_factory=Connection, **arguments)
        except psycopg2.OperationalError as error:
            words = redacted(driver_error.words(error).strip().partition("\n")[0])
            raise DatabaseUnavailable(f"psycopg2 could not connect, which asyncpg could: {words}.") from None
    opened.fence_with(opening)
    return opened


async def _see_that_it_is_there(database: Database, application_name: str) -> None:
    await connection.close(await connection.connect(database, application_name=application_name))


class Connection(extensions.connection):
    """A connection of psycopg2's whose transactions are fenced, from `fence_with` on."""

    fenced: Fenced
    _level: str | None
    _readonly: bool | None
    _deferrable: bool | None

    def fence_with(self, opening: Opening) -> None:
        """Fence it. It was opened by psycopg2, which hands a factory nothing but the connection string."""
        self._begins_anew()
        self._question = opening.question
        self._wire = Psycopg2Wire(self, opening.database)
        self.fenced = opening.fencing(self._wire, opening.fence, self)

    def _begins_anew(self) -> None:
        self._autocommit, self._level, self._readonly, self._deferrable = False, None, None, None
        self._believes(in_transactions=False)

    def reset(self) -> None:
        """Roll back, and make the session what it was when it was opened."""
        self.rollback()
        with self.fenced.fence.asking():
            super().reset()  # by DISCARD ALL
            self.fenced.prepared.forget()
            self._begins_anew()
            self._wire.waits_for(self._wire.send([self._question]))

    # The modes of its transactions, which psycopg2 would put into a BEGIN of its own

    @property
    def autocommit(self) -> bool:
        """Whether each statement commits by itself."""
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self.set_session(autocommit=value)

    @property
    def isolation_level(self) -> int | None:
        """One of psycopg2's constants; None for the server's default."""
        return next((number for number, name in _LEVELS.items() if name == self._level), None)

    @isolation_level.setter
    def isolation_level(self, value: int | str | bytes | None) -> None:
        self.set_session(isolation_level="DEFAULT" if value is None else value)

    @property
    def readonly(self) -> bool | None:
        """Whether transactions are READ ONLY; None for the server's default."""
        return self._readonly

    @readonly.setter
    def readonly(self, value: Any) -> None:  # noqa: ANN401 – psycopg2's
        self.set_session(readonly="DEFAULT" if value is None else value)

    @property
    def deferrable(self) -> bool | None:
        """Whether transactions are DEFERRABLE; None for the server's default."""
        return self._deferrable

    @deferrable.setter
    def deferrable(self, value: Any) -> None:  # noqa: ANN401 – psycopg2's
        self.set_session(deferrable="DEFAULT" if value is None else value)

    def set_session(
        self,
        isolation_level: int | str | bytes | None = None,
        readonly: bool | str | bytes | None = None,  # noqa: FBT001 – psycopg2's signature, as all here
        deferrable: bool | str | bytes | None = None,  # noqa: FBT001 – as above
        autocommit: bool | None = None,  # noqa: FBT001 – as above
    ) -> None:
        """Set the modes of the transactions that follow.

        Raises:
            psycopg2.ProgrammingError: A transaction is open.
        """
        if self.fenced.transaction is not None:
            raise psycopg2.ProgrammingError("set_session cannot be used inside a transaction")
        if isolation_level is not None:
            self._level = _level(isolation_level)
        if readonly is not None:
            self._readonly = None if _text(readonly) == "DEFAULT" else bool(readonly)
        if deferrable is not None:
            self._deferrable = None if _text(deferrable) == "DEFAULT" else bool(deferrable)
        if autocommit is not None:
            self._autocommit = bool(autocommit)

    def set_isolation_level(self, level: int | None) -> None:
        """Set it for the transactions that follow; one that is open is rolled back, as psycopg2 does."""
        self.fenced.may_end(f"isolation level {level}")
        self.rollback()
        self._autocommit = level == extensions.ISOLATION_LEVEL_AUTOCOMMIT
        self._level = None if level is None else _LEVELS.get(level)

    @property
    def begin_words(self) -> str:
        """BEGIN, with the modes of the transaction."""
        modes = [f"ISOLATION LEVEL {self._level}"] if self._level else []
        if self._readonly is not None:
            modes.append("READ ONLY" if self._readonly else "READ WRITE")
        if self._deferrable is not None:
            modes.append("DEFERRABLE" if self._deferrable else "NOT DEFERRABLE")
        return " ".join(["BEGIN", *modes])

    # Its transactions

    @property
    def status(self) -> int:
        """Whether a transaction is open. psycopg2.extras ends one that was not, having looked up a type."""
        if self.fenced.transaction is not None:
            return extensions.STATUS_IN_TRANSACTION
        return extensions.STATUS_READY

    def commit(self) -> None:
        """COMMIT, if there is a transaction."""
        self.fenced.may_end("commit()")
        if self.fenced.transaction is not None:
            self._ends(self.fenced.transaction.commit)

    def rollback(self) -> None:
        """ROLLBACK, likewise."""
        self.fenced.may_end("rollback()")
        if self.fenced.transaction is not None:
            self._ends(self.fenced.transaction.rollback)

    def close(self) -> None:
        """Close it; PostgreSQL rolls back what is open."""
        self.fenced.ends()
        self._wire.close()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.rollback()

    def _ends(self, work: Callable[[], Any]) -> None:
        try:
            self.fenced.wire.waits_for(work())
        finally:
            self.fenced.ends()
            if self._believes_in_one:
                super().rollback()
                self._believes(in_transactions=False)

    def believes_in_its_transaction(self) -> None:
        """Have psycopg2 itself know of the transaction: it warns of a second BEGIN, which changes nothing."""
        if self.fenced.transaction is not None and not self._believes_in_one:
            self._believes(in_transactions=True)

    @property
    def _believes_in_one(self) -> bool:
        """Whether psycopg2 itself knows of the transaction."""
        return not self.closed and bool(_Native.status.__get__(self) != extensions.STATUS_READY)

    def _believes(self, *, in_transactions: bool) -> None:
        _Native.autocommit.__set__(self, not in_transactions)  # type: ignore[attr-defined]  # a descriptor, which the stubs have as a bool

    # What speaks over it

    def cursor(
        self,
        name: str | bytes | None = None,
        cursor_factory: Any = None,  # noqa: ANN401 – as above
        withhold: bool = False,  # noqa: FBT001, FBT002 – as above
        scrollable: bool | None = None,  # noqa: FBT001 – as above
    ) -> Any:  # noqa: ANN401 – of whichever class is asked for
        """A fenced cursor, of the class that is asked for."""
        own: Any = self.cursor_factory
        kind = psycopg2_cursor.fenced(cursor_factory or own or extensions.cursor, is_named=name is not None)
        return super().cursor(name, cursor_factory=kind, withhold=withhold, scrollable=scrollable)

    def lobject(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 – psycopg2's
        """A large object, which lives in a transaction."""
        with self.lets_through("SELECT lo"):
            self.believes_in_its_transaction()
            return super().lobject(*arguments, **named)

    @contextlib.contextmanager
    def lets_through(self, operation: str) -> Iterator[None]:
        """Around what psycopg2 sends by itself: in a transaction that was begun, or after a look in autocommit mode."""
        wire, fenced = self.fenced.wire, self.fenced
        with fenced.failing(), contextlib.ExitStack() as stack:
            wire.waits_for(fenced.meets(operation))
            if fenced.transaction is None:
                wire.waits_for(fenced.stands_alone() if self.autocommit else fenced.begin(operation))
            else:
                wire.waits_for(fenced.looks_at_its_locks(operation))
            watching = fenced.watching_for_a_commit(operation)
            wire.waits_for(watching.__aenter__())
            stack.push(lambda *raised: wire.waits_for(watching.__aexit__(*raised)))
            yield


def _level(value: int | str | bytes) -> str | None:
    if isinstance(value, int):
        return _LEVELS.get(value)
    text = _text(value)
    return None if text == "DEFAULT" else text


def _text(value: object) -> str:
    return (value.decode() if isinstance(value, bytes) else str(value)).upper()
