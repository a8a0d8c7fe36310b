"""What is linted."""

from dataclasses import dataclass

from app.report import Direction, Finding, Level


@dataclass(frozen=True, slots=True)
class Script:
    """One revision's SQL in one direction.

    As Alembic's offline mode renders it, without the BEGIN and COMMIT around the revision and without the row of its
    version. Around an autocommit block stand `COMMIT;` and `BEGIN;`, as Alembic writes them.
    """

    revision: str
    direction: Direction
    sql: str
    transactional: bool | None
    """Whether all of it is in one transaction; None where it could not be rendered to its end."""

    def finding(self, rule: str, level: Level, line: int, message: str, safe_way: str) -> Finding:
        """A finding of a rule of our own."""
        return Finding(
            revision=self.revision,
            rule=rule,
            level=level,
            line=line,
            message=message,
            safe_way=safe_way,
            source="migration-endpoint",
        )
