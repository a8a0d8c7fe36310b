"""The steps of a run, as its caller is told of them."""

from app.database.footprint import Footprint
from app.report import RecordedStep, Revision, Step, TableLock

_MOST_NAMED = 10
_NO_EFFECT = (
    "These revisions had no effect, their transactions wrote nothing: {revisions}. See whether they wait for something "
    "that was not given, such as an argument, or whether what they make was there already."
)


def measured(revision: Revision, left: Footprint, *, duration_ms: int, committed_itself: bool) -> Step:
    """A revision that has run, with what its transactions have left."""
    return Step(
        revision=revision.revision,
        message=revision.message,
        duration_ms=duration_ms,
        locks=[TableLock(**lock) for lock in left.locks],
        rewrote=left.rewrote,
        committed_itself=committed_itself,
        no_effect=left.wrote_nothing and not committed_itself,
    )


def agreed(told: list[Step], recorded: list[RecordedStep], pending: list[Revision]) -> tuple[list[Step], list[Step]]:
    """What was told and is on record, and what is on record of a run's revisions and was not told."""
    known = {step.revision: step for step in recorded}
    unheard_of = known.keys() - {step.revision for step in told}
    return [step for step in told if step.revision in known], [
        Step(message=revision.message, **known[revision.revision].model_dump(include=set(Step.model_fields)))
        for revision in pending
        if revision.revision in unheard_of
    ]


def warnings(steps: list[Step], *, merges: set[str]) -> list[str]:
    """What is to be said of revisions without an effect; of merges nothing, which do nothing by design."""
    idle = [step.revision for step in steps if step.no_effect and step.revision not in merges]
    if not idle:
        return []
    more = f" and {len(idle) - _MOST_NAMED} more" if len(idle) > _MOST_NAMED else ""
    return [_NO_EFFECT.format(revisions=", ".join(idle[:_MOST_NAMED]) + more)]
