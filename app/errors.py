"""Everything that can go wrong, drawn as a tree.

    Problem
    ├── Unauthenticated, InsufficientScope          the key
    ├── BadSignature                                the webhook's sender
    ├── NotConfigured                               the environment
    ├── InvalidRequest                              the request
    │   ├── UnknownTarget
    │   ├── BodyTooLarge, WrongMediaType
    │   └── NotFound, MethodNotAllowed
    ├── WrongDeployment                             the webhook's event
    ├── LockHeld                                    somebody else is at work
    ├── WrongEnvironment                            the database is not this deployment's to change
    ├── StillRunning, IdempotencyKeyReused          what a key of an earlier call stands for
    ├── RunEnded                                    there is nothing left to cancel
    ├── HistoryMismatch                             the database and the deployment disagree
    │   └── DatabaseAhead, Diverged, MultipleHeads
    ├── RunStopped                                  a run began and did not reach its target
    │   ├── TimeBudgetExhausted, LockTimeout, LockLost, StatementTimeout, MigrationFailed
    │   └── Cancelled
    ├── DatabaseUnavailable                         the way to the database
    │   └── TlsFailed, DatabaseAuthFailed, PermissionDenied, ReadOnlyDatabase
    └── InternalError                               a defect of ours

Each class knows its slug, its status, whether the same call may succeed later, and a hint that says what to do
next. `Problem.document` is the answer of RFC 9457. The message is the product: it must help, and it must
never hold a secret, a statement's parameters or a traceback.
"""

from app.problem import Problem


class Unauthenticated(Problem):
    """No key came, or one that is not ours (RFC 6750, section 3)."""

    slug, status, title = "unauthenticated", 401, "A key is needed"
    hint = "Send the header `Authorization: Bearer $MIGRATION_API_KEY`."

    def __init__(self, detail: str, *, token_came: bool) -> None:
        super().__init__(detail)
        self.token_came = token_came

    @property
    def headers(self) -> dict[str, str]:
        """The challenge; it names an error only if a token came (RFC 6750, section 3.1)."""
        return {
            "WWW-Authenticate": 'Bearer realm="migrate"' + ', error="invalid_token"' * self.token_came,
        }


class InsufficientScope(Problem):
    """The key is known, and may not do this."""

    slug, status, title = "insufficient-scope", 403, "This key may only read"
    hint = "Use a key of MIGRATION_API_KEY; those of MIGRATION_READ_KEY only read."

    @property
    def headers(self) -> dict[str, str]:
        """The challenge of RFC 6750, section 3.1."""
        return {"WWW-Authenticate": 'Bearer realm="migrate", error="insufficient_scope", scope="apply"'}


class BadSignature(Problem):
    """A webhook that nobody we know has signed, or not lately."""

    slug, status, title = "bad-signature", 401, "The webhook's signature does not hold"
    hint = (
        "See that the secret in the sender's settings is among those in this deployment's environment, and that "
        "nothing on the way changes the body."
    )

    @property
    def headers(self) -> dict[str, str]:
        """The challenge that every 401 must have (RFC 9110, section 15.5.2)."""
        return {"WWW-Authenticate": 'Signature realm="hooks"'}


class NotConfigured(Problem):
    """A variable of the environment is missing or has a value that cannot be used."""

    slug, status, title = "not-configured", 503, "The deployment is not configured"
    hint = "Set the variable in the deployment's environment, then deploy again."


class InvalidRequest(Problem):
    """The request is not what the route takes."""

    slug, status, title = "invalid-request", 422, "The request is not valid"
    hint = 'Send a JSON object such as {"target": "heads"}, or no body at all.'


class UnknownTarget(InvalidRequest):
    """The target names no revision of this deployment."""

    slug, title = "unknown-target", "The target is not in this deployment's history"
    hint = "Use `heads`, or a revision that GET /status lists; check that the right commit is deployed."


class BodyTooLarge(InvalidRequest):
    """The body is larger than any valid one."""

    slug, status, title = "body-too-large", 413, "The body is too large"


class WrongMediaType(InvalidRequest):
    """The body is not declared as JSON."""

    slug, status, title = "wrong-media-type", 415, "The body must be JSON"
    hint = "Add the header `Content-Type: application/json`; curl's -d alone declares a form."


class NotFound(InvalidRequest):
    """There is no such route or thing."""

    slug, status, title = "not-found", 404, "Not found"
    hint = (
        "The routes are POST /migrate, POST /runs/{id}/cancel, and GET /status, /runs, /runs/{id}, /runs/{id}/events, "
        "/health, /livez; those under /hooks are there once their secret is set."
    )


