"""On histories of each shape, plan, rehearsal, run, record and the way back agree with each other."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeSettings, client_of, write_revision
from tests.plan.test_plan import branching
from tests.servers import APPLY, READ, Database


def quoted(folder: Path) -> Path:
    """Names that SQL and JSON have to quote."""
    for revision, down in (("Ä 1", None), ("b%s2", "Ä 1")):
        table = f'"Say ""{revision}"""'
        body = f"op.execute({f'CREATE TABLE {table} (id int)'!r})"
        write_revision(folder, revision, down, body, downgrade=f"op.execute({f'DROP TABLE {table}'!r})")
    return folder


SHAPES = {
    "branches, a merge, a label, depends_on": (branching, {}),
    "names to be quoted": (quoted, {}),
    "another version table": (branching, {"version_table": "Versions", "version_table_schema": "ops"}),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_planned_is_rehearsed_run_recorded_and_taken_back(
    settings: MakeSettings, database: Database, tmp_path: Path, shape: str
) -> None:
    write, chosen = SHAPES[shape]
    database.execute("CREATE SCHEMA ops")
    async with client_of(settings(write(tmp_path / "history"), allow_downgrade=True, **chosen)) as client:

        async def answer(method: str, path: str, **body: Any) -> dict[str, Any]:
            told = await client.request(method, path, headers=APPLY, json=body or None)
            assert told.status_code == 200, told.text
            found: dict[str, Any] = told.json()
            return found

        def names(steps: list[dict[str, Any]]) -> list[str]:
            return [step["revision"] for step in steps]

        plan = await answer("GET", "/plan")
        planned = names(plan["pending"])
        assert names((await answer("POST", "/rehearse"))["steps"]) == planned
        assert (await answer("GET", "/plan")) == plan  # a rehearsal has left nothing
        run = await answer("POST", "/migrate", plan_digest=plan["digest"])
        assert names(run["applied"]) == planned

        (recorded,) = (await answer("GET", "/runs"))["runs"]
        assert (recorded["revisions"], recorded["plan_digest"]) == (planned, plan["digest"])
        status = await answer("GET", "/status?drift=true")
        assert (status["state"], status["pending"]) == ("up_to_date", [])
        assert (status["modified"], status["unrecorded"], status["drift"]["differs"]) == ([], [], False)

        back = await answer("GET", "/plan?direction=downgrade&target=base")
        undone = await answer("POST", "/downgrade", target="base", plan_digest=back["digest"])
        assert names(undone["applied"]) == names(back["pending"])
        assert sorted(names(back["pending"])) == sorted(planned)
        status = await answer("GET", "/status?drift=true")
        assert (status["current"], names(status["pending"]), status["drift"]["differs"]) == ([], planned, False)
        assert (await client.get("/plan", headers=READ)).json()["digest"] == plan["digest"]
