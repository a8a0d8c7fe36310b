"""What the environment says; read once, then passed by hand.

A value that is missing or cannot be used does not stop the function from starting: it becomes the answer.
"""

import contextlib
import getpass
import os

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from app.errors import NotConfigured
from app.report import Deployment

DATABASE_VARIABLES = (
    "MIGRATION_DATABASE_URL",
    "DATABASE_URL_UNPOOLED",
    "POSTGRES_URL_NON_POOLING",
    "DATABASE_URL",
    "POSTGRES_URL",
)
"""Where the connection string is looked for, in this order: direct connections before pooled ones."""


class Settings(BaseModel):
    """The settings, frozen. Durations are in seconds; README lists them, held to this class by a test."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, hide_input_in_errors=True)

    api_key: SecretStr | None = Field(
        None, description="Keys that may migrate and read, comma-separated; `sha256:<hex>` hides one."
    )
    read_key: SecretStr | None = Field(None, description="Keys that may only read, written likewise.")
    database_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices(*DATABASE_VARIABLES),
        description="The database. Without it, what the provider sets: " + ", ".join(DATABASE_VARIABLES[1:]) + ".",
    )
    script_location: str = Field("migrations", description="Alembic's script location.")
    ledger_schema: str = Field(
        "migration_endpoint", min_length=1, max_length=63, description="The schema of the table of runs."
    )
    lease: float = Field(30, ge=1, le=3600, description="How long a silent holder keeps the lock, in seconds.")
    lock_wait: float = Field(
        10,
        ge=0,
        le=3600,
        description="How long a caller waits for the lock when its body doesn't say, in seconds.",
    )
    lock_timeout: float = Field(
        1, ge=0.001, le=3600, description="How long a statement waits for a table lock, in seconds."
    )
    lock_retries: int = Field(
        10, ge=0, le=1000, description="How often a revision that met a lock timeout is run again."
    )
    connect_timeout: float = Field(10, gt=0, le=600, description="One attempt to connect, in seconds.")
    time_budget: float | None = Field(
        None, ge=1, le=86400, description="How long a run may take, in seconds; else until the platform's deadline."
    )
    drop_broken_indexes: bool = Field(
        default=True,
        description="Drop an INVALID index that an interrupted revision left, before that revision builds it again.",
    )
    ssl_root_cert: str | None = Field(
        None, description="Root certificates for the database: a path, or PEM text; else the system's."
    )
    docs: bool = Field(default=False, description="Serve /docs and /openapi.json (`python -m app dev` does).")

    vercel_deployment_id: str | None = Field(None, validation_alias="VERCEL_DEPLOYMENT_ID")
    vercel_git_commit_sha: str | None = Field(None, validation_alias="VERCEL_GIT_COMMIT_SHA")
    vercel_env: str | None = Field(None, validation_alias="VERCEL_ENV")

    @property
    def deployment(self) -> Deployment:
        """The deployment that these settings belong to."""
        return Deployment(id=self.vercel_deployment_id, git_sha=self.vercel_git_commit_sha, environment=self.vercel_env)


def user() -> str:
    """Whose terminal this is, for the ledger."""
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    return "somebody"


def variable(field: str) -> str:
    """The environment variable that sets `field`."""
    return _variables(field)[0]


def _variables(field: str) -> list[str]:
    """The environment variables that set `field`, the first one before the others."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [alias if isinstance(alias, str) else f"MIGRATION_{field.upper()}"]


def from_environment() -> Settings | NotConfigured:
    """Read the environment; what cannot be used comes back as the problem that names it.

    A variable that is set to nothing is as good as none; dashboards like to leave such ones.
    """
    there = {name.upper(): value for name, value in os.environ.items() if value}
    chosen = {
        field: next(there[name] for name in _variables(field) if name in there)
        for field in Settings.model_fields
        if there.keys() & set(_variables(field))
    }
    try:
        return Settings.model_validate(chosen)
    except ValidationError as error:
        wrong = [(variable_of(str(fault["loc"][0])), fault["msg"]) for fault in error.errors(include_input=False)]
        return NotConfigured(
            "; ".join(f"{name}: {message}" for name, message in wrong), variables=[name for name, _ in wrong]
        )


def variable_of(location: str) -> str:
    """The variable behind a validation error's location, which is a field's name or already its variable."""
    return variable(location) if location in Settings.model_fields else location
