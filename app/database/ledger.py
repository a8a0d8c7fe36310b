"""The ledger: our own record of every run and every step, in a schema of its own.

A run's row is written outside of the migration's transaction, so that failures stay on record. A step's row is
written inside its revision's transaction, so that it exists exactly if the revision is applied. What the
ledger cannot do, for want of rights, never stops a run.
"""

import json
import os
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from app.database import environment, idempotency, indexes, recorded, tables
from app.database.connection import Session
from app.database.entry import COLUMNS, Entry
from app.database.idempotency import Once
from app.database.literals import identifier, json_literal, literal
from app.errors import PermissionDenied
from app.report import Deployment, Finding, Outcome, RecordedRunWithSteps, RecordedStep, Runs, Selection


def unwritable(error: Exception) -> str:
    """The warning of a run that is not on record."""
    why = getattr(error, "detail", None) or f"{error}."
    return f"The ledger could not be written, so this run is not on record: {why} The run itself is not affected."


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run as its caller describes it, before anything has happened."""

    run_id: UUID
    target: str
    deployment: Deployment
    request_id: str
    key_label: str | None = None
    reason: str | None = None
    plan_digest: str | None = None
    """The plan that the caller has pinned."""
    accepted: tuple[Finding, ...] = ()
    """What the caller has accepted of the findings against the plan."""


def new_run_id() -> UUID:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then random bits; sorts by time."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10))
    value = (value & ~(0xF << 76)) | (0x7 << 76)  # the version
    value = (value & ~(0x3 << 62)) | (0x2 << 62)  # the variant
    return UUID(int=value)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of one version table, in one schema."""

    schema: str
    version_table: str

    async def start(
        self,
        control: Session,
        attempt: Attempt,
        *,
        from_heads: tuple[str, ...],
        exists: bool,
        waited_ms: int = 0,
        pending: int | None = None,
        once: Once | None = None,
    ) -> str | None:
        """Put a run on record as running; call it with the lock held.

        A row that still says `running` then belongs to a run that died, and becomes `abandoned`.

        Args:
            control: A session to write in.
            attempt: The run.
            from_heads: The database's heads before it.
            exists: Whether all tables are there, in the form of this version.
            waited_ms: How long the run has waited for the lock.
            pending: How many revisions it is to apply, if that is known.
            once: The Idempotency-Key that the run is for.

        Returns:
            None, or a warning when nothing could be written.
        """
        missing = "" if exists else tables.statements(self.schema)
        try:
            await control.execute(
                f"{missing} UPDATE {self._schema}.run SET outcome = 'abandoned', finished_at = clock_timestamp() "
                f"WHERE outcome = 'running' AND version_table = {literal(self.version_table)}; "
                + self._insert(attempt, outcome="running", from_heads=from_heads, waited_ms=waited_ms, pending=pending)
                + (f"; {idempotency.claim(self.schema, once, run_id=attempt.run_id)}" if once else "")
                # Find out now whether the rest can be written: later it would fail the revision that it records.
                + f"; INSERT INTO {self._schema}.step ({COLUMNS}) SELECT {COLUMNS} FROM {self._schema}.step WHERE false"
                + f"; INSERT INTO {self._schema}.index_build SELECT * FROM {self._schema}.index_build WHERE false"
            )
        except (PermissionDenied, asyncpg.PostgresError) as error:
            return unwritable(error)
        return None

    async def refuse(
        self, control: Session, attempt: Attempt, *, from_heads: tuple[str, ...], error: dict[str, Any]
    ) -> None:
        """Put on record that a caller was refused, if there is a ledger yet and the role may write it."""
        try:
            await control.execute(self._insert(attempt, outcome="refused", from_heads=from_heads, error=error))
        except (PermissionDenied, asyncpg.PostgresError):
            return

    async def finish(
        self,
        control: Session,
        run_id: UUID,
        outcome: Outcome,
        *,
        to_heads: tuple[str, ...] | None,
        retries: int,
        error: dict[str, Any] | None = None,
        answer: dict[str, Any] | None = None,
    ) -> None:
        """Put on record how a run ended; call it before the lock is given back.

        A run that was declared abandoned meanwhile stays so: its successor has said what is true.

        Args:
            control: A session to write in.
            run_id: The run.
            outcome: How it ended.
            to_heads: The database's heads after it.
            retries: How often a revision was tried again.
            error: The problem that its caller gets.
            answer: Or the answer that its caller gets.
        """
        await control.execute(
            f"UPDATE {self._schema}.run SET outcome = {literal(outcome)}, finished_at = clock_timestamp(), "
            f"to_heads = {literal(to_heads)}, retries = {retries}, "
            f"error = {json_literal(error)}, answer = {json_literal(answer)} "
            f"WHERE id = {literal(run_id)} AND outcome = 'running'"
        )

    async def ask_to_cancel(self, control: Session, run_id: UUID) -> None:
        """Leave word that a run is to end; its transactions look for that, as `cancelled` says."""
        await control.execute(
            f"UPDATE {self._schema}.run SET cancel_asked_at = coalesce(cancel_asked_at, clock_timestamp()) "
            f"WHERE id = {literal(run_id)} AND outcome = 'running' AND version_table = {literal(self.version_table)}"
        )

    def cancelled(self, run_id: UUID) -> str:
        """An SQL condition: somebody has asked for the end of the run."""
        return f"EXISTS (SELECT FROM {self._schema}.run WHERE id = {literal(run_id)} AND cancel_asked_at IS NOT NULL)"

    async def bind(self, control: Session, name: str, *, on_purpose: bool = False) -> None:
        """Bind the database to an environment; only `on_purpose` if it belongs to one already.

        Raises:
            PermissionDenied, asyncpg.PostgresError: The role may not.
        """
        await control.execute(environment.binding(self.schema, name, on_purpose=on_purpose))

    async def make(self, control: Session) -> None:
        """Make the tables, whatever of them an earlier version has made.

        Raises:
            asyncpg.PostgresError: The role may not.
        """
        await control.execute(tables.statements(self.schema))

    def step(
        self,
        run_id: UUID,
        *,
        revision: str,
        direction: str,
        down_revisions: tuple[str, ...],
        sha256: str,
        started_at: datetime,
        duration_ms: int,
        committed_itself: bool = False,
    ) -> Entry:
        """What puts a step on record in the revision's own transaction."""
        values = (run_id, revision, direction, down_revisions, sha256, started_at, duration_ms, committed_itself)
        return Entry(self._schema, tuple(map(literal, values)), committed_itself)

    def builds(self, run_id: UUID, revision: str, *, drops: bool) -> indexes.Record:
        """Where it is remembered that a revision begins to build an index concurrently."""
        return indexes.Record(self._schema, run_id, revision, drops)

    async def runs(self, control: Session, selection: Selection) -> Runs:
        """The runs that are asked for, newest first."""
        return await recorded.page(control, self.schema, self.version_table, selection)

    async def run(self, control: Session, run_id: UUID) -> RecordedRunWithSteps | None:
        """One run with its steps, or None."""
        return await recorded.run(control, self.schema, self.version_table, run_id)

    async def applied_by(self, control: Session, run_id: UUID) -> tuple[list[RecordedStep], bool]:
        """The steps of a run, and whether somebody has asked for its end."""
        steps, cancelled = await control.results(
            f"{recorded.steps_of(self.schema, run_id)}; SELECT {self.cancelled(run_id)}"
        )
        return recorded.steps(steps), cancelled.rows[0][0]

    async def parents(self, control: Session) -> dict[str, tuple[str, ...]]:
        """Every revision that the ledger saw applied, with the revisions it came after."""
        rows = await control.execute(
            "SELECT coalesce(json_object_agg(revision, down_revisions), '{}')::text FROM ("
            f"SELECT DISTINCT ON (revision) revision, down_revisions FROM {self._schema}.step "
            "WHERE direction = 'upgrade' ORDER BY revision, id DESC) AS latest"
        )
        return {revision: tuple(down) for revision, down in json.loads(rows[0][0]).items()}

    async def hashes(self, control: Session) -> dict[str, str]:
        """Every revision that is applied as far as the ledger saw, with the hash of its file as it was then."""
        rows = await control.execute(
            "SELECT coalesce(json_object_agg(revision, sha256), '{}')::text FROM ("
            f"SELECT DISTINCT ON (s.revision) s.revision, s.direction, s.sha256 FROM {self._schema}.step s "
            f"JOIN {self._schema}.run r ON r.id = s.run_id WHERE r.version_table = {literal(self.version_table)} "
            "ORDER BY s.revision, s.id DESC) AS latest WHERE direction = 'upgrade'"
        )
        found: dict[str, str] = json.loads(rows[0][0])
        return found

    def _insert(
        self,
        attempt: Attempt,
        *,
        outcome: Outcome,
        from_heads: tuple[str, ...],
        waited_ms: int | None = None,
        pending: int | None = None,
        error: dict[str, Any] | None = None,
    ) -> str:
        values = {
            "id": literal(attempt.run_id),
            "version_table": literal(self.version_table),
            "outcome": literal(outcome),
            "target": literal(attempt.target),
            "from_heads": literal(from_heads),
            "finished_at": "NULL" if outcome == "running" else "clock_timestamp()",
            "key_label": literal(attempt.key_label),
            "reason": literal(attempt.reason),
            "deployment_id": literal(attempt.deployment.id),
            "git_sha": literal(attempt.deployment.git_sha),
            "environment": literal(attempt.deployment.environment),
            "request_id": literal(attempt.request_id),
            "error": json_literal(error),
        }
        if outcome == "running":  # a refusal is put on record in a ledger of an earlier form, too, which lacks these
            kept = [finding.model_dump(include={"revision", "rule", "level"}) for finding in attempt.accepted]
            values |= {
                "waited_ms": literal(waited_ms),
                "pending": literal(pending),
                "accepted": json_literal(kept) if kept else "NULL",
                "plan_digest": literal(attempt.plan_digest),
            }
        return f"INSERT INTO {self._schema}.run ({', '.join(values)}) VALUES ({', '.join(values.values())})"

    @property
    def _schema(self) -> str:
        return identifier(self.schema)
