"""A plan: what a run would do, revision by revision, with its SQL, and what is to be said against it.

It reads only, takes no lock, and runs no revision against the database: Alembic's offline mode writes the SQL.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from app.database import connection, url
from app.database.catalog import Facts
from app.migrator import condition, modified, status
from app.migrator.glance import PROJECT
from app.migrator.turn import held
from app.report import (
    LEVELS,
    Direction,
    Finding,
    Holder,
    Level,
    ModifiedRevision,
    Plan,
    PlannedRevision,
    Revision,
)
from app.settings import Settings

if TYPE_CHECKING:
    from app.migrator.revisions import History, Rendered


async def plan(
    settings: Settings, *, target: str = "heads", direction: Direction = "upgrade", holder: Holder | None = None
) -> Plan:
    """What a run to `target` would do now; what would keep it from running at all is raised as the run would.

    Args:
        settings: The deployment's.
        target: A revision, as Alembic names them.
        direction: Up or down.
        holder: Who is at work in this process, to be named if that keeps Alembic busy.

    Raises:
        NotConfigured, UnknownTarget, HistoryMismatch, WrongEnvironment, RevisionModified, DatabaseUnavailable: as
            `run.migrate`.
        LockHeld: A run in this process keeps Alembic busy.
    """
    history = await status.history(settings)
    history.resolve(target, direction)
    async with connection.session(url.database(settings)) as control:
        facts = await status.look(control, settings)
        condition.insist_on_environment(facts, settings)
        await status.insist_on_a_match(control, settings, history, facts)
        edited = await modified.listed(control, settings, history, facts)
    if history.pending(facts.heads, target, direction):
        modified.insist_on_none_of(edited, settings)
    return await drawn(history, facts, target, direction, edited=edited, holder=holder)


async def drawn(
    history: "History",
    facts: Facts,
    target: str,
    direction: Direction,
    *,
    edited: list[ModifiedRevision],
    holder: Holder | None = None,
    destination: str | None = None,
) -> Plan:
    """The plan for a database that `facts` tells of, all of whose heads are known.

    Args:
        history: The deployment's.
        facts: What a look at the database has told.
        target: As it was asked for.
        direction: Up or down.
        edited: The applied revisions that were edited since.
        holder: As `plan` has it.
        destination: What the target means, where it does not count from where the database is.

    Raises:
        UnknownTarget, LockHeld: as `plan`.
    """
    from app import lint  # a room of its own, which most calls do without
    from app.migrator import revisions  # brings Alembic, which `history` has brought already
    from app.migrator.revisions import rendering

    destination = destination or history.destination(facts.heads, target, direction)
    pending = history.pending(facts.heads, destination, direction)
    scripts: list[Rendered] = []
    began = time.monotonic()
    try:
        if pending:
            scripts = await asyncio.to_thread(rendering.rendered, history, facts.heads, destination, direction)
    except revisions.AlembicIsBusy:
        raise held(holder, waited_s=time.monotonic() - began) from None
    found, linter = await lint.findings(
        [lint.Script(each.revision, direction, each.sql, each.transactional) for each in scripts],
        server_version=facts.server_version,
        folder=PROJECT,
    )
    against: dict[str, list[Finding]] = {each.revision: [] for each in pending}
    for finding in found:
        against[finding.revision].append(finding)
    shown = await asyncio.to_thread(lambda: [lint.redacted_sql(each.sql) for each in scripts])
    planned = [
        _planned(history, revision, script, sql, against[revision.revision])
        for revision, script, sql in zip(pending, scripts, shown, strict=True)
    ]
    return Plan(
        direction=direction,
        digest=digest(history, facts, target, direction, hashed(history, pending), facts.heads),
        current=list(facts.heads),
        target=target,
        pending=planned,
        modified=edited,
        level=worst(finding for each in planned for finding in each.findings),
        lint=linter,
    )


def digest(
    history: "History",
    facts: Facts,
    target: str,
    direction: Direction,
    revisions: Iterable[tuple[str, str]],
    heads: tuple[str, ...],
) -> str:
    """What a plan is known by: SHA-256, in hex, of what would be run, in which order, and on which database.

    Args:
        history: The deployment's.
        facts: What a look at the database has told.
        target: As it was asked for.
        direction: Of the plan.
        revisions: What would run, in its order: each revision, with the SHA-256 of its file.
        heads: The database's before that.
    """
    said = [
        direction,
        target,
        heads,
        history.heads,
        list(revisions),
        facts.version_table,
        facts.identity,
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def hashed(history: "History", pending: list[Revision]) -> list[tuple[str, str]]:
    """Each revision, with the SHA-256 of its file."""
    return [(each.revision, history.sha256(each.revision)) for each in pending]


def worst(findings: Iterable[Finding]) -> Level | None:
    """The worst level of the findings; None where there are none."""
    return max((finding.level for finding in findings), key=LEVELS.index, default=None)


def _planned(
    history: "History", revision: Revision, script: "Rendered", sql: str, findings: list[Finding]
) -> PlannedRevision:
    return PlannedRevision(
        revision=revision.revision,
        message=revision.message,
        file=history.reference(revision.revision),
        sha256=history.sha256(revision.revision),
        transactional=script.transactional,
        sql=sql,
        unrendered=script.unrendered,
        findings=findings + ([] if script.unrendered is None else [_not_rendered(script)]),
    )


def _not_rendered(script: "Rendered") -> Finding:
    return Finding(
        revision=script.revision,
        rule="not-rendered",
        level="warning",
        message=f"Nothing is said of what it does after this SQL, since it asks the database: {script.unrendered}.",
        safe_way="Read the file; see what it does and locks with POST /rehearse on a copy of the database.",
        source="migration-endpoint",
    )
