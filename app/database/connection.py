"""How the database is spoken to: opening connections, and saying in our words why one failed."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from app.database import simple_query
from app.database.simple_query import Value
from app.database.url import Database
from app.errors import (
    DatabaseAuthFailed,
    DatabaseUnavailable,
    PermissionDenied,
    Problem,
    TlsFailed,
)

CONTROL = "migration-endpoint"
"""application_name of the sessions that read the state and write the ledger."""

type Connection = asyncpg.Connection[Any]

DRIVER_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg itself says of a connection that cannot be used. It takes a server's farewell that arrived between
two statements for an inner error, and tells no termination listener of it."""

_CLOSE_TIMEOUT_S = 2
_ANSWER_TIMEOUT_S = 15
"""A session's statements are short; what takes longer is a network that has gone silent."""


def working_name(run_id: UUID) -> str:
    """application_name of the connection that revisions of this run run on."""
    return f"migrate/{run_id}"


async def connect(database: Database, *, application_name: str) -> Connection:
    """Open a connection, with no statement cache: what is cached in a backend is lost behind a pooler.

    Raises:
        DatabaseUnavailable: or one of its children, which says what to check.
    """
    # PgBouncer refuses startup parameters it does not know; application_name it knows, and hands on.
    server_settings = {"application_name": application_name}
    if database.startup_options is not None:
        server_settings["options"] = database.startup_options
    try:
        opened: Connection = await asyncpg.connect(
            **database.arguments, statement_cache_size=0, server_settings=server_settings
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, *DRIVER_ERRORS, ValueError) as error:
        raise translated(error, database) from None
    return opened


async def close(connection: Connection) -> None:
    """Close a connection in whatever state it is; never raises, never waits long."""
    try:
        await connection.close(timeout=_CLOSE_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, *DRIVER_ERRORS):
        connection.terminate()


@asynccontextmanager
async def session(database: Database) -> AsyncIterator["Session"]:
    """A session for reading the state, writing the ledger or holding the lock.

    Raises:
        DatabaseUnavailable: or one of its children, when no connection can be opened.
    """
    connection = await connect(database, application_name=CONTROL)
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
                    f"{_place(self._database)} did not answer a short statement within {_ANSWER_TIMEOUT_S} s."
                ) from None
            except (OSError, *DRIVER_ERRORS) as error:
                raise translated(error, self._database) from None
            except asyncpg.PostgresError as error:
                if is_about_the_connection(error):
                    raise translated(error, self._database) from None
                raise


_CONNECTION_ERRORS = (
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.exceptions.OperatorInterventionError,  # class 57: shutdown, starting up, terminated, cancelled
    asyncpg.exceptions.InsufficientResourcesError,  # class 53: too many connections
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientPrivilegeError,
)


def is_about_the_connection(error: BaseException) -> bool:
    """Whether an error of the driver says something about the way to the database or the role's rights."""
    return isinstance(error, _CONNECTION_ERRORS)


def translated(error: BaseException, database: Database) -> Problem:
    """Say in our words why the database could not be reached or used; quotes no secret.

    SQLSTATEs: PostgreSQL manual, appendix "PostgreSQL Error Codes".
    """
    where = _place(database)
    match error:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return _login_refused(error, database, where)
        case asyncpg.InvalidCatalogNameError():
            return DatabaseUnavailable(
                f'There is no database "{database.name}" at {where}.',
                hint="Correct the database's name at the end of the connection string, or create the database.",
                retryable=False,
            )
        case asyncpg.InsufficientPrivilegeError():
            return PermissionDenied(_sentence(error))
        case ssl.SSLError():
            return TlsFailed(f"TLS with {where} failed: {error.reason or 'handshake error'}.")
        case ConnectionError() if "rejected SSL upgrade" in str(error):
            return TlsFailed(f"The server at {where} does not speak TLS.")
        case TimeoutError():
            return DatabaseUnavailable(
                f"{where} did not answer within {database.connect_timeout_s:g} s.",
                hint="A firewall may drop the packets, or the host may be wrong or asleep; then call again.",
            )
        case asyncpg.PostgresError():
            return _statement_refused(error, where)
        case asyncpg.InternalClientError():  # its words are about asyncpg's own states
            return DatabaseUnavailable(f"The connection to {where} was ended from the other side.")
        case asyncpg.InterfaceError() | OSError():
            return DatabaseUnavailable(f"The connection to {where} failed: {_reason(error)}.")
        case _:
            return DatabaseUnavailable(f"The connection to {where} failed ({type(error).__name__}).")


def _statement_refused(error: asyncpg.PostgresError, where: str) -> Problem:
    said = f"PostgreSQL at {where} said: {_sentence(error)}"
    if is_about_the_connection(error) or isinstance(error, asyncpg.LockNotAvailableError):
        return DatabaseUnavailable(said)
    return DatabaseUnavailable(said, hint="Look at what it says; the same call will fail again.", retryable=False)


def _login_refused(error: asyncpg.PostgresError, database: Database, where: str) -> Problem:
    # Without pg_hba.conf's consent no login is possible, and the usual reason is TLS: 28000 says which.
    if "no encryption" in str(error) and "pg_hba.conf" in str(error):
        return TlsFailed(
            f"The server at {where} only takes encrypted connections.",
            hint="Put ?sslmode=require at the end of the connection string.",
        )
    return DatabaseAuthFailed(f'PostgreSQL at {where} refused the role "{database.user}".')


def _place(database: Database) -> str:
    hosts = database.host if isinstance(database.host, tuple) else (database.host or "the local socket",)
    ports = database.port if isinstance(database.port, tuple) else (database.port or 5432,)
    return ", ".join(
        host if host.startswith(("/", "the ")) else f"{host}:{ports[min(index, len(ports) - 1)]}"
        for index, host in enumerate(hosts)
    )


def _sentence(error: asyncpg.PostgresError) -> str:
    """PostgreSQL's primary message, which names objects; its DETAIL, which may quote rows, stays out."""
    message = str(error.args[0] if error.args else type(error).__name__)
    return f"{message[:1].upper()}{message[1:]}."


def _reason(error: BaseException) -> str:
    """An operating system's words for an error, without addresses of ours or a traceback."""
    text = str(error).strip() or type(error).__name__
    # asyncio sums up several failed addresses: "Multiple exceptions: [Errno 111] Connect call failed (…), …"
    return re.sub(r"\s+", " ", re.sub(r"\[Errno -?\d+\] ?", "", text))[:200].rstrip(".")
