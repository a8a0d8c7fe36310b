"""Handing the connection to a user's env.py, and seeing that it takes it.

An env.py as Alembic's cookbook has it ("Sharing a Connection across one or more programmatic migration commands") takes
`config.attributes["connection"]`. One that does not would migrate whatever database it finds itself, past the lock: it
is refused when it configures another connection, and when it ends, or raises, before it has configured ours.
"""

import logging.config
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from alembic.runtime.environment import EnvironmentContext
from sqlalchemy.exc import DBAPIError

from app.database import lock
from app.database.catalog import VersionTable
from app.errors import NotConfigured, UnsuitableEnvPy
from app.migrator import cause
from app.migrator.revisions.begun import begun_as_ever, begun_by_env_py
from app.migrator.revisions.options import VERSION_PLACE, Options
from app.problem import Problem

if TYPE_CHECKING:
    from sqlalchemy import Connection

ONLINE = """\
elif (connection := context.config.attributes.get("connection")) is not None:
    context.configure(connection=connection, target_metadata=target_metadata)
    with context.begin_transaction(): context.run_migrations()"""
"""The lines that an env.py lacks which does not take the connection, for before its last `else:`."""
OFFLINE = """\
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=target_metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()"""
"""And those that one lacks which knows nothing of the offline mode, in which a plan is made."""
_HINTS = {
    "online": (
        "with the connection that it is handed",
        "these three lines before its last `else:` (with `if` where it has none)",
        ONLINE,
    ),
    "offline": ("offline, as a plan needs it", "these lines, and put what connects behind an `else:`", OFFLINE),
}


_EACH_BY_ITSELF = (
    "Several schemas with a version each, such as those of tenants, are migrated one at a time: `python -m app "
    "migrate`, with MIGRATION_SEARCH_PATH for each."
)
_TAKES_IT = re.compile(r"""attributes\b.{0,20}["']connection["']""", re.DOTALL)


