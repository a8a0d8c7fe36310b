"""The environment that a database belongs to, such as `production`: kept in the ledger's schema, one row.

The first run that brings it to the target, or call that finds it there, binds it to the environment of its deployment.
A branch of Neon is a copy of its parent with everything in it, this row too; Neon names the branch in
`neon.timeline_id`, so a copy is told from the database that the row was written for, and belongs to nobody yet.
"""

from app.database import deferred, relations
from app.database.identity import TIMELINE
from app.database.literals import identifier, literal

TABLE = """
CREATE TABLE IF NOT EXISTS {schema}.environment (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    name text NOT NULL,
    neon_timeline text,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
"""For the ledger."""


def name_of(schema: str) -> str:
    """An SQL expression: the environment's name; null without one, without the table, and on a Neon branch."""
    row = f"{identifier(schema)}.environment WHERE neon_timeline IS NOT DISTINCT FROM {TIMELINE}"
    return f"CASE WHEN {relations.is_readable(schema, 'environment')} THEN {deferred.word('name', row)} END"


def binding(schema: str, name: str, *, on_purpose: bool = False) -> str:
    """The statement that binds the database to an environment; only `on_purpose` if it belongs to one already."""
    belongs_to = f"{literal(name)}, {TIMELINE}"
    unless_bound = "" if on_purpose else " WHERE e.neon_timeline IS DISTINCT FROM excluded.neon_timeline"
    return (
        f"INSERT INTO {identifier(schema)}.environment AS e (name, neon_timeline) VALUES ({belongs_to}) "
        "ON CONFLICT (singleton) DO UPDATE SET name = excluded.name, neon_timeline = excluded.neon_timeline, "
        f"since = excluded.since{unless_bound}"
    )
