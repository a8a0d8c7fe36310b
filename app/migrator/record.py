"""What a run leaves in the ledger: its beginning, its end, and the answer for the same call when it comes again."""

import asyncio
import contextlib
import dataclasses
import hashlib
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import asyncpg

from app.database import connection, idempotency, lock, schema
from app.database.catalog import Facts
from app.database.connection import Session
from app.database.idempotency import Once
from app.database.ledger import Attempt, Ledger, unwritable
from app.database.url import Database
from app.errors import (
    Cancelled,
    DatabaseUnavailable,
    IdempotencyKeyReused,
    LockHeld,
    PermissionDenied,
    StillRunning,
)
from app.migrator import status
from app.migrator.call import Call
from app.problem import Problem, Replayed
from app.report import Finding, Holder, Outcome, Reached, Run
from app.settings import Settings

_RECORD_TIMEOUT_S = 2
_FINGERPRINT_TIMEOUT_S = 5
_SHARE_OF_THE_SERVER = 0.75
"""Of a limit: in what is left, PostgreSQL's own word that it is reached can arrive."""


def _once(call: Call, heads: tuple[str, ...]) -> Once | None:
    if call.idempotency_key is None:
        return None
    # With what the deployment is to reach: the next one's caller must not be told that the last one's is reached.
    texts = (repr((call.idempotency_key, heads)), call.body)
    key, body = (hashlib.sha256(text.encode()).hexdigest() for text in texts)
    return Once(key, body)


