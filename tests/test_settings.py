"""What the environment says."""

import copy
import pickle
import re
import sys
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from app import settings
from app.errors import NotConfigured
from app.settings import DATABASE_VARIABLES, Settings
from tests import servers


def read() -> Settings:
    found = settings.from_environment()
    assert isinstance(found, Settings), found
    return found


def test_an_empty_environment_gives_the_defaults() -> None:
    found = read()
    assert found.api_key is None
    assert found.database_url is None
    assert (found.lease, found.lock_wait, found.lock_timeout, found.lock_retries) == (30, 10, 1, 10)
    assert (found.script_location, found.ledger_schema, found.docs) == ("migrations", "migration_endpoint", False)


def test_the_first_database_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in reversed(DATABASE_VARIABLES):
        monkeypatch.setenv(name, f"postgresql://{name}.example/shop")
        found = read().database_url
        assert found is not None
        assert found.get_secret_value() == f"postgresql://{name}.example/shop"


def test_an_empty_variable_is_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIGRATION_API_KEY", "MIGRATION_LEASE", "MIGRATION_DATABASE_URL", "VERCEL_ENV", "MIGRATION_DOCS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.example/shop")
    found = read()
    assert (found.api_key, found.lease, found.vercel_env, found.docs) == (None, 30, None, False)
    assert found.database_url is not None
    assert found.database_url.get_secret_value() == "postgresql://db.example/shop"


def test_the_deployment_is_what_vercel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERCEL_DEPLOYMENT_ID", "dpl_1")
    monkeypatch.setenv("VERCEL_GIT_COMMIT_SHA", "4f1c9a2")
    monkeypatch.setenv("VERCEL_ENV", "preview")
    assert read().deployment.model_dump() == {"id": "dpl_1", "git_sha": "4f1c9a2", "environment": "preview"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MIGRATION_LEASE", "Tick-Trick"),
        ("MIGRATION_LEASE", "0"),
        ("MIGRATION_LEASE", "nan"),
        ("MIGRATION_LOCK_WAIT", "-1"),
        ("MIGRATION_LOCK_TIMEOUT", "0"),
        ("MIGRATION_LOCK_RETRIES", "1.5"),
        ("MIGRATION_CONNECT_TIMEOUT", "inf"),
        ("MIGRATION_DOCS", "Tick-Trick"),
        ("MIGRATION_LEDGER_SCHEMA", "x" * 64),
        ("MIGRATION_IMPORTS", "alembic_utils, Tick-Trick"),
        ("MIGRATION_TARGET_METADATA", "shop.models.Base.Tick-Trick"),
        ("MIGRATION_NAMING_CONVENTION", "{Tick-Trick"),
        ("MIGRATION_NAMING_CONVENTION", '["Tick-Trick"]'),
        ("MIGRATION_NAMING_CONVENTION", '{"uq": 7}'),
        ("MIGRATION_UPGRADE_KWARGS", '{"Tick-Trick": 1}'),
        ("MIGRATION_SESSION_SETTINGS", '{"Tick-Trick": 1}'),
        ("MIGRATION_SESSION_SETTINGS", '{"work_mem": null}'),
        ("MIGRATION_RENDER_AS_BATCH", "Tick-Trick"),
        ("MIGRATION_TRANSACTION_PER_RUN", "Tick-Trick"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("MIGRATION_API_KEY", servers.API_KEY)
    found = settings.from_environment()
    assert isinstance(found, NotConfigured)
    assert found.members["variables"] == [name]
    assert name in found.detail
    for secret in ("Tick-Trick", "x" * 64, servers.API_KEY):
        assert secret not in str(found.document())


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("lock_timeout", "MIGRATION_LOCK_TIMEOUT"),
        ("Idle_in_transaction_session_timeout", "MIGRATION_LEASE"),
        ("client_connection_check_interval", "one second"),
        ("application_name", "whose the session is"),
        ("search_path", "MIGRATION_SEARCH_PATH"),
        ("ROLE", "MIGRATION_ROLE"),
    ],
)
def test_a_session_setting_that_runs_stand_on_is_refused_with_what_to_do_instead(
    monkeypatch: pytest.MonkeyPatch, name: str, instead: str
) -> None:
    monkeypatch.setenv("MIGRATION_SESSION_SETTINGS", f'{{"work_mem": "7MB", "{name}": "1"}}')
    found = settings.from_environment()
    assert isinstance(found, NotConfigured)
    assert found.members["variables"] == ["MIGRATION_SESSION_SETTINGS"]
    assert f"{name.lower()} cannot be set" in found.detail
    assert instead in found.detail


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATION_IMPORTS", "alembic_utils, shop.operations,")
    monkeypatch.setenv("MIGRATION_X", "tenant=acme,dry")
    found = read()
    assert (found.imports, found.x) == (("alembic_utils", "shop.operations"), ("tenant=acme", "dry"))
    assert found.version_locations is None


def test_a_variable_that_is_not_known_here_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = read()
    for name in ("MIGRATION_FUTURE", "LEASE", "API_KEY", "DATABASE_URI"):
        monkeypatch.setenv(name, "7")
    assert read() == before


def test_several_unusable_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATION_LEASE", "soon")
    monkeypatch.setenv("MIGRATION_DOCS", "perhaps")
    found = settings.from_environment()
    assert isinstance(found, NotConfigured)
    assert sorted(found.members["variables"]) == ["MIGRATION_DOCS", "MIGRATION_LEASE"]


def test_one_transaction_without_transactional_ddl_is_a_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATION_TRANSACTIONAL_DDL", "false")
    assert read().transactional_ddl is False
    monkeypatch.setenv("MIGRATION_TRANSACTION_PER_RUN", "true")
    found = settings.from_environment()
    assert isinstance(found, NotConfigured)
    assert found.members["variables"] == ["MIGRATION_TRANSACTIONAL_DDL"]
    assert "MIGRATION_TRANSACTION_PER_RUN" in found.detail


def test_secrets_do_not_show() -> None:
    found = Settings(api_key="key-of-mine", read_key="key-of-mine", database_url="postgresql://me:pw-of-mine@h/d")
    for shown in (repr(found), str(found), str(found.model_dump()), found.model_dump_json(), repr(copy.copy(found))):
        assert "of-mine" not in shown
    assert pickle.loads(pickle.dumps(found)) == found


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        read().lease = 5  # type: ignore[misc]  # that it cannot be done is the point


def readme_table() -> dict[str, str]:
    """The variables of README's table, with their defaults."""
    readme = (servers.PROJECT / "README.md").read_text()
    rows = re.findall(r"^\| `(MIGRATION_\w+)` \| (.+?) \| .+ \|$", readme, re.MULTILINE)
    return {name: default.strip("`") for name, default in rows}


def test_the_readmes_table_is_these_settings() -> None:
    def shown(default: Any) -> str:
        if default in (None, PydanticUndefined):
            return "–"
        return str(default).lower() if isinstance(default, bool) else str(default)

    ours = {
        settings.variable(name): shown(field.default)
        for name, field in Settings.model_fields.items()
        if settings.variable(name).startswith("MIGRATION_")
    }
    assert readme_table() == ours


def test_a_driver_that_is_not_installed_is_not_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATION_DRIVER", "psycopg2")
    assert isinstance(settings.from_environment(), Settings)
    monkeypatch.setitem(sys.modules, "psycopg2", None)  # as Python itself says that there is no such module
    problem = settings.from_environment()
    assert isinstance(problem, NotConfigured)
    assert "psycopg2 is not installed here" in problem.detail
    assert problem.members["variables"] == ["MIGRATION_DRIVER"]
