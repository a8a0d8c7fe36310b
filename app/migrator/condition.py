"""The condition that a database is in: what a caller should know of it, whatever is to be done."""

from app.database import indexes
from app.database.catalog import Facts
from app.database.connection import Session
from app.errors import ReadOnlyDatabase, WrongEnvironment
from app.problem import Problem
from app.report import BrokenIndex, PoolMode
from app.settings import Settings

_THROUGH_A_POOLER = (
    "The connection goes through a {mode} pooler. Runs are safe there, but inside an autocommit block no limit "
    "can be set: such a statement outlives a function that is killed, until the next run ends it. Better set "
    "MIGRATION_DATABASE_URL to the direct (unpooled) connection string."
)


def warnings(facts: Facts, pool_mode: PoolMode | None) -> list[str]:
    """What a caller should know about this database, whatever is done to it."""
    found = []
    if facts.in_recovery:
        found.append("This server is a read-only replica; point the connection string at the primary.")
    elif facts.read_only:
        found.append("The database is set to take no writes (default_transaction_read_only).")
    if pool_mode is not None:
        found.append(_THROUGH_A_POOLER.format(mode=pool_mode))
    return found + [_is_broken(index) for index in facts.broken_indexes]


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


def insist_on_environment(facts: Facts, settings: Settings) -> None:
    """See that the database belongs to this deployment's environment, as far as both are known.

    Raises:
        WrongEnvironment: It belongs to another.
    """
    ours, theirs = settings.deployment.environment, facts.environment
    if ours and theirs and ours.lower() != theirs.lower():
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
