"""Round trips to the database: what a function pays for its distance from it, counted on the wire."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import deployment
from bench.history import tables
from bench.peers.alembic_cli import AlembicCli
from bench.section import Goal, Section
from tests import servers
from tests.proxy import Proxy, tcp_proxy
from tests.servers import Database, Postgres

_EXPLANATION = (
    "Counted at a proxy in front of PostgreSQL: how often a client logs in, and how often it waits for an answer after "
    "that (behind Query, Sync and Flush), on all of its connections. Of a revision: what a history of "
    "{many} needs more than one of {few}, each from empty, divided by {difference}; for this project lock, fence, "
    "ledger and heartbeat are in it."
)
_NO_TLS = {"asyncpg": {"ssl": "disable"}, "psycopg": {"sslmode": "disable"}}
"""The proxy cannot count inside of TLS, and each driver has a word of its own for doing without."""


@dataclass(frozen=True)
class Counted:
    """What went through the proxy."""

    logins: int
    questions: int


def measure(postgres: Postgres, folder: Path, *, few: int = 10, many: int = 20) -> Section:
    """Count what is needed when nothing is pending, and for each revision, beside Alembic's own command."""
    with _deployed(postgres, folder, few) as call:
        less = call(applies=few)
    with _deployed(postgres, folder, many) as call:
        more, warm = call(applies=many), call(applies=0)
    ours = (more.questions - less.questions) / (many - few)
    alembic = {
        driver: (_alembic(postgres, folder, driver, many) - _alembic(postgres, folder, driver, few)) / (many - few)
        for driver in _NO_TLS
    }
    rows = [
        ("nothing pending: POST /migrate", f"{warm.logins} to connect, and {warm.questions}"),
        ("each revision: POST /migrate", f"{ours:.1f}"),
        *((f"each revision: `alembic upgrade head`, {driver}", f"{found:.1f}") for driver, found in alembic.items()),
    ]
    return Section(
        name="round_trips",
        title="Round trips to the database",
        explanation=_EXPLANATION.format(many=many, few=few, difference=many - few),
        table="| what | round trips |\n|---|---|\n" + "".join(f"| {what} | {found} |\n" for what, found in rows),
        goals=[
            Goal("connections, nothing pending", warm.logins, 1),
            Goal("round trips beside connecting, nothing pending", warm.questions, 2),
            Goal("round trips for a revision, beside Alembic with asyncpg", ours / alembic["asyncpg"], 1),
            Goal("round trips for a revision, beside Alembic with psycopg", ours / alembic["psycopg"], None),
        ],
    )


@contextmanager
def _deployed(postgres: Postgres, folder: Path, revisions: int) -> Iterator[Callable[..., Counted]]:
    """The service with a history and an empty database; what to call to count a POST /migrate."""
    history = deployment.write(folder / f"ours-{revisions}", tables(revisions))
    with (
        postgres.database() as database,
        tcp_proxy(database) as proxy,
        servers.service(proxy.database, folder, script_location=history) as service,
    ):

        def call(*, applies: int) -> Counted:
            def post() -> None:
                answer = service.post()
                assert answer.status_code == 200, answer.text
                assert len(answer.json()["applied"]) == applies

            return _counted(proxy, post)

        yield call


def _alembic(postgres: Postgres, folder: Path, driver: str, revisions: int) -> int:
    """The questions of `alembic upgrade head`."""
    alembic, own = AlembicCli(driver), folder / f"{driver}-{revisions}"
    own.mkdir()
    alembic.write(own, tables(revisions))
    with postgres.database() as database, tcp_proxy(database) as proxy:
        address = proxy.database.address.set(query=_NO_TLS[driver])
        command = alembic.upgrade(own, Database(postgres, address))
        counted = _counted(proxy, command.run)
        applied = database.value("SELECT count(*) FROM pg_tables WHERE tablename LIKE 't#_%' ESCAPE '#'")
    assert applied == revisions
    return counted.questions


def _counted(proxy: Proxy, do: Callable[[], object]) -> Counted:
    proxy.forget()
    do()
    return Counted(proxy.logins.total(), proxy.questions.total())