class MethodNotAllowed(InvalidRequest):
    """The route exists with another method."""

    slug, status, title = "method-not-allowed", 405, "The route does not take this method"
    hint = "See the Allow header."

    def __init__(self, detail: str, *, allow: str) -> None:
        super().__init__(detail)
        self.allow = allow

    @property
    def headers(self) -> dict[str, str]:
        """Which methods the route takes (RFC 9110, section 15.5.6)."""
        return {"Allow": self.allow}


class WrongDeployment(Problem):
    """A webhook's event is about another deployment than the one that was asked. Carries event and deployment."""

    slug, status, title = "wrong-deployment", 409, "The event is about another deployment"
    hint = (
        "Nothing was done. This address leads to another deployment: during a rolling release to the one before. "
        "Send the event again when its deployment answers here, or POST /migrate at that deployment's own URL."
    )


class LockHeld(Problem):
    """Another run holds the lock, for longer than this caller would wait."""

    slug, status, title = "lock-held", 409, "Another run is under way"
    hint = "Call again; the run under way may do all the work. GET /status shows how far it is."
    retryable = True
    retry_after_s = 5


class WrongEnvironment(Problem):
    """The database belongs to another environment than this deployment; nothing was changed."""

    slug, status, title = "wrong-environment", 409, "The database belongs to another environment"
    hint = (
        "Point this deployment at its own environment's database: on Vercel each environment has its own value of a "
        "variable. If the database is to change hands, say so in a terminal that reaches it: "
        "`python -m app environment set <name>`."
    )


class StillRunning(Problem):
    """The run that an Idempotency-Key stands for is still going on."""

    slug, status, title = "still-running", 409, "The first run of this key is still going on"
    hint = "Call again with the same key: once the run has ended, its answer is yours. `Location` shows how far it is."
    retryable = True
    retry_after_s = 2

    @property
    def headers(self) -> dict[str, str]:
        """And where the run is, once it holds the lock."""
        location = {"Location": f"/runs/{self.members['run_id']}"} if "run_id" in self.members else {}
        return {**super().headers, **location}


class IdempotencyKeyReused(Problem):
    """An Idempotency-Key came a second time, with another body."""

    slug, status, title = "idempotency-key-reused", 422, "The key stands for another request"
    hint = "Use a new Idempotency-Key for each request, and the same one only to repeat a request as it was."


class RunEnded(Problem):
    """A run that is to be cancelled has ended already."""

    slug, status, title = "run-ended", 409, "The run has ended already"
    hint = "GET /runs/{id} tells how it ended."


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


class DatabaseUnavailable(Problem):
    """No connection could be made, or it broke."""

    slug, status, title = "database-unavailable", 503, "The database cannot be reached"
    hint = "Check host and port of the connection string, and that the database is running; then call again."
    retryable = True
    retry_after_s = 5


class TlsFailed(DatabaseUnavailable):
    """The encrypted connection could not be made."""

    slug, title = "tls-failed", "No TLS connection to the database"
    hint = (
        "Set MIGRATION_SSL_ROOT_CERT to the provider's root certificate: the path of a file in the deployment, or the "
        "PEM text itself. Or encrypt without checking who answers: unset that variable, and use `sslmode=require` in "
        "the connection string."
    )
    retryable = False


class DatabaseAuthFailed(DatabaseUnavailable):
    """PostgreSQL refused the role or its password."""

    slug, title = "database-auth-failed", "The database refused the login"
    hint = (
        "Copy the connection string from the provider again, and deploy: on Vercel a changed variable reaches new "
        "deployments only. In a URL the password's @ : / and # must be %-encoded. Supabase's poolers want the user "
        "`postgres.<project-ref>`."
    )
    retryable = False


class PermissionDenied(DatabaseUnavailable):
    """The role lacks a right (SQLSTATE 42501)."""

    slug, title = "permission-denied", "The database role lacks a right"
    hint = (
        "Use the role that owns the tables: set MIGRATION_DATABASE_URL to its connection string (Neon: `neondb_owner`, "
        "Supabase: `postgres`). Or grant what is missing: `GRANT USAGE, CREATE ON SCHEMA public TO <role>; "
        "GRANT CREATE ON DATABASE <database> TO <role>`."
    )
    retryable = False


class ReadOnlyDatabase(DatabaseUnavailable):
    """The server takes no writes: a replica, or a primary that was made read-only (SQLSTATE 25006)."""

    slug, title = "read-only-database", "The database takes no writes"
    hint = (
        "Point MIGRATION_DATABASE_URL at the primary: providers give replicas a host name of their own. A primary "
        "that takes no writes (see `SHOW default_transaction_read_only`) is usually over its disk quota."
    )
    retryable = False


class InternalError(Problem):
    """A defect of this service; the log has the place."""

    slug, status, title = "internal-error", 500, "Something unexpected happened"
    hint = "The log has an event `internal_error` with this request_id; please report it."
