"""How the database and the deployment stand to each other."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from app import report
from app.database import catalog, connection, lock, pooler, session_settings, url
from app.database.catalog import Costly, Facts, VersionTable
from app.database.connection import Session
from app.database.ledger import Ledger
from app.errors import DatabaseAhead, Diverged, HistoryMismatch
from app.migrator import condition, drift, modified, once
from app.report import Revision, Selection, State, Status
from app.settings import Settings

if TYPE_CHECKING:
    from app.migrator.revisions import History

_RUNS_IN_STATUS = 5
_VERDICTS: dict[State, Literal["pass", "warn", "fail"]] = {
    "up_to_date": "pass",
    "database_ahead": "pass",  # normal after a rollback of the deployment
    "pending": "warn",
    "multiple_heads": "warn",
    "diverged": "fail",
}
"""What GET /health says to each state."""


async def history(settings: Settings) -> "History":
    """The deployment's revisions. Imports Alembic when it is first needed, in a thread, since that takes a while.

    Raises:
        NotConfigured: The folder of revisions is not there.
        BrokenHistory: A revision's file cannot be imported, or the chain is broken.
    """
    await _alembic()
    from app.migrator import revisions

    found = await revisions.loaded(settings.script_location, version_table(settings), revisions.options.of(settings))
    once.settled()
    return found


@once.InAThread
def _alembic() -> None:
    from app.migrator import revisions  # noqa: F401 – for what importing does: SQLAlchemy, Alembic


def alembic_is_loaded() -> bool:
    """Whether it has been needed in this process, and knows the history by heart."""
    return "app.migrator.revisions" in sys.modules


def version_table(settings: Settings) -> VersionTable:
    """Where Alembic keeps the version."""
    return VersionTable(settings.version_table, settings.version_table_schema)


def ledger_of(settings: Settings, facts: Facts) -> Ledger:
    """The ledger that records what happens to the database of `facts`."""
    return Ledger(settings.ledger_schema, facts.version_table)


async def look(control: Session, settings: Settings, costly: frozenset[Costly] = catalog.ALL) -> Facts:
    """Look at the database, in one round trip; of what is costly to tell only as much as is asked for."""
    return await catalog.look(
        control,
        ledger_schema=settings.ledger_schema,
        version_table=version_table(settings),
        costly=costly,
        session_settings=session_settings.of(settings),
    )


async def mismatch(control: Session, settings: Settings, history: "History", facts: Facts) -> HistoryMismatch | None:
    """Say why the database has revisions that this deployment does not know, if it has.

    The ledger knows what an unknown revision came after. Where that leads to everything this deployment
    knows, the database is merely ahead; otherwise the two have diverged. Without a record of it a revision is
    taken for a later one, since a rollback of the deployment is the usual cause, unless the database lacks
    something in spite of having heads that are known.
    """
    return _mismatch(history, facts, await _known_heads(control, settings, history, facts))


async def _known_heads(control: Session, settings: Settings, history: "History", facts: Facts) -> tuple[str, ...]:
    """The database's heads, and in the place of unknown ones what they came after, as far as the ledger knows."""
    if all(map(history.knows, facts.heads)):
        return facts.heads
    parents = await ledger_of(settings, facts).parents(control) if facts.ledger_exists else {}
    return _known_ancestors(facts.heads, parents, history)


def _mismatch(history: "History", facts: Facts, known: tuple[str, ...]) -> HistoryMismatch | None:
    unknown = [head for head in facts.heads if not history.knows(head)]
    if not unknown:
        return None
    members: dict[str, Any] = {"database_heads": list(facts.heads), "script_heads": list(history.heads)}
    names = ", ".join(unknown)
    if known and history.pending(known, "heads"):
        return Diverged(
            f"The database is at {names}, which this deployment does not know, and lacks revisions that it does.",
            **members,
        )
    return DatabaseAhead(f"The database is at {names}, which this deployment does not contain.", **members)


async def insist_on_a_match(control: Session, settings: Settings, history: "History", facts: Facts) -> None:
    """See that this deployment knows every revision that the database is at.

    Raises:
        HistoryMismatch: It does not.
    """
    found = await mismatch(control, settings, history, facts)
    if found is not None:
        raise found


