"""Alembic run through the user's env.py, which configures it as it likes, but with what we insist on."""

import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from alembic import context
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationInfo
from alembic.script import Script, ScriptDirectory

from app.database.catalog import VersionTable
from app.migrator.revisions.handover import Handover
from app.migrator.revisions.history import History, sha256_of
from app.migrator.revisions.options import Options
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
    is_merge: bool


class Guard(Protocol):
    """Holds the lock."""

    @property
    def key(self) -> int:
        """The lock's, which is made of the version table."""


class Onlooker(Protocol):
    """Is told of each revision, in the thread that runs it."""

    @property
    def guard(self) -> Guard:
        """Holds the lock meanwhile."""

    def applies(self, applying: Applying) -> None:
        """A revision has run; its transaction is still open."""


class Observer(Onlooker, Protocol):
    """Is told of each revision before, at the end of, and after its transaction."""

    @property
    def transactions(self) -> dict[str, bool]:
        """The options of Alembic's `configure` that say which transactions there are to be."""

    @property
    def commits_here(self) -> bool:
        """Whether a transaction is to end between two revisions, at this moment."""

    def begins(self, revision: Revision) -> None:
        """A revision is about to run; nothing of it has reached the database."""

    def ends(self, revision: Revision) -> None:
        """A revision is committed."""


class AlembicIsBusy(Exception):  # noqa: N818 – a fact, as the problems are
    """This process runs Alembic for somebody else, and it can do one thing at a time."""


def through(
    history: History,
    environment: EnvironmentContext,
    insisted: dict[str, Any],
    *,
    guard: Guard | None = None,
    patience_s: float = -1,
) -> None:
    """Run env.py, which configures Alembic, and through it what `environment` is made for.

    Args:
        history: The revisions, and what is set.
        environment: What `alembic.context` is to be.
        insisted: Options of Alembic's `configure`, whatever env.py says.
        guard: Holds the lock; None offline.
        patience_s: How long to wait for somebody else; -1 for ever.

    Raises:
        AlembicIsBusy: This process has been running it for that long.
        UnsuitableEnvPy: env.py does not take the connection that it is handed, or leads to another version table;
            nothing was run. Or it goes on with a second one.
        NotConfigured: It keeps the version elsewhere than the settings have it; nothing was run.
    """
    handover = Handover(environment, history.version_table, history.options, lock_key=guard.key if guard else None)
    _insist(environment, history.options, insisted, handover)
    if not _one_at_a_time.acquire(timeout=patience_s):
        raise AlembicIsBusy
    try:
        with environment, handover.watched():
            history.script.run_env()
    finally:
        _one_at_a_time.release()


def is_run_here() -> bool:
    """Whether env.py is being run by `through`, and not by the plain `alembic` command."""
    return "configure" in vars(_environment())


def honour(options: Options) -> None:
    """Have the plain `alembic` command, whose env.py is being run, do as the settings say."""
    environment = _environment()
    options.import_modules()
    options.write_into(environment.config)
    # The command has made it already; it reads the revisions once it needs them.
    script = ScriptDirectory.from_config(environment.config)
    places = script.version_locations, script.recursive_version_locations
    environment.script.version_locations, environment.script.recursive_version_locations = places
    _insist(environment, options)


def _environment() -> EnvironmentContext:
    """What `alembic.context` stands for at the moment."""
    environment: EnvironmentContext = context._proxy  # type: ignore[attr-defined]  # noqa: SLF001 – has no public name
    return environment


def _insist(
    environment: EnvironmentContext,
    options: Options,
    insisted: Mapping[str, Any] = MappingProxyType({}),
    handover: Handover | None = None,
) -> None:
    """Have env.py configure Alembic as it likes, but with what is set, and with what a run needs.

    On the instance, since Alembic makes `alembic.context` a proxy of this class and of no child of it.
    """
    configures, runs = environment.configure, environment.run_migrations
    generates = "template_args" in environment.context_opts

    def configure(*positional: Any, **named: Any) -> None:  # noqa: ANN401 – as Alembic declares it
        said = dict(zip(_POSITIONAL, positional, strict=False)) | named
        if handover is not None:
            handover.configures(said)
        both = [said.pop("on_version_apply", None), insisted.get("on_version_apply")]
        # A plan applies nothing.
        callbacks = [each for one in both for each in _several(one)] if both[1] or handover is None else []
        ours = {**options.configure(said, generates=generates), **insisted}
        configures(**{**said, **ours, "on_version_apply": callbacks})

    def run_migrations(**keywords: Any) -> None:  # noqa: ANN401 – as Alembic declares it
        with nullcontext() if handover is None else handover.running():
            runs(**keywords | options.keywords)

    environment.configure = configure  # type: ignore[method-assign]  # see above
    environment.run_migrations = run_migrations  # type: ignore[method-assign]  # as above


_POSITIONAL = ("connection", "url", "dialect_name", "dialect_opts")
"""Parameters of Alembic's `configure` that env.py may give by their position."""


def _several(callbacks: Any) -> tuple[Any, ...]:  # noqa: ANN401 – as Alembic declares it
    if isinstance(callbacks, list | tuple | set):
        return tuple(callbacks)
    return (callbacks,) if callbacks else ()


def version_options(table: VersionTable) -> dict[str, Any]:
    """The options of Alembic's `configure` that say where the version is kept."""
    return {"version_table": table.name, "version_table_schema": table.schema}


def run_options(onlooker: Onlooker, table: VersionTable) -> dict[str, Any]:
    """The options of Alembic's `configure` that a run insists on."""

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
                sha256=sha256_of(script.path),
                is_merge=script.is_merge_point,
            )
        )

    return {**version_options(table), "transaction_per_migration": True, "on_version_apply": on_version_apply}


def command_under_way() -> tuple[str, str] | None:
    """The plain `alembic` command that is under way, such as ("upgrade", "head"); None if it only reads."""
    try:
        context.get_revision_argument()
    except KeyError:  # `current`, `check`, `revision`: commands without a destination
        return None
    options = context.config.cmd_opts
    # Called from Python rather than from a terminal there are no options to read, but for those of MIGRATION_X.
    if not options or "cmd" not in options:
        return "upgrade", "heads"
    revisions = options.revisions if "revisions" in options else [options.revision]  # `stamp` takes several
    return options.cmd[0].__name__, " ".join(revisions)
