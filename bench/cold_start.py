"""Cold start: what the first call of a function waits for.

From the start of a process under Vercel's shim to its first answer, beside a bare FastAPI application; and to the
answer that nothing is pending, beside `alembic current`.
"""

import http.client
import shutil
import subprocess
import sys
import time
from pathlib import Path

import alembic

from bench import results
from bench.section import Goal, Section
from bench.side_by_side import Comparison, Measure, compare
from tests import servers, shim
from tests.conftest import write_revision
from tests.servers import APPLY, PROJECT, Database, Postgres

BARE = """
from fastapi import FastAPI

app = FastAPI()


@app.get("/livez")
async def livez():
    return {"status": "pass"}
"""


_EXPLANATION = (
    "From the start of a process under Vercel's shim to its first answer; POST /migrate finds nothing pending of a "
    "history of {revisions}. Medians of {times} measurements in turn; in brackets the fastest and the slowest."
)


def measure(postgres: Postgres, folder: Path, *, times: int = 15, revisions: int = 100) -> Section:
    """Measure both promises, with bytecode and without."""
    with postgres.database() as database:
        measured = comparisons(folder, database, times=times, revisions=revisions)
    return Section(
        name="cold_start",
        title="Cold start",
        explanation=_EXPLANATION.format(times=times, revisions=revisions),
        table=results.table(measured),
        goals=[Goal(f"{each.what}, beside {each.other}", each.ratio, each.at_most) for each in measured],
    )


def comparisons(folder: Path, database: Database, *, times: int, revisions: int) -> list[Comparison]:
    """All of them, with bytecode as a deployment has it, and two without."""
    history, plain, bare = write_histories(folder, database, revisions)
    environment = servers.environment(database, script_location=history)
    with shim.function(environment) as function:
        assert function.post("/migrate", headers=APPLY).status_code == 200

    with_bytecode = environment | {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    # Not even the standard library's: worse than anywhere, and so without a goal. Vercel compiles what it builds.
    without = environment | {"PYTHONPYCACHEPREFIX": str(folder / "nowhere"), "PYTHONDONTWRITEBYTECODE": "1"}

    def livez(what: str, chosen: dict[str, str], at_most: float | None) -> Comparison:
        ours = first_answer(chosen, PROJECT, "api/index.py", "GET", "/livez")
        others = first_answer(chosen, bare, "index.py", "GET", "/livez")
        return compare(what, ours, "a bare FastAPI app", others, at_most=at_most, times=times)

    def migrate(what: str, chosen: dict[str, str], whose: str, where: Path, at_most: float | None) -> Comparison:
        ours = first_answer(chosen, PROJECT, "api/index.py", "POST", "/migrate")
        return compare(what, ours, f"`alembic current`, {whose}", current(chosen, where), at_most=at_most, times=times)

    return [
        livez("GET /livez", with_bytecode, 1.15),
        migrate("POST /migrate", with_bytecode, "our env.py", history, 1),
        migrate("POST /migrate", with_bytecode, "Alembic's own env.py", plain, 1),
        livez("GET /livez, no bytecode", without, None),
        migrate("POST /migrate, no bytecode", without, "our env.py", history, None),
    ]


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
