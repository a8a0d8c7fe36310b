"""How the database is spoken to: opening connections, and sending statements over them."""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from asyncpg.exceptions import TargetServerAttributeNotMatched

from app.database import simple_query, unreachable
from app.database.simple_query import Value
from app.database.unreachable import is_about_the_connection, place, translated
from app.database.url import Database
from app.errors import DatabaseUnavailable

CONTROL = "migration-endpoint"
"""application_name of the sessions that read the state and write the ledger, and of each behind a pooler."""

type Connection = asyncpg.Connection[Any]

DRIVER_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg itself says of a connection that cannot be used. It takes a server's farewell that arrived between
two statements for an inner error, and tells no termination listener of it."""
_CONNECT_ERRORS = (OSError, asyncpg.PostgresError, *DRIVER_ERRORS, ValueError)

_CLOSE_TIMEOUT_S = 2
_PATIENCE_S = 8
"""Once this has passed since the first attempt to connect, no further one is made, however few they were."""
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Ask after ten silent seconds, then every five; three without an answer are the end."""
_ANSWER_TIMEOUT_S = 15
"""A session's statements are short; what takes longer is a network that has gone silent."""


async def connect(database: Database, *, application_name: str, patient: bool = True) -> Connection:
    """Open a connection, with no statement cache: what is cached in a backend is lost behind a pooler.

    Args:
        database: Where it is. Each of its hosts gets the whole `connect_timeout_s`, in each attempt.
        application_name: What pg_stat_activity is to show.
        patient: Whether to try again on errors that pass, for some seconds at most.

    Raises:
        DatabaseUnavailable: or one of its children, which says what to check.
    """
    began, attempts = time.monotonic(), 0
    while True:
        attempts += 1
        try:
            return await _attempt(database, application_name)
        except _CONNECT_ERRORS as error:
            pauses_s = unreachable.pauses_after(error) if patient else ()
            if attempts > len(pauses_s) or time.monotonic() - began > _PATIENCE_S:
                raise await unreachable.explained(error, database, attempts=attempts) from None
        # The jitter keeps instances that were refused together from coming back together.
        await asyncio.sleep(pauses_s[attempts - 1] * random.uniform(0.8, 1.2))  # noqa: S311 – jitter, not a secret


async def _attempt(database: Database, application_name: str) -> Connection:
    """Try each host in its turn, as libpq does: a timeout for each, since asyncpg has one for all of them."""
    # PgBouncer refuses startup parameters it does not know; application_name it knows, and hands on.
    server_settings = {"application_name": application_name}
    if database.startup_options is not None:
        server_settings["options"] = database.startup_options
    failures: list[Exception] = []
    for host, port in database.places:
        try:
            opened: Connection = await asyncpg.connect(
                **database.arguments | {"host": host, "port": port} | _without_tls_on_a_socket(host),
                statement_cache_size=0,
                server_settings=server_settings,
            )
        except (OSError, asyncpg.CannotConnectNowError, TargetServerAttributeNotMatched) as error:
            failures.append(error)
        else:
            _keep_alive(_socket_of(opened))
            return opened
    # What passes is worth another attempt, and that a standby is no primary says less than why the primary is away.
    raise min(
        failures,
        key=lambda error: (not unreachable.pauses_after(error), isinstance(error, TargetServerAttributeNotMatched)),
    )


def _without_tls_on_a_socket(host: str | None) -> dict[str, str]:
    """PostgreSQL has no TLS there, whatever is asked for; asyncpg would still make it ready, certificates and all."""
    return {"ssl": "disable"} if host is not None and host.startswith("/") else {}


def _socket_of(connection: Connection) -> socket.socket:
    private: Any = connection  # asyncpg has no public way to its socket
    wire: socket.socket = private._transport.get_extra_info("socket")  # noqa: SLF001 – as above
    return wire


def _keep_alive(wire: socket.socket) -> None:
    """Have the kernel ask for a sign of life, so that a path that is dead ends a statement however long it runs.

    It also keeps a NAT or a load balancer from forgetting a connection that waits. Names as in tcp(7); macOS and
    Windows lack some.
    """
    if wire.family == socket.AF_UNIX:
        return
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def close(connection: Connection) -> None:
    """Close a connection in whatever state it is; never raises, never waits long."""
    try:
        await connection.close(timeout=_CLOSE_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, *DRIVER_ERRORS):
        connection.terminate()


def cutter(connection: Connection) -> Callable[[], None]:
    """A function that ends the connection from any thread, without a word to a server that may not answer.

    PostgreSQL sees the end at once and rolls back, even while the thread that the connection belongs to is held up in
    Python code.
    """
    loop, wire = asyncio.get_running_loop(), _socket_of(connection)

    def cut() -> None:
        with contextlib.suppress(RuntimeError, OSError):  # the loop, or the connection, has ended already
            loop.call_soon_threadsafe(connection.terminate)
            wire.shutdown(socket.SHUT_RDWR)

    return cut


@asynccontextmanager
async def session(database: Database, *, patient: bool = True) -> AsyncIterator["Session"]:
    """A session for reading the state, writing the ledger or holding the lock.

    Args:
        database: Where it is.
        patient: Whether to try again for some seconds when no connection can be opened, on errors that pass.

    Raises:
        DatabaseUnavailable: or one of its children, when no connection can be opened.
    """
    connection = await connect(database, application_name=CONTROL, patient=patient)
    try:
        yield Session(connection, database)
    except asyncpg.PostgresError as error:  # one that nobody expected, such as a column that is not there
        raise translated(error, database) from None
    finally:
        await close(connection)


class Session:
    """A connection that takes statements without parameters, each string of them in one round trip."""

    def __init__(self, connection: Connection, database: Database) -> None:
        self._connection = connection
        self._database = database
        # One asyncpg connection does one thing at a time; a watcher may read while a run goes on.
        self._turn = asyncio.Lock()

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the connection ends, whoever ends it."""
        self._connection.add_termination_listener(lambda _: listener())

    @property
    def server_pid(self) -> int:
        """The pid that the other end of the wire gave at login: a pooler's invention, if there is one."""
        return int(self._connection.get_server_pid())

    @property
    def server_version(self) -> tuple[int, int]:
        """PostgreSQL's version, such as (18, 1)."""
        version = self._connection.get_server_version()
        # Since PostgreSQL 10 the second number is the minor release, which asyncpg keeps as `micro`.
        return version.major, version.micro

    async def execute(self, sql: str) -> list[tuple[Value, ...]]:
        """Send statements without parameters; the rows of the last one.

        Raises:
            DatabaseUnavailable: or one of its children.
            asyncpg.PostgresError: for what is about the statement rather than the way to the database.
        """
        results = await self.results(sql)
        return results[-1].rows if results else []

    async def results(self, sql: str, into: list[simple_query.ResultSet] | None = None) -> list[simple_query.ResultSet]:
        """Send statements without parameters; a result for each, also in `into` when a later one fails."""
        async with self._turn:
            try:
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    return await simple_query.send(self._connection, sql, into)
            except asyncio.CancelledError:
                # The answer is still on its way, and the next one would be taken for it.
                self._connection.terminate()
                raise
            except TimeoutError:
                self._connection.terminate()
                raise DatabaseUnavailable(
                    f"{place(self._database)} did not answer a short statement within {_ANSWER_TIMEOUT_S} s."
                ) from None
            except (OSError, *DRIVER_ERRORS) as error:
                raise translated(error, self._database) from None
            except asyncpg.PostgresError as error:
                if is_about_the_connection(error):
                    raise translated(error, self._database) from None
                raise
