"""A connection as the fence speaks over it, whichever driver it belongs to: statements of ours, without parameters."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from app.database.simple_query import ResultSet

LAST = (-1,)


class Wire(Protocol):
    """A driver's connection, beneath what SQLAlchemy takes for it."""

    tells_all: bool
    """Whether a message of several statements tells the results of all of them, rather than of the last one."""

    @property
    def is_closed(self) -> bool:
        """Whether it is known to have ended."""

    @property
    def is_in_transaction(self) -> bool:
        """Whether PostgreSQL has a transaction open on it, failed or not."""

    @property
    def pid(self) -> int:
        """The backend that was told at login: a pooler's invention, if there is one."""

    def setting(self, name: str) -> str | None:
        """The value of a setting that PostgreSQL reports; None where a pooler keeps it to itself."""

    async def send(self, sql: Sequence[str], wanted: Sequence[int] = LAST) -> list[ResultSet]:
        """Send statements, and return the results of those that are wanted.

        Args:
            sql: One statement each.
            wanted: Their positions, in ascending order. A driver that tells of a message only the last result takes a
                round trip for each.

        Raises:
            Exception: the driver's own; the statements after the one that failed did not run.
        """

    async def is_one_statement(self, sql: str) -> bool:
        """Whether PostgreSQL reads a text as one statement.

        Raises:
            Exception: the driver's own, if it cannot read it at all.
        """

    def waits_for[Result](self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run to its end what speaks over this wire, in the thread that the revisions run in."""

    def cutter(self) -> Callable[[], None]:
        """A function that ends the connection from any thread, without a word to a server that may not answer."""
