"""Revisions whose file was edited after they were applied, and revisions of whose being applied nothing is on record.

The ledger has the hash of each revision's file as it was when the revision ran. Any other byte counts as an edit: what
it changes, nobody can tell without running it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.database.catalog import Facts
from app.database.connection import Session
from app.database.ledger import Ledger
from app.errors import RevisionModified
from app.report import ModifiedRevision
from app.settings import Settings

if TYPE_CHECKING:
    from app.migrator.revisions import History


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the ledger says of the applied revisions, beside what the deployment's files are."""

    modified: list[ModifiedRevision]
    unrecorded: list[str]
    """Applied elsewhere, such as by an older tool or a stamp: not wrong, and not to be compared."""


async def comparison(
    control: Session, settings: Settings, history: "History", facts: Facts, heads: Iterable[str]
) -> Comparison:
    """Compare the applied revisions with the deployment's files: one round trip, and none without a ledger.

    Args:
        control: A session to read in.
        settings: The settings.
        history: The deployment's revisions.
        facts: What a look at the database has told.
        heads: The heads of what is applied; those unknown to the history are passed over.
    """
    ledger = Ledger(settings.ledger_schema, facts.version_table)
    recorded = await ledger.hashes(control) if facts.ledger_exists else {}
    applied = await history.hashes(tuple(heads))
    return Comparison(
        modified=[
            ModifiedRevision(
                revision=revision,
                message=history.message(revision),
                file=history.reference(revision),
                applied_sha256=recorded[revision],
                sha256=sha256,
            )
            for revision, sha256 in applied.items()
            if recorded.get(revision, sha256) != sha256
        ],
        unrecorded=[revision for revision in applied if revision not in recorded],
    )


async def listed(control: Session, settings: Settings, history: "History", facts: Facts) -> list[ModifiedRevision]:
    """The applied revisions that were edited since, in a database all of whose heads are known."""
    return (await comparison(control, settings, history, facts, facts.heads)).modified


async def insist_on_none(control: Session, settings: Settings, history: "History", facts: Facts) -> None:
    """See that no applied revision was edited, where the deployment wants that (MIGRATION_ON_MODIFIED).

    Raises:
        RevisionModified: One was.
    """
    if settings.on_modified == "refuse":
        insist_on_none_of(await listed(control, settings, history, facts), settings)


def insist_on_none_of(edited: list[ModifiedRevision], settings: Settings) -> None:
    """The same, where it is known what was edited.

    Raises:
        RevisionModified: One was.
    """
    if edited and settings.on_modified == "refuse":
        names = ", ".join(each.revision for each in edited)
        raise RevisionModified(
            f"The file of {names} is not the one that was applied.", modified=[each.model_dump() for each in edited]
        )
