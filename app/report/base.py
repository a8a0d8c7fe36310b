"""What every answer is made of."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Direction = Literal["upgrade", "downgrade"]


class Report(BaseModel):
    """A part of an answer. Frozen: an answer is a fact."""

    # defer_build: most calls make few of these, and a cold start would wait for the validators of all.
    model_config = ConfigDict(frozen=True, populate_by_name=True, defer_build=True)


class Deployment(Report):
    """The deployment that answers: on Vercel its id, commit and environment, elsewhere nothing."""

    id: str | None = None
    git_sha: str | None = None
    environment: str | None = None


class Revision(Report):
    """A revision of the deployment's history, with the first line of its docstring."""

    revision: str
    message: str
