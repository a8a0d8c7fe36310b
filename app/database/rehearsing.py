"""The connection that a rehearsal runs on: one transaction, which can be rolled back and in no way committed.

Here whatever would end the transaction, or go around it, is refused before it is sent; PostgreSQL is asked of each
statement whether it is one, and gets it alone, so nothing comes behind a ROLLBACK that was overlooked. A unique
constraint that fails once it is checked, and is checked at a COMMIT, has PostgreSQL refuse each COMMIT. And where the
session is ours alone, which a pooler's is not, it is read-only but for this transaction.

Out of reach is what a revision sends by the driver itself, past SQLAlchemy: a ROLLBACK in it is seen only afterwards.

Sources: PostgreSQL manual, "CREATE TABLE" (DEFERRABLE), "SET TRANSACTION" (default_transaction_read_only), "Message
Flow" (a string of several statements is read as a whole before it is run; Parse takes one statement).
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn
from uuid import UUID

import sqlalchemy as sa

from app.database import driver_error, working
from app.database.fence import Fence
from app.database.fenced import Fenced, Modes
from app.database.url import Database
from app.database.wire import Wire
from app.lint import statements
from app.settings import Driver

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
    driver: Driver,
    on_open: Callable[[Wire], None],
) -> sa.Engine:
    """An engine as `working.engine` makes it, for one connection, on which a rehearsal may begin."""

    def before_open() -> None:
        if stage.is_set:
            stage.refuse("It opens a connection of its own.")

    return working.engine(
        database,
        fence,
        run_id=run_id,
        driver=driver,
        before_open=before_open,
        on_open=on_open,
        fencing=lambda wire, fence, modes: _Staged(wire, fence, modes, stage),
        session="SET default_transaction_read_only = on; ",
    )


def begin(opened: sa.Connection, stage: Stage) -> None:
    """Begin the one transaction; from here on nothing commits."""
    stage.is_set = True
    opened.exec_driver_sql(_NEVER_COMMITS)


class _Staged(Fenced):
    """What is fenced of a connection on which a rehearsal takes place."""

    def __init__(self, wire: Wire, fence: Fence, modes: Modes, stage: Stage) -> None:
        super().__init__(wire, fence, modes)
        self._stage = stage

    @property
    def may_begin_with_a_statement(self) -> bool:
        return not self._stage.is_set

    def begins(self, operation: str) -> list[str]:
        words = super().begins(operation)
        if self._stage.is_set:
            self._stage.begins()
            words[0] += " READ WRITE"
        return words

    async def meets(self, operation: str) -> None:
        """See that the transaction is open, and that the statement leaves it so."""
        if self._stage.is_set:
            self._insist()
            if what := statements.controls_transactions(operation):
                self._stage.refuse(_ENDS.format(what=what))
        await super().meets(operation)

    async def parts(self, operation: str) -> AsyncIterator[str]:
        """One statement after the other, each of which PostgreSQL too takes for one."""
        if not self._stage.is_set:
            yield operation
            return
        for statement in statements.split(operation):
            if statement.tokens:
                if not await self.wire.is_one_statement(statement.text):
                    self._stage.refuse(
                        _READS_OTHERWISE.format(why=", as several statements where there seems to be one")
                    )
                yield statement.text
                self._insist()

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """See whether a statement failed for what the stage is made of."""
        try:
            yield
        except Exception as error:
            if self._stage.is_set:
                if driver_error.constraint(error.__cause__ or error) == _NEVER:
                    self._stage.refuse(_COMMITS)
                self._insist()
            raise

    def may_end(self, what: str) -> None:
        """Nothing may end it."""
        if self._stage.is_set:
            self._stage.refuse(_ENDS.format(what=what))

    def _insist(self) -> None:
        """See that the transaction is open, that nothing was refused, and that SQL is read as `statements` does.

        Raises:
            CannotBeRehearsed: It is not so.
        """
        if self.has_lost_its_transaction():
            self._stage.loses_its_transaction()
        self._stage.insist()
        # PostgreSQL reports each change of it. A pooler may keep that to itself, but each statement is sent alone.
        if not self.wire.is_closed and self.wire.setting("standard_conforming_strings") not in ("on", None):
            self._stage.refuse(_READS_OTHERWISE.format(why=" while standard_conforming_strings is off"))
