"""The revisions run on a database."""

from collections.abc import Iterator

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from sqlalchemy import Connection

from app.errors import InternalError
from app.migrator.revisions import env_py
from app.migrator.revisions.env_py import Observer
from app.migrator.revisions.history import History, revision_of
from app.report import Direction


def run(
    history: History, connection: Connection, target: str, observer: Observer, direction: Direction = "upgrade"
) -> None:
    """Move the database of `connection`, which must have no transaction open, to `target`.

    With one open, Alembic would take it for its caller's and put every revision into it.

    Raises:
        Exception: whatever a revision raises.
    """
    if connection.in_transaction():
        raise InternalError("The connection handed to Alembic has a transaction open.")

    def steps(heads: tuple[str, ...], _: MigrationContext) -> Iterator[RevisionStep]:
        for step in history.steps(heads, target, direction):
            observer.begins(revision_of(step.revision))
            yield step
            # A revision that committed by itself has left its version in a transaction that is still open.
            connection.commit()
            observer.ends(revision_of(step.revision))

    config = history.config()
    config.attributes["connection"] = connection
    env_py.through(
        history,
        EnvironmentContext(config, history.script, fn=steps, destination_rev=target),
        env_py.run_options(observer, history.version_table),
    )
