"""SQL text taken apart into statements and tokens: for looking only, never to be executed.

A database is guarded by what is seen here: a rehearsal refuses what `controls_transactions` finds, before it is sent
(app/database/rehearsing.py). So where in doubt a statement ends: what is found in too many is refused, what is hidden
in another one would run.

The rules are those of PostgreSQL's own scanner ("Lexical Structure", chapter 4.1 of its manual) and, for where a
statement ends, of psql's: a semicolon inside of parentheses or of a function's BEGIN ATOMIC … END ends nothing.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

_SPACE = r"[ \t\n\r\f\v]"
_START, _PART = r"A-Za-z_\x80-\U0010ffff", r"A-Za-z0-9_\x80-\U0010ffff"
# A string goes on where only white space with a line break, and comments, part it from the next; E'' stays E''.
GOES_ON = rf"(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:{_SPACE}|--[^\n\r]*+[\n\r])*+'"
_PLAIN, _ESCAPED = r"(?:[^']++|'')*+(?:'|\Z)", r"(?:[^'\\]++|''|\\.)*+(?:'|\\?\Z)"

_TOKEN = re.compile(
    rf"(?:{_SPACE}++|--[^\n\r]*+)*+(?:"
    r"(?P<comment>/\*)"
    rf"|(?P<dollar>\$(?:[{_START}][{_PART}]*+)?\$)"
    rf"|(?P<string>[eE]'{_ESCAPED}(?:{GOES_ON}{_ESCAPED})*+|'{_PLAIN}(?:{GOES_ON}{_PLAIN})*+)"
    r'|(?P<quoted>"(?:[^"]++|"")*+(?:"|\Z))'
    rf"|(?P<word>[{_START}][{_PART}$]*+)"
    r"|(?P<mark>[0-9][\w.]*+|.))",
    re.DOTALL,
)
"""One token, and the white space and comments to the end of a line that stand before it."""
_COMMENT_EDGE = re.compile(r"/\*|\*/")

Kind = Literal["word", "quoted", "string", "mark"]


class Token(NamedTuple):
    """A piece of a statement that means something."""

    kind: Kind
    text: str
    start: int
    """In characters, from the start of the whole text."""
    keyword: str
    """In capitals, if it may be a keyword; empty for what is quoted. A mark is itself."""

    @property
    def name(self) -> str:
        """The identifier that it stands for: PostgreSQL folds what is not quoted, and of that only ASCII letters."""
        if self.kind == "quoted":
            return self.text[1:].removesuffix('"').replace('""', '"')
        return "".join(letter.lower() if letter.isascii() else letter for letter in self.text)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, with the white space and comments before it, and its semicolon."""

    text: str
    tokens: tuple[Token, ...]
    """Without the semicolon; none at all in what is left after the last one."""
    line: int
    """Of its first token, from 1."""
    start: int
    """Where `text` starts in the whole text, in characters."""

    @property
    def words(self) -> tuple[str, ...]:
        """The keywords, names that are not quoted, and marks, in capitals; empty strings for the rest."""
        return tuple(token.keyword for token in self.tokens)

    @property
    def code(self) -> str:
        """From its first token to its last."""
        if not self.tokens:
            return ""
        last = self.tokens[-1]
        return self.text[self.tokens[0].start - self.start : last.start + len(last.text) - self.start]

    def line_of(self, token: Token) -> int:
        """The line that one of its tokens starts in, from 1."""
        return self.line + self.text[self.tokens[0].start - self.start : token.start - self.start].count("\n")


def split(sql: str) -> list[Statement]:
    """The statements of a text. Put together again, their texts are the text."""
    statements: list[Statement] = []
    of_this: list[Token] = []
    start, line, parentheses, blocks = 0, 1, 0, 0

    def end(at: int) -> None:
        nonlocal start, line
        first = of_this[0].start if of_this else start
        line_of_first = line + sql.count("\n", start, first)
        statements.append(Statement(sql[start:at], tuple(of_this), line_of_first, start))
        line += sql.count("\n", start, at)
        start = at
        of_this.clear()

    for token in tokens(sql):
        match token.keyword:
            case ";" if parentheses == blocks == 0:
                end(token.start + 1)
                continue
            case "(":
                parentheses += 1
            case ")":
                parentheses = max(0, parentheses - 1)
            case "ATOMIC" if parentheses == 0 and _may_have_a_body(of_this) and of_this[-1].keyword == "BEGIN":
                blocks = 1
            case "CASE" if blocks and of_this[-1].keyword not in {"AS", "."}:  # there it is a name
                blocks += 1
            case "END" if blocks:
                blocks -= 1
        of_this.append(token)
    if start < len(sql):
        end(len(sql))
    return statements


def _may_have_a_body(begun: Sequence[Token]) -> bool:
    """Whether a statement that begins so makes a function or a procedure."""
    match [token.keyword for token in begun[:4]]:
        case ["CREATE", "FUNCTION" | "PROCEDURE", *_] | ["CREATE", "OR", "REPLACE", "FUNCTION" | "PROCEDURE", *_]:
            return True
    return False


def tokens(sql: str) -> Iterator[Token]:
    """The tokens of a text, without its white space and comments; semicolons too."""
    at = 0
    while found := _TOKEN.match(sql, at):
        start, at = found.span(found.lastgroup or 0)
        match found.lastgroup:
            case "comment":
                at = _end_of_comment(sql, at)
            case "dollar":
                end = sql.find(found["dollar"], at)
                at = len(sql) if end < 0 else end + len(found["dollar"])
                yield Token("string", sql[start:at], start, "")
            case "word" | "mark" as kind:
                text = sql[start:at]
                yield Token(kind, text, start, text.upper())
            case "quoted" | "string" as kind:
                yield Token(kind, sql[start:at], start, "")


def _end_of_comment(sql: str, at: int) -> int:
    """Where the comment ends whose start lies before `at`; comments nest."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(sql, at)
        if edge is None:
            return len(sql)
        depth += 1 if edge[0] == "/*" else -1
        at = edge.end()
    return at


def controls(statement: Statement) -> Literal["begins", "ends"] | None:
    """Whether a statement begins or ends a transaction; savepoints do neither."""
    match statement.words:
        case ("BEGIN", *_) | ("START", "TRANSACTION", *_):
            return "begins"
        case ("ROLLBACK", "TO", *_) | ("ROLLBACK", "WORK" | "TRANSACTION", "TO", *_):
            return None
        case ("COMMIT" | "END" | "ROLLBACK" | "ABORT", *_) | ("PREPARE", "TRANSACTION", *_):
            return "ends"
    return None


def controls_transactions(sql: str) -> str | None:
    """The first statement of a text that begins, ends or rolls back a transaction."""
    return next((statement.code for statement in split(sql) if controls(statement)), None)
