"""Statements that a session keeps ready: PostgreSQL reads and plans them once, and not around every revision.

Only in a session of ours. A pooler would lose them, or leave them to strangers.

Source: PostgreSQL manual, "PREPARE": what is prepared lasts as long as the session, whatever its transactions do, and
is planned anew where something changes that it depends on, the search path included.
"""

import re
from collections.abc import Sequence

from app.database import driver_error

_NAME = "migration_endpoint_"
_MAY_DEALLOCATE = re.compile(r"\b(?:deallocate|discard)\b", re.IGNORECASE)


class Prepared:
    """What one session keeps ready; nothing at all where it may not."""

    def __init__(self, *, may_keep: bool) -> None:
        self._names: dict[str, str] = {}
        self._met: set[str] = set()
        self._made = 0
        self._may_keep = may_keep

    def is_worth(self, shape: str) -> bool:
        """Whether a statement comes again in this session; the first time it is quicker as it stands."""
        met_before = shape in self._met
        self._met.add(shape)
        return met_before and self._may_keep

    def execute(self, shape: str, types: Sequence[str], values: Sequence[str]) -> list[str]:
        """What executes a statement, by the last of the statements returned.

        Args:
            shape: The statement, with `$1` and so on in it.
            types: Theirs.
            values: Theirs, as SQL.
        """
        making = []
        if shape not in self._names:
            self._made += 1
            self._names[shape] = f"{_NAME}{self._made}"
            making = [f"PREPARE {self._names[shape]} ({', '.join(types)}) AS {shape}"]
        return [*making, f"EXECUTE {self._names[shape]} ({', '.join(values)})"]

    def forget(self) -> None:
        """Take nothing for ready: of a message that failed, nobody knows how far it came."""
        self._names.clear()

    def before(self, operation: str) -> None:
        """A statement of the revision's is sent, which may deallocate what is ready."""
        self._may_keep &= _MAY_DEALLOCATE.search(operation) is None


def is_gone(error: BaseException) -> bool:
    """Whether an error says that something is not ready any more, which a function of the user's may have seen to."""
    return driver_error.sqlstate(error) == "26000" and f'"{_NAME}' in str(error)
