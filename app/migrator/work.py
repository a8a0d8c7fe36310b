"""What a run does to the database, in a worker thread.

Revisions are other people's code: they hold the CPU, sleep, commit by themselves. The thread keeps them away
from the server's loop, where /livez and the heartbeat go on.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa

from app.database import fence, session_settings, transaction, working
from app.database.entry import Entry
from app.database.fence import Fence
from app.database.footprint import Footprint
from app.database.ledger import Ledger
from app.database.lock import Guard
from app.database.simple_query import ResultSet
from app.database.url import Database
from app.database.wire import LAST, Wire
from app.errors import MigrationFailed, TimeBudgetExhausted
from app.migrator import passing, steps
from app.migrator.deadline import Deadline
from app.migrator.revisions import Applying
from app.report import Blocker, Emit, Event, RecordedStep, Revision, Step
from app.settings import Settings

type Apply = Callable[[sa.Connection, "Work"], None]
"""Runs Alembic on a connection that has no transaction open, telling the Work what happens."""


@dataclass(slots=True)
class Work:
    """The work of one run: what is to be done, and how far it has got. An `Observer` of the revisions."""

    run_id: UUID
    database: Database
    settings: Settings
    guard: Guard
    ledger: Ledger | None
    """None when the steps cannot be written."""
    deadline: Deadline
    pooler: bool
    pending: list[Revision]
    emit: Emit
    is_from_base: bool = False
    """Whether the database had no version before."""

    applied: list[Step] = field(default_factory=list)
    retries: int = 0
    blockers: list[Blocker] = field(default_factory=list)
    """Who stood in the way when somebody last looked; written by the watcher."""
    is_blocked: bool = False
    """Whether somebody did at the last look."""
    running: Revision | None = None
    """The revision that is under way."""
    tries: int = 0
    """How often it has met a lock timeout that was forgiven."""
    had_s: float = math.inf
    """How much time was left when it began."""

    _fence: Fence = field(init=False)
    _forgiven: Exception | None = None
    """The lock timeout for which the revision is tried again."""
    _cut: Callable[[], None] = lambda: None
    _abandoned: bool = False
    _committed_before: int = 0
    _committed_itself: bool = False
    _merges: set[str] = field(default_factory=set)
    _wire: Wire | None = None
    _started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = 0.0

    def __post_init__(self) -> None:
        self._fence = fence.around(
            self.guard.fence(cancelled=self.ledger.cancelled(self.run_id)) if self.ledger else self.guard.fence(),
            run_id=self.run_id,
            lease_s=self.settings.lease,
            lock_timeout_s=self.settings.lock_timeout,
            pooler=self.pooler,
            remaining_s=lambda: self.deadline.left_to_work_s,
            footprint=Footprint(self.settings.ledger_schema, self.settings.version_table),
            session_settings=session_settings.of(self.settings),
        )

    @property
    def asked_at(self) -> float | None:
        """Since when the database owes an answer, by `time.monotonic`; None while it owes none."""
        return self._fence.asked_at

    @property
    def pid(self) -> int | None:
        """The backend that a transaction is open on; None between transactions."""
        return self._fence.pid

    @property
    def is_connected(self) -> bool:
        """Whether the connection was there when the work ended: one that was lost is the revision's own."""
        return self._fence.is_connected

    @property
    def warnings(self) -> list[str]:
        """What a caller should know, however the work ended."""
        dropped = [f"Dropped the INVALID index {name}, which an interrupted run left." for name in self._fence.dropped]
        return dropped + steps.warnings(self.applied, merges=self._merges)

    @property
    def transactions(self) -> dict[str, bool]:
        """What Alembic is to be told of transactions; what is left out is for env.py to say."""
        options = {"transaction_per_migration": True, "transactional_ddl": self.settings.transactional_ddl}
        return {name: value for name, value in options.items() if value is not None}

    @property
    def commits_here(self) -> bool:
        """Whether a transaction is to end between two revisions: each has one of its own."""
        return True

    @property
    def in_one(self) -> bool:
        """Whether the revisions share a transaction."""
        return False

    @property
    def remaining(self) -> list[Revision]:
        """What is still to be done."""
        done = {step.revision for step in self.applied}
        return [revision for revision in self.pending if revision.revision not in done]

    @property
    def is_first(self) -> bool:
        """Whether no revision was ever applied to the database."""
        return self.is_from_base and not self.applied

    @property
    def is_worth_watching(self) -> bool:
        """Whether somebody should look who stands in the way: a lock timeout was met, or will not be forgiven."""
        return self.tries > 0 or self.settings.lock_retries == 0

    def do(self, apply: Apply) -> None:
        """Do the work in this thread, which must have no event loop running.

        Raises:
            Exception: whatever a revision raises; `ending.problem` says it in our words.
        """

        def cut_by(wire: Wire) -> None:
            self._wire, self._cut = wire, wire.cutter()
            if self._abandoned:
                self._cut()

        engine = self._engine(cut_by)
        while True:
            try:
                return working.use(engine, lambda opened: self._goes_through(opened, apply))
            except Exception as error:
                if not self._deserves_another_try(error):
                    raise
                self._forgiven = error
            time.sleep(min(passing.pause_s(self.tries), self.deadline.left_to_start_s))

    def _engine(self, on_open: Callable[[Wire], None]) -> sa.Engine:
        return working.engine(
            self.database, self._fence, run_id=self.run_id, driver=self.settings.driver, on_open=on_open
        )

    def _goes_through(self, opened: sa.Connection, apply: Apply) -> None:
        apply(opened, self)
        # A revision that committed by itself may have left its version in an open transaction.
        opened.commit()
        self._commits_the_rest()

    def _commits_the_rest(self) -> None:
        assert self._wire is not None  # noqa: S101 – as in `_ask`
        self._wire.waits_for(transaction.commit_the_rest(self._wire, self._fence))

    def abandon(self) -> None:
        """Cut the working connection, from any thread, without a word to a database that may not answer."""
        self._abandoned = True
        self._cut()

    def begins(self, revision: Revision) -> None:
        """A revision is about to run.

        Raises:
            TimeBudgetExhausted: It would not have the time.
            MigrationFailed: It is not what was planned.
        """
        if self.pending and revision not in self.pending[self._has_run : self._has_run + 1]:
            raise MigrationFailed(
                f"Alembic is about to run {revision.revision}, which is not what comes next in the plan of this run.",
                hint="Somebody has changed the version table while the run went on. See GET /plan, then call again.",
                sqlstate=None,
                message=None,
            )
        if not self.deadline.allows_a_start:
            if self._forgiven is not None:
                raise self._forgiven
            self.running = None
            raise TimeBudgetExhausted(
                f"Of {max(self.deadline.given_s, 0):.0f} s too little is left to start revision {revision.revision}."
            )
        if self.running != revision and not self.in_one:
            self.tries, self.blockers = 0, []
        self.running, self.had_s = revision, self.deadline.left_to_work_s
        if self.ledger is not None:
            drops = self.settings.drop_broken_indexes
            self._fence.builds = self.ledger.builds(self.run_id, revision.revision, drops=drops)
        self._fence.footprint.starts_afresh()
        self.mark()
        progress = f"{self._has_run + 1}/{len(self.pending)}"
        self.guard.show(revision.revision, progress)
        self.emit(Event("revision.started", {**revision.model_dump(), "progress": progress}))

    @property
    def _has_run(self) -> int:
        """How many revisions have run to their end."""
        return len(self.applied)

    def mark(self) -> None:
        """Start the clock of a step, from which on what is committed is its own doing."""
        self._started_at, self._clock = datetime.now(UTC), time.perf_counter()
        self._committed_before = self._fence.commits

    def applies(self, applying: Applying) -> None:
        """A revision has run; its step goes on record with the COMMIT that follows."""
        self._fence.footprint.is_last = True
        if (entry := self._entry(applying)) is not None:
            # Beside a step that still waits, when its revision had ended Alembic's transaction by itself.
            self._fence.at_commit.append(entry)

    def _entry(self, applying: Applying) -> Entry | None:
        """What goes on record of a revision that has run; None where nothing can."""
        self._committed_itself = self.left_something
        if applying.is_merge:
            self._merges.add(applying.revision)
        if self.ledger is None:
            return None
        return self.ledger.step(
            self.run_id,
            revision=applying.revision,
            direction=applying.direction,
            down_revisions=applying.down_revisions,
            sha256=applying.sha256,
            started_at=self._started_at,
            duration_ms=self._elapsed_ms(),
            committed_itself=self._committed_itself,
        )

    def ends(self, revision: Revision) -> None:
        """A revision is committed."""
        self._commits_the_rest()
        self.running = None
        self._are_committed([self._step(revision)])

    def _step(self, revision: Revision) -> Step:
        left, duration_ms = self._fence.footprint, self._elapsed_ms()
        return steps.measured(revision, left, duration_ms=duration_ms, committed_itself=self._committed_itself)

    def _are_committed(self, committed: list[Step]) -> None:
        self.tries, self._forgiven = 0, None
        for step in committed:
            self.applied.append(step)
            self.emit(Event("revision.applied", step.model_dump()))

    def learns_what_it_applied(self, recorded: list[RecordedStep] | None) -> None:
        """Believe the ledger, where there is one, rather than what was heard of a COMMIT, whose answer may be lost."""
        if recorded is None:
            return
        self.applied, unheard_of = steps.agreed(self.applied, recorded, self.pending)
        self._are_committed(unheard_of)
        self.running = self.running if self.running in self.remaining else None

    def _elapsed_ms(self) -> int:
        return round((time.perf_counter() - self._clock) * 1000)

    @property
    def left_something(self) -> bool:
        """Whether the revision that runs has committed something already."""
        return self._fence.commits > self._committed_before

    @property
    def _is_under_way(self) -> bool:
        """Whether something has run that is not committed."""
        return self.running is not None

    def _ask(self, *sql: str, wanted: Sequence[int] = LAST) -> list[ResultSet]:
        """Send statements of our own, in the midst of the revisions."""
        assert self._wire is not None  # noqa: S101 – opened before anything begins
        return self._wire.waits_for(self._fence.send(self._wire, sql, wanted))

    def _deserves_another_try(self, error: BaseException) -> bool:
        if not passing.may_be_forgiven(error) or not self._is_under_way or self.left_something:
            return False
        if self._abandoned or self.guard.lost.is_set() or self.tries >= self.settings.lock_retries:
            return False
        if not self.deadline.allows_a_start:
            return False
        self.tries += 1
        self.retries += 1
        return True
