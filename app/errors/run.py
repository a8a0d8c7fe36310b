"""The run: why none begins, and why one stops before its target."""

from app.problem import Problem


class LockHeld(Problem):
    """Another run holds the lock, for longer than this caller would wait."""

    slug, status, title = "lock-held", 409, "Another run is under way"
    hint = "Call again; the run under way may do all the work. GET /status shows how far it is."
    retryable = True
    retry_after_s = 5


class HistoryMismatch(Problem):
    """The database and this deployment's revisions do not fit together; nothing was changed."""

    status = 409


class DatabaseAhead(HistoryMismatch):
    """The database has everything this deployment knows, and more: normal after a rollback of the code."""

    slug, title = "database-ahead", "The database is ahead of this deployment"
    hint = "Nothing is broken. To migrate, deploy a commit whose history contains the database's revision."


class Diverged(HistoryMismatch):
    """The database has a revision unknown here, and lacks one that is known here."""

    slug, title = "diverged", "The database and this deployment have diverged"
    hint = (
        "Another branch was probably migrated into this database. Merge its revisions into this deployment "
        "(alembic merge), or point the deployment at its own database."
    )


class MultipleHeads(HistoryMismatch):
    """The target asks for one head and there are several."""

    slug, title = "multiple-heads", "The history has several heads"
    hint = "Join them with `alembic merge heads -m ...`, or use the target `heads` to upgrade to all of them."


class AlreadyVersioned(HistoryMismatch):
    """The database has a version, so there is nothing to adopt. Carries which."""

    slug, title = "already-versioned", "The database has a version already"
    hint = (
        "`python -m app migrate` goes on from there. If the version is wrong, correct it on purpose: "
        "`alembic stamp <revision>`, which takes the same lock."
    )


class RunStopped(Problem):
    """A run began and ended before its target. Carries run_id, applied and remaining."""


class TimeBudgetExhausted(RunStopped):
    """The time of the run was over before its work was; what is applied stays."""

    slug, status, title = "time-budget-exhausted", 503, "The time was over before the work"
    hint = "Call again: the next run continues where this one stopped."
    retryable = True
    retry_after_s = 1


class LockTimeout(RunStopped):
    """A revision could not get its table locks in time, however often it was tried (SQLSTATE 55P03)."""

    slug, status, title = "lock-timeout", 503, "A table stayed locked"
    hint = (
        "The `blockers` hold the table. Let them finish or end them (select pg_terminate_backend(pid)), then "
        "call again. MIGRATION_LOCK_TIMEOUT and MIGRATION_LOCK_RETRIES say how long and how often is tried."
    )
    retryable = True
    retry_after_s = 5


class LockLost(RunStopped):
    """The guard's connection ended during the run; what was not committed was rolled back."""

    slug, status, title = "lock-lost", 503, "The run lost its lock"
    hint = (
        "The function was frozen, or cut off from the database, for longer than MIGRATION_LEASE. "
        "Call again: the next run continues where this one stopped."
    )
    retryable = True
    retry_after_s = 1


class StatementTimeout(RunStopped):
    """A statement ran into `statement_timeout` or was cancelled (SQLSTATE 57014)."""

    slug, status, title = "statement-timeout", 504, "A statement was cancelled"
    hint = (
        "Raise `statement_timeout` for the role, or split the revision into smaller ones; "
        "a backfill belongs into batches."
    )


class Cancelled(RunStopped):
    """Somebody asked for the end of the run; what was not committed is rolled back."""

    slug, status, title = "cancelled", 409, "The run was cancelled"
    hint = "To go on, call POST /migrate: the next run continues where this one stopped."


class MigrationFailed(RunStopped):
    """A revision raised an error."""

    slug, status, title = "migration-failed", 500, "A revision failed"
    hint = "Correct the revision and deploy again; the next call continues with it."
