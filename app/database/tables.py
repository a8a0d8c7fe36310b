"""The ledger's tables, made and brought up to date: what an earlier version has not made is added."""

from app.database import environment, idempotency, indexes, relations
from app.database.literals import identifier

NAMES = ("run", "step", "index_build", "environment", "idempotency", "fingerprint")
FORM = "The ledger of Migration Endpoint, form 4"
"""The comment on the table `run`. Whoever changes a table raises the number, or no run will make the change."""

_LOCK_TIMEOUT_MS = 2000
"""Who reads the ledger for long, such as a backup, must not be waited for with everybody else queued behind."""

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
    run_id uuid NOT NULL,
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
CREATE TABLE IF NOT EXISTS {schema}.fingerprint (
    version_table text PRIMARY KEY,
    run_id uuid REFERENCES {schema}.run (id),
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    server_version integer NOT NULL,
    fingerprint text NOT NULL,
    objects jsonb NOT NULL
);
"""
    + """
ALTER TABLE {schema}.run
    ADD COLUMN IF NOT EXISTS waited_ms integer,
    ADD COLUMN IF NOT EXISTS pending integer,
    ADD COLUMN IF NOT EXISTS answer json,
    ADD COLUMN IF NOT EXISTS cancel_asked_at timestamptz,
    ADD COLUMN IF NOT EXISTS accepted jsonb,
    ADD COLUMN IF NOT EXISTS plan_digest text,
    DROP CONSTRAINT IF EXISTS run_outcome_check,
    ADD CONSTRAINT run_outcome_check CHECK (outcome IN (
        'running', 'upgraded', 'downgraded', 'stamped', 'failed', 'cancelled', 'refused', 'abandoned'));
ALTER TABLE {schema}.step
    ADD COLUMN IF NOT EXISTS locks jsonb,
    ADD COLUMN IF NOT EXISTS rewrote text[],
    ADD COLUMN IF NOT EXISTS committed_itself boolean,
    ADD COLUMN IF NOT EXISTS no_effect boolean,
    DROP CONSTRAINT IF EXISTS step_run_id_fkey;
COMMENT ON TABLE {schema}.run IS '{form}';
"""
)


def form(schema: str) -> str:
    """An SQL expression: the form that the tables in a schema have; null without them, or the right to use them."""
    return (
        f"(SELECT description FROM pg_description WHERE objoid = {relations.oid_of(schema, 'run')} "
        "AND classoid = 'pg_class'::regclass::oid AND objsubid = 0)"
    )


def statements(schema: str) -> str:
    """The statements that make the tables in a schema, whatever of them an earlier version has made.

    To be sent in one string: the limit at their head is for the transaction that they make up.
    """
    made = _STATEMENTS.format(schema=identifier(schema), form=FORM)
    return f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}; {made} SET LOCAL lock_timeout = DEFAULT;"
