"""What the environment says; read once, then passed by hand.

A value that is missing or cannot be used does not stop the function from starting: it becomes the answer.
"""

import contextlib
import getpass
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AliasChoices, Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

from app.alembic_options import AlembicOptions
from app.errors import NotConfigured
from app.report import Deployment, Level

DATABASE_VARIABLES = (
    "MIGRATION_DATABASE_URL",
    "DATABASE_URL_UNPOOLED",
    "POSTGRES_URL_NON_POOLING",
    "DATABASE_URL",
    "POSTGRES_URL",
    "DATABASE_URL_POOLED",
)
"""Where the connection string is looked for, in this order: direct connections before pooled ones."""


def known_name(name: str) -> str | None:
    """Which of DATABASE_VARIABLES a name is, or is after the prefix that an integration was told to use."""
    return next((known for known in DATABASE_VARIABLES if name == known or name.endswith(f"_{known}")), None)


def _connection_strings(environment: Mapping[str, str]) -> tuple[str, ...]:
    found = [
        (DATABASE_VARIABLES.index(known), name)
        for name, value in environment.items()
        if (known := known_name(name)) and value.strip().startswith(("postgres://", "postgresql://"))
    ]
    return tuple(name for _, name in sorted(found))


Driver = Literal["asyncpg", "psycopg2"]


class Settings(AlembicOptions):
    """The settings, frozen. Durations are in seconds; README lists them, held to this class by a test."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_prefix="MIGRATION_",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    api_key: SecretStr | None = Field(
        None, description="Keys that may migrate and read, comma-separated; `sha256:<hex>` hides one."
    )
    read_key: SecretStr | None = Field(None, description="Keys that may only read, written likewise.")
    database_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices(*DATABASE_VARIABLES),
        description="The database. Without it, what the provider sets: " + ", ".join(DATABASE_VARIABLES[1:]) + ".",
    )
    driver: Driver = Field(
        "asyncpg",
        description="The driver that revisions run on; `psycopg2`, an extra of that name, for those written for it.",
    )
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
    require_plan: bool = Field(
        default=False, description="Run only what a caller has pinned by the digest of a plan; else `plan-required`."
    )
    max_level: Level | None = Field(
        None,
        description="The worst level of findings (`notice`, `warning`, `danger`) that a plan may have to be run; else "
        "`unsafe-plan`, unless the caller accepts them by name.",
    )
    on_modified: Literal["warn", "refuse"] = Field(
        "warn", description="`refuse`: no run while a revision's file is not the one that was applied."
    )
    rehearse_in: Literal["production"] | None = Field(
        None, description="`production`: let rehearsals take place there too, with their table locks."
    )
    allow_downgrade: bool = Field(default=False, description="Turns on POST /downgrade and `python -m app downgrade`.")
    ssl_root_cert: str | None = Field(
        None, description="Root certificates for the database: a path, or PEM text; else the system's."
    )
    environment: str | None = Field(
        None,
        max_length=100,
        description="The environment that this deployment is; without it what Vercel says, such as `production`.",
    )
    on_build: Literal["production"] | None = Field(
        None, description="`production`: migrate while Vercel builds a production deployment; else builds do nothing."
    )
    vercel_webhook_secret: SecretStr | None = Field(
        None, description="Turns on POST /hooks/vercel; several secrets comma-separated, as for the other two."
    )
    github_webhook_secret: SecretStr | None = Field(None, description="Turns on POST /hooks/github.")
    standard_webhook_secret: SecretStr | None = Field(
        None, description="Turns on POST /hooks/standard (Standard Webhooks; `whsec_…`)."
    )
    transaction_per_run: bool = Field(
        default=False,
        description="All pending revisions in one transaction (Alembic's `transaction_per_migration=False`). The price "
        "is that the locks of all of them are held to the end, that a run which stops leaves nothing to continue from, "
        "that one failure undoes all, and that what commits by itself (CREATE INDEX CONCURRENTLY) splits it.",
    )
    transactional_ddl: bool | None = Field(
        None,
        description="Alembic's `transactional_ddl`; else what env.py says. On PostgreSQL a run's revisions have their "
        "transactions either way: it only answers those that ask `context.is_transactional_ddl()`.",
    )
    docs: bool = Field(default=False, description="Serve /docs and /openapi.json (`python -m app dev` does).")

    vercel_deployment_id: str | None = Field(None, validation_alias="VERCEL_DEPLOYMENT_ID")
    vercel_git_commit_sha: str | None = Field(None, validation_alias="VERCEL_GIT_COMMIT_SHA")
    vercel_project_id: str | None = Field(None, validation_alias="VERCEL_PROJECT_ID")
    vercel_env: str | None = Field(None, validation_alias="VERCEL_ENV")
    vercel_target_env: str | None = Field(None, validation_alias="VERCEL_TARGET_ENV")

    @field_validator("transactional_ddl")
    @classmethod
    def _has_no_say_in_one_transaction(cls, value: bool | None, info: ValidationInfo) -> bool | None:  # noqa: FBT001 – pydantic's signature
        if value is False and info.data.get("transaction_per_run"):
            raise PydanticCustomError("contradiction", "cannot be false where MIGRATION_TRANSACTION_PER_RUN is true")
        return value

    _database_variable: str = PrivateAttr(default=DATABASE_VARIABLES[0])
    _connection_strings: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("driver")
    @classmethod
    def _is_installed(cls, driver: Driver) -> Driver:
        if importlib.util.find_spec(driver) is None:
            raise ValueError(f"{driver} is not installed here; add this project's extra `{driver}` to its dependencies")
        return driver

    def model_post_init(self, _: Any, /) -> None:  # noqa: ANN401 – pydantic's signature
        """Keep the names, which validation forgets, of the variables that hold a connection string."""
        if "database_url" in self.model_fields_set:
            self._database_variable = next(filter(os.environ.get, DATABASE_VARIABLES), DATABASE_VARIABLES[0])
        self._connection_strings = _connection_strings(os.environ)

    @property
    def database_variable(self) -> str:
        """The variable that `database_url` came from."""
        return self._database_variable

    @property
    def connection_strings(self) -> tuple[str, ...]:
        """The variables that hold a connection string under a known name, with or without a prefix; best first."""
        return self._connection_strings

    @property
    def deployment(self) -> Deployment:
        """The deployment that these settings belong to."""
        return Deployment(
            id=self.vercel_deployment_id,
            git_sha=self.vercel_git_commit_sha,
            # A custom environment, such as `staging`, is a preview to VERCEL_ENV.
            environment=_first(self.environment, self.vercel_target_env, self.vercel_env),
        )

    @property
    def platform(self) -> Deployment:
        """The deployment as its platform names it, in whose words its webhooks speak."""
        said = _first(self.vercel_target_env, self.vercel_env, self.environment)
        return self.deployment.model_copy(update={"environment": said})


def _first(*values: str | None) -> str | None:
    """The first that says something; a value that was piped into a dashboard's tool ends with a line break."""
    return next((value.strip() for value in values if value and value.strip()), None)


