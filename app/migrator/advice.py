"""What to do about a revision that failed, where its error tells more than that it failed."""

import re
import traceback

from sqlalchemy.dialects.postgresql.asyncpg import (
    AsyncAdapt_asyncpg_connection,
    AsyncAdapt_asyncpg_cursor,
    AsyncAdapt_asyncpg_dbapi,
)
from sqlalchemy.exc import NoSuchTableError, StatementError

from app.database import driver_error
from app.migrator import cause

_GRANT = "Grant the role what is missing, or use the role that owns the tables; then call again."
_RESTORE = (
    "Nothing was ever applied here, and what this revision stands on was made by none: the history seems to begin on a "
    "database that existed already. Restore a dump of the schema as it was then (pg_dump --schema-only), and say so: "
    "python -m app stamp <the revision that the dump is at>; see README, Adopt a database. Then call again."
)
_CHANGE_DRIVER = (
    "This revision seems to be written for psycopg2, which writes parameters into the statement, where asyncpg leaves "
    "them to the server, which wants to know their types. Install the extra `psycopg2`, set MIGRATION_DRIVER=psycopg2 "
    "and deploy again; the next call continues with it."
)
_HAS_A_LOOP = (
    "This revision runs an event loop, and asyncpg has one running in the same thread already. Await with op.run_async "
    "what is to be awaited. Or install the extra `psycopg2`, which needs no loop, set MIGRATION_DRIVER=psycopg2 and "
    "deploy again; the next call continues with it."
)

_INSUFFICIENT_PRIVILEGE = "42501"
_NOBODY_MADE = ("42P01", "3F000", "42704")
"""SQLSTATEs: undefined_table, invalid_schema_name, undefined_object, such as a type. Not undefined_column (42703): its
table is there."""
_A_ROLE = re.compile(r'role "')
"""An undefined_object that no dump of a schema has."""

_OF_TYPES = ("42804", "42725", "42P02", "42P08", "42P18")
"""SQLSTATEs of a parameter whose type does not fit or cannot be told: datatype_mismatch, ambiguous_function,
undefined_parameter, ambiguous_parameter, indeterminate_datatype."""
_OF_PARAMETERS = re.compile(
    r"invalid input for query argument \$\d+"
    r"|operator does not exist"
    r'|syntax error at or near "\$\d+"'  # where the server takes no parameter, as in IN $1 or SET
    r"|cannot insert multiple commands into a prepared statement"
)
_OF_PLACEHOLDERS = re.compile(r'syntax error at or near "%"')
"""psycopg2's own, in exec_driver_sql or with a cursor of the revision's."""
_OF_NO_DRIVER = re.compile(r"\((value out of \w+ range|[^()]*\bdict\b[^()]*)\)$")
"""How asyncpg ends when the value is one that psycopg2 would not carry either."""
_PSYCOPG2S = re.compile(r"psycopg2|cursor_factory|got '(Composed|SQL|Literal|Identifier)'")
"""What a TypeError says of psycopg2's own cursors and of SQL that was composed with it."""
_OF_TWO_LOOPS = re.compile(
    r"cannot be called from a running event loop|another loop is running|loop is already running"
)
"""What a RuntimeError of asyncio's says of a loop in a loop."""


def hint(error: BaseException, *, driver: str, is_first: bool) -> str | None:
    """What to do next, where it is not what one does about any failure.

    Args:
        error: What the revision raised.
        driver: What the working connection is made of.
        is_first: Whether no revision was ever applied to the database.
    """
    error = cause.first(error)
    code = cause.sqlstate(error)
    if code == _INSUFFICIENT_PRIVILEGE:
        return _GRANT
    if is_first and _misses_what_nobody_made(error, code):
        return _RESTORE
    if driver != "psycopg2" and _seems_written_for_psycopg2(error, code):
        return _CHANGE_DRIVER
    if driver != "psycopg2" and isinstance(error, RuntimeError) and _OF_TWO_LOOPS.search(str(error)):
        return _HAS_A_LOOP
    return None


def _misses_what_nobody_made(error: BaseException, code: str | None) -> bool:
    if isinstance(error, NoSuchTableError):  # it was to be reflected
        return True
    return code in _NOBODY_MADE and not _A_ROLE.match(_said(error))


def _seems_written_for_psycopg2(error: BaseException, code: str | None) -> bool:
    match error:
        case ImportError():
            return (error.name or "").partition(".")[0] == "psycopg2"
        case AttributeError():
            return isinstance(error.obj, AsyncAdapt_asyncpg_connection | AsyncAdapt_asyncpg_cursor)
        case TypeError():
            through = (frame.filename for frame in traceback.extract_tb(error.__traceback__))
            return any(_PSYCOPG2S.search(text) for text in (str(error), *through))
        case StatementError() if error.params:
            return _is_about_parameters(error, code)
        case AsyncAdapt_asyncpg_dbapi.Error():  # from a cursor of the revision's own
            return _OF_PLACEHOLDERS.match(_said(error)) is not None
    return False


def _is_about_parameters(error: BaseException, code: str | None) -> bool:
    if code in _OF_TYPES or driver_error.is_about_arguments(cause.of(error)):
        return True
    said = _said(error)
    by_words = _OF_PARAMETERS.match(said) or _OF_PLACEHOLDERS.match(said)
    return by_words is not None and not _OF_NO_DRIVER.search(said)


def _said(error: BaseException) -> str:
    """The driver's words, which may quote a value: to be looked at, and not to be told."""
    return driver_error.words(cause.of(error))
