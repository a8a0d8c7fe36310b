"""What an error says that a revision raised, without what it must not tell."""

import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError, StatementError

from app.database import driver_error
from app.redaction import redacted

_DATA_EXCEPTION = "22"
"""The class of SQLSTATEs whose messages quote a value."""
_VALUE = re.compile(r"[\"»„“«].*[\"«“”»]", re.DOTALL)
"""What it is quoted in, which depends on the server's language."""
_SYNTAX_ERROR = "42601"
"""The SQLSTATE whose message ends with the token that PostgreSQL stumbled over; or, where that has no end, with all
that follows it."""
_TOKEN_WITH_A_VALUE = re.compile(
    r"^([^\"»„“«]*[\"»„“«]\s?)"
    r"(?:(?:[ebnx]|u&)?'|\$\w*\$|/\*"  # a literal, or a comment, which is told only without an end
    r'|"(?![^"]*""$)).*',  # likewise a name
    re.DOTALL | re.IGNORECASE,
)
_LEAST_VALUE, _LEAST_SECRET = 3, 8
"""So long a parameter is blanked out where it stands alone, and so long one within other words too."""
_LONGEST_NAME = 63
"""What PostgreSQL leaves of a value that it takes for a name, in bytes (NAMEDATALEN)."""
_DRIVERS_VALUE = re.compile(r"(invalid input for query argument \$\d+[^:]*): .*", re.DOTALL)


def first(error: BaseException) -> BaseException:
    """What went wrong first: leaving an autocommit block, Alembic uses the connection once more, whatever happened."""
    if isinstance(error, PendingRollbackError) and error.__context__ is not None:
        return first(error.__context__)
    return error


def of(error: BaseException) -> BaseException:
    """The driver's own error behind SQLAlchemy's, whose text would quote statement and parameters."""
    error = first(error)
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    if isinstance(error, AsyncAdapt_asyncpg_dbapi.Error):
        # Changing the isolation level, SQLAlchemy ends a transaction without wrapping what that raises.
        return error.__cause__ or error
    return error


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code for it, if PostgreSQL said it."""
    return driver_error.sqlstate(of(error))


def is_a_lost_connection(error: BaseException) -> bool:
    """Whether a connection ended, rather than a statement failed."""
    return driver_error.is_a_lost_connection(of(error))


def message(error: BaseException) -> str:
    """The first line of an error, without DETAIL, which may quote rows, and without credentials."""
    cause = of(error)
    if isinstance(cause, SQLAlchemyError):
        text = str(cause.args[0]) if cause.args else ""
    elif isinstance(cause, asyncpg.PostgresError | asyncpg.InterfaceError) or driver_error.is_psycopg2s(cause):
        text = _without_values(cause)
    else:
        text = f"{type(cause).__name__}: {cause}"
    text = _without_parameters(text, first(error), cause)
    return redacted(next(iter(text.strip().splitlines()), type(cause).__name__))[:500].rstrip(".")


def _without_values(cause: BaseException) -> str:
    """The error's words without the value that it is about: a statement's parameter, or somebody's data."""
    text, code = driver_error.words(cause), driver_error.sqlstate(cause) or ""
    if isinstance(cause, asyncpg.DataError) or code.startswith(_DATA_EXCEPTION):
        text = _VALUE.sub('"…"', text)
    if code == _SYNTAX_ERROR:
        text = _TOKEN_WITH_A_VALUE.sub(r'\1…"', text)
    return _DRIVERS_VALUE.sub(r"\1", text)


def _without_parameters(text: str, error: BaseException, cause: BaseException) -> str:
    """A text without the parameters of the statement that failed: some of them PostgreSQL takes for names."""
    by_sqlalchemy = error.params if isinstance(error, StatementError) else None
    parameters = by_sqlalchemy or driver_error.parameters(cause)
    said = text.lower()
    values = {part for value in _strings(parameters) for part in (value, value[:_LONGEST_NAME])}
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= _LEAST_VALUE and value.lower() in said:  # as a name it is lower case
            alone = r"(?<!\w){}(?!\w)" if len(value) < _LEAST_SECRET else "{}"
            text = re.sub(alone.format(re.escape(value)), "…", text, flags=re.IGNORECASE)
    return text


def _strings(parameters: Any) -> Iterator[str]:  # noqa: ANN401 – whatever the driver takes
    match parameters:
        case str():
            yield parameters
        case Mapping():
            for each in parameters.values():
                yield from _strings(each)
        case list() | tuple():
            for each in parameters:
                yield from _strings(each)


def place(error: BaseException, *folders: Path) -> str | None:
    """File and line of the revision that raised, if one in these folders did."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame for frame in frames if frame.name != "<module>" and any(map(Path(frame.filename).is_relative_to, folders))
    ]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else None
