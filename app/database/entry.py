"""The entry of a step in the ledger, as it goes there in the transaction of its revision."""

from collections.abc import Sequence
from dataclasses import dataclass

COLUMNS = "run_id, revision, direction, down_revisions, sha256, started_at, duration_ms, locks, rewrote"
TYPES = ("uuid", "text", "text", "text[]", "text", "timestamptz", "integer")
"""Of the columns that are not its footprint's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be put on record."""

    schema: str
    """As an SQL identifier."""
    values: tuple[str, ...]
    """Of the columns that are not its footprint's, as SQL."""

    def insert(self, footprint: str, values: Sequence[str] | None = None) -> str:
        """The statement, which returns the footprint, as `Footprint.commits` takes it.

        Args:
            footprint: The query for it.
            values: What stands for the entry's own values, where they come otherwise.
        """
        return (
            f"INSERT INTO {self.schema}.step ({COLUMNS}) SELECT {', '.join(values or self.values)}, locks, rewrote "
            f"FROM ({footprint}) AS footprint RETURNING locks, to_json(rewrote) AS rewrote"
        )
