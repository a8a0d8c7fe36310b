"""The deployment's revisions: the only module that knows Alembic."""

import asyncio
import functools
import hashlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from alembic import context
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo, RevisionStep
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import MultipleHeads as AlembicMultipleHeads
from alembic.util import CommandError
from sqlalchemy import Connection

from app.errors import InternalError, MultipleHeads, NotConfigured, UnknownTarget
from app.migrator.glance import PROJECT, folder
from app.redaction import redacted
from app.report import Revision

_one_at_a_time = threading.Lock()
"""Alembic's `op` and `context` are global to the process; two upgrades at once would mix them up."""


@dataclass(frozen=True, slots=True)
class Applying:
    """A revision that Alembic has just run, in the moment before its transaction commits."""

    revision: str
    direction: str
    down_revisions: tuple[str, ...]
    sha256: str


class Onlooker(Protocol):
    """Is told of each revision, in the thread that runs it."""

    def applies(self, applying: Applying) -> None:
        """A revision has run; its transaction is still open."""


class Observer(Onlooker, Protocol):
    """Is told of each revision before, at the end of, and after its transaction."""

    def begins(self, revision: Revision) -> None:
        """A revision is about to run; nothing of it has reached the database."""

    def ends(self, revision: Revision) -> None:
        """A revision is committed."""


class History:
    """The revision graph of a deployment. It never changes, so one is loaded per process."""

    def __init__(self, script_location: str) -> None:
        self._config = Config(toml_file=PROJECT / "pyproject.toml")
        self._config.set_main_option("script_location", str(folder(script_location)).replace("%", "%%"))
        try:
            self._script = ScriptDirectory.from_config(self._config)
            self.heads: tuple[str, ...] = tuple(sorted(self._script.get_heads()))
        except (Exception, SystemExit) as error:  # a revision's file is somebody's code, and may raise anything
            raise NotConfigured(
                f"The revisions in {script_location} cannot be loaded: {type(error).__name__}: {redacted(str(error))}",
                hint="Run `alembic history` in a checkout of the deployed commit; it fails in the same way.",
            ) from error

    def knows(self, revision: str) -> bool:
        """Whether this history contains the revision of exactly this id."""
        return self._script.revision_map._revision_map.get(revision) is not None  # noqa: SLF001 – has no public twin

    def message(self, revision: str) -> str:
        """The first line of a revision's docstring; empty where the revision is not known here."""
        script = self._script.revision_map._revision_map.get(revision)  # noqa: SLF001 – as above
        return _revision(script).message if isinstance(script, Script) else ""

    def completed(self, beginning: str) -> str:
        """The only revision that begins so; what came, where there is none or are several."""
        if self.knows(beginning):
            return beginning
        every = self._script.revision_map._revision_map  # noqa: SLF001 – as above
        found = [each for each in every if isinstance(each, str) and each.startswith(beginning)]
        return found[0] if len(found) == 1 else beginning

    def pending(self, current: Iterable[str], target: str) -> list[Revision]:
        """What an upgrade from `current`, all of it known, to `target` would run, in Alembic's order.

        Raises:
            UnknownTarget: No revision matches the target.
            MultipleHeads: The target is `head`, and there are several.
        """
        if target == "heads" and tuple(sorted(current)) == self.heads:
            return []  # the usual case, and Alembic would walk the whole graph to find out
        return [_revision(step.revision) for step in self._steps(target, tuple(current))]

    def resolve(self, target: str) -> None:
        """See that the target names something here.

        Raises:
            UnknownTarget: No revision matches it.
            MultipleHeads: It is `head`, and there are several.
        """
        if target != "heads":
            self._steps(target, ())

    @contextmanager
    def _asked_for(self, target: str) -> Iterator[None]:
        try:
            yield
        except (CommandError, AssertionError) as error:  # Alembic asserts that something follows the @ of a branch
            if isinstance(error.__cause__, AlembicMultipleHeads):
                raise MultipleHeads(
                    f"The target `{target}` asks for one head, and the history has {len(self.heads)}.",
                    heads=list(self.heads),
                ) from None
            raise UnknownTarget(
                f"No revision of this deployment matches the target `{target[:100]}`.",
                target=target[:100],
                heads=list(self.heads),
            ) from None

    def _steps(self, target: str, current: tuple[str, ...]) -> list[RevisionStep]:
        with self._asked_for(target):
            wanted = self._script.get_revisions(target)
            if not wanted or None in wanted:
                raise CommandError(f"{target} names no revision")
            # What `alembic upgrade` itself calls; Alembic has no public way to ask.
            return self._script._upgrade_revs(target, current)  # type: ignore[arg-type]  # noqa: SLF001

    def upgrade(self, connection: Connection, target: str, observer: Observer) -> None:
        """Upgrade the database of `connection`, which must have no transaction open, to `target`.

        With one open, Alembic would take it for its caller's and put every revision into it.

        Raises:
            Exception: whatever a revision raises.
        """
        config = self._handing_over(connection)

        def steps(heads: tuple[str, ...], _: MigrationContext) -> Iterator[RevisionStep]:
            for step in self._steps(target, heads):
                observer.begins(_revision(step.revision))
                yield step
                # A revision that committed by itself has left its version in a transaction that is still open.
                connection.commit()
                observer.ends(_revision(step.revision))

        environment = EnvironmentContext(config, self._script, fn=steps, destination_rev=target)
        _insist(environment, observer)
        with _one_at_a_time, environment:
            self._script.run_env()

    def stamp(self, connection: Connection, target: str, onlooker: Onlooker) -> None:
        """Write into the database of `connection`, which must have no transaction open, that it is at `target`."""
        environment = EnvironmentContext(
            self._handing_over(connection),
            self._script,
            fn=lambda heads, _: self._script._stamp_revs(target, heads),  # noqa: SLF001 – what `alembic stamp` calls
            destination_rev=target,
        )
        # Of several heads all or none: with some of them the rest would look as if it were to be run.
        _insist(environment, onlooker, transaction_per_migration=False)
        with _one_at_a_time, environment:
            self._script.run_env()

    def _handing_over(self, connection: Connection) -> Config:
        """What tells env.py to run on `connection`."""
        if connection.in_transaction():
            raise InternalError("The connection handed to Alembic has a transaction open.")
        config = Config(toml_file=self._config.toml_file_name)
        config.set_main_option("script_location", self._script.dir.replace("%", "%%"))
        config.attributes["connection"] = connection
        return config


