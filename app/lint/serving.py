"""breaks-serving-code: an upgrade takes away what the code that still serves works with.

Revisions run before the deployment that needs them serves, and after a rollback the old one serves again. So a change
that takes something away wants several deployments: expand, move over, contract.
"""

from collections.abc import Sequence

from app.lint import code
from app.lint.changes import Change
from app.lint.novelty import Novelty
from app.lint.reader import Name
from app.lint.script import Script
from app.report import Finding

RULE = "breaks-serving-code"

_CASTS = "SQLAlchemy casts to a type by its name, so the deployment that still serves fails where it uses this one."


def finding(script: Script, change: Change, novelty: Novelty, later: Sequence[Change]) -> Finding | None:
    """What is to be said against a change of an upgrade.

    Args:
        script: Whose it is.
        change: What is judged.
        novelty: What the plan has made before.
        later: What the same script changes afterwards.
    """
    if change.action in {"add", "require"}:
        said = _asks_for_more(change, novelty, later)
    elif novelty.unknown_to_deployed_code(change):
        said = None
    else:
        said = _column_taken_away(change) if change.column else _taken_away(change, later)
    return said and script.finding(RULE, "danger", change.line, *said)


def _asks_for_more(change: Change, novelty: Novelty, later: Sequence[Change]) -> tuple[str, str] | None:
    of, column = change.of, change.column
    if column is None or novelty.made(of):
        return None
    if change.action == "add":
        return _required_column_added(of, column) if change.required else None
    gets_a_default = any(each.action == "default" and (each.of, each.column) == (of, column) for each in later)
    return None if gets_a_default or novelty.bears_null(change) else _column_required(of, column)


def _column_taken_away(change: Change) -> tuple[str, str] | None:
    of, column = change.of, change.column
    match change.action:
        case "drop" if column:
            return _column_dropped(of, column)
        case "rename" if column and change.to:
            return _column_renamed(of, column, change.to)
        case "retype" if column:
            return _column_retyped(of, column, change.type)
    return None


def _taken_away(change: Change, later: Sequence[Change]) -> tuple[str, str] | None:
    match change.action, change.what:
        case "drop", "table" | "foreign table":
            return _relation_dropped(change)
        case "drop", "schema" if change.cascade:  # without CASCADE only an empty one goes
            return _schema_dropped(change)
        case "rename", "schema":
            return _schema_renamed(change)
        case "rename", "enum value":
            return _value_renamed(change)
        case _ if _comes_back(change, later):
            return None
        case "drop", "view" | "materialized view":
            return _relation_dropped(change)
        case "drop", "type":
            return _type_dropped(change)
        case "rename", "type":
            return _type_renamed(change)
        case "rename", _:
            return _relation_renamed(change)
    return None


def _comes_back(change: Change, later: Sequence[Change]) -> bool:
    """Whether the same script makes something of the old name, such as a view over a renamed table."""
    return any(each.action == "create" and each.of == change.of for each in later)


def _column_dropped(of: Name, column: Name) -> tuple[str, str]:
    name = code.text(column.parts[-1])
    message = (
        f"Drops the column {of}.{column}. SQLAlchemy names every column of a model in its statements, so the "
        "deployment that still serves fails in each SELECT and INSERT."
    )
    return message, code.steps(
        f"# 1. One deployment: take {column} out of the model. New rows then come without it:",
        code.call("alter_column", of, name, "nullable=True"),
        "# 2. A later one, once nothing serves that knows the column:",
        code.call("drop_column", of, name),
    )


def _column_renamed(of: Name, column: Name, to: Name) -> tuple[str, str]:
    old, new = code.text(column.parts[-1]), to.parts[-1]
    message = (
        f"The column {of}.{column} becomes {to}. The deployment that still serves asks for it by its old name, and "
        "fails."
    )
    return message, code.steps(
        "# Rename the attribute alone; the column keeps its name, and no revision is needed:",
        f"{new if new.isidentifier() else 'attribute'} = mapped_column({old}, …)",
        "# Or: 1. One deployment adds the column and writes both; rows that are there are filled in batches.",
        code.call("add_column", of, f"sa.Column({code.text(new)}, …)"),
        f"# 2. A later one uses {to} alone.  3. The one after it drops the old column:",
        code.call("drop_column", of, old),
    )


def _column_retyped(of: Name, column: Name, type_: str) -> tuple[str, str]:
    new = column.followed_by("_new")
    message = (
        f"The column {of}.{column} becomes {type_}. The deployment that still serves sends and expects the type in its "
        "model; its comparisons and parameters may fail, or mean something else."
    )
    return message, code.steps(
        "# 1. One deployment adds a column and writes both; rows that are there are filled in batches.",
        code.execute(f"ALTER TABLE {of} ADD COLUMN {new} {type_}"),
        f"# 2. A later one uses {new} alone: mapped_column({code.text(new.parts[-1])}, …)",
        "# 3. The one after it:",
        code.call("drop_column", of, code.text(column.parts[-1])),
    )


