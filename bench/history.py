"""Equal work: the same history for every tool, one file a revision."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Migration:
    """One revision, as plain SQL that every tool can run."""

    number: int
    """From 1 on; tools that sort by name get it with leading zeros."""
    sql: str
    """One statement, without a semicolon."""
    in_transaction: bool = True
    """Whether it runs in a transaction; where not, each tool is told so in its own way."""

    @property
    def name(self) -> str:
        """Sorts as the numbers do."""
        return f"r{self.number:05}"


def tables(count: int) -> list[Migration]:
    """A history of which revision i creates the table `t_i`."""
    return [
        Migration(number, f"CREATE TABLE t_{number} (id bigint PRIMARY KEY, v text)") for number in range(1, count + 1)
    ]
