"""Names, and a way along the tokens of a statement."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from app.lint.statements import Statement, Token


@dataclass(frozen=True, slots=True)
class Name:
    """An identifier, with its schema or without; equal to another if PostgreSQL takes both for the same."""

    parts: tuple[str, ...]
    written: tuple[str, ...] = field(compare=False)
    """The parts as they stand in the statement, quoted or not."""

    def __str__(self) -> str:
        return ".".join(self.written)

    def beside(self, other: "Name") -> "Name":
        """A name in the schema of this one."""
        return Name((*self.parts[:-1], *other.parts[-1:]), (*self.written[:-1], *other.written[-1:]))

    def followed_by(self, ending: str) -> "Name":
        """This name with something at its end; inside the quotes, if it has any."""
        last = self.written[-1]
        longer = f'{last[:-1]}{ending}"' if last.endswith('"') else last + ending
        return Name((*self.parts[:-1], self.parts[-1] + ending), (*self.written[:-1], longer))


def _differs(token: Token, word: str) -> bool:
    return token.keyword != word


class Reader:
    """Goes along the tokens of a statement, or of one of its actions."""

    def __init__(self, statement: Statement, tokens: Sequence[Token]) -> None:
        self.statement = statement
        self.line = statement.line_of(tokens[0]) if tokens else statement.line
        """That it started in."""
        self.start = tokens[0].start if tokens else statement.start
        """Where, in characters from the start of the whole text."""
        self._tokens = tokens
        self._at = 0

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._tokens)

    @property
    def rest(self) -> Sequence[Token]:
        """What is left."""
        return self._tokens[self._at :]

    @property
    def words(self) -> tuple[str, ...]:
        """What is left, as Statement.words has it."""
        return tuple(token.keyword for token in self.rest)

    def step(self) -> None:
        """Go past one token."""
        self._at += 1

    def take(self, *words: str) -> bool:
        """Go past these words, if they come next."""
        coming = self._tokens[self._at : self._at + len(words)]
        if len(coming) < len(words) or any(map(_differs, coming, words)):
            return False
        self._at += len(words)
        return True

    def take_any(self, words: set[str]) -> str:
        """Go past one of these words, if one comes next, and say which."""
        word = self._tokens[self._at].keyword if self else ""
        if word not in words:
            return ""
        self.step()
        return word

    def past(self, word: str) -> bool:
        """Go past everything up to this word, and past it, if it comes at all."""
        if word not in self.words:
            return False
        self._at += self.words.index(word) + 1
        return True

    def name(self) -> Name | None:
        """Go past a name, with its schema if it has one."""
        parts: list[Token] = []
        while self and self._tokens[self._at].kind in {"word", "quoted"}:
            parts.append(self._tokens[self._at])
            self.step()
            if not self.take("."):
                break
        return Name(tuple(part.name for part in parts), tuple(part.text for part in parts)) if parts else None

    def relation(self) -> Name | None:
        """Go past the name of a relation, and what may stand around it."""
        self.take("ONLY")
        found = self.name()
        self.take("*")
        return found

    def relations(self) -> list[Name]:
        """Go past the names of relations, between commas."""
        found = []
        while one := self.relation():
            found.append(one)
            if not self.take(","):
                break
        return found

    def between_commas(self) -> Iterator["Reader"]:
        """What is left, in the parts that stand between commas, as far as the parenthesis around it goes."""
        start = depth = 0
        rest = self.rest
        for at, token in enumerate(rest):
            depth += (token.keyword in {"(", "["}) - (token.keyword in {")", "]"})
            if depth < 0:
                rest = rest[:at]
                break
            if token.keyword == "," and depth == 0:
                yield Reader(self.statement, rest[start:at])
                start = at + 1
        yield Reader(self.statement, rest[start:])

    def text(self) -> str:
        """What is left, as it stands in the statement."""
        return self._between(self._at, len(self._tokens))

    def before(self) -> str:
        """What it has gone past, as it stands in the statement."""
        return self._between(0, self._at)

    def _between(self, first: int, end: int) -> str:
        if first >= end:
            return ""
        last, start = self._tokens[end - 1], self.statement.start
        return self.statement.text[self._tokens[first].start - start : last.start + len(last.text) - start]
