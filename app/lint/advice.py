"""The safe way around what squawk warns of, with the names of the statement, as strong_migrations gives it."""

from app.lint import code
from app.lint.changes import table
from app.lint.reader import Name, Reader
from app.lint.statements import Statement

_OF_A_TABLE = {
    *("adding-field-with-default", "adding-foreign-key-constraint", "adding-not-nullable-field"),
    *("adding-serial-primary-key-field", "constraint-missing-not-valid", "disallowed-unique-constraint"),
}


def safe_way(rule: str, statement: Statement, action: Reader) -> str | None:
    """Code that reaches the same more gently; None where squawk's own help has to do.

    Args:
        rule: Of squawk.
        statement: That it warns of.
        action: The part of it that squawk points at.
    """
    match rule, statement.words:
        case ("require-concurrent-index-creation", _) | ("prefer-robust-stmts", ("CREATE", "INDEX" | "UNIQUE", *_)):
            return _concurrently(statement, "INDEX", "IF NOT EXISTS")
        case ("require-concurrent-index-deletion", _) | ("prefer-robust-stmts", ("DROP", "INDEX", *_)):
            return _concurrently(statement, "INDEX", "IF EXISTS")
        case "require-concurrent-reindex", words:
            kind = next((word for word in ("INDEX", "TABLE", "SCHEMA", "DATABASE") if word in words), None)
            return kind and _concurrently(statement, kind)
        case "require-concurrent-partition-detach", _:
            return code.autocommit(f"{statement.code} CONCURRENTLY")
        case "ban-concurrent-index-creation-in-transaction", _:
            return code.autocommit(statement.code)
    of = table(statement) if rule in _OF_A_TABLE else None
    return _of_a_table(rule, of, action) if of else None


def _concurrently(statement: Statement, kind: str, condition: str = "") -> str:
    """The statement in an autocommit block, with CONCURRENTLY, and a condition if it can bear one."""
    reader = Reader(statement, statement.tokens)
    reader.past(kind)
    before = reader.before()
    reader.take("CONCURRENTLY")
    nameless = reader.words[:1] in {("ON",), ("IF",)}
    return code.autocommit(
        " ".join(filter(None, (before, "CONCURRENTLY", "" if nameless else condition, reader.text())))
    )


def _of_a_table(rule: str, of: Name, action: Reader) -> str | None:
    action.take_any({"ADD", "ALTER"})
    if action.take("CONSTRAINT") and (name := action.name()):
        return _of_a_constraint(rule, of, name, action)
    action.take("COLUMN")
    action.take("IF", "NOT", "EXISTS")
    column = action.name()
    match rule:
        case "adding-not-nullable-field" if column:
            check = column.followed_by("_not_null")
            return code.steps(
                code.execute(f"ALTER TABLE {of} ADD CONSTRAINT {check} CHECK ({column} IS NOT NULL) NOT VALID"),
                "# In a revision of its own; SET NOT NULL then relies on the check, and reads nothing:",
                code.execute(f"ALTER TABLE {of} VALIDATE CONSTRAINT {check}"),
                code.execute(f"ALTER TABLE {of} ALTER COLUMN {column} SET NOT NULL"),
                code.execute(f"ALTER TABLE {of} DROP CONSTRAINT {check}"),
            )
        case "adding-field-with-default" if column:
            return code.steps(
                "# At first without the default, which then is that of new rows; the old ones follow in batches:",
                code.execute(f"ALTER TABLE {of} ADD COLUMN {column} …"),
                code.execute(f"ALTER TABLE {of} ALTER COLUMN {column} SET DEFAULT …"),
                code.autocommit(f"UPDATE {of} SET {column} = … WHERE {column} IS NULL AND id BETWEEN … AND …"),
            )
    return None


def _of_a_constraint(rule: str, of: Name, name: Name, action: Reader) -> str | None:
    match rule:
        case "constraint-missing-not-valid" | "adding-foreign-key-constraint":
            return code.steps(
                code.execute(f"ALTER TABLE {of} ADD CONSTRAINT {name} {action.text()} NOT VALID"),
                "# In a revision of its own, so that it reads the rows without that statement's lock:",
                code.execute(f"ALTER TABLE {of} VALIDATE CONSTRAINT {name}"),
            )
        case "disallowed-unique-constraint" | "adding-serial-primary-key-field":
            kind = "UNIQUE" if action.take("UNIQUE") else "PRIMARY KEY"
            action.take("PRIMARY", "KEY")
            return code.steps(
                code.autocommit(f"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {of} {action.text()}"),
                "# In a revision of its own:",
                code.execute(f"ALTER TABLE {of} ADD CONSTRAINT {name} {kind} USING INDEX {name}"),
            )
    return None
