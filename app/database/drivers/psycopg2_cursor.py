"""psycopg2's cursors, whose statements are fenced.

Source: psycopg2's documentation, "The cursor class". In sync mode a message of several statements leaves the result of
the last one, so the BEGIN can stand before the first.
"""

import functools
from collections import deque
from typing import Any

from psycopg2 import extensions

from app.database import driver_error, indexes, statements
from app.database.simple_query import ResultSet


class Cursor(extensions.cursor):
    """A cursor whose statements are fenced."""

    connection: Any  # a psycopg2_connection.Connection, which hands these out
    parameters: Any = None
    """Those of the last statement, for whoever tells of its failure, and is not to tell them."""

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002, ANN401 – psycopg2's names
        """Send a statement, whose parameters psycopg2 puts into its text."""
        fenced = self.connection.fenced
        self.parameters = vars
        sql = self.mogrify(query, vars)
        with fenced.failing():
            fenced.wire.waits_for(self._meets(sql, self._read(sql)))

    async def _meets(self, sql: bytes, operation: str) -> None:
        fenced, commits_by_itself = self.connection.fenced, self.connection.autocommit
        await fenced.meets(operation)
        mark = fenced.mark
        if mark and (wanted := indexes.build(operation)):
            await fenced.clear_the_way_for(wanted)
        if fenced.transaction is not None:
            await fenced.looks_at_its_locks(operation)
        elif commits_by_itself:
            await fenced.stands_alone()
        async with fenced.watching_for_a_commit(operation) as told:
            if fenced.transaction is None and not commits_by_itself:
                await self._begins_with(sql, operation)
            else:
                await self._sends(sql, operation, before=mark)
            told.append(ResultSet(status=self.statusmessage or ""))

    async def _begins_with(self, sql: bytes, operation: str) -> None:
        """Begin a fenced transaction, in the message of its first statement if that can be.

        Raises:
            LockLost: The guard is gone.
        """
        fenced, fence = self.connection.fenced, self.connection.fenced.fence
        # Behind a pooler only an answer tells the pid, and of a message psycopg2 tells the last one.
        if fenced.may_begin_with_a_statement and fence.session_is_ours:
            words = fenced.begins(operation)
            fence.pid = fenced.wire.pid
            begin = f"/* {statements.beginning(operation)} */ {'; '.join(words)}; "  # for pg_stat_activity, which cuts
            try:
                with fence.explaining():
                    await self._sends(sql, operation, before=begin)
            except Exception as error:
                fenced.prepared.forget()
                if fenced.wire.is_in_transaction or not driver_error.is_of_the_parser(error):
                    raise
                # As PostgreSQL reads a message as a whole before it runs any of it, not even the BEGIN was run. The
                # statement is to fail inside of a transaction, which ends there for whoever goes on regardless.
            else:
                fence.footprint.has_begun()
                return
        await fenced.begin(operation)
        await self._sends(sql, operation)

    async def _sends(self, sql: bytes, operation: str, *, before: str = "") -> None:
        fenced = self.connection.fenced
        async for part in fenced.parts(operation):
            if fenced.is_watched and not statements.ends_a_transaction(part):
                note = fenced.fence.footprint.note(part)
                before += f"{note}; " if note else ""
            # What is sent whole is sent as psycopg2 wrote it: to read it may have lost something.
            super().execute(self._written(before) + (sql if part is operation else self._written(part)))
            before = ""

    def executemany(self, query: Any, vars_list: Any) -> None:  # noqa: ANN401 – psycopg2's
        """Send a statement once for each set of parameters."""
        self.parameters = vars_list
        with self.connection.lets_through(self._read(self.mogrify(query))):
            super().executemany(query, vars_list)

    def callproc(self, procname: Any, parameters: Any = None) -> Any:  # noqa: ANN401 – psycopg2's
        """Call a function."""
        self.parameters = parameters
        with self.connection.lets_through(f"SELECT {procname}"):
            return super().callproc(procname, parameters)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:  # noqa: ANN401 – psycopg2's
        """COPY from or to a file."""
        with self.connection.lets_through("COPY"):
            super().copy_expert(sql, file, size)

    def copy_from(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 – psycopg2's
        """COPY from a file."""
        with self.connection.lets_through("COPY"):
            super().copy_from(*arguments, **named)

    def copy_to(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 – psycopg2's
        """COPY to a file."""
        with self.connection.lets_through("COPY"):
            super().copy_to(*arguments, **named)

    def _read(self, sql: bytes) -> str:
        return sql.decode(self._encoding, "replace")

    def _written(self, text: str) -> bytes:
        return text.encode(self._encoding, "replace")

    @property
    def _encoding(self) -> str:
        return extensions.encodings[self.connection.encoding]


class StreamingCursor(Cursor):
    """A named cursor, whose rows come as they are wanted, as long as no statement needs the table for itself."""

    _kept: deque[Any] | None = None
    """The rows that were left when one did."""

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002, ANN401 – psycopg2's names
        """Declare the cursor."""
        connection, self.parameters = self.connection, vars
        with connection.lets_through(self._read(self.mogrify(query, vars))):
            connection.believes_in_its_transaction()
            super(Cursor, self).execute(query, vars)
        connection.fenced.streams.append(self)

    async def finish(self) -> None:
        """Fetch what is left, and let the server forget the cursor."""
        with self.connection.fenced.fence.asking():
            self._kept = deque(super().__iter__())
        self.close()

    def close(self) -> None:
        """Let the server forget the rest."""
        streams = self.connection.fenced.streams
        if self in streams:
            streams.remove(self)
        super().close()

    def __iter__(self) -> Any:  # noqa: ANN401 – itself, or an iterator of the class that is asked for
        return super().__iter__() if self._kept is None else self

    def __next__(self) -> Any:  # noqa: ANN401 – a row, of the class that is asked for
        if self._kept is None:
            with self.connection.fenced.fence.asking():
                return super().__next__()
        if not self._kept:
            raise StopIteration
        return self._kept.popleft()

    def fetchone(self) -> Any:  # noqa: ANN401 – as above
        """The next row, or None."""
        if self._kept is None:
            with self.connection.fenced.fence.asking():
                return super().fetchone()
        return self._kept.popleft() if self._kept else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next rows."""
        wanted = size or self.arraysize
        if self._kept is None:
            with self.connection.fenced.fence.asking():
                return super().fetchmany(wanted)
        return [self._kept.popleft() for _ in range(min(wanted, len(self._kept)))]

    def fetchall(self) -> list[Any]:
        """The rest."""
        if self._kept is None:
            with self.connection.fenced.fence.asking():
                return super().fetchall()
        rows, self._kept = list(self._kept), deque()
        return rows


@functools.cache
def fenced(factory: type[extensions.cursor], *, is_named: bool) -> type[extensions.cursor]:
    """A class of cursors, such as one of psycopg2.extras, whose statements are fenced."""
    ours = StreamingCursor if is_named else Cursor
    if issubclass(factory, ours) or factory is extensions.cursor:
        return factory if issubclass(factory, ours) else ours
    return type(f"Fenced{factory.__name__}", (ours, factory), {})
