"""What was answered to a call that came with an Idempotency-Key, so that the same call gets the same answer.

Source: draft-ietf-httpapi-idempotency-key-header. An answer that invites the caller to call again is not kept: then
the same key begins a new run. A key is kept for thirty days, longer than any sender of webhooks tries again.
"""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.database.connection import Session
from app.database.literals import identifier, json_literal, literal

TABLE = """
CREATE TABLE IF NOT EXISTS {schema}.idempotency (
    key text PRIMARY KEY,
    body text NOT NULL,
    run_id uuid REFERENCES {schema}.run (id),
    answer json,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
"""For the ledger. `key` and `body` are SHA-256; `answer` is that of a call which needed no run, else its run has it."""

_IS_OLD = "{i}.since < clock_timestamp() - interval '30 days'"


@dataclass(frozen=True, slots=True)
class Once:
    """A call that is to take place once: its key and its body, both as SHA-256 in hex."""

    key: str
    body: str


@dataclass(frozen=True, slots=True)
class Use:
    """What became of the call that used a key first."""

    body: str
    run_id: UUID | None
    outcome: str | None
    """Of its run; None when none took place."""
    from_heads: tuple[str, ...] | None
    """Where that began."""
    answer: dict[str, Any] | None
    """None while the run goes on, and when it died."""


async def first_use(control: Session, schema: str, once: Once) -> Use | None:
    """What became of the call that used this key first, or None."""
    ledger = identifier(schema)
    rows = await control.execute(
        "SELECT i.body, i.run_id::text, r.outcome, to_json(r.from_heads)::text, "
        "coalesce(i.answer, r.answer, r.error::json)::text "
        f"FROM {ledger}.idempotency i LEFT JOIN {ledger}.run r ON r.id = i.run_id "
        f"WHERE i.key = {literal(once.key)} AND NOT ({_IS_OLD.format(i='i')})"
    )
    if not rows:
        return None
    body, run_id, outcome, heads, answer = rows[0]
    from_heads = tuple(json.loads(heads)) if heads else None
    return Use(body, UUID(run_id) if run_id else None, outcome, from_heads, json.loads(answer) if answer else None)


def claim(schema: str, once: Once, *, run_id: UUID | None = None, answer: dict[str, Any] | None = None) -> str:
    """The statements that give the key to a run, or to the answer of a call that needed none."""
    table = f"{identifier(schema)}.idempotency"
    return (
        f"DELETE FROM {table} i WHERE {_IS_OLD.format(i='i')}; "
        f"INSERT INTO {table} (key, body, run_id, answer) VALUES ({literal(once.key)}, {literal(once.body)}, "
        f"{literal(run_id)}, {json_literal(answer)}::json) ON CONFLICT (key) DO UPDATE SET body = excluded.body, "
        "run_id = excluded.run_id, answer = excluded.answer, since = excluded.since"
    )
