"""The condition that a database is in: what a caller should know of it, whatever is to be done."""

from app.database import indexes, session_settings
from app.database.catalog import Facts
from app.database.connection import Session
from app.database.url import Database
from app.errors import ReadOnlyDatabase, WrongEnvironment
from app.problem import Problem
from app.report import BrokenIndex, PoolMode
from app.settings import Settings

_THROUGH_A_POOLER = (
    "{variable} leads to a {mode} pooler{told}. Runs are safe there, but inside an autocommit block no limit can be "
    "set{nor}: such a statement outlives a function that is killed, until the next run ends it. {cure}"
)
_BETTER = "Better set MIGRATION_DATABASE_URL to {better}."
_DIRECT = "the direct (unpooled) connection string"
_DIRECT_IF_REACHED = (
    f"{_DIRECT}, if there is a way to it: Supabase's direct host has only IPv6 addresses, and its session pooler is "
    "the next best"
)


def warnings(facts: Facts, database: Database, pool_mode: PoolMode | None, settings: Settings) -> list[str]:
    """What a caller should know about this database, whatever is done to it, as far as the look has asked.

    Args:
        facts: What a look at it has told.
        database: Where it is, as the connection string says.
        pool_mode: The pooler's mode, if there is one and somebody has found it out.
        settings: The deployment's.
    """
    found = []
    environment = settings.deployment.environment
    if facts.in_recovery:
        found.append("This server is a read-only replica; point the connection string at the primary.")
    elif facts.read_only:
        found.append("The database is set to take no writes (default_transaction_read_only).")
    if facts.environment and not environment:
        found.append(
            f"The database belongs to `{facts.environment}`, and this deployment names no environment, so it is let "
            "through unchecked: set MIGRATION_ENVIRONMENT."
        )
    if facts.pooler:
        found += _through_a_pooler(database, pool_mode, session_settings.of(settings).variables)
    return found + [_is_broken(index) for index in (facts.broken_indexes if facts.tells("broken_indexes") else ())]


def _through_a_pooler(database: Database, mode: PoolMode | None, unheld: list[str]) -> list[str]:
    """The warning of a pooler that was seen: as exact as the connection string, unless the mode contradicts it."""
    said = database.pooled
    if said is not None and mode != "session":
        mode, told, better = "transaction", f" ({said.told_by})", said.better
    elif mode is not None:
        told, better = "", _DIRECT if mode == "transaction" else _DIRECT_IF_REACHED
    else:
        return []
    cure = _BETTER.format(better=better)
    nor = f", nor do {' and '.join(unheld)} hold" if unheld else ""
    return [_THROUGH_A_POOLER.format(variable=database.variable, mode=mode, told=told, nor=nor, cure=cure)]


def _is_broken(index: BrokenIndex) -> str:
    return (
        f"The index {index.name} is INVALID: its concurrent build failed or was interrupted. No query uses it, and "
        "IF NOT EXISTS takes it for built."
    )


def insist_on_writes(facts: Facts) -> None:
    """See that the database takes writes.

    Raises:
        ReadOnlyDatabase: It takes none.
    """
    if facts.in_recovery:
        raise ReadOnlyDatabase("This server is a read-only replica (pg_is_in_recovery).")
    if facts.read_only:
        raise ReadOnlyDatabase("This database is set to take no writes (default_transaction_read_only).")


def is_foreign(facts: Facts, settings: Settings) -> bool:
    """Whether the database belongs to another environment than this deployment, as far as both are known."""
    ours, theirs = settings.deployment.environment, facts.environment
    return bool(ours and theirs) and str(ours).casefold() != str(theirs).casefold()


def insist_on_environment(facts: Facts, settings: Settings) -> None:
    """See that the database belongs to this deployment's environment, as far as both are known.

    Raises:
        WrongEnvironment: It belongs to another.
    """
    if is_foreign(facts, settings):
        ours, theirs = settings.deployment.environment, facts.environment
        raise WrongEnvironment(
            f"The database belongs to `{theirs}`, and this deployment is `{ours}`.",
            database_environment=theirs,
            deployment_environment=ours,
        )


async def broken_indexes(control: Session, settings: Settings, facts: Facts) -> list[BrokenIndex]:
    """The INVALID indexes that a look has seen, with the revisions that began them, as far as the ledger knows."""
    if facts.broken_indexes and facts.ledger_knows_builds:
        return await indexes.broken(control, settings.ledger_schema)
    return list(facts.broken_indexes)


async def tell_of_broken_indexes(control: Session, settings: Settings, facts: Facts, problem: Problem) -> None:
    """Name the INVALID indexes in a problem, and say what becomes of them."""
    broken = await broken_indexes(control, settings, facts)
    if not broken:
        return
    problem.members["broken_indexes"] = [index.model_dump() for index in broken]
    left = [index.name for index in broken if index.revision]
    if not left:  # by strangers: what is in the way of a revision, its own problem says
        return
    if settings.drop_broken_indexes:
        cure = f"The next run drops what its revision left ({', '.join(left)}) before it builds it again."
    else:
        drops = " ".join(f"DROP INDEX CONCURRENTLY {name};" for name in left)
        cure = f"Drop what the revision left before you call again: {drops}"
    problem.hint = f"{problem.hint} {cure}"
