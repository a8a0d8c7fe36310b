"""What `python -m app stamp` proposes to do."""

from pydantic import Field

from app.report.base import Report, Revision
from app.report.drift import Difference


class Proposal(Report):
    """A stamp that nobody has agreed to yet."""

    target: str
    database: str = Field(description="Where it is, and its name.")
    revisions: list[Revision] = Field(description="What would be taken as applied, in this order; none of it runs.")
    differences: list[Difference] | None = Field(
        None, description="Between the schema and what these revisions build; null where it could not be compared."
    )
    not_compared: str | None = Field(None, description="Why it could not be.")
    warnings: list[str] = Field(default_factory=list)
