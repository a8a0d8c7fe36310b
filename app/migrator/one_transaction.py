"""What a run does to the database whose revisions share a transaction: all of them, or none.

A revision that commits by itself splits the run. What came before it is committed with it, and so is its own rest, with
its version: to run it again would meet what it has left. The next one begins another transaction.
"""

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa

from app.database.footprint import LOOK
from app.errors import MigrationFailed
from app.migrator import cause
from app.migrator.revisions import Applying
from app.migrator.work import Apply, Work
from app.report import RecordedStep, Revision, Step

_UNDEFINED_TABLE = "42P01"


class WorkInOne(Work):
    """The work of a run whose revisions share a transaction; what has run waits for its COMMIT before it is told."""

    def __post_init__(self) -> None:
        """Begin with nothing."""
        super().__post_init__()
        self._waiting: list[Step] = []

    @property
    def transactions(self) -> dict[str, bool]:
        """What Alembic is to be told of transactions. Without transactional DDL it would make one for each revision."""
        return {"transaction_per_migration": False, "transactional_ddl": True}

    @property
    def commits_here(self) -> bool:
        """Whether the transaction is to end between two revisions: where the one that has run has split it."""
        return self.left_something

    @property
    def in_one(self) -> bool:
        """Whether the revisions share a transaction."""
        return True

    @property
    def is_first(self) -> bool:
        """Whether no revision was ever applied to the database, and none has run."""
        return super().is_first and not self._waiting

    def _goes_through(self, opened: sa.Connection, apply: Apply) -> None:
        self._waiting = []
        super()._goes_through(opened, apply)
        self._waiting_are_committed()

    def begins(self, revision: Revision) -> None:
        """A revision is about to run.

        Raises:
            TimeBudgetExhausted: It would not have the time.
            MigrationFailed: It is not what was planned.
        """
        had_s = self.had_s
        super().begins(revision)
        if self._waiting:  # what counts is what all of them had
            self.had_s = had_s

    def applies(self, applying: Applying) -> None:
        """A revision has run: put its step on record, with what it has locked beyond those before it.

        Raises:
            LockLost, Cancelled: As a COMMIT would.
            MigrationFailed: The version was not where it was expected.
        """
        entry, fence = self._entry(applying), self._fence
        move, fence.move = fence.move, None
        footprint = fence.footprint
        tells = entry.insert(footprint.left()) if entry else footprint.look_back()
        moves = move.confirmed if move else []
        # Where the revision has ended the transaction, what is ours is one all the same, in whichever messages.
        before = [*([] if self._is_in_transaction else ["BEGIN"]), *fence.as_login]
        with _seeing_what_was_taken_back(applying.revision):
            left, held = self._ask(
                *before, tells, *fence.as_role, *moves, *fence.checked_within, LOOK, wanted=(len(before), -1)
            )
        footprint.commits(*left.rows[0], is_whole=True)
        self._just_run = self._step(Revision(revision=applying.revision, message=""))
        footprint.starts_afresh()
        footprint.begins(is_noted=False, held=[(oid, mode) for oid, mode in held.rows])

    def ends(self, revision: Revision) -> None:
        """A revision has run to its end; if it has split the run, it is committed, with those that wait."""
        if self.commits_here:
            self._commits_the_rest()
        self.running = None
        self._waiting.append(self._just_run.model_copy(update={"message": revision.message}))
        if self.commits_here:
            self._waiting_are_committed()

    def learns_what_it_applied(self, recorded: list[RecordedStep] | None) -> None:
        """Believe the ledger; without one, that a revision which committed by itself has committed those before it."""
        if recorded is not None:
            super().learns_what_it_applied(recorded)
        elif self.left_something:
            self._waiting_are_committed()

    def _waiting_are_committed(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._are_committed(waiting)
        self.blockers = []

    @property
    def _is_in_transaction(self) -> bool:
        return self._wire is not None and self._wire.is_in_transaction

    @property
    def _has_run(self) -> int:
        return len(self.applied) + len(self._waiting)

    @property
    def _is_under_way(self) -> bool:
        return self.running is not None or bool(self._waiting)


@contextlib.contextmanager
def _seeing_what_was_taken_back(revision: str) -> Iterator[None]:
    """Around the move of the version: what it starts from is gone where the revision has rolled back.

    Raises:
        MigrationFailed: The version, or all of its table, is not what it was before the revision.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, MigrationFailed) and cause.sqlstate(error) != _UNDEFINED_TABLE:
            raise
        raise MigrationFailed(
            f"Revision {revision} has run, and the version is not where it was before it.",
            hint="It has probably ended the transaction that the revisions share (MIGRATION_TRANSACTION_PER_RUN), and "
            "taken back what came before it: take its rollback() out, or unset that variable, so that each has a "
            "transaction of its own. Else somebody has changed the version table meanwhile; see GET /plan.",
            sqlstate=cause.sqlstate(error),
            message=None,
        ) from error
