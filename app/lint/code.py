"""The safe ways, written as they stand in a revision."""

import json

from app.lint.reader import Name


def text(value: str) -> str:
    """A Python string."""
    return json.dumps(value, ensure_ascii=False)


def execute(sql: str) -> str:
    """A statement in the revision's transaction."""
    return f"op.execute({text(sql)})"


def autocommit(*statements: str) -> str:
    """Statements outside of a transaction, each of which commits by itself."""
    return "\n".join(("with op.get_context().autocommit_block():", *(f"    {execute(sql)}" for sql in statements)))


def call(operation: str, of: Name, *arguments: str) -> str:
    """An operation of Alembic's on a table; the schema goes last, by its keyword."""
    schema = [f"schema={text(of.parts[-2])}"] if len(of.parts) > 1 else []
    return f"op.{operation}({', '.join([text(of.parts[-1]), *arguments, *schema])})"


def steps(*each: str) -> str:
    """What to do, one below the other; a comment stays one, even with a line break in a name."""
    return "\n".join(step.replace("\n", " ") if step.startswith("#") else step for step in each)
