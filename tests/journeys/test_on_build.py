"""Migrations while Vercel builds: `python -m app migrate --on-build`, as pyproject.toml has it run."""

import subprocess
import sys
import tomllib

import pytest

from tests import gate, servers
from tests.conftest import WriteHistory
from tests.servers import Database

TWO = {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": "op.execute('CREATE TABLE b (id int)')"}
PRODUCTION = {"MIGRATION_ON_BUILD": "production", "VERCEL_ENV": "production", "VERCEL": "1", "CI": "1"}


def script() -> list[str]:
    """The build step, with the Python of the tests."""
    project = tomllib.loads((servers.PROJECT / "pyproject.toml").read_text())
    python, *arguments = project["tool"]["vercel"]["scripts"]["build"].split()
    assert python == "python"
    return [sys.executable, *arguments]


def begin(database: Database | None, variables: dict[str, str], **settings: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        script(),
        cwd=servers.PROJECT,
        env=servers.environment(database, **settings) | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def build(database: Database | None, variables: dict[str, str], **settings: object) -> tuple[int, str]:
    """Build to the end: the exit code, and what was printed."""
    process = begin(database, variables, **settings)
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, output


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"VERCEL_ENV": "production"}, "MIGRATION_ON_BUILD is not set"),
        ({"VERCEL_ENV": "production", "MIGRATION_ON_BUILD": ""}, "MIGRATION_ON_BUILD is not set"),
        ({**PRODUCTION, "VERCEL_ENV": "preview"}, "it is for preview"),
        ({"MIGRATION_ON_BUILD": "production"}, "no environment"),
    ],
)
def test_a_build_does_not_migrate_unless_it_is_told_to_and_is_for_production(
    write_history: WriteHistory, database: Database, variables: dict[str, str], why: str
) -> None:
    code, output = build(database, variables, script_location=write_history(**TWO))
    assert code == 0
    assert why in output
    assert database.value("SELECT to_regclass('a') IS NULL")


def test_a_build_that_does_not_migrate_needs_no_configuration() -> None:
    assert build(None, {"MIGRATION_LEASE": "soon"})[0] == 0


def test_a_production_build_migrates(write_history: WriteHistory, database: Database) -> None:
    code, output = build(database, PRODUCTION, script_location=write_history(**TWO))
    assert code == 0, output
    assert database.value("SELECT to_regclass('b') IS NOT NULL")
    assert database.value("SELECT name FROM migration_endpoint.environment") == "production"
    assert database.value("SELECT reason FROM migration_endpoint.run") == "build"


@pytest.mark.parametrize("value", ["preview", "true", "Production"])
def test_a_value_that_means_nothing_fails_the_build(
    write_history: WriteHistory, database: Database, value: str
) -> None:
    variables = {**PRODUCTION, "MIGRATION_ON_BUILD": value}
    code, output = build(database, variables, script_location=write_history(**TWO))
    assert code == 2
    assert "MIGRATION_ON_BUILD" in output
    assert database.value("SELECT to_regclass('a') IS NULL")


def test_a_failed_run_fails_the_build(write_history: WriteHistory, database: Database) -> None:
    history = write_history(a1=TWO["a1"], b2="op.execute('SELECT 1/0')")
    code, output = build(database, PRODUCTION, script_location=history)
    assert code == 1
    assert "b2" in output
    assert "division by zero" in output


def test_a_database_that_is_not_there_fails_the_build(write_history: WriteHistory) -> None:
    unreachable = {**PRODUCTION, "DATABASE_URL": "postgresql://somebody@127.0.0.1:1/nowhere"}
    assert build(None, unreachable, script_location=write_history(**TWO))[0] == 75


def test_two_builds_at_once_both_end_well(write_history: WriteHistory, database: Database) -> None:
    history = write_history(a1=gate.WAITS, b2=TWO["b2"])
    with gate.shut(database):
        first = begin(database, PRODUCTION, script_location=history, lock_wait=0)
        try:
            servers.until(lambda: database.is_locked, seconds=30, what="the first build to migrate")
            second = begin(database, PRODUCTION, script_location=history, lock_wait=0)
        except BaseException:
            first.kill()
            raise
        try:
            servers.until(lambda: database.is_waited_for, seconds=30, what="the second build to wait")
            database.execute("DELETE FROM gate")
            for process in (first, second):
                output, _ = process.communicate(timeout=60)
                assert process.returncode == 0, output
        finally:
            first.kill()
            second.kill()
    outcomes = database.execute("SELECT outcome FROM migration_endpoint.run")
    assert outcomes == [("upgraded",)]
