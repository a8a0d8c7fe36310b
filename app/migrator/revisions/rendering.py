"""A revision's SQL without a database: Alembic's offline mode, one revision at a time.

Offline, `op` writes instead of executing, and there is no connection: a revision that asks the database something
cannot be rendered to its end, which is said of it rather than failing the others.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep

from app.errors import NotConfigured
from app.lint import statements
from app.migrator import cause
from app.migrator.revisions import env_py
from app.migrator.revisions.history import History, Rendered
from app.problem import Problem
from app.report import Direction

_PATIENCE_S = 5
"""How long to wait for a run in this process, in seconds: Alembic can do one thing at a time."""


def rendered(history: History, current: tuple[str, ...], target: str, direction: Direction) -> list[Rendered]:
    """Render what a move from `current` to `target` would run, in its order. Blocks while this process runs Alembic.

    Raises:
        UnknownTarget, MultipleHeads: as `History.pending`.
        AlembicIsBusy: This process has been running Alembic for somebody else for too long.
        UnsuitableEnvPy, NotConfigured: env.py cannot be run without a database.
    """
    steps = history.steps(current, target, direction)
    known = history.rendered
    if any((step.revision.revision, direction) not in known for step in steps):
        try:
            _render(history, current, steps, direction)
        except (env_py.AlembicIsBusy, Problem):
            raise
        except (Exception, SystemExit) as error:  # what a revision raises is kept; so this is env.py's
            raise NotConfigured(
                f"env.py cannot be run offline, as a plan needs it: {cause.message(error)}",
                hint="Give it a branch for `context.is_offline_mode()`, such as the env.py of this project has.",
            ) from error
    return [known[step.revision.revision, direction] for step in steps]


def _render(history: History, current: tuple[str, ...], steps: list[RevisionStep], direction: Direction) -> None:
    output = io.StringIO()

    def each_by_itself(_: tuple[str, ...], context: MigrationContext) -> Iterator[RevisionStep]:
        _hand_out_no_results(context)
        for step in steps:
            writer = _Writer(step.migration_fn, output)
            step.migration_fn = writer.write
            yield step
            file = history.file(step.revision.revision)
            history.rendered[step.revision.revision, direction] = Rendered(
                revision=step.revision.revision,
                sql=writer.sql,
                transactional=_is_transactional(writer),
                unrendered=None if writer.error is None else _why(writer.error, file),
            )

    env_py.through(
        history,
        EnvironmentContext(
            history.config(),
            history.script,
            fn=each_by_itself,
            as_sql=True,
            starting_rev=list(current),
            destination_rev=steps[-1].revision.revision,
        ),
        {
            "connection": None,
            "url": None,
            "dialect_name": "postgresql",
            "dialect_opts": {"paramstyle": "named"},  # else each % comes out twice
            "output_buffer": output,
            "literal_binds": True,
            "transaction_per_migration": True,
            "transactional_ddl": True,  # else no COMMIT is written around an autocommit block, which a run does send
        },
        patience_s=_PATIENCE_S,
    )


def _is_transactional(writer: "_Writer") -> bool | None:
    if statements.controls_transactions(writer.sql):  # as around an autocommit block, where Alembic writes COMMIT
        return False
    return True if writer.error is None else None


def _hand_out_no_results(context: MigrationContext) -> None:
    """Let nobody take the silence of a connection that only writes for an answer of the database.

    Alembic's own hands out None, which `if bind.execute(…)` takes for no.
    """
    mock: Any = context.connection
    theirs = mock._execute_impl  # noqa: SLF001 – Alembic's own way to write what is executed

    def write(*statement: Any, **options: Any) -> _NoResult:  # noqa: ANN401 – as SQLAlchemy declares it
        theirs(*statement, **options)
        return _NoResult()

    mock._execute_impl = write  # noqa: SLF001 – as above


class _NoResult:
    """What a statement returns that was only written; whoever looks at it asks the database something."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 – it never returns
        raise LookupError(_ASKS)

    def __bool__(self) -> bool:
        raise LookupError(_ASKS)

    def __iter__(self) -> Iterator[Any]:
        raise LookupError(_ASKS)


_ASKS = "it looks at what a statement returned"


class _Writer:
    """A revision's function, which is to write its SQL, and what came of it."""

    def __init__(self, function: Callable[..., None], output: io.StringIO) -> None:
        self.sql = ""
        self.error: BaseException | None = None
        self._function = function
        self._output = output

    def write(self, **options: Any) -> None:  # noqa: ANN401 – as Alembic hands them on
        """Call the function; what it raises is kept, so that the next one has its turn."""
        self._output.seek(0)
        self._output.truncate()
        try:
            self._function(**options)
        except (Exception, SystemExit) as error:  # noqa: BLE001 – a revision's file is somebody's code
            self.error = error
        self.sql = self._output.getvalue().strip()


def _why(error: BaseException, file: Path) -> str:
    place = cause.place(error, file.parent)
    said = _ASKS if error.args == (_ASKS,) else cause.message(error)
    return f"{place}: {said}" if place else said
