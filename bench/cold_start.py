"""Cold start: `make bench`, or `python -m bench.cold_start`.

From the start of a process under Vercel's shim to its first answer, beside a bare FastAPI application; and to the
answer that nothing is pending, beside `alembic current`.
"""

import http.client
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import alembic

from bench import results
from bench.side_by_side import Comparison, Measure, compare
from tests import servers, shim
from tests.conftest import write_revision
from tests.servers import APPLY, PROJECT, Database

BARE = """
from fastapi import FastAPI

app = FastAPI()


@app.get("/livez")
async def livez():
    return {"status": "pass"}
"""


def main(times: int = 9, revisions: int = 100) -> None:
    """Measure, print, and write bench/results/cold_start.md."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        servers.postgres() as postgres,
        postgres.database() as database,
    ):
        measured = comparisons(Path(folder), database, times=times, revisions=revisions)
        version = postgres.execute("SHOW server_version")[0][0].split()[0]
    results.show(
        "Cold start",
        f"Medians of {times} measurements in turn; in brackets the fastest and the slowest.",
        results.table(measured),
        results.circumstances("fastapi", "sqlalchemy", "alembic", "asyncpg", "vercel-runtime", PostgreSQL=version),
    )


def comparisons(folder: Path, database: Database, *, times: int, revisions: int) -> list[Comparison]:
    """All of them, with bytecode, as a deployment has it, and without any."""
    history, plain, bare = write_histories(folder, database, revisions)
    environment = servers.environment(database, script_location=history)
    with shim.function(environment) as function:
        assert function.post("/migrate", headers=APPLY).status_code == 200

    found = []
    for kind, bytecode in {
        "with bytecode": {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""},
        "without": {"PYTHONPYCACHEPREFIX": str(folder / "nowhere"), "PYTHONDONTWRITEBYTECODE": "1"},
    }.items():
        chosen = environment | bytecode
        livez = first_answer(chosen, PROJECT, "api/index.py", "GET", "/livez")
        migrate = first_answer(chosen, PROJECT, "api/index.py", "POST", "/migrate")
        of_a_bare_app = first_answer(chosen, bare, "index.py", "GET", "/livez")
        found += [
            compare(f"GET /livez, {kind}", livez, "a bare FastAPI app", of_a_bare_app, at_most=1.15, times=times),
            compare(
                f"POST /migrate, {kind}",
                migrate,
                "`alembic current`",
                current(chosen, history),
                at_most=1,
                times=times,
            ),
            compare(
                f"POST /migrate, {kind}",
                migrate,
                "`alembic current` with Alembic's own env.py",
                current(chosen, plain),
                at_most=1,
                times=times,
            ),
        ]
    return found


def write_histories(folder: Path, database: Database, revisions: int) -> tuple[Path, Path, Path]:
    """The project's env.py with a history; Alembic's own env.py with the same one; and a bare application."""
    history, plain, bare = folder / "history", folder / "plain", folder / "bare"
    ids = [f"r{number:04}" for number in range(revisions)]
    for before, revision in zip([None, *ids], ids, strict=False):
        write_revision(history, revision, before, f"op.execute('CREATE TABLE {revision} (id int)')")
    shutil.copytree(history, plain)
    shutil.copy(Path(alembic.__file__).parent / "templates/async/env.py", plain)
    url = database.address.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    for where in (history, plain):
        (where / "alembic.ini").write_text(
            f"[alembic]\nscript_location = {where}\nprepend_sys_path = {PROJECT}\n"
            f"sqlalchemy.url = {url.replace('%', '%%')}\n"
            "[loggers]\nkeys = root\n[handlers]\nkeys =\n[formatters]\nkeys =\n[logger_root]\nhandlers =\n"
        )
    bare.mkdir()
    (bare / "index.py").write_text(BARE)
    return history, plain, bare


def first_answer(environment: dict[str, str], folder: Path, entrypoint: str, method: str, path: str) -> Measure:
    """From the start of a process under the shim to its first answer."""

    def measure() -> float:
        began = time.perf_counter()
        with shim.function(environment, folder, entrypoint=entrypoint) as function:
            # httpx would spend more on a TLS context than the answer takes
            connection = http.client.HTTPConnection("127.0.0.1", function.port)
            connection.request(method, path, headers=APPLY)
            answer = connection.getresponse()
            body = answer.read()
            took = time.perf_counter() - began
            connection.close()
        assert answer.status == 200, body
        return took

    return measure


def current(environment: dict[str, str], history: Path) -> Measure:
    """The whole process of `alembic current`."""

    def measure() -> float:
        command = [sys.executable, "-m", "alembic", "-c", str(history / "alembic.ini"), "current"]
        began = time.perf_counter()
        answer = subprocess.run(
            command, cwd=history, env=environment, check=True, capture_output=True, text=True, timeout=60
        )
        took = time.perf_counter() - began
        assert "(head)" in answer.stdout, answer
        return took

    return measure


if __name__ == "__main__":
    main()