class Handover:
    """One run through env.py, and what has become of the connection.

    Args:
        environment: What `alembic.context` is for env.py.
        version_table: Where the settings have the version, so that the lock is held for it.
        options: What else is set.
        lock_key: The lock's; None offline.
    """

    def __init__(
        self, environment: EnvironmentContext, version_table: VersionTable, options: Options, *, lock_key: int | None
    ) -> None:
        self._env_py = Path(environment.script.env_py_location)
        self._connection: Connection | None = environment.config.attributes.get("connection")
        self._is_offline = environment.is_offline_mode()
        self._was_in_transaction = self._is_in_transaction
        self._is_configured = False
        self._has_run = False
        self._told: BaseException | None = None
        """What env.py was told: what a migration raised, or else why it is refused."""
        self._version_table = version_table
        self._lock_key = lock_key
        self._met_before = self._met
        ours = dict(zip(VERSION_PLACE, (version_table.name, version_table.schema), strict=True))
        self._taken_for_granted = {
            name: value for name, value in ours.items() if name not in options.says_where_the_version_is
        }

    def configures(self, said: Mapping[str, Any]) -> None:
        """env.py configures a connection, or none.

        Args:
            said: Its options.

        Raises:
            UnsuitableEnvPy: It is not ours.
            NotConfigured: The version is kept elsewhere than the settings have it.
        """
        self._insist_on_one_run()
        connection = said.get("connection")
        if not self._is_offline and connection is not self._connection:
            self._refuse(f"it configured {'another' if connection else 'no'} connection{_at(self._place_of_call())}")
        self._insist_on_the_version_table(said)
        if self._connection is not None and self._is_in_transaction and not self._was_in_transaction:
            # It has set something, perhaps. Alembic would take its transaction for that of all revisions.
            self._connection.commit()
        self._is_configured = True

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around the migrations, which env.py runs.

        Raises:
            UnsuitableEnvPy: In another place than the lock is held for, or for a second time.
        """
        self._insist_on_one_run()
        self._insist_on_the_locked_table()
        self._has_run = True
        try:
            with begun_as_ever(self._connection):
                yield
        except BaseException as error:
            self._told = error
            raise

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around env.py.

        Raises:
            UnsuitableEnvPy: It does not take the connection; nothing was run.
            NotConfigured: as `configures`.
        """
        if not self._env_py.is_file():
            raise UnsuitableEnvPy(
                f"There is no env.py in {self._env_py.parent.name}.",
                hint="Copy this project's migrations/env.py there, which takes the connection.",
            )
        try:
            with (
                _without_file_config(),
                begun_by_env_py(self._connection, may_end=not self._was_in_transaction),
            ):
                yield
        except (Exception, SystemExit) as error:
            if self._told is None and not (self._is_configured or self._is_the_databases(error)):
                at = _at(self._place_of(error))
                self._refuse(f"it raised `{cause.message(error)}`{at} before it had configured anything", error)
            if self._told is None:
                raise
        if self._told is not None:  # whatever env.py made of it
            raise self._told
        if not self._is_configured:
            self._refuse("it ended without a call of `context.configure`")
        if not self._has_run:
            self._refuse("it ended without a call of `context.run_migrations`")

    def _insist_on_the_version_table(self, said: Mapping[str, Any]) -> None:
        """See that env.py keeps the version where it was looked for, unless a setting says where that is.

        Taken for empty, a database would be run through the whole history again.
        """
        ours = self._taken_for_granted
        theirs = {name: str(said[name]) for name in ours if said.get(name) and str(said[name]) != ours[name]}
        if not theirs:
            return
        variables = [f"MIGRATION_{name.upper()}" for name in theirs]
        settings = " and ".join(
            f"{variable}={value}" for variable, value in zip(variables, theirs.values(), strict=True)
        )
        said_here = _as_arguments({name: ours[name] for name in theirs})
        refusal = NotConfigured(
            f"env.py says {_as_arguments(theirs)}{_at(self._place_of_call())}, and the settings say {said_here}. "
            "Nothing was run.",
            hint=f"Set {settings}, then deploy again. The lock's key is made of the version table and its schema, so "
            "they have to be known before env.py is run. What is set wins over env.py.",
            variables=variables,
        )
        self._tell(refusal)

    def _insist_on_one_run(self) -> None:
        """See that env.py does not go on with another schema, of which nobody has looked at the version."""
        if self._has_run:
            at = _at(self._place_of_call())
            refusal = UnsuitableEnvPy(
                f"env.py goes on after its `context.run_migrations`{at}, and a run has one version table. That call "
                "has done its work, and nothing of what should follow was run.",
                hint=_EACH_BY_ITSELF,
            )
            self._tell(refusal)

    def _insist_on_the_locked_table(self) -> None:
        """See that what env.py has done to the connection does not lead to another version table than was looked at."""
        found_in = self._schema_of_the_version_table()
        table = f"{found_in}.{self._version_table.name}"
        if found_in is None or lock.key(table) == self._lock_key:
            return
        refusal = UnsuitableEnvPy(
            f"env.py leads to the version table {table}{_at(self._place_of_call())}, and the lock is held for another, "
            "whose version was read. Nothing was run.",
            hint="Set MIGRATION_SEARCH_PATH instead of env.py's `SET search_path` or `schema_translate_map`, or "
            f"MIGRATION_VERSION_TABLE_SCHEMA={found_in} beside it. If env.py has only just made that schema, call "
            f"again. {_EACH_BY_ITSELF}",
        )
        self._tell(refusal)

    def _schema_of_the_version_table(self) -> str | None:
        """Where the connection leads to; None where nothing has been done to it by which it could be another place."""
        connection, table = self._connection, self._version_table
        if connection is None or self._lock_key is None or connection.closed:
            return None
        translated = connection.get_execution_options().get("schema_translate_map") or {}
        if translated.get(table.schema) is not None:
            return str(translated[table.schema])
        if table.schema is not None or self._met == self._met_before:
            return None
        was_in_transaction = connection.in_transaction()
        found_in: str = connection.exec_driver_sql(f"SELECT {table.found_in}").scalar_one()
        if not was_in_transaction:
            connection.rollback()
        return found_in

    @property
    def _met(self) -> int:
        """How many statements the connection has met."""
        if self._connection is None:
            return 0
        met: int = self._connection.connection.dbapi_connection.fenced.met  # type: ignore[union-attr]  # of ours
        return met

    def _refuse(self, what: str, error: BaseException | None = None) -> NoReturn:
        told, where, lines = _HINTS["offline" if self._is_offline else "online"]
        hint = f"Add {where}, with the options of its own `context.configure`; docs/env-py.md tells more.\n\n{lines}\n"
        if error is not None and self._seems_to_take_it:
            hint = "It seems to take the connection: correct what it raises before it comes to that, then deploy again."
        self._tell(UnsuitableEnvPy(f"env.py cannot be used {told}: {what}. Nothing was run.", hint=hint), error)

    def _tell(self, refusal: Problem, error: BaseException | None = None) -> NoReturn:
        self._told = self._told or refusal
        raise refusal from error

    @property
    def _seems_to_take_it(self) -> bool:
        """Whether its text speaks of what it is to take, so that the lines are there already."""
        text = self._env_py.read_text(errors="replace")
        return "is_offline_mode" in text if self._is_offline else bool(_TAKES_IT.search(text))

    @property
    def _is_in_transaction(self) -> bool:
        return self._connection is not None and self._connection.in_transaction()

    def _is_the_databases(self, error: BaseException) -> bool:
        """Whether the error came over our connection, which env.py has used, then."""
        return isinstance(error, Problem) or (isinstance(error, DBAPIError) and self._is_in_transaction)

    def _place_of(self, error: BaseException) -> str | None:
        return self._last(traceback.extract_tb(error.__traceback__))

    def _place_of_call(self) -> str | None:
        return self._last(traceback.extract_stack(sys._getframe()))  # noqa: SLF001 – as traceback itself has it

    def _last(self, frames: traceback.StackSummary) -> str | None:
        lines = [frame.lineno for frame in frames if Path(frame.filename) == self._env_py]
        return f"{self._env_py.name}:{lines[-1]}" if lines else None


def _as_arguments(options: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _at(place: str | None) -> str:
    return f" ({place})" if place else ""


@contextmanager
def _without_file_config() -> Iterator[None]:
    """Let env.py's `fileConfig` do nothing in this thread: there is no file, and a platform's log handler would go."""
    theirs, ours = logging.config.fileConfig, threading.get_ident()

    def file_config(*positional: Any, **named: Any) -> None:  # noqa: ANN401 – as logging declares it
        if threading.get_ident() != ours:
            theirs(*positional, **named)

    logging.config.fileConfig = file_config
    try:
        yield
    finally:
        logging.config.fileConfig = theirs
