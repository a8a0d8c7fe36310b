"""What the database says about itself: its revision, its server."""

import functools
from dataclasses import dataclass

import asyncpg

from app.database import environment, identity, indexes, relations, simple_query, tables
from app.database.connection import Session
from app.database.literals import identifier, literal
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


USUAL = VersionTable()
"""What Alembic takes unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Details:
    """What takes as long to tell as all the rest, and the more so the more indexes there are."""

    ledger_is_current: bool
    """The ledger has every table of this version, in its form."""
    identity: str
    """Which database it is, for a digest: see identity.py."""
    broken_indexes: tuple[BrokenIndex, ...]


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
    environment: str | None
    """The environment that the database belongs to, as far as anybody has said."""
    server_version: tuple[int, int]
    pooler: bool
    """The server's pid differs from the one the wire gave: something stands between."""
    in_recovery: bool
    """The server is a replica."""
    read_only: bool
    """Transactions are read-only unless they say otherwise: so on a replica, and on a primary set so."""
    known_details: Details | None
    """None where the look has not asked for them."""

    @property
    def details(self) -> Details:
        """The details, of a look in full."""
        assert self.known_details is not None, "this look was not in full"  # noqa: S101 – a defect of the caller's
        return self.known_details


@functools.cache
def questions(ledger_schema: str, version_table: VersionTable, *, in_full: bool = True) -> dict[str, str]:
    """What a look asks, as SQL expressions, by what they tell.

    The connection is a new one, so PostgreSQL plans all of it anew, with no catalog at hand: functions and single
    tables take less than half of the time that joins took.
    """
    schema = literal(version_table.schema)
    if version_table.schema is None:
        schema = f"coalesce({relations.schema_of(version_table.sql)}, current_schema(), 'public')"
    details = {
        "form": tables.form(ledger_schema),
        "identity": identity.EXPRESSION,
        "broken_indexes": indexes.AS_JSON,
    }
    return {
        "pid": "pg_backend_pid()",
        "in_recovery": "pg_is_in_recovery()",
        "read_only": "current_setting('transaction_read_only')::bool",
        **{f"ledger.{name}": relations.is_readable(ledger_schema, name) for name in tables.NAMES},
        "environment": environment.name_of(ledger_schema),
        "schema": schema,
        **(details if in_full else {}),
    }


async def look(control: Session, *, ledger_schema: str, version_table: VersionTable, in_full: bool = True) -> Facts:
    """Look at the database, in one round trip.

    Args:
        control: A session.
        ledger_schema: Where the ledger is.
        version_table: Where the version is.
        in_full: With the details.

    Raises:
        DatabaseUnavailable: or one of its children.
    """
    results: list[simple_query.ResultSet] = []
    asked = questions(ledger_schema, version_table, in_full=in_full)
    try:
        await control.results(
            # A look must not queue behind somebody's lock on the version table.
            f"SET LOCAL lock_timeout = {_LOOK_LOCK_TIMEOUT_MS}; "
            f"SELECT {', '.join(asked.values())}; "
            f"SELECT version_num FROM {version_table.sql}",
            results,
        )
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        heads: tuple[str, ...] = ()  # no revision was ever applied; the facts are in place all the same
    else:
        heads = tuple(sorted(str(version) for (version,) in results[2].rows))
    facts = dict(zip(asked, results[1].rows[0], strict=True))
    ledger = {name for name in tables.NAMES if facts[f"ledger.{name}"]}
    return Facts(
        heads=heads,
        version_table=f"{facts['schema']}.{version_table.name}",
        ledger_exists={"run", "step"} <= ledger,
        ledger_knows_builds={"run", "step", "index_build"} <= ledger,
        ledger_knows_fingerprints={"run", "step", "fingerprint"} <= ledger,
        environment=facts["environment"],
        server_version=control.server_version,
        pooler=facts["pid"] != control.server_pid,
        in_recovery=facts["in_recovery"],
        read_only=facts["read_only"],
        known_details=Details(
            ledger_is_current=ledger.issuperset(tables.NAMES) and facts["form"] == tables.FORM,
            identity=facts["identity"],
            broken_indexes=indexes.named(facts["broken_indexes"]),
        )
        if in_full
        else None,
    )
