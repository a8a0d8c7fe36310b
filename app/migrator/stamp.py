"""A stamp: adopting a database that has the schema and no version. It is a run in which no revision runs."""

from app.database import connection, schema, url
from app.database.catalog import Facts
from app.database.schema import Change, Definition, Place
from app.database.unreachable import place
from app.errors import AlreadyVersioned, HistoryMismatch, LockHeld, UnknownTarget, WrongEnvironment
from app.migrator import condition, drift, revisions, status
from app.migrator.call import Call, is_relative
from app.migrator.runner import Runner
from app.migrator.turn import Turn
from app.report import Emit, Proposal, Run
from app.settings import Settings


async def proposal(settings: Settings, target: str) -> Proposal:
    """What a stamp would do.

    Raises:
        AlreadyVersioned, WrongEnvironment, UnknownTarget, MultipleHeads: It would be refused.
        NotConfigured, DatabaseUnavailable: as each run does.
    """
    history = await status.history(settings)
    _insist_on_a_name(target, history.heads)
    taken = history.pending((), target)
    if not taken:
        raise UnknownTarget("This deployment has no revisions, so there is nothing to stamp.", target=target, heads=[])
    where = url.database(settings)
    async with connection.session(where) as control:
        _insist_on_no_version(await status.look(control, settings), settings)
    return Proposal(target=target, database=f"{where.name} at {place(where)}", revisions=taken)


async def compared(proposed: Proposal, settings: Settings, fresh: Settings) -> Proposal:
    """The proposal, with what the database differs in from one that the revisions have built.

    Args:
        proposed: The proposal.
        settings: The deployment's.
        fresh: The same, with the other database.
    """
    async with connection.session(url.database(fresh)) as control:
        built = await schema.snapshot(control, await _place(control, fresh))
    async with connection.session(url.database(settings)) as control:
        found = await schema.compare(control, await _place(control, settings), built)
    return proposed.model_copy(
        update={
            "differences": drift.differences(found.changes, _beside_the_revisions),
            "warnings": drift.limits(found, built.server_version),
        }
    )


async def _place(control: connection.Session, settings: Settings) -> Place:
    return Place(settings.ledger_schema, (await status.look(control, settings)).version_table)


def _beside_the_revisions(change: Change) -> str:
    match change:
        case Change(after=None):
            return f"{change.object} is missing in the database"
        case Change(before=None):
            return f"{change.object} is not made by the revisions"
        case Change(before=Definition(words=made), after=Definition(words=found)) if made != found:
            return f"{change.object} is {found} in the database, and {made} by the revisions"
    return f"{change.object} has another definition than by the revisions"


async def stamp(call: Call, settings: Settings, *, emit: Emit) -> Run:
    """Write into the database that it is at the call's target.

    Raises:
        Problem: as `proposal`, and as each run.
    """
    history = await status.history(settings)
    _insist_on_a_name(call.target, history.heads)
    history.resolve(call.target)
    runner = Runner(call, settings, url.database(settings), turn=Turn(), emit=emit, heads=history.heads)
    try:
        async with connection.session(runner.database) as session:
            before = await runner.look(session)
            _insist_on_no_version(before, settings)
            async with runner.guard(session, before) as guard:
                while not await runner.takes_the_lock(guard, session):
                    pass
                async with connection.session(runner.database) as control:
                    await runner.ends_what_dead_runs_left(control)
                    before = await runner.look(control)
                    _insist_on_no_version(before, settings)  # whoever held the lock may have migrated
                    await runner.goes_on_record(control, before, pending=0)
                return await runner.carries_out(
                    lambda opened, work: revisions.stamp(history, opened, call.target, work),
                    guard=guard,
                    before=before,
                    pending=[],
                    missing=lambda after: history.pending(after.heads, call.target),
                    outcome="stamped",
                )
    except (LockHeld, HistoryMismatch, WrongEnvironment) as refusal:
        await runner.refuses(refusal)
        raise


def _insist_on_a_name(target: str, heads: tuple[str, ...]) -> None:
    """See that the target is not relative: a database without a version has nothing from which to count."""
    if is_relative(target):
        raise UnknownTarget(f"A stamp takes a revision by its name, and `{target}` counts.", target=target, heads=heads)


def _insist_on_no_version(facts: Facts, settings: Settings) -> None:
    condition.insist_on_environment(facts, settings)
    if facts.heads:
        raise AlreadyVersioned(f"The database is at {', '.join(facts.heads)}.", database_heads=list(facts.heads))
