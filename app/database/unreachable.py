"""Why the database could not be reached or used, in our words, and whether trying again may help."""

import asyncio
import errno
import os
import re
import socket
import ssl
from typing import Literal

import asyncpg

from app.database import cures
from app.database.url import Database
from app.errors import DatabaseAuthFailed, DatabaseUnavailable, PermissionDenied, ReadOnlyDatabase, TlsFailed
from app.problem import Problem
from app.redaction import redacted

_NOT_NOW_S = (0.25, 0.5, 1.0, 2.0)
"""Pauses after an answer that means "not now": a restart, a pool that is full, a serverless database that wakes."""
_REFUSED_S = (0.25, 0.5)
"""Pauses after a connection that was refused or cut: a server or a proxy that is being replaced."""
_LOOKUP_TIMEOUT_S = 2

type _Answer = Literal["wants TLS", "wrong login", "no database", "forbidden", "read-only", "full", "not yet", "pooler"]

_ANSWERS: tuple[tuple[_Answer, tuple[type[asyncpg.PostgresError], ...], str], ...] = (
    ("wants TLS", (), r"pg_hba\.conf.*no encryption|^SSL required|connection is insecure|SSL connection is required"),
    (
        "wrong login",
        (asyncpg.InvalidAuthorizationSpecificationError,),
        r"password authentication failed|no such user|tenant(/| or )user.* not found",
    ),
    ("no database", (asyncpg.InvalidCatalogNameError,), r'^no such database|^database ".*" does not exist'),
    ("forbidden", (asyncpg.InsufficientPrivilegeError,), r"^permission denied for database"),
    ("read-only", (asyncpg.ReadOnlySQLTransactionError,), r"in a read-only transaction$"),
    (
        "full",
        (asyncpg.TooManyConnectionsError,),
        (
            r"too many (clients|connections)|connection slots are reserved|no more connections allowed"
            r"|max (client connections|clients|pools count) reached|failed to acquire permit"
        ),
    ),
    (
        "not yet",
        (asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError),
        (
            r"the database system is|server login has been failing|cannot connect to server|server conn crashed"
            r"|couldn't connect to compute node|(control plane|console) request failed$|running operations"
            r"|dbhandler exited|connection to database closed|failed to subscribe to tenant"
        ),
    ),
    ("pooler", (), r"unsupported startup parameter|query_wait_timeout|pool checkout timeout|unable to check out"),
)
"""What an answer means: by its SQLSTATE, or by the words of a pooler (PgBouncer, Supavisor, Neon's proxy)."""

_POOLERS_ERRORS = (
    asyncpg.PostgresConnectionError,  # PgBouncer has 08P01 for everything, and hands on the server's words under it
    asyncpg.InternalServerError,  # XX000, which Supavisor and Neon's proxy use
    asyncpg.InvalidAuthorizationSpecificationError,
)
"""Errors whose words say more than their SQLSTATE."""

_WITHOUT_A_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""What a machine without IPv6 says of an IPv6 address."""
_REFUSALS = {errno.ECONNREFUSED, errno.ENOENT}
"""ENOENT is a Unix socket whose server is not up."""
_NAME_MISMATCH = {62, 64}
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""

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


def pauses_after(error: BaseException) -> tuple[float, ...]:
    """How long to pause before each further attempt to connect, in seconds; empty for an error that stays."""
    match error:
        case asyncpg.PostgresError() if _meaning(error) in ("full", "not yet"):
            return _NOT_NOW_S
        case asyncpg.PostgresError() if "query_wait_timeout" in str(error):
            return _NOT_NOW_S
        case asyncpg.ConnectionDoesNotExistError():  # asyncpg's own, for an end before that of the login
            return _REFUSED_S
        case asyncpg.ProtocolViolationError():  # PgBouncer's, for what stays
            return ()
        case asyncpg.PostgresConnectionError():
            return _NOT_NOW_S
        case OSError() if _is_a_refusal(error):
            return _REFUSED_S
        case _:
            return ()


def _is_a_refusal(error: OSError) -> bool:
    match error:
        case TimeoutError() | ssl.SSLError():
            return False
        case socket.gaierror():
            return error.errno == socket.EAI_AGAIN
        case ConnectionError():
            return not _is_without_tls(error)
        case _:
            return bool(_REFUSALS & _codes(error))


def _is_without_tls(error: ConnectionError) -> bool:
    return "rejected SSL upgrade" in str(error)


async def explained(error: BaseException, database: Database, *, attempts: int) -> Problem:
    """Say why no connection could be opened in so many attempts; looks up the host's addresses if need be."""
    problem = translated(error, database)
    without_a_way = isinstance(error, TimeoutError) or _WITHOUT_A_WAY & _codes(error)
    if without_a_way and await _has_only_ipv6(database):
        problem = DatabaseUnavailable(
            f"{problem.detail} It has only IPv6 addresses.",
            hint=cures.IPV6_ONLY,
            retryable=isinstance(error, TimeoutError),
        )
    if attempts > 1:
        problem.detail = f"{problem.detail} Tried {attempts} times."
        problem.args = (problem.detail,)
    return problem


async def _has_only_ipv6(database: Database) -> bool:
    found: list[str] = []
    try:
        async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
            for host, port in database.places:
                if host is None or host.startswith("/"):
                    return False
                addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found += [str(address[0]) for *_, address in addresses]
    except (OSError, ValueError):
        return False
    return all(":" in address and address != "::1" for address in found)


