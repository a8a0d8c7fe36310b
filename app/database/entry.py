"""The entry of a step in the ledger, as it goes there in the transaction of its revision."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.database.footprint import WROTE_NOTHING

COLUMNS = (
    "run_id, revision, direction, down_revisions, sha256, started_at, duration_ms, committed_itself, no_effect, "
    "locks, rewrote"
)
TYPES = ("uuid", "text", "text", "text[]", "text", "timestamptz", "integer", "boolean", "boolean")
"""Of the columns that are not its footprint's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be put on record."""

    schema: str
    """As an SQL identifier."""
    values: tuple[str, ...]
    """Of the columns that are known beforehand, as SQL."""
    committed_itself: bool
    """The last of them. Then what its last transaction wrote tells nothing of the revision."""

    @property
    def no_effect(self) -> str:
        """Whether the revision had none, as SQL that is to be evaluated before anything of ours is written."""
        return "false" if self.committed_itself else WROTE_NOTHING

    def insert(self, footprint: str, values: Sequence[str] | None = None) -> str:
        """The statement, which returns the footprint, as `Footprint.commits` takes it.

        Args:
            footprint: The query for it.
            values: What stands for the entry's own values, `no_effect` the last of them, where they come otherwise.
        """
        # Asked before the row is made: the number that it gets may be what gives the transaction its id.
        asked = "" if values else f"WITH asked AS MATERIALIZED (SELECT {self.no_effect} AS no_effect) "
        columns = ", ".join(values or (*self.values, "no_effect"))
        return (
            f"{asked}INSERT INTO {self.schema}.step ({COLUMNS}) SELECT {columns}, locks, rewrote "
            f"FROM {'' if values else 'asked, '}({footprint}) AS footprint "
            "RETURNING locks, to_json(rewrote) AS rewrote, no_effect"
        )