def _required_column_added(of: Name, column: Name) -> tuple[str, str]:
    name = code.text(column.parts[-1])
    message = (
        f"The new column {of}.{column} is NOT NULL and has no default. The deployment that still serves does not know "
        "it, so its INSERTs fail; and ADD COLUMN itself does, if the table has a row."
    )
    return message, code.steps(
        "# With a default that every row can bear:",
        code.call("add_column", of, f'sa.Column({name}, …, nullable=False, server_default="…")'),
        "# Or let it be NULL until a later deployment, when all code that serves writes it:",
        code.call("add_column", of, f"sa.Column({name}, …, nullable=True)"),
    )


def _column_required(of: Name, column: Name) -> tuple[str, str]:
    message = (
        f"The column {of}.{column} takes no NULL any more. If the deployment that still serves leaves it out, its "
        "INSERTs fail."
    )
    return message, code.steps(
        f"# 1. One deployment, whose code writes {column} in every row; what is missing is filled in batches:",
        code.execute(f"UPDATE {of} SET {column} = … WHERE {column} IS NULL"),
        "# 2. This, with a later one, once nothing serves that leaves it out.",
    )


def _relation_dropped(change: Change) -> tuple[str, str]:
    of, what = change.of, change.what
    message = f"Drops the {what} {of}. The deployment that still serves fails as soon as it reads it."
    return message, code.steps(
        "# 1. One deployment: take its model out, and whatever refers to it. No revision.",
        f"# 2. A later one, once nothing serves that knows the {what}:",
        code.call("drop_table", of) if what == "table" else code.execute(f"DROP {what.upper()} {of}"),
    )


def _relation_renamed(change: Change) -> tuple[str, str]:
    of, what, to = change.of, change.what, change.to or change.of
    message = f"The {what} {of} becomes {to}. The deployment that still serves asks for it by its old name, and fails."
    moves = to != of.beside(to)
    return message, code.steps(
        "# In one revision; a plain view is read and written through:",
        code.execute(
            f"ALTER {what.upper()} {of} " + (f"SET SCHEMA {to.written[0]}" if moves else f"RENAME TO {to.written[-1]}")
        ),
        code.execute(f"CREATE VIEW {of} AS SELECT * FROM {to}"),
        "# A later deployment, once nothing serves that knows the old name:",
        code.execute(f"DROP VIEW {of}"),
    )


def _schema_dropped(change: Change) -> tuple[str, str]:
    message = (
        f"Drops the schema {change.of} with all that is in it. The deployment that still serves fails as soon as it "
        "reads any of it."
    )
    return message, code.steps(
        "# 1. One deployment: take out the models of the schema. No revision.",
        "# 2. A later one, once nothing serves that knows them:",
        code.execute(f"DROP SCHEMA {change.of} CASCADE"),
    )


def _schema_renamed(change: Change) -> tuple[str, str]:
    to = change.to or change.of
    message = (
        f"The schema {change.of} becomes {to}. The deployment that still serves asks for its tables by the old name, "
        "and fails."
    )
    names = f"{{{code.text(to.parts[-1])}: {code.text(change.of.parts[-1])}}}"
    return message, code.steps(
        "# Let the schema keep its name in the database, and give it another in the code:",
        f"connection.execution_options(schema_translate_map={names})",
    )


def _type_dropped(change: Change) -> tuple[str, str]:
    return f"Drops the type {change.of}. {_CASTS}", code.steps(
        "# 1. One deployment: no model uses the type any more; columns of it have given way to new ones.",
        "# 2. A later one, once nothing serves that knows the type:",
        code.execute(f"DROP TYPE {change.of}"),
    )


def _type_renamed(change: Change) -> tuple[str, str]:
    return f"The type {change.of} becomes {change.to}. {_CASTS}", code.steps(
        "# Rename the class alone; the type keeps its name, and no revision is needed:",
        f"sa.Enum(…, name={code.text(change.of.parts[-1])})",
    )


def _value_renamed(change: Change) -> tuple[str, str]:
    old, new = change.values
    message = (
        f"The value {old} of {change.of} becomes {new}. The deployment that still serves sends the old one, which is "
        "refused, and does not know the new one when it reads it."
    )
    return message, code.steps(
        "# 1. One deployment, whose code can read both and writes the old one:",
        code.autocommit(f"ALTER TYPE {change.of} ADD VALUE IF NOT EXISTS {new}"),
        "# 2. A later one writes the new one, and moves the rows over in batches:",
        code.execute(f"UPDATE … SET … = {new} WHERE … = {old}"),
        "# The old value stays in the type, and nothing uses it.",
    )
