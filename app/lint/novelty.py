"""What the plan itself has made so far: no deployed code knows it, and nobody waits for its locks."""

from app.lint.changes import Change
from app.lint.reader import Name


class Novelty:
    """Learns from the statements of a plan, in their order."""

    def __init__(self) -> None:
        self._made: set[tuple[Name, ...]] = set()
        """Relations and types, and columns behind their table, that came from nothing."""
        self._renamed: set[tuple[Name, ...]] = set()
        """And such as had another name before."""
        self._filled: set[tuple[Name, ...]] = set()
        self._validated: set[Name] = set()

    def learn(self, change: Change) -> None:
        """Take in what a change does, once it has been judged."""
        subject = _subject(change)
        match change.action:
            case "create" | "add":
                if not change.unsure:
                    self._made.add(subject)
                if change.filled:
                    self._filled.add(subject)
            case "rename" if change.to:
                known_as = self._made if subject in self._made else self._renamed
                known_as.add((*subject[:-1], change.to))
                self._forget(subject)
            case "drop":
                self._forget(subject)
            case "default":
                self._filled.add(subject)
            case "validate":
                self._validated.add(change.of)

    def _forget(self, subject: tuple[Name, ...]) -> None:
        self._made.discard(subject)
        self._renamed.discard(subject)

    def made(self, *subject: Name) -> bool:
        """Whether the plan has made this relation or type, or this column, so that it holds nothing from before."""
        return subject in self._made

    def unknown_to_deployed_code(self, change: Change) -> bool:
        """Whether what is changed has this name only since the plan."""
        return any(each in self._made | self._renamed for each in {(change.of,), _subject(change)})

    def bears_null(self, change: Change) -> bool:
        """Whether nothing changes for who leaves a column out that becomes NOT NULL: a default, or an older check.

        A constraint that is validated before has refused every NULL since it was added, and was judged then.
        """
        return _subject(change) in self._filled or (change.of in self._validated)


def _subject(change: Change) -> tuple[Name, ...]:
    return (change.of, change.column) if change.column else (change.of,)
