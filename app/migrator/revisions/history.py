"""The revision graph of a deployment."""

import asyncio
import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import RevisionStep
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RangeNotAncestorError
from alembic.util import CommandError

from app.database.catalog import USUAL, VersionTable
from app.errors import NotConfigured
from app.migrator import once
from app.migrator.glance import PROJECT, folder, reference
from app.migrator.revisions import scripts
from app.migrator.revisions.options import NOTHING, Options
from app.migrator.revisions.targets import Targets
from app.redaction import redacted
from app.report import Direction, Revision


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a revision sends, in one direction."""

    revision: str
    sql: str
    """Without the BEGIN and COMMIT around it, without its version's row, and without passwords."""
    transactional: bool | None
    """Whether all of it is in one transaction; None where only running it can tell."""
    unrendered: str | None
    """Why `sql` ends early; None where it is complete."""


class History:
    """The revision graph of a deployment. It never changes, so one is loaded per process."""

    def __init__(self, script_location: str, version_table: VersionTable = USUAL, options: Options = NOTHING) -> None:
        self.rendered: dict[tuple[str, Direction], Rendered] = {}
        """What has been rendered so far; it never changes either."""
        self._hashed: tuple[tuple[str, ...], dict[str, str]] = (), {}
        self.version_table = version_table
        self.options = options
        self._script_location = str(folder(script_location)).replace("%", "%%")
        try:
            self.script = ScriptDirectory.from_config(self.config())  # from here on imports look into the project too
        except Exception as error:
            raise NotConfigured(
                f"There are no revisions in {script_location}: {type(error).__name__}: {redacted(str(error))}",
                hint="Set MIGRATION_SCRIPT_LOCATION to the folder that has env.py and versions/, and deploy it too.",
                variables=["MIGRATION_SCRIPT_LOCATION"],
            ) from error
        options.import_modules()
        scripts.load(self.script)
        self.heads: tuple[str, ...] = tuple(sorted(self.script.get_heads()))
        # What other heads depend on is no head in the database, once all is applied.
        self._reached = {self.heads, tuple(sorted(self.script.get_heads(consider_depends_on=True)))}
        self._targets = Targets(self.script)

    def knows(self, revision: str) -> bool:
        """Whether this history contains the revision of exactly this id."""
        return self.script.revision_map._revision_map.get(revision) is not None  # noqa: SLF001 – has no public twin

    def message(self, revision: str) -> str:
        """The first line of a revision's docstring; empty where the revision is not known here."""
        script = self.script.revision_map._revision_map.get(revision)  # noqa: SLF001 – as above
        return revision_of(script).message if isinstance(script, Script) else ""

    def completed(self, beginning: str) -> str:
        """The only revision that begins so; what came, where there is none or are several."""
        if self.knows(beginning):
            return beginning
        every = self.script.revision_map._revision_map  # noqa: SLF001 – as above
        found = [each for each in every if isinstance(each, str) and each.startswith(beginning)]
        return found[0] if len(found) == 1 else beginning

    def pending(self, current: Iterable[str], target: str, direction: Direction = "upgrade") -> list[Revision]:
        """What a move from `current`, all of it known, to `target` would run, in Alembic's order.

        Raises:
            UnknownTarget: No revision matches the target, or it does not lie in that direction.
            MultipleHeads: The target is `head`, and there are several.
        """
        if self._is_every_head(target, direction) and tuple(sorted(current)) in self._reached:
            return []  # the usual case, and Alembic would walk the whole graph to find out
        return [revision_of(step.revision) for step in self.steps(tuple(current), target, direction)]

    def resolve(self, target: str, direction: Direction = "upgrade") -> None:
        """See that the target names something here, as far as that can be told without a database.

        Raises:
            UnknownTarget: No revision matches it.
            MultipleHeads: It is `head`, and there are several.
        """
        if not self._is_every_head(target, direction):
            self._targets.insist_on(target, direction)

    def destination(self, current: Iterable[str], target: str, direction: Direction = "upgrade") -> str:
        """What a relative target means to a database at `current`, all of it known; others are what they say.

        Raises:
            UnknownTarget: It leads nowhere from there, or may mean several.
        """
        return self._targets.destination(tuple(sorted(current)), target, direction)

    def _is_every_head(self, target: str, direction: Direction) -> bool:
        return direction == "upgrade" and (target == "heads" or (target == "head" and len(self.heads) == 1))

    def applied(self, heads: Iterable[str]) -> list[str]:
        """The revisions that a database at `heads` has, in Alembic's order; heads unknown here are passed over."""
        graph = self.script.revision_map
        every = graph._revision_map  # noqa: SLF001 – as above
        at = [script for head in heads if (script := every.get(head)) is not None]
        # As Alembic itself tells what is applied, `depends_on` included; what is public refuses heads that overlap.
        below = set(graph._get_ancestor_nodes(at))  # noqa: SLF001 – as above
        return graph._topological_sort(below, at)[::-1]  # noqa: SLF001 – as above

    async def hashes(self, heads: tuple[str, ...]) -> dict[str, str]:
        """The SHA-256 of the file of each revision that a database at `heads` has, in Alembic's order.

        In a thread, since a thousand files take a while. The answer for the last heads is kept: a monitor asks about
        the same ones again and again, and during a run about others each time.
        """
        kept, hashes = self._hashed
        if kept != heads:
            hashes = await asyncio.to_thread(lambda: {each: self.sha256(each) for each in self.applied(heads)})
            self._hashed = heads, hashes
        return hashes

    def file(self, revision: str) -> Path:
        """The file of a revision that is known here."""
        script = self.script.revision_map._revision_map[revision]  # noqa: SLF001 – as above
        assert isinstance(script, Script)  # noqa: S101 – the map of a ScriptDirectory has nothing else by that id
        return Path(script.path)

    def reference(self, revision: str) -> str:
        """The path of its file, as `glance.reference` says."""
        return reference(self.file(revision))

    def sha256(self, revision: str) -> str:
        """The SHA-256 of the file of a revision that is known here, in hex; each file is read once per process."""
        return sha256_of(str(self.file(revision)))

    def steps(self, current: tuple[str, ...], target: str, direction: Direction) -> list[RevisionStep]:
        """Alembic's own steps from `current` to `target`; raises as `pending` does.

        Alembic has no public way to ask; these are what `alembic upgrade` and `alembic downgrade` call.
        """
        target = self.destination(current, target, direction)
        self.resolve(target, direction)
        with self._targets.asked_for(target):
            if direction == "upgrade":
                return self.script._upgrade_revs(target, current)  # type: ignore[arg-type]  # noqa: SLF001
            try:
                return self.script._downgrade_revs(target, current)  # type: ignore[arg-type]  # noqa: SLF001
            except CommandError as error:
                if isinstance(error.__cause__, RangeNotAncestorError) and self._has(current, target):
                    return []  # nothing is above it; of a head, Alembic says so too
                raise

    def _has(self, current: tuple[str, ...], target: str) -> bool:
        """Whether a database at `current` has the revision that a downgrade leads to."""
        return self.script.get_revision(target.rpartition("@")[2]).revision in self.applied(current)

    def config(self) -> Config:
        """A Config of its own for each use, as Alembic's commands have it."""
        config = Config(toml_file=PROJECT / "pyproject.toml")
        config.set_main_option("script_location", self._script_location)
        self.options.write_into(config)
        return config


_load = once.InAThread(History)


async def loaded(script_location: str, version_table: VersionTable = USUAL, options: Options = NOTHING) -> History:
    """The history in `script_location`, whose version is in `version_table`, with what the settings say of it.

    Loaded once per process, in a thread, since a thousand files take a while.

    Raises:
        NotConfigured: The folder is not there.
        BrokenHistory: A revision's file cannot be imported, or the chain is broken.
    """
    return await _load(script_location, version_table, options)


def revision_of(script: Script) -> Revision:
    """What is told of a revision."""
    return Revision(revision=script.revision, message=" ".join(script.doc.split()))


@functools.cache
def sha256_of(path: str) -> str:
    """The SHA-256 of a file, in hex; a deployment's files never change."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