def is_set(field: str) -> bool:
    """Whether the variable of `field` has a value, though another's cannot be used."""
    return bool(os.environ.get(variable(field)))


def why_not_on_build() -> str | None:
    """Why a build is not to migrate; None if it is.

    Read by itself, before the rest: a build that is not to migrate must not fail for what it does not need.
    """
    wanted, environment = os.environ.get(variable("on_build")), os.environ.get("VERCEL_ENV")
    if not wanted:
        return f"{variable('on_build')} is not set"
    if environment != "production":
        return f"it is for {environment or 'no environment that VERCEL_ENV names'}, and not for production"
    return None


def user() -> str:
    """Whose terminal this is, for the ledger."""
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    return "somebody"


def variable(field: str) -> str:
    """The environment variable that sets `field`."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return alias if isinstance(alias, str) else f"MIGRATION_{field.upper()}"


def from_environment() -> Settings | NotConfigured:
    """Read the environment; what cannot be used comes back as the problem that names it."""
    try:
        return Settings()  # type: ignore[call-arg, unused-ignore]  # every field comes from the environment
    except ValidationError as error:
        wrong = [(variable_of(str(fault["loc"][0])), fault["msg"]) for fault in error.errors(include_input=False)]
        return NotConfigured(
            "; ".join(f"{name}: {message}" for name, message in wrong), variables=[name for name, _ in wrong]
        )


def variable_of(location: str) -> str:
    """The variable behind a validation error's location, which is a field's name or already its variable."""
    return variable(location) if location in Settings.model_fields else location
