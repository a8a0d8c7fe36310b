"""The house: what its doors load, and that no room outgrows the others."""

import subprocess
import sys

import pytest

from app import main, settings
from app.settings import Settings
from app.web import hooks
from tests import servers

LARGEST = 310
"""Lines; a module that nears it wants a second look."""


def in_a_fresh_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=servers.PROJECT,
        env=servers.environment(None),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


def test_the_function_loads_no_database_library_before_one_is_needed() -> None:
    loaded = in_a_fresh_python("import sys, api.index; print(*sys.modules)").split()
    assert "fastapi" in loaded
    assert not {"sqlalchemy", "alembic", "asyncpg", "uvicorn", "rich", "pydantic.v1"} & set(loaded)
    assert not {"pydantic_settings", "app.settings", "app.web.hooks"} & set(loaded)
    assert not {"app.report", "app.web.house", "app.web.migrate", "app.web.routes"} & set(loaded)


@pytest.mark.parametrize("variable", main._MAKE_ROUTES)
def test_a_variable_that_makes_routes_is_read_at_once(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    assert callable(main.of_the_environment())
    monkeypatch.setenv(variable.lower(), "")
    assert callable(main.of_the_environment())
    monkeypatch.setenv(variable.lower(), "true" if variable == "MIGRATION_DOCS" else f"secret-of-{variable}")
    assert isinstance(main.of_the_environment(), Settings)


def test_the_variables_that_make_routes_are_those_of_the_settings() -> None:
    made = {settings.variable(sender.setting) for sender in hooks.SENDERS} | {settings.variable("docs")}
    assert set(main._MAKE_ROUTES) == made


def test_what_the_function_goes_without_can_still_be_imported() -> None:
    assert in_a_fresh_python("import api.index, pydantic.v1; print(pydantic.v1.BaseModel.__name__)") == "BaseModel\n"


def test_a_refused_caller_loads_no_database_library() -> None:
    loaded = in_a_fresh_python(
        "import asyncio, sys, httpx\n"
        "from api.index import app\n"
        "async def refused():\n"
        "    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url='http://test') as client:\n"
        "        assert (await client.post('/migrate')).status_code == 401\n"
        "        assert (await client.get('/livez')).status_code == 200\n"
        "asyncio.run(refused())\n"
        "print(*sys.modules)"
    ).split()
    assert not {"sqlalchemy", "alembic", "asyncpg", "pydantic.v1"} & set(loaded)


def test_vercel_and_uvicorn_serve_the_same_app() -> None:
    assert in_a_fresh_python("import api.index, app.main; print(api.index.app is app.main.app)").strip() == "True"


@pytest.mark.parametrize("module", sorted(servers.PROJECT.glob("app/**/*.py")), ids=lambda path: path.name)
def test_no_module_outgrows_its_room(module: object) -> None:
    lines = len(module.read_text().splitlines())  # type: ignore[attr-defined]  # pytest hands paths over as objects
    assert lines <= LARGEST, f"{module} has {lines} lines: does it do two things?"
