"""The revisions run on a database, for good or in a rehearsal; or taken as run."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep, StampStep
from sqlalchemy import Connection, Delete, Executable, Insert, Update, literal_column
from sqlalchemy.dialects import postgresql

from app.database.fence import Move
from app.errors import InternalError
from app.migrator.revisions import env_py
from app.migrator.revisions.env_py import Observer, Onlooker
from app.migrator.revisions.history import History, revision_of
from app.report import Direction

_MEANS_SOMETHING = re.compile(r"[:\\%]")
"""What stands in a text for more than itself; a percent sign, where a driver has its parameters begin so."""

type _Steps = Callable[[tuple[str, ...], MigrationContext], Iterator[RevisionStep] | Iterator[StampStep]]


class Rehearser(Observer, Protocol):
    """Is told of each revision in a rehearsal."""

    def refuses_autocommit(self) -> NoReturn:
        """A revision wants an autocommit block, which cannot be taken back."""


def run(
    history: History, connection: Connection, target: str, observer: Observer, direction: Direction = "upgrade"
) -> None:
    """Move the database of `connection`, which must have no transaction open, to `target`.

    With one open, Alembic would take it for its caller's and put every revision into it.

    Raises:
        Exception: whatever a revision raises.
    """
    if connection.in_transaction():
        raise InternalError("The connection handed to Alembic has a transaction open.")

    def steps(heads: tuple[str, ...], context: MigrationContext) -> Iterator[RevisionStep]:
        _execute_in_short(context)
        if not heads and observer.commits_here:
            # The version table, which Alembic has just made: in the first revision's transaction none has no effect.
            connection.commit()
        for step in history.steps(tuple(sorted(heads)), target, direction):  # as they were planned
            observer.begins(revision_of(step.revision))
            yield step
            if observer.commits_here:
                # A revision that committed by itself has left its version in a transaction that is still open.
                connection.commit()
            _go_on(context, connection)
            observer.ends(revision_of(step.revision))

    _through_env_py(history, connection, target, steps, observer, **observer.transactions)


def _go_on(context: MigrationContext, connection: Connection) -> None:
    """Have Alembic go on in the transaction that is open, where the one that it began for all revisions has ended."""
    begun = context._transaction  # noqa: SLF001 – as `autocommit_block` replaces it
    if begun is not None and not begun.is_active:
        context._transaction = connection.get_transaction() or connection.begin()  # noqa: SLF001 – as above


@dataclass(frozen=True, slots=True)
class _Moved:
    """The result of a statement that waits for its COMMIT, as far as Alembic looks at it."""

    rowcount: int = 1


def _execute_in_short(context: MigrationContext) -> None:
    """Save what stands out in a history of a thousand revisions.

    That is the round trip of what moves the version, of which Alembic only asks that it has changed one row; and
    SQLAlchemy's compiling of text in which there is nothing to compile (`sqlalchemy.text`: parameters begin with a
    colon, and a backslash takes that from them).
    """
    theirs = context.impl._exec  # noqa: SLF001 – by which Alembic executes everything
    table = context._version  # noqa: SLF001 – Alembic's own
    column = table.c.version_num
    new: Any = literal_column("$1")
    is_old = column == literal_column("$2")
    connection = context.connection
    assert connection is not None  # noqa: S101 – a run has one
    # One that env.py has opened knows nothing of waiting.
    of_ours = getattr(connection.connection.dbapi_connection, "fenced", None)
    moves: dict[type, Update | Insert | Delete] = {
        Update: table.update().values(version_num=new).where(is_old),
        Insert: table.insert().inline().values(version_num=new),
        Delete: table.delete().where(is_old),
    }
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]  # else each % comes out twice
    sql = {kind: str(move.compile(dialect=dialect)) for kind, move in moves.items()}

    def execute(construct: Executable | str, *positional: Any, **named: Any) -> Any:  # noqa: ANN401 – as Alembic has it
        if isinstance(construct, Update | Insert | Delete) and construct.table is table and of_ours is not None:
            if not connection.in_transaction():
                connection.begin()  # as executing it would
            if of_ours.lets_it_wait(Move(sql[type(construct)], *_versions(construct))):
                return _Moved()
        if isinstance(construct, str) and not (_MEANS_SOMETHING.search(construct) or any(positional) or named):
            return connection.exec_driver_sql(construct)
        return theirs(construct, *positional, **named)

    context.impl._exec = execute  # type: ignore[method-assign]  # noqa: SLF001 – of this run's


def _versions(move: Any) -> tuple[str, str]:  # noqa: ANN401 – an Update, of which SQLAlchemy declares less
    """The new version and the one before, as SQL, of a statement as Alembic builds it; empty where it has none."""
    to = [each.name for each in (getattr(move, "_values", None) or {}).values()]
    before = getattr(move, "whereclause", None)
    return "".join(to), "" if before is None else before.right.name


def rehearse(history: History, connection: Connection, target: str, observer: Rehearser) -> None:
    """Run every revision up to `target` inside the transaction that `connection` has open.

    Raises:
        Exception: whatever a revision raises.
    """
    if not connection.in_transaction():
        raise InternalError("The connection handed to Alembic for a rehearsal has no transaction open.")

    def steps(heads: tuple[str, ...], context: MigrationContext) -> Iterator[RevisionStep]:
        context.autocommit_block = observer.refuses_autocommit  # type: ignore[method-assign]  # of this rehearsal's
        for step in history.steps(tuple(sorted(heads)), target, "upgrade"):
            observer.begins(revision_of(step.revision))
            yield step
            observer.ends(revision_of(step.revision))

    _through_env_py(history, connection, target, steps, observer)


def stamp(history: History, connection: Connection, target: str, onlooker: Onlooker) -> None:
    """Write into the database of `connection`, which must have no transaction open, that it is at `target`."""
    if connection.in_transaction():
        raise InternalError("The connection handed to Alembic has a transaction open.")

    def steps(heads: tuple[str, ...], _: MigrationContext) -> Iterator[StampStep]:
        yield from history.script._stamp_revs(target, heads)  # noqa: SLF001 – what `alembic stamp` calls

    # Of several heads all or none: with some of them the rest would look as if it were to be run. An env.py that
    # declines transactional DDL would have Alembic begin a transaction for each of them.
    in_one = {"transaction_per_migration": False, "transactional_ddl": True}
    _through_env_py(history, connection, target, steps, onlooker, **in_one)


def _through_env_py(
    history: History, connection: Connection, target: str, steps: _Steps, onlooker: Onlooker, **others: bool
) -> None:
    config = history.config()
    config.attributes["connection"] = connection
    env_py.through(
        history,
        EnvironmentContext(config, history.script, fn=steps, destination_rev=target),
        env_py.run_options(onlooker, history.version_table) | others,
        guard=onlooker.guard,
    )
