"""Whether a statement of a revision's committed something, as a COMMIT in its SQL does, or one outside of transactions.

What follows then commits by itself, so it is looked at like a statement in an autocommit block.
"""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Protocol

from app.database import statements
from app.database.fence import Fence
from app.database.simple_query import ResultSet
from app.database.wire import Wire
from app.lint.statements import controls, split

_MAY_COMMIT = re.compile(r"\b(?:commit|end|prepare)\b", re.IGNORECASE)


class Watched(Protocol):
    """A connection as it is looked at here."""

    wire: Wire
    fence: Fence

    @property
    def is_outside_of_transactions(self) -> bool:
        """What is sent now commits by itself."""

    def has_lost_its_transaction(self) -> bool:
        """The transaction that SQLAlchemy takes for open has ended."""


@contextlib.asynccontextmanager
async def watching(fenced: Watched, operation: str) -> AsyncIterator[list[ResultSet]]:
    """Around each statement; yields the list for its results, to which those before an error belong too."""
    wire, fence = fenced.wire, fenced.fence
    was_outside = fenced.is_outside_of_transactions
    if fenced.has_lost_its_transaction():
        await fence.send(wire, fence.checked, wanted=())
    results: list[ResultSet] = []
    left = was_outside
    fence.commits += was_outside  # as long as nobody knows better
    try:
        with fence.asking():
            yield results
    except BaseException:
        is_undone = not wire.is_closed and statements.is_all_or_nothing(operation)
        left = _commits(wire, operation, _tags(results)) or (was_outside and not is_undone)
        raise
    else:
        tags = _tags(results)
        is_outside = (was_outside or fenced.has_lost_its_transaction()) and not wire.is_in_transaction
        left = _commits(wire, operation, tags) or (is_outside and tags[-1:] != ["ROLLBACK"])
    finally:
        fence.commits += left - was_outside


def _tags(results: list[ResultSet]) -> list[str]:
    return [result.status for result in results]


def _commits(wire: Wire, operation: str, tags: list[str]) -> bool:
    """Whether it has sent a COMMIT; where the answers do not tell, whether it may have."""
    if wire.tells_all or not _MAY_COMMIT.search(operation):
        return statements.commits(tags)
    sent = [statement for statement in split(operation) if statement.tokens]
    if len(sent) == 1 and tags:
        return statements.commits(tags)
    ends = [statement for statement in sent if controls(statement) == "ends"]
    return any(statement.words[0] in ("COMMIT", "END", "PREPARE") for statement in ends)
