"""Fixtures: a fresh database per test, histories written on the spot, the service in this process or in its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from tests import servers
from tests.proxy import Proxy, tcp_proxy
from tests.servers import Database, Postgres, Service
from tests.workflows import Repository

DRIVERS = ("asyncpg", "psycopg2")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of tests/journeys, some of them of test_soak.py and test_vercel_build.py."""
    parser.addoption("--driver", choices=DRIVERS, help="the only driver to go on journeys on, instead of both")
    parser.addoption("--soak-seconds", type=float, default=40, help="how long the soak goes on, in seconds")
    parser.addoption("--soak-seed", type=int, help="the seed that a failed soak has told, to repeat its faults")
    parser.addoption(
        "--vercel-build", action="store_true", help="build with Vercel's CLI, which is downloaded (360 MB)"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Figures of tests that passed: what a soak has gone through, and its seed; how large the function is."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name in {"soak", "bundle", "build"}:
                terminalreporter.write_line(f"{name}: {value}")


_JOURNEYS = Path(__file__).parent / "journeys"
_WITHOUT_REVISIONS = {
    "test_approval_workflow",
    "test_nothing_pending",
    "test_on_build",
    "test_review_workflow",
    "test_vercel_build",
    "test_vercel_shim",
    "test_workflows",
    "test_workflows_among_strangers",
}
"""Journeys on which it does not matter what a revision does: workflows, the platform, calls that find nothing to do."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each journey is gone on both drivers, but for one that says itself on which."""
    path = metafunc.definition.path
    says_so = any(mark.args[0] == "driver" for mark in metafunc.definition.iter_markers("parametrize"))
    if path.is_relative_to(_JOURNEYS) and path.stem not in _WITHOUT_REVISIONS and not says_so:
        only: str | None = metafunc.config.getoption("--driver")
        metafunc.parametrize("driver", [only] if only else DRIVERS, indirect=True)


@pytest.fixture(autouse=True)
def driver(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    no_configuration_of_the_machine: None,  # which would forget it
) -> str:
    """The driver that revisions run on, in this process and in those that a test starts."""
    name: str = getattr(request, "param", "asyncpg")
    monkeypatch.setenv("MIGRATION_DRIVER", name)
    return name


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL server of this test process."""
    with servers.postgres() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """A fresh, empty database."""
    with postgres.database() as fresh:
        yield fresh


@pytest.fixture(autouse=True)
def no_configuration_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say what the environment says."""
    import os

    for name in os.environ:
        # The last one is a prefixed name to the service; the session's server has read it before.
        if name.startswith(("MIGRATION_", "VERCEL", "DATABASE_URL", "POSTGRES_URL", "PG", "TEST_DATABASE_URL")):
            monkeypatch.delenv(name)


class WriteHistory(Protocol):
    """Writes an Alembic history; the folder to give as `script_location`."""

    def __call__(self, **upgrades: str) -> Path: ...


@pytest.fixture
def write_history(tmp_path: Path) -> WriteHistory:
    """Write a linear history: `write_history(a1="op.execute('…')", b2="…")`, in the order of the words.

    A body may have several lines, and may use `op`, `sa` and `time`. Called again it replaces what was there;
    each call makes a new folder, since a history is loaded once per process.
    """
    count = 0

    def write(**upgrades: str) -> Path:
        nonlocal count
        count += 1
        folder = tmp_path / f"history{count}"
        before: str | None = None
        for revision, body in upgrades.items():
            write_revision(folder, revision, before, body)
            before = revision
        return folder

    return write


def write_revision(
    folder: Path, revision: str, down_revision: str | tuple[str, ...] | None, body: str, *, downgrade: str = "pass"
) -> None:
    """Write one revision into a history's folder, and env.py beside it."""
    versions = folder / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (folder / "env.py").write_text((servers.PROJECT / "migrations" / "env.py").read_text())

    def indented(text: str) -> str:
        return "\n".join(f"    {line}" for line in text.strip().splitlines()) or "    pass"

    (versions / f"{revision}.py").write_text(
        f'"""Do {revision}."""\n\nimport time\n\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
        f"revision = {revision!r}\ndown_revision = {down_revision!r}\n\n\n"
        f"def upgrade():\n{indented(body)}\n\n\ndef downgrade():\n{indented(downgrade)}\n"
    )


class MakeSettings(Protocol):
    """Settings for the fresh database."""

    def __call__(self, history: Path | None = None, **changes: Any) -> Settings: ...


@pytest.fixture
def settings(database: Database) -> MakeSettings:
    """Settings with the tests' keys, the fresh database, and what the test changes."""

    def make(history: Path | None = None, **changes: Any) -> Settings:
        chosen: dict[str, Any] = {
            "api_key": servers.API_KEY,
            "read_key": servers.READ_KEY,
            "database_url": database.url,
            **({"script_location": str(history)} if history else {}),
            **changes,
        }
        return Settings(**chosen)

    return make


@asynccontextmanager
async def client_of(configuration: Any, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The application in this process, spoken to over ASGI."""
    transport = httpx.ASGITransport(app=create_app(configuration, **options), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
        yield client


@pytest.fixture
def serve(database: Database, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start the service in processes of its own: `serve(history, lease=2)`; each ends with the test."""
    with ExitStack() as stack:

        def start(history: Path | None = None, on: Database | None = None, **settings: object) -> Service:
            if history is not None:
                settings["script_location"] = history
            return stack.enter_context(servers.service(on or database, tmp_path, **settings))

        yield start


@pytest.fixture
def serve_many(database: Database, tmp_path: Path) -> Iterator[Callable[..., list[Service]]]:
    """Start several services that share a parent: `serve_many(2, history, lease=2)`; each ends with the test."""
    with ExitStack() as stack:

        def start(count: int, history: Path, on: Database | None = None, **settings: object) -> list[Service]:
            chosen = {"script_location": history, **settings}
            return stack.enter_context(servers.fleet(on or database, tmp_path, count, **chosen))

        yield start


@pytest.fixture
def through_pgbouncer(database: Database) -> Iterator[Callable[..., Database]]:
    """The fresh database through PgBouncer: `through_pgbouncer("transaction")`."""
    with ExitStack() as stack:

        def start(mode: str, **options: Any) -> Database:
            return stack.enter_context(servers.pgbouncer(database, mode=mode, **options))

        yield start


@pytest.fixture
def proxy(database: Database) -> Iterator[Proxy]:
    """A TCP proxy in front of the fresh database, which can be slow, silent, cut, or refuse: `proxy.database`."""
    with tcp_proxy(database) as between:
        yield between


@pytest.fixture(params=["direct", "transaction"])
def on(request: pytest.FixtureRequest, database: Database, through_pgbouncer: Callable[..., Database]) -> Database:
    """The fresh database, directly and through PgBouncer in transaction mode: whoever asks for it runs twice."""
    return database if request.param == "direct" else through_pgbouncer(request.param)


@pytest.fixture
def nobody_sees_the_lock_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the checks in the transactions tell that the lock is lost, as where the guard's end does not get through."""

    from app.migrator import watch  # brings SQLAlchemy and Alembic

    async def sees_nothing(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(watch, "_cut_without_the_lock", sees_nothing)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository on GitHub, whose workflows run here: `repository.deployed(name, url)`."""
    return Repository(tmp_path / "github")
