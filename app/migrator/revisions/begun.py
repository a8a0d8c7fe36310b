"""The transactions that an env.py begins by itself on the connection that it is handed.

Each revision has its own, so one that is meant to be around all of them ends before the first. Whoever has begun it
ends it once more, by `commit()` or at the end of a `with`: SQLAlchemy would refuse that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Transaction


class Begun:
    """A transaction that may be ended again.

    Args:
        transaction: It; None where the one that is open is not to end.
    """

    def __init__(self, transaction: Transaction | None) -> None:
        self._transaction = transaction

    @property
    def is_active(self) -> bool:
        """Whether it can still be ended."""
        return self._transaction is not None and self._transaction.is_active

    def commit(self) -> None:
        """COMMIT, unless it has ended."""
        if self._transaction is not None and self.is_active:
            self._transaction.commit()

    def rollback(self) -> None:
        """ROLLBACK, unless it has ended."""
        if self._transaction is not None and self.is_active:
            self._transaction.rollback()

    def close(self) -> None:
        """As ROLLBACK."""
        self.rollback()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._transaction is not None and self.is_active:
            self._transaction.__exit__(kind, error, traceback)


@contextmanager
def begun_by_env_py(connection: Connection | None, *, may_end: bool) -> Iterator[None]:
    """Have `connection.begin()` begin such transactions.

    Args:
        connection: The connection; None offline.
        may_end: Whether the transaction that is open may, which in a rehearsal it may not.
    """
    if connection is None:
        yield
        return

    def begin() -> Any:  # noqa: ANN401 – what stands for a RootTransaction
        return Begun(Connection.begin(connection) if may_end else None)

    connection.begin = begin  # type: ignore[method-assign]  # for env.py, and not for revisions
    try:
        yield
    finally:
        del connection.begin


@contextmanager
def begun_as_ever(connection: Connection | None) -> Iterator[None]:
    """Within that, have it do for the revisions what it always does."""
    own = {} if connection is None else vars(connection)
    ours = own.pop("begin", None)
    try:
        yield
    finally:
        own["begin"] = ours
