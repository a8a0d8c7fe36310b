"""Drift: what of the schema is not as the last run left it, in words."""

from collections.abc import Callable, Iterable

import asyncpg

from app.database import schema
from app.database.catalog import Facts
from app.database.connection import Session
from app.database.schema import Change, Comparison, Definition, Place
from app.errors import PermissionDenied
from app.report import Change as Kind
from app.report import Difference, Drift, Fingerprint, Holder
from app.settings import Settings

type Words = Callable[[Change], str]
"""Says how an object differs."""

_UNDER_WAY = "A run is under way: what differs may be its doing."
_OTHER_MAJOR = (
    "What this is compared with is of PostgreSQL {then}, and this is {now}, which words queries in its own way: of "
    "views, policies and functions with a body of SQL it is compared that they are there, and not what they ask for."
)
_OVERTAKEN = (
    "Run {run} has changed the schema, or may have, and left no fingerprint: until a run reaches its target there is "
    "nothing to compare the schema with."
)
_UNSEEN = "The role may not create anything in the schema {schema}, so it is not compared."


async def of(
    control: Session, settings: Settings, facts: Facts, holder: Holder | None
) -> tuple[Drift | None, list[str]]:
    """Compare the schema with what the last run left; and what a caller should know of the comparison.

    Args:
        control: A session in the database.
        settings: The deployment's.
        facts: What a look at the database has told.
        holder: Who holds the lock.
    """
    try:
        found, warnings = await _compared(control, settings, facts)
    except (PermissionDenied, asyncpg.PostgresError) as error:  # such as one that met a lock, or a table just dropped
        return None, [f"The schema could not be read: {getattr(error, 'detail', None) or error}"]
    return found, [_UNDER_WAY, *warnings] if holder else warnings


async def _compared(control: Session, settings: Settings, facts: Facts) -> tuple[Drift, list[str]]:
    place = Place(settings.ledger_schema, facts.version_table)
    taken = await schema.recorded(control, place) if facts.ledger_knows_fingerprints else None
    if taken is None:
        now = await schema.snapshot(control, place)
        return Drift(fingerprint=now.fingerprint, recorded=None, differs=None, differences=[]), []
    compared = await schema.compare(control, place, None)
    recorded = Fingerprint(
        fingerprint=taken.fingerprint,
        run_id=taken.run_id,
        taken_at=taken.taken_at,
        server_version=version(taken.server_version),
    )
    if taken.overtaken_by is not None:
        unknown = Drift(fingerprint=compared.fingerprint, recorded=recorded, differs=None, differences=[])
        return unknown, [_OVERTAKEN.format(run=taken.overtaken_by)]
    told = differences(compared.changes, _outside)
    drift = Drift(fingerprint=compared.fingerprint, recorded=recorded, differs=bool(told), differences=told)
    return drift, limits(compared, taken.server_version)


def limits(compared: Comparison, server_version: int) -> list[str]:
    """What could not be compared, and why; `server_version` is that of what the schema was compared with."""
    warnings = [_UNSEEN.format(schema=each) for each in compared.unseen]
    if not compared.saw_queries:
        warnings.append(_OTHER_MAJOR.format(then=version(server_version), now=version(compared.server_version)))
    return warnings


def differences(changes: Iterable[Change], words: Words) -> list[Difference]:
    """Say what differs; of what came or went as a whole, not each of its parts."""
    changes = list(changes)
    came = {change.object for change in changes if change.before is None}
    went = {change.object for change in changes if change.after is None}
    told = []
    for change in changes:
        kind: Kind
        match change:
            case Change(before=None, after=Definition(part_of=whole)):
                kind, is_told = "added", whole not in came
            case Change(before=Definition(part_of=whole), after=None):
                kind, is_told = "removed", whole not in went
            case _:
                kind, is_told = "changed", True
        if is_told:
            told.append(Difference(object=change.object, change=kind, message=words(change)))
    return told


def version(number: int) -> str:
    """PostgreSQL's version as people write it: 180001 is 18.1."""
    return f"{number // 10000}.{number % 10000}"


def _outside(change: Change) -> str:
    match change:
        case Change(before=None):
            return f"{change.object} was added outside of migrations"
        case Change(after=None):
            return f"{change.object} was removed outside of migrations"
        case Change(before=Definition(words=before), after=Definition(words=after)) if before != after:
            return f"{change.object} was changed outside of migrations: from {before} to {after}"
    return f"{change.object} was changed outside of migrations: its definition is another"
