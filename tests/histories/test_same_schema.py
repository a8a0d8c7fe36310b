"""Histories in the manner of what is found in the wild: this service and plain Alembic make the same of each."""

import difflib
import functools
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest

from app.settings import Driver
from tests import servers
from tests.conftest import MakeSettings, client_of
from tests.dumps import dump
from tests.histories import long, plain
from tests.servers import APPLY, READ, Database, Postgres

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Shelf:
    """How a history is run: by plain Alembic, for comparison, and by this service."""

    reference: str
    """The driver of plain Alembic: `psycopg`, which is psycopg 3, where it carries every statement."""
    because: str = ""
    """Why it is another."""
    folder: str | None = None
    """Where it lies, if it is not called so."""
    own_env_py: bool = False
    """Whether it has an env.py of its own, which takes a connection from whoever calls."""
    arguments: tuple[str, ...] = ()
    """Options for the command `alembic`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What this service is told beside."""
    schemas: tuple[str, ...] = ()
    """Those that are there before this service comes."""
    per_migration: bool = False
    """Whether plain Alembic has to begin a transaction for each revision, which its template does not do."""
    fails_at: Mapping[str, str] = field(default_factory=dict)
    """By driver of this service, the first revision that it cannot carry."""
    stops_before: str | None = None
    """The first revision that a rehearsal cannot take back."""


HISTORIES = {
    "tiny": Shelf("psycopg"),
    "statements": Shelf("psycopg"),
    "data_loops": Shelf("psycopg"),
    "streams": Shelf("psycopg"),
    "far_dates": Shelf("psycopg"),
    "parameters": Shelf("psycopg2", "psycopg 3 too leaves its parameters to the server, and it has other cursors", fails_at={"asyncpg": "p002"}),
    "own_transactions": Shelf(
        "psycopg2",
        "after a COMMIT as text psycopg 3 begins a transaction, in which no index is built concurrently",
        per_migration=True,
        stops_before="a002",
    ),
    "branches": Shelf("psycopg"),
    "application_imports": Shelf(
        "psycopg",
        own_env_py=True,
        arguments=("-x", "tenant=acme"),
        settings={"version_table": "schema_version", "version_table_schema": "ops"},
        stops_before="s1",  # its env.py commits the version table's schema
    ),
    "application_imports, without its env.py": Shelf(
        "psycopg",
        folder="application_imports",
        arguments=("-x", "tenant=acme"),
        settings={
            "version_table": "schema_version",
            "version_table_schema": "ops",
            "imports": "shopapp.db.operations",
            "target_metadata": "shopapp.models:Base.metadata",
            "upgrade_kwargs": '{"tenant": "acme"}',
        },
        schemas=("ops",),
    ),
    "no_effect": Shelf("psycopg"),
    "no_effect, with arguments": Shelf(
        "psycopg",
        folder="no_effect",
        arguments=("-x", "data=true", "-x", "schemas=public"),
        settings={"x": "data=true,schemas=public"},
    ),
    "long": Shelf("psycopg"),
}
BOTH = [(name, driver) for name in HISTORIES for driver in get_args(Driver)]
CARRIED = [(name, driver) for name, driver in BOTH if driver not in HISTORIES[name].fails_at]
NOT_CARRIED = [each for each in BOTH if each not in CARRIED]
REHEARSED = [(name, driver) for name, driver in CARRIED if name != "long"]
"""Of the long one a rehearsal would stop before its first autocommit block, and tell nothing that the others do not."""


@pytest.fixture(scope="module")
def made_by_plain_alembic(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """What plain Alembic makes of an empty database, line by line; asked for again it is not made anew."""

    @functools.cache
    def made(name: str) -> list[str]:
        history = HISTORIES[name]
        folder = copied(name, tmp_path_factory.mktemp("plain") / "theirs")
        if not (folder / "env.py").exists():
            (folder / "env.py").write_text(plain.env_py(per_migration=history.per_migration))
        with postgres.database() as fresh:
            plain.upgrade(fresh, folder, driver=history.reference, arguments=history.arguments)
            return in_order(fresh)

    return made


def copied(name: str, to: Path) -> Path:
    """A copy of a history, and of what its revisions read and import beside themselves."""
    if name == "long":
        long.write(to)
    else:
        shutil.copytree(HERE / (HISTORIES[name].folder or name), to, ignore=shutil.ignore_patterns("__pycache__"))
    return to


@pytest.fixture
def configured(
    settings: MakeSettings, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Any]:
    """The settings for a history."""

    def make(name: str) -> Any:
        history = HISTORIES[name]
        for schema in history.schemas:
            database.execute(f"CREATE SCHEMA {schema}")
        folder = copied(name, tmp_path / "ours")
        if not history.own_env_py:
            shutil.copy(servers.PROJECT / "migrations" / "env.py", folder)
        monkeypatch.syspath_prepend(folder)
        return settings(folder, **history.settings)

    return make


def names(steps: list[dict[str, Any]]) -> list[str]:
    return [step["revision"] for step in steps]


def in_order(database: Database) -> list[str]:
    """Schema and data, line by line, but for what this service keeps for itself.

    The rows of each table are sorted: where PostgreSQL puts a row depends on when it has last cleaned up.
    """
    lines: list[str] = []
    rows: list[str] | None = None
    for line in dump(database, "--exclude-schema=migration_endpoint").split("\n"):
        if rows is None:
            lines.append(line)
            rows = [] if line.startswith("COPY ") else None
        elif line == "\\.":
            lines += [*sorted(rows), line]
            rows = None
        else:
            rows.append(line)
    assert rows is None
    return lines


@pytest.mark.parametrize(("name", "driver"), CARRIED, indirect=["driver"])
async def test_a_history_makes_the_same_of_a_database_as_with_plain_alembic(
    name: str,
    driver: str,
    configured: Callable[[str], Any],
    database: Database,
    made_by_plain_alembic: Callable[[str], list[str]],
) -> None:
    async with client_of(configured(name)) as client:
        plan = await client.get("/plan", headers=READ)
        assert plan.status_code == 200, plan.text
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text
    assert names(answer.json()["applied"]) == names(plan.json()["pending"])
    differences = difflib.unified_diff(made_by_plain_alembic(name), in_order(database), "theirs", "ours", n=2, lineterm="")
    assert "\n".join(differences) == ""


@pytest.mark.parametrize(("name", "driver"), NOT_CARRIED, indirect=["driver"])
async def test_a_history_that_a_driver_does_not_carry_is_told_of_the_one_that_does(
    name: str, driver: str, configured: Callable[[str], Any]
) -> None:
    async with client_of(configured(name)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 500, answer.text
    assert answer.json()["revision"] == HISTORIES[name].fails_at[driver]
    assert "MIGRATION_DRIVER=psycopg2" in answer.json()["hint"]


@pytest.mark.parametrize(("name", "driver"), REHEARSED, indirect=["driver"])
async def test_a_history_is_rehearsed_in_the_order_of_its_plan_up_to_what_cannot_be_taken_back(
    name: str, driver: str, configured: Callable[[str], Any], database: Database
) -> None:
    configuration = configured(name)
    before = in_order(database)
    async with client_of(configuration) as client:
        planned = names((await client.get("/plan", headers=READ)).json()["pending"])
        answer = await client.post("/rehearse", headers=APPLY)
    assert answer.status_code == 200, answer.text
    last = HISTORIES[name].stops_before
    assert answer.json()["outcome"] == ("incomplete" if last else "passed")
    assert names(answer.json()["steps"]) == planned[: planned.index(last) if last else None]
    assert in_order(database) == before
