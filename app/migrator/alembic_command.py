"""The plain `alembic` command, from a laptop: connected by the same settings, under the same lock.

`migrations/env.py` comes here when nobody handed it a connection. A command that moves the database takes the
lock, is fenced and goes on record like any other run; one that only reads it needs no lock.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.util import greenlet_spawn

from app import log, settings
from app.database import connection, session_settings, url, working
from app.database.ledger import new_run_id
from app.errors import NotConfigured
from app.migrator import condition, revisions, status
from app.migrator.call import Call
from app.migrator.revisions import Applying
from app.migrator.runner import Runner
from app.migrator.turn import Turn
from app.migrator.work import Work
from app.problem import Problem
from app.report import Event, Reached
from app.settings import Settings

_OUTCOMES: dict[str, Reached] = {"upgrade": "upgraded", "downgrade": "downgraded", "stamp": "stamped"}

type RunMigrations = Callable[..., None]
"""env.py's own function: takes a connection and options for Alembic's `configure`."""


def honour_settings() -> None:
    """Have the command that is under way do as the settings say; where the endpoint runs env.py, it does already.

    Raises:
        SystemExit: with the problem's words, for a terminal.
    """
    if not revisions.is_run_here():
        with _in_the_words_of_a_terminal():
            revisions.honour(revisions.options.of(_read()))


def run(run_migrations: RunMigrations) -> None:
    """Connect, and run the command that is under way.

    Raises:
        SystemExit: with the problem's words, for a terminal.
    """
    # Without an alembic.ini nothing says where Alembic's messages go.
    logging.basicConfig(format="%(levelname)-5.5s [%(name)s] %(message)s")
    logging.getLogger("alembic").setLevel(logging.INFO)
    with _in_the_words_of_a_terminal():
        read = _read()
        command = revisions.command_under_way()
        asyncio.run(_under_the_lock(command, run_migrations, read) if command else _reading(run_migrations, read))


def _read() -> Settings:
    read = settings.from_environment()
    if isinstance(read, NotConfigured):
        raise read
    return read


@contextmanager
def _in_the_words_of_a_terminal() -> Iterator[None]:
    try:
        yield
    except Problem as problem:
        raise SystemExit(f"{problem.title}: {problem.detail}\n{problem.hint}") from None


async def _reading(run_migrations: RunMigrations, chosen: Settings) -> None:
    def read() -> None:
        with working.plain_engine(url.database(chosen), session_settings.of(chosen)).connect() as opened:
            run_migrations(opened, **revisions.version_options(status.version_table(chosen)))

    await greenlet_spawn(read)


async def _under_the_lock(command: tuple[str, str], run_migrations: RunMigrations, chosen: Settings) -> None:
    name, target = command
    call = Call(request_id=str(new_run_id()), target=target, reason=f"alembic {name} by {settings.user()}")
    runner = Runner(call, chosen, url.database(chosen), turn=Turn(), emit=_emit)
    async with connection.session(runner.database) as session:
        before = await runner.look(session)
        condition.insist_on_environment(before, chosen)
        async with runner.guard(session, before) as guard:
            while not await runner.takes_the_lock(guard, session):
                pass
            async with connection.session(runner.database) as control:
                await runner.ends_what_dead_runs_left(control)
                before = await runner.look(control)
                condition.insist_on_environment(before, chosen)  # whoever held the lock may have bound the database
                await runner.goes_on_record(control, before, pending=None)
            await runner.carries_out(
                lambda opened, work: _apply(run_migrations, opened, work),
                guard=guard,
                before=before,
                pending=[],
                missing=lambda _: [],
                outcome=_OUTCOMES.get(name, "upgraded"),
            )


def _apply(run_migrations: RunMigrations, opened: Connection, work: Work) -> None:
    options = revisions.run_options(_Onlooker(work), status.version_table(work.settings))
    run_migrations(opened, **(options | work.transactions))


def _emit(event: Event) -> None:
    log.emit(event)
    if event.name == "warning":  # to whoever sits before the terminal, where Alembic's own messages go
        logging.getLogger("alembic").warning(event.fields["message"])


class _Onlooker:
    """Tells a Work of the steps of a command that Alembic itself goes through."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.guard = work.guard
        work.mark()

    def applies(self, applying: Applying) -> None:
        """A revision has run: put it on record, and start the clock of the next one."""
        self._work.applies(applying)
        self._work.mark()