def _insist(environment: EnvironmentContext, onlooker: Onlooker, **others: bool) -> None:
    """Have env.py configure Alembic as it likes, but with what a run needs.

    On the instance, since Alembic makes `alembic.context` a proxy of this class and of no child of it.
    """
    theirs = environment.configure

    def configure(*args: Any, **options: Any) -> None:  # noqa: ANN401 – as Alembic declares it
        theirs(*args, **{**options, **run_options(onlooker, options.get("on_version_apply")), **others})

    environment.configure = configure  # type: ignore[method-assign]  # see above


def run_options(onlooker: Onlooker, others: Any = None) -> dict[str, Any]:  # noqa: ANN401 – as Alembic declares it
    """The options of Alembic's `configure` that a run insists on; `others` are callbacks of env.py's own."""

    def on_version_apply(*, step: MigrationInfo, **_: Any) -> None:  # noqa: ANN401 – Alembic's protocol
        if step.is_stamp:
            return
        script = step.up_revision
        assert isinstance(script, Script)  # noqa: S101 – a migration step always moves along one script
        onlooker.applies(
            Applying(
                revision=script.revision,
                direction="upgrade" if step.is_upgrade else "downgrade",
                down_revisions=tuple(step.down_revision_ids),
                sha256=_sha256(script.path),
            )
        )

    theirs = tuple(others) if isinstance(others, list | tuple | set) else (others,) if others else ()
    return {"transaction_per_migration": True, "on_version_apply": (*theirs, on_version_apply)}


_load = functools.cache(History)


async def loaded(script_location: str) -> History:
    """The history in `script_location`; loaded once per process, in a thread, since a thousand files take a while.

    Raises:
        NotConfigured: A revision's file cannot be imported, or the chain is broken.
    """
    return await asyncio.to_thread(_load, script_location)


def command_under_way() -> tuple[str, str] | None:
    """The plain `alembic` command that is under way, such as ("upgrade", "head"); None if it only reads."""
    try:
        context.get_revision_argument()
    except KeyError:  # `current`, `check`, `revision`: commands without a destination
        return None
    options = context.config.cmd_opts
    # Called from Python rather than from a terminal there are no options to read.
    if not options:
        return "upgrade", "heads"
    revisions = options.revisions if "revisions" in options else [options.revision]  # `stamp` takes several
    return options.cmd[0].__name__, " ".join(revisions)


def _revision(script: Script) -> Revision:
    return Revision(revision=script.revision, message=" ".join(script.doc.split()))


@functools.cache
def _sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
