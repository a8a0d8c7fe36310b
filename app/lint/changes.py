"""What a statement changes, as far as the rules ask: relations, columns and types that come, go, or become others.

What stands in the body of a function or of a DO block is not read.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from app.lint.reader import Name, Reader
from app.lint.statements import Statement

Action = Literal[
    "create", "add", "drop", "rename", "require", "default", "retype", "validate", "empty", "delete", "update"
]
What = Literal[
    "table",
    "foreign table",
    "view",
    "materialized view",
    "type",
    "schema",
    "column",
    "enum value",
    "domain",
    "extension",
    "owned",
]

_KINDS: tuple[tuple[tuple[str, ...], What], ...] = (
    (("TABLE",), "table"),
    (("FOREIGN", "TABLE"), "foreign table"),
    (("VIEW",), "view"),
    (("MATERIALIZED", "VIEW"), "materialized view"),
    (("TYPE",), "type"),
    (("SCHEMA",), "schema"),
)
_KINDS_DROPPED: tuple[tuple[tuple[str, ...], What], ...] = (
    *_KINDS,
    (("DOMAIN",), "domain"),
    (("EXTENSION",), "extension"),
    (("OWNED", "BY"), "owned"),
)
_MODIFIERS = {"GLOBAL", "LOCAL", "TEMP", "TEMPORARY", "UNLOGGED", "RECURSIVE"}
_CONSTRAINTS = {"CONSTRAINT", "CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE", "NOT"}
_DEFAULTS = {"DEFAULT", "GENERATED", "SERIAL", "BIGSERIAL", "SMALLSERIAL", "SERIAL2", "SERIAL4", "SERIAL8"}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a statement does."""

    action: Action
    what: What
    of: Name
    """The relation, type, schema, extension, or role that owns; of a column and an enum value, whose it is."""
    line: int
    column: Name | None = None
    to: Name | None = None
    """Its new name."""
    values: tuple[str, ...] = ()
    """Of an enum value the old and the new one, as literals."""
    type: str = ""
    """The new one of a column."""
    unsure: bool = False
    """With IF NOT EXISTS or OR REPLACE: it may have been there before."""
    cascade: bool = False
    required: bool = False
    """Of an added column: it takes no NULL, and there is nothing to put in its place."""
    filled: bool = False
    """Of an added column: it has a default."""


def changes(statement: Statement) -> list[Change]:
    """What a statement changes, in its order."""
    reader = Reader(statement, statement.tokens)
    read = _READERS.get(reader.take_any(set(_READERS)))
    return list(read(reader)) if read else []


def table(statement: Statement) -> Name | None:
    """The one table that a statement alters, drops or indexes."""
    reader = Reader(statement, statement.tokens)
    match statement.words:
        case ("CREATE", "INDEX", *_) | ("CREATE", "UNIQUE", "INDEX", *_):
            if not reader.past("ON"):
                return None
        case ("ALTER" | "DROP", "TABLE", *_):
            reader.past("TABLE")
            reader.take("IF", "EXISTS")
        case _:
            return None
    found = reader.relations()
    return found[0] if len(found) == 1 else None


def action(statement: Statement, at: int) -> Reader:
    """The action of an ALTER TABLE that a place belongs to, in characters from the start of the whole text.

    Of any other statement, all of it.
    """
    reader = Reader(statement, statement.tokens)
    if not reader.take("ALTER", "TABLE"):
        return reader
    reader.take("IF", "EXISTS")
    reader.relation()
    every = list(reader.between_commas())
    return next((each for each in reversed(every) if each.start <= at), every[0])


def _kind(reader: Reader, kinds: tuple[tuple[tuple[str, ...], What], ...] = _KINDS) -> What | None:
    """Go past the words that say what kind of thing is meant."""
    return next((what for words, what in kinds if reader.take(*words)), None)


def _created(reader: Reader) -> Iterator[Change]:
    replaces = reader.take("OR", "REPLACE")
    while reader.take_any(_MODIFIERS):
        pass
    what: What | None = "domain" if reader.take("DOMAIN") else _kind(reader)
    unsure = reader.take("IF", "NOT", "EXISTS") or replaces
    if what and what != "schema" and (of := reader.name()):
        yield Change("create", what, of, reader.line, unsure=unsure)


def _dropped(reader: Reader) -> Iterator[Change]:
    if what := _kind(reader, _KINDS_DROPPED):
        reader.take("IF", "EXISTS")
        every = reader.relations()
        yield from (Change("drop", what, of, reader.line, cascade="CASCADE" in reader.words) for of in every)


def _emptied(reader: Reader) -> Iterator[Change]:
    reader.take("TABLE")
    every = reader.relations()
    yield from (Change("empty", "table", of, reader.line, cascade="CASCADE" in reader.words) for of in every)


def _deleted(reader: Reader) -> Iterator[Change]:
    if reader.take("FROM") and (of := reader.relation()):
        yield Change("delete", "table", of, reader.line)


def _merged(reader: Reader) -> Iterator[Change]:
    if reader.take("INTO") and (of := reader.relation()) and _in_a_row(reader.words, "THEN", "DELETE"):
        yield Change("delete", "table", of, reader.line)


