"""The schema: its fingerprint, put on record after each run, and what of it is not as it was on record.

What changes without migrations is left out: what an extension owns, and schemas in which the role may not create
anything, such as those that a provider keeps for itself.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.database import objects
from app.database.connection import Session
from app.database.literals import identifier, literal

_LOCK_TIMEOUT_MS = 2000
"""To word a view PostgreSQL locks what it reads from, if only against being changed meanwhile."""
_READ_TIMEOUT_MS = 10_000
"""Less than what a session waits for an answer."""


@dataclass(frozen=True, slots=True)
class Place:
    """What of a database is not the schema that migrations make: the ledger, and Alembic's version table."""

    ledger_schema: str
    version_table: str
    """With its schema, unquoted."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A schema at one moment, as it goes on record."""

    server_version: int
    """As `server_version_num` counts: 180001 is 18.1."""
    fingerprint: str
    objects: str
    """JSON: by schema and object, what is told of it."""

    @property
    def sql(self) -> str:
        """The row that it would be on record."""
        return f"SELECT {self.server_version} AS server_version, {literal(self.objects)}::jsonb AS objects"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A fingerprint on record."""

    fingerprint: str
    run_id: UUID | None
    taken_at: datetime
    server_version: int
    overtaken_by: UUID | None
    """A later run that changed the schema, or may have, and left no fingerprint."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What is told of an object."""

    words: str
    """What it is, in a line."""
    part_of: str | None
    """The object that it is a part of, such as a column's table."""