def translated(error: BaseException, database: Database) -> Problem:
    """Say in our words why the database could not be reached or used; quotes no secret.

    SQLSTATEs: PostgreSQL manual, appendix "PostgreSQL Error Codes".
    """
    where = place(database)
    match error:
        case asyncpg.PostgresError():
            return _answered(error, database, where)
        case ssl.SSLError():
            return _tls_failed(error, where)
        case ConnectionError() if _is_without_tls(error):
            return TlsFailed(f"The server at {where} does not speak TLS.", hint=cures.NO_TLS)
        case TimeoutError():
            return DatabaseUnavailable(
                f"{where} did not answer within {database.connect_timeout_s:g} s.", hint=cures.SILENT
            )
        case socket.gaierror() | UnicodeError():
            return DatabaseUnavailable(f"No address was found for {where}: {_reason(error)}.", hint=cures.NO_HOST)
        case asyncpg.exceptions.TargetServerAttributeNotMatched():
            return _no_host_will_do(database, where)
        case asyncpg.InternalClientError():  # its words are about asyncpg's own states
            return DatabaseUnavailable(f"The connection to {where} was ended from the other side.")
        case asyncpg.InterfaceError() | OSError():
            return DatabaseUnavailable(f"The connection to {where} failed: {_reason(error)}.")
        case _:
            return DatabaseUnavailable(f"The connection to {where} failed ({type(error).__name__}).")


def _tls_failed(error: ssl.SSLError, where: str) -> Problem:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return TlsFailed(f"TLS with {where} failed: {error.reason or 'handshake error'}.", hint=cures.NO_TLS)
    said = f"The certificate of {where} was refused: {error.verify_message.rstrip('.')}."
    return TlsFailed(said, hint=cures.OTHER_NAME if error.verify_code in _NAME_MISMATCH else None)


def _no_host_will_do(database: Database, where: str) -> Problem:
    if database.session in ("primary", "read-write"):
        return ReadOnlyDatabase(f"No server at {where} takes writes.")
    return DatabaseUnavailable(
        f"No server at {where} is what target_session_attrs={database.session} asks for.",
        hint="Take `target_session_attrs` out of the connection string: a migration needs the primary.",
        retryable=False,
    )


def _answered(error: asyncpg.PostgresError, database: Database, where: str) -> Problem:
    said = f"PostgreSQL at {where} said: {_sentence(error)}"
    match _meaning(error):
        case "wants TLS":
            return TlsFailed(f"The server at {where} only takes encrypted connections.", hint=cures.TLS_ONLY)
        case "wrong login":
            return DatabaseAuthFailed(f'PostgreSQL at {where} refused the role "{database.user}": {_sentence(error)}')
        case "no database":
            said = f'There is no database "{database.name}" at {where}.'
            return DatabaseUnavailable(said, hint=cures.NO_SUCH_DATABASE, retryable=False)
        case "forbidden":
            return PermissionDenied(_sentence(error))
        case "read-only":
            return ReadOnlyDatabase(said)
        case "full":
            return DatabaseUnavailable(said, hint=cures.TOO_MANY)
        case "not yet":
            return DatabaseUnavailable(said, hint=cures.STARTING)
        case "pooler":
            return DatabaseUnavailable(said, hint=cures.POOLER, retryable="startup parameter" not in said)
        case None if is_about_the_connection(error) or isinstance(error, asyncpg.LockNotAvailableError):
            return DatabaseUnavailable(said)
    return DatabaseUnavailable(said, hint="Look at what it says; the same call will fail again.", retryable=False)


def _meaning(error: asyncpg.PostgresError) -> _Answer | None:
    words = str(error.args[0]).rstrip(".") if isinstance(error, _POOLERS_ERRORS) and error.args else None
    for answer, kinds, pattern in _ANSWERS:
        if isinstance(error, kinds) or (words and re.search(pattern, words, re.IGNORECASE)):
            return answer
    return None


def place(database: Database) -> str:
    """Where the database is, for a message: hosts and ports."""
    return ", ".join(_host_and_port(host, port or 5432) for host, port in database.places)


def _host_and_port(host: str | None, port: int) -> str:
    if host is None or host.startswith("/"):
        return host or "the local socket"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _sentence(error: asyncpg.PostgresError) -> str:
    """PostgreSQL's primary message, which names objects; its DETAIL, which may quote rows, stays out."""
    message = _on_one_line(str(error.args[0] if error.args else type(error).__name__))
    return f"{message[:1].upper()}{message[1:]}."


def _reason(error: BaseException) -> str:
    """An operating system's words for an error, without addresses of ours or a traceback."""
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    if codes := _codes(error):
        return ", ".join(os.strerror(code) for code in sorted(codes))
    return _on_one_line(str(error).strip() or type(error).__name__)


def _on_one_line(text: str) -> str:
    return redacted(re.sub(r"\s+", " ", text))[:300].rstrip(".")


def _codes(error: BaseException) -> set[int]:
    """The operating system's codes; asyncio sums up several failed addresses in the text of one error."""
    if not isinstance(error, OSError) or isinstance(error, socket.gaierror | ssl.SSLError):
        return set()
    return {error.errno} if error.errno else {int(code) for code in re.findall(r"\[Errno (\d+)\]", str(error))}
