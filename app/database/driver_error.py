"""What a driver's error tells, whichever driver it is: asyncpg, or psycopg2, which may not even be installed.

Both hand on the fields of PostgreSQL's ErrorResponse, under names of their own.

Sources: PostgreSQL manual, "Error and Notice Message Fields"; psycopg2's documentation of `Diagnostics`.
"""

import re
from typing import Any

import asyncpg

_GONE_WITH_ITS_BACKEND = ("08", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
"""SQLSTATEs, or their classes, after which there is no connection any more: connection exceptions, the server's
shutdowns, and its timeouts for idle sessions and for transactions."""
_CLIENT_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError, ConnectionError)
_OF_ARGUMENTS = re.compile(r"the server expects \d+ argument|the number of query arguments ")
"""How asyncpg's InterfaceErrors begin that are about a statement, and not about the connection."""
_INTERFACE_OF_PSYCOPG2 = ("OperationalError", "InterfaceError", "DatabaseError")


def is_psycopg2s(error: BaseException) -> bool:
    """Whether psycopg2 has raised it."""
    return any(each.__module__ == "psycopg2" and each.__name__ == "Error" for each in type(error).__mro__)


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code for it, if PostgreSQL said it."""
    if isinstance(error, asyncpg.PostgresError) and getattr(error, "severity", None) is None:
        return None  # asyncpg's own, under the class of one: of an argument that it could not send
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return str(code) if code else None


def words(error: BaseException) -> str:
    """What PostgreSQL says, or else the driver; without the detail, which may quote rows."""
    primary = _field(error, "message_primary")
    return primary or str(error.args[0] if error.args else error)


def parameters(error: BaseException) -> Any:  # noqa: ANN401 – whatever the driver takes
    """Those of the statement, where a cursor of psycopg2's was asked for it directly."""
    return getattr(getattr(error, "cursor", None), "parameters", None)


def constraint(error: BaseException) -> str | None:
    """The constraint that is violated, if one is."""
    name: str | None = getattr(error, "constraint_name", None)
    return name or _field(error, "constraint_name")


def place(error: BaseException) -> str | None:
    """The function of PostgreSQL's own source that has raised it: what it says in any language."""
    function: str | None = getattr(error, "server_source_function", None)
    return function or _field(error, "source_function")


def is_of_the_parser(error: BaseException) -> bool:
    """Whether PostgreSQL could not read the message, of which it then has run nothing.

    A text that a function or a DO block reads later on has a context.
    """
    return sqlstate(error) == "42601" and not (getattr(error, "context", None) or _field(error, "context"))


def is_a_lost_connection(error: BaseException) -> bool:
    """Whether a connection ended, rather than a statement failed."""
    code = sqlstate(error)
    if code is not None:
        return code.startswith(_GONE_WITH_ITS_BACKEND)
    if is_psycopg2s(error):  # libpq has no codes for what it finds out itself
        return type(error).__name__ in _INTERFACE_OF_PSYCOPG2
    is_of_the_client = isinstance(error, (*_CLIENT_ERRORS, asyncpg.PostgresConnectionError))
    return is_of_the_client and not is_about_arguments(error)


def is_about_arguments(error: BaseException) -> bool:
    """Whether asyncpg would not send a statement with so many parameters, as PostgreSQL takes none in its place."""
    return isinstance(error, asyncpg.InterfaceError) and _OF_ARGUMENTS.match(str(error)) is not None


def _field(error: BaseException, name: str) -> str | None:
    found: str | None = getattr(getattr(error, "diag", None), name, None)
    return found
