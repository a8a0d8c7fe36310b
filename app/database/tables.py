"""The ledger's tables, made and brought up to date: what an earlier version has not made is added."""

from app.database import environment, idempotency, indexes
from app.database.literals import identifier

NAMES = ("run", "step", "index_build", "environment", "idempotency")
"""Where all of them are, the ledger has the form of this version."""

_STATEMENTS = (
    """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.run (
    id uuid PRIMARY KEY,
    version_table text NOT NULL,
    outcome text NOT NULL,
    target text,
    from_heads text[],
    to_heads text[],
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    retries integer NOT NULL DEFAULT 0,
    key_label text,
    reason text,
    deployment_id text,
    git_sha text,
    environment text,
    request_id text,
    error jsonb
);
CREATE INDEX IF NOT EXISTS run_started_at ON {schema}.run (started_at);
CREATE TABLE IF NOT EXISTS {schema}.step (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES {schema}.run (id),
    revision text NOT NULL,
    direction text NOT NULL CHECK (direction IN ('upgrade', 'downgrade')),
    down_revisions text[] NOT NULL,
    sha256 text NOT NULL,
    started_at timestamptz NOT NULL,
    duration_ms integer NOT NULL
);
CREATE INDEX IF NOT EXISTS step_run ON {schema}.step (run_id);
CREATE INDEX IF NOT EXISTS step_revision ON {schema}.step (revision);
"""
    + indexes.TABLE
    + environment.TABLE
    + idempotency.TABLE
    + """
ALTER TABLE {schema}.run ADD COLUMN IF NOT EXISTS waited_ms integer, ADD COLUMN IF NOT EXISTS answer json,
    ADD COLUMN IF NOT EXISTS cancel_asked_at timestamptz, DROP CONSTRAINT IF EXISTS run_outcome_check,
    ADD CONSTRAINT run_outcome_check CHECK (outcome IN (
        'running', 'upgraded', 'downgraded', 'stamped', 'failed', 'cancelled', 'refused', 'abandoned'));
"""
)


def statements(schema: str) -> str:
    """The statements that make the tables in a schema, whatever of them an earlier version has made."""
    return _STATEMENTS.format(schema=identifier(schema))
