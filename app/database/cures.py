"""What to do about a database that cannot be reached or used: hints, which README's troubleshooting table repeats."""

NO_TLS = (
    "Inside a private network use `sslmode=disable` in the connection string. On the internet every provider's "
    "server speaks TLS: check host and port before a password travels in plain text."
)
TLS_ONLY = "Use `sslmode=require` in the connection string, in place of `sslmode=disable`."
OTHER_NAME = (
    "Use the host name that the provider gives, which its certificate is made for, rather than an address or an "
    "alias. `sslmode=verify-ca` checks the root and not the name."
)
NO_SUCH_DATABASE = (
    "Correct the database's name at the end of the connection string (Neon: `neondb`, Supabase: `postgres`), or "
    "create it with `CREATE DATABASE <name>`: a migration needs a database to connect to."
)
SILENT = (
    "Check host and port. A firewall or an IP allow list that drops packets looks like this: Vercel's functions "
    "come from changing addresses, so allow all of them, or use static ones. A database that wakes slowly needs a "
    "larger MIGRATION_CONNECT_TIMEOUT. Then call again."
)
STARTING = (
    "Nothing needs to be changed: call again in a few seconds. If it stays, the database recovers from a crash, or "
    "is a standby that takes no connections; its log says which."
)
TOO_MANY = (
    "Call again. If it stays, see who has the connections: `SELECT usename, application_name, state, count(*) FROM "
    "pg_stat_activity GROUP BY 1, 2, 3`. Let the application go through the provider's pooler and leave direct "
    "connections to migrations (a run needs three), or raise the limit: `max_connections`, `ALTER ROLE <role> "
    "CONNECTION LIMIT 20`, the pool's size."
)
POOLER = (
    "Set MIGRATION_DATABASE_URL to the direct connection, which is the value of DATABASE_URL_UNPOOLED or "
    "POSTGRES_URL_NON_POOLING (Neon: the host without `-pooler`; Supabase: the session pooler, port 5432 instead of "
    "6543; Prisma Postgres: the host db.prisma.io). If it is only the startup parameter, take it out of the "
    "connection string."
)
IPV6_ONLY = (
    "Vercel's functions have no IPv6. Supabase's direct host, `db.<project-ref>.supabase.co`, is IPv6-only: set "
    "MIGRATION_DATABASE_URL to its session pooler (a host of pooler.supabase.com, port 5432, user "
    "`postgres.<project-ref>`), or enable its IPv4 add-on. Elsewhere use a host that has an IPv4 address."
)
NO_HOST = (
    "Check the host's spelling. A project that is paused or deleted may have lost its name: look at the provider's "
    "console."
)
