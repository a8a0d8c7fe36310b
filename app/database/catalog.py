"""What the database says about itself: its revision, its server."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg

from app.database import environment, identity, indexes, relations, simple_query, tables
from app.database.connection import Session
from app.database.literals import identifier, literal
from app.database.session_settings import NONE, SessionSettings
from app.errors import PermissionDenied
from app.report import BrokenIndex

_LOOK_LOCK_TIMEOUT_MS = 2000


@dataclass(frozen=True, slots=True)
class VersionTable:
    """The table in which Alembic keeps the version."""

    name: str = "alembic_version"
    schema: str | None = None
    """None: the first one of the role's search path that has it, or may."""

    @property
    def sql(self) -> str:
        """As SQL text, quoted."""
        return ".".join(identifier(part) for part in (self.schema, self.name) if part)

    @property
    def found_in(self) -> str:
        """An SQL expression: the schema that it is in, or would be made in."""
        if self.schema is not None:
            return literal(self.schema)
        return f"coalesce({relations.schema_of(self.sql)}, current_schema(), 'public')"


USUAL = VersionTable()
"""What Alembic takes unless told otherwise."""


type Costly = Literal["environment", "form", "identity", "broken_indexes"]
"""What takes PostgreSQL a millisecond each to tell, and the INVALID indexes the more the more indexes there are."""
ALL: frozenset[Costly] = frozenset(("environment", "form", "identity", "broken_indexes"))


@dataclass(frozen=True, slots=True)
class Facts:
    """What one look at the database tells."""

    heads: tuple[str, ...]
    """The revisions in Alembic's version table, sorted; empty without the table."""
    version_table: str
    """Its name with its schema, whether it exists yet or not."""
    ledger_exists: bool
    """And the role may read it."""
    ledger_knows_builds: bool
    """It has the table of index builds, which one of an earlier version lacks."""
    ledger_knows_fingerprints: bool
    """It has the table of fingerprints, likewise."""
    server_version: tuple[int, int]
    pooler: bool
    """The server's pid differs from the one the wire gave: something stands between."""
    in_recovery: bool
    """The server is a replica."""
    read_only: bool
    """Transactions are read-only unless they say otherwise: so on a replica, and on a primary set so."""
    answers: Mapping[str, Any]
    """To the costly questions that the look has asked."""
    _ledger_is_whole: bool
    """It has every table of this version."""

    @property
    def environment(self) -> str | None:
        """The environment that the database belongs to, as far as anybody has said."""
        name: str | None = self._answer("environment")
        return name

    @property
    def ledger_is_current(self) -> bool:
        """It has every table of this version, in its form."""
        return self._answer("form") == tables.FORM and self._ledger_is_whole

    @property
    def identity(self) -> str:
        """Which database it is, for a digest: see identity.py."""
        return str(self._answer("identity"))

    @property
    def broken_indexes(self) -> tuple[BrokenIndex, ...]:
        """The INVALID indexes."""
        return indexes.named(self._answer("broken_indexes"))

    def tells(self, question: Costly) -> bool:
        """Whether the look has asked it."""
        return question in self.answers

    def _answer(self, question: Costly) -> Any:  # noqa: ANN401 – as PostgreSQL has it
        assert self.tells(question), f"this look has not asked for {question}"  # noqa: S101 – a defect of the caller's
        return self.answers[question]


@functools.cache
def questions(ledger_schema: str, version_table: VersionTable, costly: frozenset[Costly] = ALL) -> dict[str, str]:
    """What a look asks, as SQL expressions, by what they tell.

    The connection is a new one, so PostgreSQL plans all of it anew, with no catalog at hand: functions and single
    tables take less than half of the time that joins took.
    """
    expressions: dict[Costly, str] = {
        "environment": environment.name_of(ledger_schema),
        "form": tables.form(ledger_schema),
        "identity": identity.EXPRESSION,
        "broken_indexes": indexes.AS_JSON,
    }
    return {
        "pid": "pg_backend_pid()",
        "in_recovery": "pg_is_in_recovery()",
        "read_only": "current_setting('transaction_read_only')::bool",
        **{f"ledger.{name}": relations.is_readable(ledger_schema, name) for name in tables.NAMES},
        "schema": version_table.found_in,
        **{name: expression for name, expression in expressions.items() if name in costly},
    }


def _select(asked: Mapping[str, str], names: Iterable[str]) -> str:
    return f"SELECT {', '.join(asked[name] for name in names)}"


async def look(
    control: Session,
    *,
    ledger_schema: str,
    version_table: VersionTable,
    costly: frozenset[Costly] = ALL,
    session_settings: SessionSettings = NONE,
) -> Facts:
    """Look at the database, in one round trip.

    Args:
        control: A session.
        ledger_schema: Where the ledger is.
        version_table: Where the version is.
        costly: What else is to be asked.
        session_settings: With which the revisions find the version, and may read it.

    Raises:
        NotConfigured: PostgreSQL does not take these settings.
        DatabaseUnavailable: or one of its children.
    """
    results: list[simple_query.ResultSet] = []
    asked = questions(ledger_schema, version_table, costly)
    # A look must not queue behind somebody's lock on the version table.
    before = [f"SELECT {each}" for each in session_settings.assignments()] + [
        f"SET LOCAL lock_timeout = {_LOOK_LOCK_TIMEOUT_MS}"
    ]
    own = [name for name in asked if name != "schema" or not session_settings.role]
    statements = [*before, _select(asked, own)]
    if session_settings.role:
        statements += [f"SELECT {each}" for each in session_settings.role_assignment()] + [_select(asked, ["schema"])]
    try:
        await control.results("; ".join([*statements, f"SELECT version_num FROM {version_table.sql}"]), results)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        heads: tuple[str, ...] = ()  # no revision was ever applied; the facts are in place all the same
    except (asyncpg.PostgresError, PermissionDenied) as error:
        if len(results) < len(before) - 1 or (session_settings.role and len(results) == len(before) + 1):
            raise session_settings.refused(error, role=len(results) > len(before)) from None
        raise
    else:
        heads = tuple(sorted(str(version) for (version,) in results[-1].rows))
    facts = dict(zip(own, results[len(before)].rows[0], strict=True))
    if session_settings.role:
        facts["schema"] = results[len(statements) - 1].rows[0][0]
    ledger = {name for name in tables.NAMES if facts[f"ledger.{name}"]}
    return Facts(
        heads=heads,
        version_table=f"{facts['schema']}.{version_table.name}",
        ledger_exists={"run", "step"} <= ledger,
        ledger_knows_builds={"run", "step", "index_build"} <= ledger,
        ledger_knows_fingerprints={"run", "step", "fingerprint"} <= ledger,
        server_version=control.server_version,
        pooler=facts["pid"] != control.server_pid,
        in_recovery=facts["in_recovery"],
        read_only=facts["read_only"],
        answers={name: facts[name] for name in costly},
        _ledger_is_whole=ledger.issuperset(tables.NAMES),
    )
