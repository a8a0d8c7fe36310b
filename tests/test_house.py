"""The house: what its doors load, and that no room outgrows the others."""

import subprocess
import sys

import pytest

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