class Record:
    """What goes on record of one run. What cannot be written, for want of rights, never stops it."""

    def __init__(self, call: Call, settings: Settings, run_id: UUID, *, heads: tuple[str, ...] = ()) -> None:
        self.ledger: Ledger | None = None
        """Where the steps go; None before the run is on record, and when it cannot be."""
        self.first_heads: tuple[str, ...] | None = None
        """Where the run of an earlier call with this Idempotency-Key began, if this one is to go on with it."""
        self._call = call
        self._once = _once(call, heads)
        self._settings = settings
        self._attempt = Attempt(
            run_id=run_id,
            target=call.target,
            deployment=settings.deployment,
            request_id=call.request_id,
            key_label=call.key_label,
            reason=call.reason,
        )

    def document(self, problem: Problem) -> dict[str, Any]:
        """The problem as its caller gets it."""
        return problem.document(instance=self._call.instance, request_id=self._call.request_id)

    async def first_answer(self, control: Session, facts: Facts) -> Run | None:
        """The answer that an earlier call with this Idempotency-Key got; None where this is the first.

        Raises:
            Replayed: It was a problem.
            StillRunning: There is none yet.
            IdempotencyKeyReused: That call had another body.
        """
        once = self._once
        if once is None or not facts.ledger_is_current:
            return None
        # The holder first: a run that ends between the two questions has its answer on record.
        holder = await lock.holder(control, lock.key(facts.version_table))
        first = await idempotency.first_use(control, self._settings.ledger_schema, once)
        if first is None:
            return None
        if first.body != once.body:
            raise IdempotencyKeyReused("This Idempotency-Key came before, with another body.")
        if first.outcome == "running" and holder is not None and holder.run_id == first.run_id:
            raise StillRunning(f"Run {first.run_id} is still going on.", run_id=str(first.run_id))
        if first.answer is None or first.answer.get("retryable"):
            self.first_heads = first.from_heads
            return None  # its run died, or was to be tried again
        if first.outcome in ("failed", "cancelled"):
            if self._call.replays_failures:
                raise Replayed(first.answer)
            return None
        return Run(**first.answer, replayed=True)

    async def keeps(self, control: Session, facts: Facts, answer: Run) -> None:
        """Keep the answer to a call that needed no run, for the next one with its Idempotency-Key."""
        if self._once is None or not facts.ledger_is_current or facts.read_only:
            return
        document = answer.model_dump(mode="json", by_alias=True)
        with contextlib.suppress(PermissionDenied, asyncpg.PostgresError):
            await control.execute(idempotency.claim(self._settings.ledger_schema, self._once, answer=document))

    async def binds(self, control: Session, facts: Facts) -> None:
        """Bind the database to this deployment's environment, once it is at the target, if it belongs to none yet."""
        environment = self._environment_to_bind(facts)
        if environment is None:
            return
        ledger = status.ledger_of(self._settings, facts)
        if not facts.tells("form"):
            facts = await status.look(control, self._settings)
        with contextlib.suppress(PermissionDenied, asyncpg.PostgresError):
            if not facts.ledger_is_current:
                await ledger.make(control)
            await ledger.bind(control, environment)

    def says_nothing_of(self, facts: Facts) -> bool:
        """Whether a call that needs no run leaves nothing on record."""
        return self._once is None and self._environment_to_bind(facts) is None

    def _environment_to_bind(self, facts: Facts) -> str | None:
        may_be_bound = facts.environment is None and facts.ledger_exists and not facts.read_only
        return self._settings.deployment.environment if may_be_bound else None

    async def starts(
        self,
        control: Session,
        before: Facts,
        *,
        waited_ms: int,
        pending: int | None,
        accepted: list[Finding],
        plan_digest: str | None,
    ) -> str | None:
        """Put the run on record; a warning when that cannot be done."""
        ledger = status.ledger_of(self._settings, before)
        warning = await ledger.start(
            control,
            dataclasses.replace(self._attempt, plan_digest=plan_digest, accepted=tuple(accepted)),
            from_heads=before.heads,
            exists=before.ledger_is_current,
            waited_ms=waited_ms,
            pending=pending,
            once=self._once,
        )
        if warning is None:
            self.ledger = ledger
        return warning

    async def ends(
        self, session: Session, after: Facts, outcome: Reached, *, retries: int, told: Run | Problem
    ) -> str | None:
        """Put the end of the run on record, if its beginning is; a warning when that cannot be done.

        Args:
            session: To write in.
            after: What a look at the database told after it.
            outcome: What the run has done, where it reached its target.
            retries: How often a revision was tried again.
            told: What the caller gets: a problem where the run did not reach its target.
        """
        if self.ledger is None:
            return None
        run_id, to_heads = self._attempt.run_id, after.heads
        try:
            if isinstance(told, Problem):
                ended: Outcome = "cancelled" if isinstance(told, Cancelled) else "failed"
                error = self.document(told)
                await self.ledger.finish(session, run_id, ended, to_heads=to_heads, retries=retries, error=error)
            else:
                await self.ledger.finish(
                    session,
                    run_id,
                    outcome,
                    to_heads=to_heads,
                    retries=retries,
                    answer=told.model_dump(mode="json", by_alias=True),
                )
                await self.binds(session, after)
        except (PermissionDenied, asyncpg.PostgresError) as error:
            return unwritable(error)
        return None

    async def takes_a_fingerprint(self, session: Session, *, limit_s: float) -> str | None:
        """Put on record what schema the run has left, if the run is; a warning when that cannot be done.

        By itself, after the run's end: what is not done within `limit_s` must not undo the record of the run.
        """
        if self.ledger is None:
            return None
        place = schema.Place(self.ledger.schema, self.ledger.version_table)
        limit_s = min(limit_s, _FINGERPRINT_TIMEOUT_S)
        timeout_ms = max(1, round(limit_s * _SHARE_OF_THE_SERVER * 1000))
        try:
            async with asyncio.timeout(limit_s):
                await schema.take(session, place, run_id=self._attempt.run_id, timeout_ms=timeout_ms)
        except (DatabaseUnavailable, TimeoutError, asyncpg.PostgresError) as error:
            why = getattr(error, "detail", None) or f"{str(error) or 'no answer in time'}."
            return f"No fingerprint of the schema was taken, so drift is not known until the next run: {why}"
        return None

    async def refused(self, database: Database, refusal: Problem, alone: AbstractAsyncContextManager[None]) -> None:
        """Put a refusal on record, where there is a record already; those who are `alone` do so one after another."""
        # The caller has waited long enough, so there is little time for the record.
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(_RECORD_TIMEOUT_S), alone, connection.session(database) as control:
                facts = await status.look(control, self._settings)
                if isinstance(refusal, LockHeld) and refusal.members["holder"]["run_id"] is None:
                    # Who waited for the turn of this process has not seen the lock itself.
                    seen = await lock.holder(control, lock.key(facts.version_table))
                    refusal.members["holder"] = (seen or Holder()).model_dump(mode="json")
                if facts.ledger_exists:
                    ledger = status.ledger_of(self._settings, facts)
                    error = self.document(refusal)
                    error.pop("plan", None)  # the whole of it, with its SQL, as it was at that moment
                    await ledger.refuse(control, self._attempt, from_heads=facts.heads, error=error)