@dataclass(frozen=True, slots=True)
class Change:
    """An object that differs; None stands for one that is not there."""

    object: str
    before: Definition | None
    after: Definition | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The schema as it is, beside how it was."""

    fingerprint: str
    server_version: int
    saw_queries: bool
    """Whether queries were compared, or there are none: between major versions they cannot be, which word them."""
    unseen: tuple[str, ...]
    """Schemas that were seen before, and in which this role may not create anything."""
    changes: tuple[Change, ...]


async def take(control: Session, place: Place, *, run_id: UUID, timeout_ms: int) -> None:
    """Put the fingerprint on record. What it is taken of does not leave the database.

    Raises:
        DatabaseUnavailable, asyncpg.PostgresError: It is not on record, and the former one still is.
    """
    await control.execute(
        f"{_settings(timeout_ms)} "
        f"INSERT INTO {_table(place)} (version_table, run_id, server_version, fingerprint, objects) "
        f"SELECT {literal(place.version_table)}, {literal(run_id)}, server_version, fingerprint, objects "
        f"FROM ({_snapshot(place)}) AS snapshot ON CONFLICT (version_table) DO UPDATE SET run_id = excluded.run_id, "
        "taken_at = clock_timestamp(), server_version = excluded.server_version, "
        "fingerprint = excluded.fingerprint, objects = excluded.objects"
    )


async def snapshot(control: Session, place: Place) -> Snapshot:
    """The schema as it is now."""
    rows = await control.execute(
        f"{_settings(_READ_TIMEOUT_MS)} "
        f"SELECT server_version, fingerprint, objects::text FROM ({_snapshot(place)}) AS snapshot"
    )
    return Snapshot(*rows[0])


async def recorded(control: Session, place: Place) -> Recorded | None:
    """The fingerprint that is on record."""
    run, step = (f"{identifier(place.ledger_schema)}.{table}" for table in ("run", "step"))
    rows = await control.execute(
        "SELECT f.fingerprint, f.run_id, f.taken_at, f.server_version, "
        f"(SELECT r.id FROM {run} r WHERE r.version_table = f.version_table AND r.started_at > f.taken_at "
        "AND (r.outcome = 'abandoned' OR r.error ->> 'rolled_back' = 'false' "
        f"OR EXISTS (SELECT FROM {step} s WHERE s.run_id = r.id)) ORDER BY r.started_at LIMIT 1) "
        f"FROM {_table(place)} f WHERE f.version_table = {literal(place.version_table)}"
    )
    return Recorded(*rows[0]) if rows else None


async def compare(control: Session, place: Place, before: Snapshot | None) -> Comparison:
    """Compare the schema with how it was.

    Args:
        control: A session in the database.
        place: What of it is not the schema.
        before: How it was; None for what is on record of it.
    """
    on_record = f"SELECT * FROM {_table(place)} WHERE version_table = {literal(place.version_table)}"
    was = before.sql if before else on_record
    rows = await control.execute(
        f"{_settings(_READ_TIMEOUT_MS)} "
        f"WITH before AS MATERIALIZED ({was}), after AS MATERIALIZED ({_snapshot(place)}), "
        "same AS (SELECT before.server_version / 10000 = after.server_version / 10000 AS major FROM before, after), "
        "unseen AS (SELECT nspname FROM pg_namespace WHERE NOT has_schema_privilege(oid, 'CREATE') "
        "AND nspname IN (SELECT jsonb_object_keys(objects) FROM before)), "
        f"was AS ({_each('before')} WHERE s.key NOT IN (SELECT nspname FROM unseen)), now AS ({_each('after')}) "
        "SELECT json_build_object('fingerprint', (SELECT fingerprint FROM after), "
        "'server_version', (SELECT server_version FROM after), 'saw_queries', (SELECT major FROM same) "
        "OR NOT EXISTS (SELECT FROM was WHERE told ? 'query') OR NOT EXISTS (SELECT FROM now WHERE told ? 'query'), "
        "'unseen', (SELECT coalesce(json_agg(nspname ORDER BY nspname COLLATE \"C\"), '[]') FROM unseen), "
        "'changes', (SELECT coalesce(json_agg(json_build_array(object, "
        "was.told - 'body' - 'query', now.told - 'body' - 'query') ORDER BY object COLLATE \"C\"), '[]') "
        "FROM was FULL JOIN now USING (schema, object) WHERE CASE WHEN (SELECT major FROM same) "
        "THEN was.told IS DISTINCT FROM now.told "
        "ELSE was.told - 'query' IS DISTINCT FROM now.told - 'query' END))::text"
    )
    told = json.loads(rows[0][0])
    return Comparison(
        fingerprint=told["fingerprint"],
        server_version=told["server_version"],
        saw_queries=told["saw_queries"],
        unseen=tuple(told["unseen"]),
        changes=tuple(Change(each, _definition(was), _definition(now)) for each, was, now in told["changes"]),
    )


def _settings(timeout_ms: int) -> str:
    return (
        f"SET LOCAL statement_timeout = {timeout_ms}; SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}; "
        # For so many rows of catalogs PostgreSQL would compile the query, which takes longer than to run it.
        f"SET LOCAL jit = off; {objects.SETTINGS}"
    )


def _table(place: Place) -> str:
    return f"{identifier(place.ledger_schema)}.fingerprint"


def _snapshot(place: Place) -> str:
    """A SELECT of one row: server_version, fingerprint, objects."""
    listed = objects.query(ledger_schema=place.ledger_schema, version_table=place.version_table)
    told = f"'of', part_of, 'is', words, 'body', {_hash('body')}, 'query', {_hash('query')}"
    return (
        "SELECT current_setting('server_version_num')::int AS server_version, "
        # jsonb has one text for the same members: it sorts them by length and bytes, whatever the collation.
        f"{_hash('objects::text')} AS fingerprint, objects FROM ("
        "SELECT coalesce(jsonb_object_agg(schema, members), '{}') AS objects FROM ("
        f"SELECT schema, jsonb_object_agg(object, jsonb_strip_nulls(jsonb_build_object({told}))) AS members "
        f"FROM ({listed}) AS listed ({', '.join(objects.COLUMNS)}) GROUP BY schema) AS by_schema) AS whole"
    )


def _hash(text: str) -> str:
    return f"encode(sha256(convert_to({text}, 'UTF8')), 'hex')"


def _each(snapshot: str) -> str:
    return (
        f"SELECT s.key AS schema, o.key AS object, o.value AS told "
        f"FROM {snapshot}, jsonb_each({snapshot}.objects) s, jsonb_each(s.value) o"
    )


def _definition(told: dict[str, Any] | None) -> Definition | None:
    return None if told is None else Definition(words=told["is"], part_of=told.get("of"))
