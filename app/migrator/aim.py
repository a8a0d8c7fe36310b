"""What the target of a call means: a relative one counts from somewhere, and from then on leads to one place."""

from typing import TYPE_CHECKING

from app.database import recorded
from app.database.catalog import Facts
from app.database.connection import Session
from app.errors import UnknownTarget
from app.migrator import plan
from app.migrator.call import Call
from app.settings import Settings

if TYPE_CHECKING:
    from app.migrator.revisions import History
    from app.report import Revision

type Begun = tuple[tuple[str, ...], list[tuple[str, str]]]
"""The heads at which work for a plan began, and what was done from there on: revisions with their files' SHA-256."""


class Aim:
    """Where one call leads, as each look at the database has it."""

    def __init__(self, call: Call, settings: Settings, history: "History") -> None:
        self.destination = call.target
        """What the target names; itself, unless it is relative."""
        self.pending: list[Revision] = []
        """What is to run until there."""
        self._call = call
        self._settings = settings
        self._history = history

    async def take(self, control: Session, facts: Facts, first_heads: tuple[str, ...] | None) -> None:
        """Find out where the target leads from here.

        A relative target counts from where the database is. But where an earlier run has begun on the same pin, or for
        the same Idempotency-Key, this call is for what that run has left; so it counts from where that one began. For
        a key, which knows its last run only, nothing is run then unless that one has left everything.

        Args:
            control: A session.
            facts: What a look at the database has told, all of whose heads are known.
            first_heads: Where a run for the same Idempotency-Key began, if there was one.

        Raises:
            UnknownTarget, MultipleHeads: as `History.pending`, and as above.
        """
        if self.counts_from_its_pin:
            for heads, done in [(facts.heads, []), *await begun(control, self._call, self._settings, facts)]:
                try:
                    self._count_from(heads, facts)
                except UnknownTarget:
                    continue
                if self.digest(facts, [*done, *plan.hashed(self._history, self.pending)], heads) in self._plans:
                    return
        goes_on = first_heads is not None and self._call.is_relative and all(map(self._history.knows, first_heads))
        if first_heads is None or not goes_on:
            self._count_from(facts.heads, facts)
            return
        self._count_from(first_heads, facts)
        if self.pending and first_heads != facts.heads:
            raise UnknownTarget(
                f"The first run of this Idempotency-Key began at {', '.join(first_heads) or 'base'} and did not reach "
                f"its target, and the database is at {', '.join(facts.heads)} by now.",
                hint=f"`{self._call.target}` meant `{self.destination}` then: call with that target, and a new key.",
                target=self._call.target,
                heads=list(self._history.heads),
            )

    @property
    def counts_from_its_pin(self) -> bool:
        """Whether the target is relative, and its plan is pinned."""
        return self._call.plans is not None and self._call.is_relative

    def digest(self, facts: Facts, revisions: list[tuple[str, str]], heads: tuple[str, ...]) -> str:
        """That of a plan for this call's target."""
        call = self._call
        return plan.digest(self._history, facts, call.target, call.direction, revisions, heads=heads)

    @property
    def _plans(self) -> frozenset[str]:
        return self._call.plans or frozenset()

    def _count_from(self, heads: tuple[str, ...], facts: Facts) -> None:
        call = self._call
        self.destination = self._history.destination(heads, call.target, call.direction)
        self.pending = self._history.pending(facts.heads, self.destination, call.direction)


async def begun(control: Session, call: Call, settings: Settings, facts: Facts) -> list[Begun]:
    """What the last runs with this call's pin have done together: the last one, the last two, and so on."""
    if not facts.ledger_is_current:
        return []
    done: list[tuple[str, str]] = []
    found: list[Begun] = []
    plans = call.plans or frozenset()
    for run in await recorded.done_for(control, settings.ledger_schema, facts.version_table, plans):
        done = [*run.steps, *done]
        found.append((run.from_heads, done))
    return found
