"""What Neon, Supabase and Prisma Postgres put into the environment, and which of it is right for migrations."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import NotConfigured
from app.settings import DATABASE_VARIABLES, known_name

_OURS = DATABASE_VARIABLES[0]
_SUPABASE_TRANSACTION_PORT = 6543


@dataclass(frozen=True, slots=True)
class Pooled:
    """A pooler in transaction mode, as a connection string itself tells of it."""

    told_by: str
    """Whose it is, and what in the string says so."""
    better: str
    """What to set MIGRATION_DATABASE_URL to instead."""


_NEON = Pooled(
    told_by="Neon's, as `-pooler` in its host tells",
    better="the value of DATABASE_URL_UNPOOLED, or to the same string with the host without `-pooler`",
)
_SUPABASE = Pooled(
    told_by=f"Supabase's, as its port {_SUPABASE_TRANSACTION_PORT} tells",
    better="the value of POSTGRES_URL_NON_POOLING, or to the same string with port 5432, which is the session pooler",
)
_PRISMA = Pooled(
    told_by="Prisma's, as its host pooled.db.prisma.io tells",
    better="the same string with the host db.prisma.io, which the integration sets as DATABASE_URL and POSTGRES_URL",
)
_PGBOUNCER = Pooled(
    told_by="it says `pgbouncer=true`",
    better="the direct (unpooled) connection string, often the value of DATABASE_URL_UNPOOLED or "
    "POSTGRES_URL_NON_POOLING",
)


def pooled(
    host: str | tuple[str, ...] | None, port: int | tuple[int, ...] | None, parameters: Mapping[str, str]
) -> Pooled | None:
    """What a connection string tells of a pooler in transaction mode, from its hosts, ports and parameters."""
    hosts = host if isinstance(host, tuple) else (host or "",)
    ports = port if isinstance(port, tuple) else (port,)
    if any("-pooler." in each for each in hosts):
        return _NEON
    if "pooled.db.prisma.io" in hosts:
        return _PRISMA
    if _SUPABASE_TRANSACTION_PORT in ports:
        return _SUPABASE
    return _PGBOUNCER if parameters.get("pgbouncer") == "true" else None


def no_connection_string(others: tuple[str, ...]) -> NotConfigured:
    """The problem that none of the known variables is set; `others` hold a connection string behind a prefix."""
    said = f"No connection string: set one of {', '.join(DATABASE_VARIABLES)}."
    if not others:
        return NotConfigured(said, variables=[_OURS])
    said += f" There is one under other names: {', '.join(others)}."
    return NotConfigured(said, hint=_take_the_best_of(others), variables=[_OURS])


def is_for_prisma_only(text: str) -> bool:
    """Whether a URL leads to Prisma's proxy, which speaks HTTP to Prisma's client and to nobody else."""
    return text.lower().startswith(("prisma://", "prisma+postgres://"))


def for_prisma_only(name: str, others: tuple[str, ...]) -> NotConfigured:
    """The problem that the variable `name` holds such a URL; `others` hold a connection string of PostgreSQL."""
    return NotConfigured(
        f"{name} cannot be used: its prisma:// or prisma+postgres:// leads to a proxy for Prisma's own client, not to "
        "PostgreSQL.",
        hint=_take_the_best_of(others)
        if others
        else f"Set {_OURS} to the direct connection string, which Prisma's console shows and its integration sets as "
        "POSTGRES_URL: it begins with postgres:// and has the host db.prisma.io. Then deploy again.",
        variables=[name],
    )


def _take_the_best_of(names: tuple[str, ...]) -> str:
    # Two databases may each have a best one, and only people know which is the application's.
    best = [name for name in names if known_name(name) == known_name(names[0])]
    return f"Set {_OURS} to the value of {' or '.join(best)}, then deploy again."