def _known_ancestors(
    heads: tuple[str, ...], parents: Mapping[str, tuple[str, ...]], history: "History"
) -> tuple[str, ...]:
    found: set[str] = set()
    seen: set[str] = set()
    ahead = list(heads)
    while ahead:
        revision = ahead.pop()
        if revision in seen:
            continue
        seen.add(revision)
        if history.knows(revision):
            found.add(revision)
        else:
            ahead.extend(parents.get(revision, ()))
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class Standing:
    """How the database and the deployment stand to each other, at one look."""

    facts: Facts
    state: State
    pending: list[Revision]
    """Empty where the two do not fit together."""
    known_heads: tuple[str, ...]
    """The heads of what the database has of the deployment's history."""


async def standing(
    control: Session, settings: Settings, history: "History", costly: frozenset[Costly] = catalog.ALL
) -> Standing:
    """Look at the database and compare it with the deployment; `costly` as in `look`."""
    facts = await look(control, settings, costly)
    known = await _known_heads(control, settings, history, facts)
    match _mismatch(history, facts, known):
        case None:
            pending = history.pending(facts.heads, "heads")
            behind: State = "multiple_heads" if len(history.heads) > 1 else "pending"
            return Standing(facts, behind if pending else "up_to_date", pending, known)
        case DatabaseAhead():
            return Standing(facts, "database_ahead", [], known)
        case _:
            return Standing(facts, "diverged", [], known)


async def status(settings: Settings, *, request_id: str, with_drift: bool = False) -> Status:
    """Everything that GET /status tells. Reads only, on one connection.

    Args:
        settings: The deployment's.
        request_id: Of the call.
        with_drift: Compare the schema with what the last run left, too.

    Raises:
        NotConfigured: There is no usable connection string or history.
        DatabaseUnavailable: or one of its children.
    """
    known = await history(settings)
    where = url.database(settings)
    async with connection.session(where) as control:
        found = await standing(control, settings, known)
        facts = found.facts
        compared = await modified.comparison(control, settings, known, facts, found.known_heads)
        lock_key = lock.key(facts.version_table)
        holder = await lock.holder(control, lock_key)
        last = Selection(limit=_RUNS_IN_STATUS)
        runs = (await ledger_of(settings, facts).runs(control, last)).runs if facts.ledger_exists else []
        broken = await condition.broken_indexes(control, settings, facts)
        pool_mode = await pooler.mode(control, where) if facts.pooler else None
        told, warnings = await drift.of(control, settings, facts, holder) if with_drift else (None, [])
    return Status(
        state=found.state,
        current=list(facts.heads),
        heads=list(known.heads),
        pending=found.pending,
        modified=compared.modified,
        unrecorded=compared.unrecorded,
        lock=report.Lock(key=lock_key, held=holder is not None, holder=holder),
        runs=runs,
        broken_indexes=broken,
        drift=told,
        database=report.Database(
            server_version=".".join(map(str, facts.server_version)),
            pooler=facts.pooler,
            pool_mode=pool_mode,
            environment=facts.environment,
        ),
        deployment=settings.deployment,
        warnings=[
            *condition.warnings(facts, where, pool_mode, settings),
            *warnings,
        ],
        request_id=request_id,
    )


async def health(settings: Settings, *, in_detail: bool) -> report.Health:
    """Whether the database is reachable and at what this deployment needs.

    A database that is ahead is normal after a rollback of the deployment, and passes; pending revisions warn, and so
    do modified ones.

    Args:
        settings: The deployment's.
        in_detail: Name what is wrong, also where it does not change the verdict any more.

    Raises:
        NotConfigured: There is no usable connection string or history.
        DatabaseUnavailable: or one of its children.
    """
    known = await history(settings)
    # A monitor asks again by itself, and is told at once.
    async with connection.session(url.database(settings), patient=False) as control:
        found = await standing(control, settings, known, frozenset({"broken_indexes"}))
        verdict = _VERDICTS[found.state]
        if verdict != "pass" and not in_detail:
            return report.Health(status=verdict)
        broken = await condition.broken_indexes(control, settings, found.facts)
        compared = await modified.comparison(control, settings, known, found.facts, found.known_heads)
    return report.Health(
        status="warn" if verdict == "pass" and (broken or compared.modified) else verdict,
        state=found.state,
        pending=len(found.pending),
        broken_indexes=broken or None,
        modified=[each.revision for each in compared.modified] or None,
        deployment=settings.deployment,
    )
