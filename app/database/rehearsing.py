"""The connection that a rehearsal runs on: one transaction, which can be rolled back and in no way committed.

Here whatever would end the transaction, or go around it, is refused before it is sent; PostgreSQL is asked of each
statement whether it is one, and gets it alone, so nothing comes behind a ROLLBACK that was overlooked. A unique
constraint that fails once it is checked, and is checked at a COMMIT, has PostgreSQL refuse each COMMIT. And where the
session is ours alone, which a pooler's is not, it is read-only but for this transaction.

Out of reach is what a revision sends by the driver itself, past SQLAlchemy: a ROLLBACK in it is seen only afterwards.

Sources: PostgreSQL manual, "CREATE TABLE" (DEFERRABLE), "SET TRANSACTION" (default_transaction_read_only), "Message
Flow" (a string of several statements is read as a whole before it is run; Parse takes one statement).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID

import asyncpg
import sqlalchemy as sa

from app.database import connection, fenced, working
from app.database.fence import Fence
from app.database.simple_query import ResultSet
from app.database.url import Database
from app.lint import statements

_NEVER = "migration_endpoint_rehearsal_never_commits"
_TWICE = f"{_NEVER}_twice"
_NEVER_COMMITS = (
    f"CREATE TEMP TABLE {_TWICE} (id int, CONSTRAINT {_NEVER} UNIQUE (id) DEFERRABLE INITIALLY DEFERRED) "
    f"ON COMMIT DROP; INSERT INTO {_TWICE} VALUES (1), (1)"
)
_COMMITS = "It commits, or checks all deferred constraints, by itself."
_ENDS = "It ends its transaction by itself ({what})."
_READS_OTHERWISE = "PostgreSQL reads its SQL in another way than is looked at here{why}."

IS_THE_SAME = f"SELECT to_regclass('pg_temp.{_TWICE}') IS NOT NULL"
"""Tells whether the transaction is still the one that a rehearsal began, rather than another that a revision did."""

DEFERRABLE = (
    "SELECT string_agg(name, ', '), string_agg(name, ', ') FILTER (WHERE is_deferred) FROM ("
    "SELECT format('%I.%I', n.nspname, c.conname), bool_or(c.condeferred) AND bool_and(c.condeferrable) "
    "FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace "
    f"WHERE c.conname <> '{_NEVER}' AND c.conparentid = 0 "
    "AND has_schema_privilege(n.oid, 'USAGE') AND NOT pg_is_other_temp_schema(n.oid) "
    "GROUP BY 1 HAVING bool_or(c.condeferrable)) AS named(name, is_deferred)"
)
"""Names the constraints that a COMMIT may check, but for the one that it must fail by; and which of them each
transaction begins by deferring. By names, as SET CONSTRAINTS has it, which several tables' constraints may share: with
one that is not deferrable among them it would fail."""


class CannotBeRehearsed(Exception):  # noqa: N818 – a fact, as everywhere here
    """A revision does what cannot be taken back; it was not done."""


@dataclass(slots=True)
class Stage:
    """What may happen in a rehearsal. From `is_set` on there is one transaction, and no way out of it."""

    is_set: bool = False
    refused: str | None = None
    """Why a revision cannot be rehearsed, however it took that."""
    is_lost: bool = False
    """The transaction has ended unseen, and what came behind it may have been left."""
    _has_begun: bool = False

    def refuse(self, reason: str) -> NoReturn:
        """Refuse what a revision wants.

        Raises:
            CannotBeRehearsed: always.
        """
        self.refused = self.refused or reason
        raise CannotBeRehearsed(self.refused)

    def loses_its_transaction(self) -> NoReturn:
        """Notice that the transaction has ended.

        Raises:
            CannotBeRehearsed: always.
        """
        self.is_lost = True
        self.refuse(_ENDS.format(what="in a way that was seen too late to say which"))

    def insist(self) -> None:
        """See that nothing was refused that a revision has passed over.

        Raises:
            CannotBeRehearsed: Something was.
        """
        if self.refused is not None:
            self.refuse(self.refused)

    def begins(self) -> None:
        """The transaction begins, once."""
        if self._has_begun:
            self.refuse(_ENDS.format(what="and begins another one"))
        self._has_begun = True


def engine(
    database: Database,
    fence: Fence,
    stage: Stage,
    *,
    run_id: UUID,
    on_open: Callable[[connection.Connection], None],
) -> sa.Engine:
    """An engine as `working.engine` makes it, for one connection, on which a rehearsal may begin."""
    return working.engine(
        database,
        fence,
        run_id=run_id,
        on_open=on_open,
        dbapi=_Dbapi(fence, stage),
        session="SET default_transaction_read_only = on; ",
    )


def begin(opened: sa.Connection, stage: Stage) -> None:
    """Begin the one transaction; from here on nothing commits."""
    stage.is_set = True
    opened.exec_driver_sql(_NEVER_COMMITS)


class _Dbapi(fenced.Dbapi):
    def __init__(self, fence: Fence, stage: Stage) -> None:
        super().__init__(fence)
        self._stage = stage

    def connect(self, *arguments: Any, **options: Any) -> fenced.Connection:  # noqa: ANN401 – DBAPI
        if self._stage.is_set:
            self._stage.refuse("It opens a connection of its own.")
        return super().connect(*arguments, **options)

    def connection(self, opened: Any, **options: Any) -> fenced.Connection:  # noqa: ANN401 – DBAPI
        return _Connection(self, opened, self._fence, self._stage, **options)


class _Connection(fenced.Connection):
    __slots__ = ("stage",)

    def __init__(self, dbapi: _Dbapi, opened: Any, fence: Fence, stage: Stage, **options: Any) -> None:  # noqa: ANN401 – DBAPI
        super().__init__(dbapi, opened, fence, **options)
        self.stage = stage

    async def begin(self) -> None:
        if self.stage.is_set:
            self.stage.begins()
        await super().begin()

    async def begin_with(self, operation: str) -> list[ResultSet]:
        if not self.stage.is_set:
            return await super().begin_with(operation)
        await self.begin()
        return await self.sent(operation)

    @property
    def begin_words(self) -> str:
        return super().begin_words + " READ WRITE" * self.stage.is_set

    def insist(self) -> None:
        """See that the transaction is open, that nothing was refused, and that SQL is read as `statements` does.

        Raises:
            CannotBeRehearsed: It is not so.
        """
        opened = self._connection
        if self.has_lost_its_transaction():
            self.stage.loses_its_transaction()
        self.stage.insist()
        # PostgreSQL reports each change of it. A pooler may keep that to itself, but each statement is sent alone.
        if not opened.is_closed() and getattr(opened.get_settings(), "standard_conforming_strings", "on") != "on":
            self.stage.refuse(_READS_OTHERWISE.format(why=" while standard_conforming_strings is off"))

    async def sent(self, operation: str) -> list[ResultSet]:
        if not self.stage.is_set:
            return await super().sent(operation)
        results: list[ResultSet] = []
        for statement in statements.split(operation):
            if statement.tokens:
                await self._insist_on_one(statement.text)
                results += await super().sent(statement.text)
                self.insist()
        return results

    async def _insist_on_one(self, statement: str) -> None:
        """See that PostgreSQL too takes it for one statement: it prepares no more than that."""
        try:
            await self._connection.prepare(statement, name="")
        except asyncpg.PostgresSyntaxError as error:
            # It has been read without an error, then; only the message, in the server's language, would say it too.
            if error.server_source_function == "exec_parse_message":
                self.stage.refuse(_READS_OTHERWISE.format(why=", as several statements where there seems to be one"))
            raise

    def commit(self) -> None:
        if self.stage.is_set:
            self.stage.refuse(_ENDS.format(what="commit()"))
        super().commit()  # type: ignore[no-untyped-call]  # as in fenced

    def rollback(self) -> None:
        if self.stage.is_set:
            self.stage.refuse(_ENDS.format(what="rollback()"))
        super().rollback()  # type: ignore[no-untyped-call]  # as in fenced

    def set_isolation_level(self, level: str) -> None:
        if self.stage.is_set:
            self.stage.refuse(_ENDS.format(what=f"isolation level {level}"))
        super().set_isolation_level(level)  # type: ignore[no-untyped-call]  # as in fenced


class _Cursor(fenced.Cursor):
    __slots__ = ()

    async def _prepare_and_execute(self, operation: str, parameters: Sequence[Any] | None) -> None:
        self._insist_on(operation)
        try:
            await super()._prepare_and_execute(operation, parameters)
        except Exception as error:
            self._see_what_failed(error)
            raise

    async def _executemany(self, operation: str, seq_of_parameters: Sequence[Any]) -> None:
        self._insist_on(operation)
        await super()._executemany(operation, seq_of_parameters)

    def _insist_on(self, operation: str) -> None:
        """See that the transaction is open, and that the statement leaves it so."""
        stage: Stage = self._adapt_connection.stage
        if not stage.is_set:
            return
        self._adapt_connection.insist()
        if what := statements.controls_transactions(operation):
            stage.refuse(_ENDS.format(what=what))

    def _see_what_failed(self, error: Exception) -> None:
        if getattr(error.__cause__, "constraint_name", None) == _NEVER:
            self._adapt_connection.stage.refuse(_COMMITS)
        self._insist_on("")


_Connection._cursor_cls = _Cursor  # noqa: SLF001 – SQLAlchemy's seam, as in fenced
