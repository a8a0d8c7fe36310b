"""Indexes that a concurrent build left INVALID: found, told from strangers' ones, and cleared before a rebuild.

A CREATE INDEX CONCURRENTLY that fails or is interrupted leaves an index that no query uses, that every write pays
for, and that `IF NOT EXISTS` takes for built (PostgreSQL manual, "Building Indexes Concurrently"). So the ledger
remembers which build a revision began, on which table, and what was INVALID there before: what is so afterwards is
the revision's own.
"""

import json
import re
from dataclasses import dataclass
from uuid import UUID

from app.database import deferred
from app.database.connection import Session
from app.database.literals import identifier, literal
from app.errors import MigrationFailed
from app.report import BrokenIndex

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_QUALIFIED = rf"{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER})*"
_CREATE = re.compile(
    r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    rf"(?:(?P<name>{_IDENTIFIER})\s+)?ON\s+(?:ONLY\s+)?(?P<table>{_QUALIFIED})",
    re.IGNORECASE,
)
_REINDEX = re.compile(
    rf"\bREINDEX\s+(?:\([^)]*\)\s*)?(?P<kind>INDEX|TABLE)\s+CONCURRENTLY\s+(?P<what>{_QUALIFIED})", re.IGNORECASE
)

_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)

_BROKEN_ONES = """
pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE NOT i.indisvalid AND c.relkind = 'i' AND NOT EXISTS (
    SELECT FROM pg_stat_progress_create_index p JOIN pg_locks l USING (pid)
    WHERE p.datname = current_database() AND l.relation = i.indrelid AND l.granted
    AND l.mode = 'ShareUpdateExclusiveLock')
"""
"""Not one of a table on which indexes are being built at this moment: which one it is only the builder's role may see.
And not the parent of partitions, which is INVALID by design until each of them has its own (relkind I)."""
_BROKEN = f"FROM {_BROKEN_ONES}"

_NAMES = "json_build_array(format('%I.%I', n.nspname, c.relname), format('%I.%I', tn.nspname, t.relname))::text"
AS_JSON = (
    f"CASE WHEN EXISTS (SELECT FROM pg_index WHERE NOT indisvalid) THEN {deferred.words(_NAMES, _BROKEN_ONES)} END"
)
"""An SQL expression: every INVALID index of the database, for `named`; null without one.

Which of them count is only asked where there is any, since that takes several catalogs.
"""

TABLE = """
CREATE TABLE IF NOT EXISTS {schema}.index_build (
    run_id uuid NOT NULL REFERENCES {schema}.run (id),
    revision text NOT NULL,
    relation oid NOT NULL,
    index_name text,
    broken_before oid[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
"""For the ledger: the concurrent builds that revisions began. Without an `index_name` PostgreSQL chooses it."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where it is remembered that a revision begins a build."""

    schema: str
    """The ledger's, quoted."""
    run_id: UUID
    revision: str
    drops: bool
    """Whether a leftover of the revision's own is dropped before it is built again."""


@dataclass(frozen=True, slots=True)
class Build:
    """A concurrent build that a statement asks for."""

    table_sql: str
    """An SQL expression for the table's OID, null where there is no such table."""
    name_sql: str | None
    """An SQL expression for the index's name, cut as PostgreSQL cuts it; None where PostgreSQL chooses it."""


def named(told: list[str] | None) -> tuple[BrokenIndex, ...]:
    """What AS_JSON has told, sorted by name; without their revisions."""
    names = sorted(json.loads(each) for each in told or ())
    return tuple(BrokenIndex(name=name, table=table) for name, table in names)


def build(statement: str) -> Build | None:
    """The concurrent build that a statement asks for, or None."""
    statement = _COMMENT.sub(" ", statement)
    if found := _CREATE.search(statement):
        name = f"(parse_ident({literal(found['name'])}))[1]::name" if found["name"] else None
        return Build(f"to_regclass({literal(found['table'])})::oid", name)
    if found := _REINDEX.search(statement):
        relation = f"to_regclass({literal(found['what'])})::oid"
        if found["kind"].upper() == "INDEX":
            relation = f"(SELECT indrelid FROM pg_index WHERE indexrelid = {relation})"
        return Build(relation, None)  # its leftovers have names of PostgreSQL's choice: ix_ccnew, ix_ccold
    return None


def before(wanted: Build, record: Record | None) -> list[str]:
    """The statement that finds what is left of earlier builds on the table, and those that put this one on record."""
    select = (
        f"SELECT format('%I.%I', n.nspname, c.relname), {wanted.name_sql or 'NULL'} = c.relname, "
        f"{_began(record.schema, literal(record.revision)) if record else 'false'} "
        f"{_BROKEN} AND i.indrelid = {wanted.table_sql}"
    )
    if record is None:
        return [select]
    record_it = (
        f"INSERT INTO {record.schema}.index_build (run_id, revision, relation, index_name, broken_before) "
        f"SELECT {literal(record.run_id)}, {literal(record.revision)}, {wanted.table_sql}, "
        f"{wanted.name_sql or 'NULL'}, "
        f"ARRAY(SELECT indexrelid FROM pg_index WHERE indrelid = {wanted.table_sql} AND NOT indisvalid) "
        f"WHERE {wanted.table_sql} IS NOT NULL"
    )
    return [select, record_it]


def to_drop(found: list[tuple[str, bool | None, bool]], record: Record | None) -> list[str]:
    """Which of the indexes that `before` found are to be dropped, since the revision left them itself.

    Raises:
        MigrationFailed: One has the name of the index that is to be built, and is not ours to drop.
    """
    dropped = [name for name, _, own in found if own and record and record.drops]
    for name, same_name, own in found:
        if same_name and name not in dropped:
            whose = "an interrupted run of this revision left it" if own else "this revision did not begin it"
            words = f"the index {name} is there already, and INVALID: {whose}"
            raise MigrationFailed(
                f"{words[:1].upper()}{words[1:]}.",
                hint=f"Drop it, then call again: DROP INDEX CONCURRENTLY {name};"
                " With IF NOT EXISTS the revision would have passed without its index.",
                sqlstate=None,
                message=words,
            )
    return dropped


async def broken(control: Session, ledger_schema: str) -> list[BrokenIndex]:
    """Every INVALID index of the database, with the revision that began it, as the ledger remembers."""
    schema = identifier(ledger_schema)
    rows = await control.execute(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name, format('%I.%I', tn.nspname, t.relname), "
        f"(SELECT b.revision FROM {schema}.index_build b WHERE {_BUILT_BY} ORDER BY b.started_at DESC "
        f"LIMIT 1) {_BROKEN} ORDER BY name"
    )
    return [BrokenIndex(name=name, table=table, revision=revision) for name, table, revision in rows]


_BUILT_BY = (
    "b.relation = i.indrelid AND i.indexrelid <> ALL (b.broken_before) AND coalesce(b.index_name = c.relname, true)"
)


def _began(schema: str, revision: str) -> str:
    return f"EXISTS (SELECT FROM {schema}.index_build b WHERE b.revision = {revision} AND {_BUILT_BY})"
