"""What the text of a revision's statement tells, as far as a regular expression can say."""

import re

_ROWCOUNT = re.compile(r"(?:SELECT|UPDATE|DELETE|MERGE|FETCH|MOVE|COPY|INSERT \d+) (\d+)")
_SHOWN = 120
_SPACE = r"\s|--[^\n]*(?:\n|$)|/\*.*?\*/"


def _begins_with(words: str, *, also: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{_SPACE}|{also})*(?:{words})\b", re.IGNORECASE | re.DOTALL)


_RETURNS_ROWS = _begins_with("SELECT|WITH|VALUES|TABLE|SHOW|EXPLAIN|FETCH|EXECUTE|CALL", also=r"\(")
_CHANGES_ROWS = _begins_with("INSERT|UPDATE|DELETE|MERGE", also=r"\(")
_READS = _begins_with("SELECT|WITH|VALUES|TABLE", also=r"\(")
_RETURNING = re.compile(r"\breturning\b", re.IGNORECASE)
_CALLS_A_FUNCTION = re.compile(r"[\w\"]\s*\(")
_CALLS_A_PROCEDURE = _begins_with("CALL", also=r"\(")
_LEAVES_TABLES = _begins_with(
    "SELECT|WITH|VALUES|TABLE|SHOW|FETCH|INSERT|UPDATE|DELETE|MERGE|SAVEPOINT|RELEASE", also=r"\("
)
_COMMITS = frozenset(("COMMIT", "COMMIT PREPARED", "PREPARE TRANSACTION"))
_ALL_OR_NOTHING = _begins_with(
    "ALTER|COMMENT|CREATE|DELETE|DROP|GRANT|INSERT|MERGE|REVOKE|SELECT|SET|TRUNCATE|UPDATE|VALUES|WITH", also=r"\("
)
_IN_STEPS = re.compile(r"\b(?:concurrently|commit|end|prepare|database|tablespace|subscription)\b", re.IGNORECASE)
_SETS_MODES = re.compile(
    rf"(?:{_SPACE})*SET\s+TRANSACTION\s+((?:ISOLATION|READ|NOT|DEFERRABLE)\b[\w\s,]*)", re.IGNORECASE | re.DOTALL
)
_BEGINS_WITH_A_COMMIT = _begins_with(rf"COMMIT|END|PREPARE(?:{_SPACE})+TRANSACTION", also=";")
_ENDS_A_TRANSACTION = _begins_with("ROLLBACK|COMMIT|ABORT|END|PREPARE", also=";")


def wants_types(operation: str) -> bool:
    """Whether it is surely one statement that returns rows.

    Such a statement is prepared, so that its rows have asyncpg's types for every PostgreSQL type.
    """
    if not (_RETURNS_ROWS.match(operation) or (_CHANGES_ROWS.match(operation) and _RETURNING.search(operation))):
        return False
    return _is_surely_one(operation) or _is_one(operation)


def _is_surely_one(operation: str) -> bool:
    """Whether it has no semicolon but at its end."""
    return ";" not in operation.rstrip().rstrip(";")


def _is_one(operation: str) -> bool:
    """Whether each of its semicolons stands in a string, in a comment, or at its end."""
    from app.lint.statements import split  # few revisions need it, and it brings the other rules

    return sum(1 for statement in split(operation) if statement.tokens) == 1


def beginning(operation: str) -> str:
    """How it begins, for a comment in front of something else."""
    return " ".join(operation[:_SHOWN].split()).replace("*/", "* /").replace("/*", "/ *")


def calls_a_procedure(operation: str) -> bool:
    """Whether it is a CALL."""
    return _CALLS_A_PROCEDURE.match(operation) is not None


def ends_a_transaction(operation: str) -> bool:
    """Whether it begins with what PostgreSQL takes even in a transaction that has failed, and nothing else."""
    return _ENDS_A_TRANSACTION.match(operation) is not None


def begins_with_a_commit(operation: str) -> bool:
    """Whether the first that it does is to commit the transaction."""
    return _BEGINS_WITH_A_COMMIT.match(operation) is not None


def leaves_tables_as_they_are(operation: str) -> bool:
    """Whether it surely changes rows at most, and no table: a string of one such statement."""
    return _is_surely_one(operation) and _LEAVES_TABLES.match(operation) is not None


def leaves_types_as_they_are(operation: str) -> bool:
    """Whether each table, column and setting is the same after it: a string of one statement for rows.

    What a SELECT calls may do anything, as `set_config` and `AddGeometryColumn` do; what an INSERT calls is trusted,
    since it is what loops are made of.
    """
    if not _is_surely_one(operation):
        return False
    if _READS.match(operation):
        return _CALLS_A_FUNCTION.search(operation) is None
    return _CHANGES_ROWS.match(operation) is not None


def modes_to_begin_with(operation: str) -> str:
    """The modes of a BEGIN before it, which a SET TRANSACTION could not set behind our own queries (manual, there)."""
    modes = _SETS_MODES.match(operation)
    return modes[1].strip() if modes else ""


def commits(tags: list[str]) -> bool:
    """Whether command tags speak of a COMMIT; that of one which PostgreSQL makes a ROLLBACK says so."""
    return not _COMMITS.isdisjoint(tags)


def is_all_or_nothing(operation: str) -> bool:
    """Whether it surely leaves nothing when it fails outside of a transaction.

    A concurrent build leaves an INVALID index, and a procedure may have committed.
    """
    return _ALL_OR_NOTHING.match(operation) is not None and _IN_STEPS.search(operation) is None


def rowcount(status: str) -> int:
    """How many rows a command tag such as `UPDATE 3` speaks of; -1 where it speaks of none, as DBAPI has it."""
    counted = _ROWCOUNT.match(status)
    return int(counted[1]) if counted else -1
