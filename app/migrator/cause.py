"""What an error says that a revision raised, without what it must not tell."""

import re
import traceback
from pathlib import Path

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError

from app.database import driver_error
from app.redaction import redacted

_DATA_EXCEPTION = "22"
"""The class of SQLSTATEs whose messages quote a value."""
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
    """Whether the connection ended, rather than the statement failed."""
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
    return redacted(next(iter(text.strip().splitlines()), type(cause).__name__))[:500].rstrip(".")


def _without_values(cause: BaseException) -> str:
    """The error's words without the value that it is about: a statement's parameter, or somebody's data."""
    text = driver_error.words(cause)
    if isinstance(cause, asyncpg.DataError) or (driver_error.sqlstate(cause) or "").startswith(_DATA_EXCEPTION):
        text = re.sub(r'".*"', '"…"', text, flags=re.DOTALL)
    return _DRIVERS_VALUE.sub(r"\1", text)


def place(error: BaseException, *folders: Path) -> str | None:
    """File and line of the revision that raised, if one in these folders did."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame for frame in frames if frame.name != "<module>" and any(map(Path(frame.filename).is_relative_to, folders))
    ]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else None
