"""The way to the database."""

from app.problem import Problem


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
