"""What a rehearsal does to the database: the work of a run, in one transaction that is rolled back."""

from collections.abc import Callable
from typing import NoReturn

from sqlalchemy import Connection as WorkingConnection
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from app.database import measuring, rehearsing
from app.database.footprint import LOOK, NOTE, REWRITTEN
from app.database.rehearsing import Stage
from app.database.simple_query import ResultSet
from app.database.wire import Wire
from app.errors import PermissionDenied
from app.migrator import cause
from app.migrator.work import Apply, Work
from app.report import Event, RehearsedStep, Revision, Rewritten, TableLock

_UNSAFE_NEW_VALUE, _INSUFFICIENT_PRIVILEGE = "55P04", "42501"
_GRANT = (
    "A rehearsal makes a temporary table, by which PostgreSQL itself refuses to commit it. Use the role that owns the "
    "database, or grant what is missing: `GRANT TEMPORARY ON DATABASE <database> TO <role>`."
)


class RehearsalWork(Work):
    """The work of a rehearsal. A `Rehearser` of the revisions."""

    def __post_init__(self) -> None:
        """Set the stage."""
        super().__post_init__()
        self.steps: list[RehearsedStep] = []
        self._stage = Stage()
        self._written = ResultSet()
        self._count_written = measuring.written(self.settings.version_table)

    @property
    def refused(self) -> str | None:
        """Why the revision that was under way cannot be rehearsed, if that ended the rehearsal."""
        return self._stage.refused

    @property
    def left_something(self) -> bool:
        """Whether the revision that runs may have: it has ended the transaction, and that was seen too late."""
        return self._stage.is_lost

    def _engine(self, on_open: Callable[[Wire], None]) -> Engine:
        return rehearsing.engine(
            self.database,
            self._fence,
            self._stage,
            run_id=self.run_id,
            driver=self.settings.driver,
            on_open=on_open,
        )

    def _goes_through(self, opened: WorkingConnection, apply: Apply) -> None:
        try:
            self._sets_the_stage(opened)
            apply(opened, self)
        except Exception as error:
            if self.steps and cause.sqlstate(error) == _UNSAFE_NEW_VALUE:
                self._refuse(
                    "It uses a value that an earlier revision adds to an enum, which PostgreSQL allows only once that "
                    "is committed."
                )
            raise
        finally:
            self._stage.is_set = False
            opened.rollback()

    def _sets_the_stage(self, opened: WorkingConnection) -> None:
        try:
            rehearsing.begin(opened, self._stage)
        except DBAPIError as error:
            if cause.sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
                raise
            words = f"{cause.message(error)}."
            raise PermissionDenied(words, hint=_GRANT, sqlstate=_INSUFFICIENT_PRIVILEGE) from error

    def begins(self, revision: Revision) -> None:
        """A revision is about to run.

        Raises:
            TimeBudgetExhausted: It would not have the time.
            LockLost: The guard is gone.
        """
        super().begins(revision)
        # As its own BEGIN would, with the limits, the check, and what is locked already.
        footprint = self._fence.footprint
        held, self._written = self._ask(*self._fence.at_begin(NOTE), LOOK, self._count_written, wanted=(-2, -1))
        footprint.begins(is_noted=True, held=[(oid, mode) for oid, mode in held.rows])
        self.mark()

    def ends(self, revision: Revision) -> None:
        """A revision has run to its end: take its measure.

        Raises:
            CannotBeRehearsed: It wanted what cannot be taken back, and has passed over the refusal; or has done it.
            asyncpg.PostgresError: It has left rows that violate a constraint that was deferred.
        """
        self._stage.insist()
        is_the_same, constraints = self._ask(rehearsing.IS_THE_SAME, rehearsing.DEFERRABLE, wanted=(0, 1))
        if is_the_same.rows != [(True,)]:
            self._stage.loses_its_transaction()
        ((deferrable, deferred),) = constraints.rows
        if deferrable is not None:  # its COMMIT would check them, and the next revision may not find them unchecked
            self._ask(f"SET CONSTRAINTS {deferrable} IMMEDIATE")
        if deferred is not None:
            self._ask(f"SET CONSTRAINTS {deferred} DEFERRED")
        duration_ms = self._elapsed_ms()
        footprint = self._fence.footprint
        left, written, rewritten = self._ask(footprint.look_back(), self._count_written, REWRITTEN, wanted=(0, 1, 2))
        footprint.commits(*left.rows[0], is_whole=True)
        step = RehearsedStep(
            revision=revision.revision,
            message=revision.message,
            duration_ms=duration_ms,
            locks=[TableLock(**lock) for lock in footprint.locks],
            rewrote=footprint.rewrote,
            rows=measuring.changed(self._written, written),
            rewritten=[
                Rewritten(relation=before, rows=self._ask(measuring.count(now))[-1].rows[0][0], bytes=size)
                for before, now, size in rewritten.rows
            ],
        )
        self.steps.append(step)
        self.applied.append(step)
        self.running = None
        self.emit(Event("revision.rehearsed", step.model_dump()))

    def failed(self, revision: Revision, problem: dict[str, object]) -> RehearsedStep:
        """The step of a revision that has failed, of which PostgreSQL tells nothing more."""
        return RehearsedStep(
            revision=revision.revision, message=revision.message, duration_ms=self._elapsed_ms(), problem=problem
        )

    def refuses_autocommit(self) -> NoReturn:
        """A revision wants an autocommit block."""
        self._refuse("It has an autocommit block.")

    def _refuse(self, reason: str) -> NoReturn:
        self._stage.refuse(reason)
