"""lossy-downgrade: a downgrade destroys data that nothing brings back.

What the downgrade itself has made before, such as a table to help it, is nobody's data.
"""

from app.lint import code
from app.lint.changes import Change
from app.lint.novelty import Novelty
from app.lint.reader import Name
from app.lint.script import Script
from app.report import Finding, Level

RULE = "lossy-downgrade"

_WITHOUT_NOVELTY = {"schema", "extension", "owned"}
"""What a plan is not watched for making: a relation that it makes may have the same name."""
_DUMP = "pg_dump > kept.sql"


def finding(script: Script, change: Change, novelty: Novelty) -> Finding | None:
    """What a change of a downgrade destroys."""
    of_the_plan = novelty.made(change.of) or (change.column and novelty.made(change.of, change.column))
    if of_the_plan and change.what not in _WITHOUT_NOVELTY:
        return None
    if change.action == "retype" and change.column:
        return _retyped(script, change, change.column)
    destroyed = _destroyed(change)
    if destroyed is None:
        return None
    what_happens, safe_way = destroyed
    level: Level = "warning" if change.action == "update" else "danger"  # it may fill what the upgrade has emptied
    return script.finding(RULE, level, change.line, f"{what_happens}; no upgrade brings them back.", safe_way)


def _destroyed(change: Change) -> tuple[str, str] | None:
    of = change.of
    with_cascade = ", and with CASCADE what hangs on it" if change.cascade else ""
    match change.action, change.what:
        case "drop", "column":
            return f"Drops the column {of}.{change.column} with its values{with_cascade}", _kept(of)
        case "drop", "table":
            return f"Drops the table {of} with all its rows{with_cascade}", _kept(of)
        case "drop", "schema" if change.cascade:  # without CASCADE only an empty one goes
            return f"Drops the schema {of} with all its tables and their rows", f"pg_dump --schema={of} > kept.sql"
        case "drop", "type" | "domain" if change.cascade:  # without CASCADE only one that no column has
            return f"Drops the {change.what} {of}, and with CASCADE every column that has it, with its values", _DUMP
        case "drop", "extension" if change.cascade:  # nor one of its types
            return f"Drops the extension {of}, and with CASCADE every column of its types, with its values", _DUMP
        case "drop", "owned":
            return f"Drops all that {of} owns in this database, tables with all their rows{with_cascade}", _DUMP
        case "empty", _:
            every = ", and with CASCADE those of every table that refers to it" if change.cascade else ""
            return f"Removes all rows of the table {of}{every}", _kept(of)
        case "delete", _:
            return f"Deletes rows of the table {of}", _kept(of)
        case "update", _:
            return f"Overwrites values of the column {of}.{change.column}", _kept(of)
    return None


def _kept(of: Name) -> str:
    return code.steps(
        "# Keep what is there, before it goes:", code.execute(f"CREATE TABLE {of.followed_by('_kept')} AS TABLE {of}")
    )


def _retyped(script: Script, change: Change, column: Name) -> Finding:
    of, kept = change.of, column.followed_by("_kept")
    return script.finding(
        RULE,
        "warning",
        change.line,
        f"The column {of}.{column} becomes {change.type} again. Values that the narrower type cannot hold are changed, "
        "or stop the downgrade.",
        code.steps(
            "# Keep the values as they are, beside those of the old type:",
            code.call("alter_column", of, code.text(column.parts[-1]), f"new_column_name={code.text(kept.parts[-1])}"),
            code.execute(f"ALTER TABLE {of} ADD COLUMN {column} {change.type}"),
            code.execute(f"UPDATE {of} SET {column} = {kept}::text::{change.type}"),
        ),
    )
