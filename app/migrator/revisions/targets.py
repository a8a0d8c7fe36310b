"""What a target names in a history, as Alembic reads it; a relative one counts from where a database is."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import MultipleHeads as AlembicMultipleHeads
from alembic.script.revision import RevisionError, RevisionMap
from alembic.util import CommandError

from app.errors import MultipleHeads, UnknownTarget
from app.migrator.call import RELATIVE, is_relative
from app.report import Direction

_MOST_LABELS, _LONGEST = 20, 100


class Targets:
    """What can be named in one history."""

    def __init__(self, script: ScriptDirectory) -> None:
        self._script = script
        self._heads = tuple(sorted(script.get_heads()))

    def insist_on(self, target: str, direction: Direction) -> None:
        """See that a target names something here, as far as that can be told without a database.

        Raises:
            UnknownTarget: No revision matches it, or it goes the other way.
            MultipleHeads: It is `head`, and there are several.
        """
        with self.asked_for(target):
            branch, at, name = target.rpartition("@")
            found = RELATIVE.fullmatch(target)
            if found is not None:
                self._insist_on_its_parts(found, direction)
            elif (name, direction) == ("base", "downgrade"):
                if at:
                    self._map._resolve_branch(branch)  # noqa: SLF001 – has no public twin
            else:
                wanted = self._script.get_revisions(target)
                if not wanted or None in wanted:
                    raise CommandError(f"{target} names no revision")

    def destination(self, current: tuple[str, ...], target: str, direction: Direction) -> str:
        """What a target means to a database at `current`: an absolute one itself, a relative one what it counts to.

        Where it leads back it may name a branch (`c3@a1`: what follows a1 towards c3), as `alembic downgrade` reads
        that: of what else follows there, nothing is to be taken away.

        Raises:
            UnknownTarget: as `insist_on`, and where a relative target leads nowhere, or may mean several.
            MultipleHeads: as `insist_on`.
        """
        found = RELATIVE.fullmatch(target)
        if found is None:
            return target
        self.insist_on(target, direction)
        counts_from_several = not (found["symbol"] or found["branch"]) and len(current) > 1
        if counts_from_several:
            raise self._leads_nowhere(found, current, "Ambiguous")
        with self.asked_for(target):
            try:
                return self._upgrade(current, target) if direction == "upgrade" else self._downgrade(current, target)
            except AlembicMultipleHeads:
                raise
            except (RevisionError, AssertionError) as error:  # Alembic asserts that there is exactly one
                raise self._leads_nowhere(found, current, str(error)) from None

    @property
    def _map(self) -> RevisionMap:
        return self._script.revision_map

    def _upgrade(self, current: tuple[str, ...], target: str) -> str:
        (to,) = self._map._parse_upgrade_target(current, target, assert_relative_length=True)  # noqa: SLF001 – as above
        assert isinstance(to, Script)  # noqa: S101 – else it leads beyond a head, or to what is before all revisions
        return to.revision

    def _downgrade(self, current: tuple[str, ...], target: str) -> str:
        branch, to = self._map._parse_downgrade_target(current, target, assert_relative_length=True)  # noqa: SLF001 – as above
        name = to.revision if isinstance(to, Script) else "base"
        return f"{branch}@{name}" if branch else name

    def _insist_on_its_parts(self, found: re.Match[str], direction: Direction) -> None:
        if found["symbol"]:
            self._script.get_revision(found["symbol"])
        if found["branch"]:
            self._map._resolve_branch(found["branch"])  # noqa: SLF001 – as above
        if not found["symbol"]:
            steps = int(found["steps"])
            if steps >= 0 and direction == "downgrade":
                raise self.unknown(found[0], f"A downgrade goes back, and `{found[0]}` does not.")
            if steps <= 0 and direction == "upgrade":
                raise self.unknown(found[0], f"An upgrade goes on, and `{found[0]}` does not.")

    @contextmanager
    def asked_for(self, target: str) -> Iterator[None]:
        """Say in our words what Alembic says of a target.

        Raises:
            UnknownTarget, MultipleHeads: as `insist_on`.
        """
        try:
            yield
        except (CommandError, RevisionError, AssertionError) as error:  # Alembic asserts that something follows an @
            several = error if isinstance(error, AlembicMultipleHeads) else error.__cause__
            if isinstance(several, AlembicMultipleHeads):
                raise self._several_heads(target, tuple(sorted(several.heads))) from None
            raise self.unknown(target, self._no_such_branch(target)) from None

    def _several_heads(self, target: str, heads: tuple[str, ...]) -> MultipleHeads:
        labels = {head: sorted(self._map._revision_map[head].branch_labels) for head in heads}  # type: ignore[union-attr]  # noqa: SLF001 – as above; None has no heads
        named = ", ".join(f"{head} ({', '.join(labels[head])})" if labels[head] else head for head in heads)
        return MultipleHeads(
            f"The target `{target[:_LONGEST]}` asks for one head, and there are {len(heads)}: {named}.",
            heads=list(heads),
            labels=labels,
        )

    def unknown(self, target: str, why: str | None = None) -> UnknownTarget:
        """The refusal of a target."""
        shown = target[:_LONGEST]
        hint = None
        if " " in target and is_relative(target.replace(" ", "+")):
            hint = "If it was to be a +: in the query of a URL that is a space, and a + is written %2B."
        return UnknownTarget(
            why or f"No revision of this deployment matches the target `{shown}`.",
            hint=hint,
            target=shown,
            heads=list(self._heads),
        )

    def _no_such_branch(self, target: str) -> str | None:
        """Which branches there are, where it is the branch that is wrong."""
        branch, at, _ = target.partition("@")
        if not at:
            return None
        try:
            self._map._resolve_branch(branch)  # noqa: SLF001 – as above
        except (RevisionError, AssertionError):
            every = self._map._revision_map.items()  # noqa: SLF001 – as above
            labels = sorted(
                name for name, script in every if isinstance(name, str) and script and name != script.revision
            )
            more = f" and {len(labels) - _MOST_LABELS} more" if len(labels) > _MOST_LABELS else ""
            there = (
                f"The labels are {', '.join(labels[:_MOST_LABELS])}{more}." if labels else "No revision has a label."
            )
            return f"No branch of this deployment has the label `{branch[:_LONGEST]}`. {there}"
        return None

    def _leads_nowhere(self, found: re.Match[str], current: tuple[str, ...], said: str) -> UnknownTarget:
        """The refusal of a relative target that counts to nothing, or to more than one."""
        target, count = found[0], found["steps"].lstrip("+-0")[:_LONGEST]
        is_on = found["steps"].startswith("+")
        at = found["symbol"] or ", ".join(current) or "base"
        scripts = [self._map._revision_map.get(each) for each in current]  # noqa: SLF001 – as above
        if said.startswith("Ambiguous") and not found["symbol"] and len(current) > 1 and not found["branch"]:
            why = f"The database is at {at}, and `{target}` does not say from which of these to count"
        elif said.startswith("Ambiguous"):
            why = f"More than one revision comes {'after' if is_on else 'before'} {at} on the way of `{target}`"
        elif is_on and not found["symbol"] and scripts and all(script and script.is_head for script in scripts):
            return self.unknown(target, f"The database is at its head, {at}: nothing is further on for `{target}`.")
        else:
            few = "no revision comes" if count == "1" else f"fewer than {count} revisions come"
            where = f"{'after' if is_on else 'before'} {at}" + (f" in `{found['branch']}`" if found["branch"] else "")
            return self.unknown(target, f"`{target[:_LONGEST]}` leads nowhere: {few} {where[:_LONGEST]}.")
        return self.unknown(
            target, f"{why}: name the revision, or the branch as in `label@{found['steps'][:_LONGEST]}`."
        )