def _updated(reader: Reader) -> Iterator[Change]:
    of = reader.relation()
    if of is None or not reader.past("SET"):
        return
    for part in reader.between_commas():
        columns = part.relations() if part.take("(") else [part.name()]
        part.take(")")
        if part.words[:1] in {("=",), ("[",)}:  # else it is a table of FROM
            yield from (
                Change("update", "column", of, reader.line, Name(column.parts[:1], column.written[:1]))
                for column in columns
                if column
            )


def _written_within(reader: Reader) -> Iterator[Change]:
    """What the parts of a WITH write, each of which follows a parenthesis: no FOR UPDATE, no DO UPDATE."""
    rest = reader.rest
    for at, (before, token) in enumerate(pairwise(rest), 1):
        if before.keyword in {"(", ")"} and (read := _WRITERS.get(token.keyword)):
            part = Reader(reader.statement, rest[at:])
            part.step()
            yield from read(part)


def _altered(reader: Reader) -> Iterator[Change]:
    what = _kind(reader)
    reader.take("IF", "EXISTS")
    of = reader.relation()
    if not (what and of):
        return
    for action in reader.between_commas():
        change = _renamed(action, what, of)
        if change is None and what in {"table", "foreign table"}:
            change = _altered_column(action, of)
        if change:
            yield change


def _renamed(action: Reader, what: What, of: Name) -> Change | None:
    if action.take("SET", "SCHEMA") and (schema := action.name()):
        to = Name((*schema.parts, of.parts[-1]), (*schema.written, of.written[-1]))
        return Change("rename", what, of, action.line, to=to)
    if not action.take("RENAME") or action.take("CONSTRAINT") or action.take("ATTRIBUTE"):
        return None
    if action.take("TO"):
        new = action.name()
        return Change("rename", what, of, action.line, to=of.beside(new)) if new else None
    if what == "type":
        values = tuple(token.text for token in action.rest if token.kind == "string")
        both = action.take("VALUE") and len(values) == len(("old", "new"))
        return Change("rename", "enum value", of, action.line, values=values) if both else None
    action.take("COLUMN")
    column = action.name()
    action.take("TO")
    return Change("rename", "column", of, action.line, column, action.name()) if column else None


def _altered_column(action: Reader, of: Name) -> Change | None:
    verb = action.take_any({"ADD", "ALTER", "DROP", "VALIDATE"})
    next_word = action.words[:1]
    if verb == "VALIDATE":
        return Change("validate", "table", of, action.line)
    if verb == "ADD" and set(next_word) & _CONSTRAINTS:
        column = _checked_for_null(action)
        return Change("require", "column", of, action.line, column) if column else None
    if not verb or (verb == "DROP" and next_word == ("CONSTRAINT",)):
        return None
    action.take("COLUMN")
    unsure = action.take("IF", "NOT", "EXISTS")
    action.take("IF", "EXISTS")
    column = action.name()
    if column is None:
        return None
    match verb:
        case "ADD":
            filled = bool(_DEFAULTS & set(action.words)) and not _in_a_row(action.words, "DEFAULT", "NULL")
            required = _in_a_row(action.words, "NOT", "NULL") or _in_a_row(action.words, "PRIMARY", "KEY")
            return Change(
                "add", "column", of, action.line, column, unsure=unsure, required=required and not filled, filled=filled
            )
        case "DROP":
            return Change("drop", "column", of, action.line, column, cascade="CASCADE" in action.words)
    return _altered_in_place(action, of, column)


def _altered_in_place(action: Reader, of: Name, column: Name) -> Change | None:
    if action.take("SET", "NOT", "NULL"):
        return Change("require", "column", of, action.line, column)
    if action.take("SET", "DEFAULT") and action.words != ("NULL",):
        return Change("default", "column", of, action.line, column)
    if action.take("TYPE") or action.take("SET", "DATA", "TYPE"):
        until = action.words.index("USING") if "USING" in action.words else None
        return Change(
            "retype", "column", of, action.line, column, type=Reader(action.statement, action.rest[:until]).text()
        )
    return None


def _checked_for_null(action: Reader) -> Name | None:
    """The column that a constraint keeps from being NULL: by CHECK, or by a NOT NULL of its own (PostgreSQL 18)."""
    if action.take("CONSTRAINT"):
        action.name()
    if action.take("NOT", "NULL"):
        return action.name()
    if not action.take("CHECK", "("):
        return None
    column = action.name()
    return column if action.take("IS", "NOT", "NULL", ")") else None


def _in_a_row(words: Sequence[str], *wanted: str) -> bool:
    return any(tuple(words[at : at + len(wanted)]) == wanted for at in range(len(words)))


_WRITERS: dict[str, Callable[[Reader], Iterator[Change]]] = {
    "DELETE": _deleted,
    "MERGE": _merged,
    "UPDATE": _updated,
}
_READERS: dict[str, Callable[[Reader], Iterator[Change]]] = {
    "CREATE": _created,
    "DROP": _dropped,
    "ALTER": _altered,
    "TRUNCATE": _emptied,
    "WITH": _written_within,
    **_WRITERS,
}
