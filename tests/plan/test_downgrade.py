"""POST /downgrade and `python -m app downgrade`: back, on purpose, by a plan that says what it destroys."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import MakeSettings, client_of, write_revision
from tests.servers import APPLY, READ, Database
from tests.terminal import terminal
from tests.web.answers import problem


@pytest.fixture
def history(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    write_revision(folder, "a1", None, "op.execute('CREATE TABLE a (id int)')", downgrade="op.execute('DROP TABLE a')")
    write_revision(
        folder,
        "b2",
        "a1",
        "op.execute('ALTER TABLE a ADD note text')",
        downgrade="op.execute('ALTER TABLE a DROP COLUMN note')",
    )
    write_revision(folder, "c3", "b2", "op.execute('CREATE TABLE c (id int)')", downgrade="op.execute('DROP TABLE c')")
    return folder


async def plan_of(client: httpx.AsyncClient, target: str) -> dict[str, Any]:
    answer = await client.get("/plan", headers=READ, params={"direction": "downgrade", "target": target})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def downgrade(client: httpx.AsyncClient, **body: str) -> httpx.Response:
    return await client.post("/downgrade", headers=APPLY, json=body)


async def test_a_downgrade_is_off_unless_it_is_allowed(
    settings: MakeSettings, history: Path, database: Database
) -> None:
    async with client_of(settings(history)) as client:
        await client.post("/migrate", headers=APPLY)
        digest = (await plan_of(client, "a1"))["digest"]  # to plan one is free
        problem(await downgrade(client, target="a1", plan_digest=digest), "downgrade-not-allowed", 409)
        problem(await client.post("/downgrade", headers=READ, json={"target": "a1"}), "insufficient-scope", 403)
    assert database.value("SELECT version_num FROM alembic_version") == "c3"


async def test_it_needs_a_target_and_the_digest_of_its_plan(
    settings: MakeSettings, history: Path, database: Database
) -> None:
    async with client_of(settings(history, allow_downgrade=True)) as client:
        await client.post("/migrate", headers=APPLY)
        problem(await client.post("/downgrade", headers=APPLY), "invalid-request", 422)
        problem(await downgrade(client, plan_digest="0" * 64), "invalid-request", 422)
        document = problem(await downgrade(client, target="a1"), "plan-required", 428)
        assert "GET /plan?direction=downgrade&target=a1" in document["hint"]
        problem(await downgrade(client, target="a1", plan_digest="0" * 64), "plan-changed", 412)
        of_another_target = (await plan_of(client, "base"))["digest"]
        problem(await downgrade(client, target="a1", plan_digest=of_another_target), "plan-changed", 412)
        for target in ("+1", "-9", "nowhere", "c3@x", "x@base", "x@-1"):
            problem(await downgrade(client, target=target, plan_digest="0" * 64), "unknown-target", 422)
    assert database.value("SELECT version_num FROM alembic_version") == "c3"


async def test_it_goes_back_under_the_lock_and_on_record(
    settings: MakeSettings, history: Path, database: Database
) -> None:
    async with client_of(settings(history, allow_downgrade=True)) as client:
        await client.post("/migrate", headers=APPLY)
        plan = await plan_of(client, "a1")
        assert [each["sql"] for each in plan["pending"]] == ["DROP TABLE c;", "ALTER TABLE a DROP COLUMN note;"]
        lossy = [
            finding["message"]
            for each in plan["pending"]
            for finding in each["findings"]
            if finding["rule"] == "lossy-downgrade"
        ]
        assert len(lossy) == 2
        assert "table c" in lossy[0]
        assert "a.note" in lossy[1]

        answer = (await downgrade(client, target="a1", plan_digest=plan["digest"], reason="went wrong")).json()
        assert (answer["outcome"], answer["from"], answer["to"]) == ("downgraded", ["c3"], ["a1"])
        assert [step["revision"] for step in answer["applied"]] == ["c3", "b2"]
        assert answer["remaining"] == []
        again = (await downgrade(client, target="a1", plan_digest=plan["digest"])).json()
        assert again["outcome"] == "up_to_date"

        run = (await client.get(f"/runs/{answer['run_id']}", headers=READ)).json()
        assert (run["outcome"], run["target"], run["reason"]) == ("downgraded", "a1", "went wrong")
        assert [(step["revision"], step["direction"]) for step in run["steps"]] == [
            ("c3", "downgrade"),
            ("b2", "downgrade"),
        ]
        status = (await client.get("/status", headers=READ)).json()
        assert (status["state"], [each["revision"] for each in status["pending"]]) == ("pending", ["b2", "c3"])
        # And forward again.
        assert (await client.post("/migrate", headers=APPLY)).json()["outcome"] == "upgraded"


async def test_a_downgrade_that_fails_halfway_says_how_far_it_came(
    settings: MakeSettings, history: Path, database: Database
) -> None:
    write_revision(history, "b2", "a1", "pass", downgrade="op.execute('SELECT 1 / 0')")
    async with client_of(settings(history, allow_downgrade=True)) as client:
        await client.post("/migrate", headers=APPLY)
        digest = (await plan_of(client, "base"))["digest"]
        document = problem(await downgrade(client, target="base", plan_digest=digest), "migration-failed", 500)
        assert [step["revision"] for step in document["applied"]] == ["c3"]
        assert [each["revision"] for each in document["remaining"]] == ["b2", "a1"]
        assert (document["revision"], document["rolled_back"]) == ("b2", True)
    assert database.value("SELECT version_num FROM alembic_version") == "b2"


async def test_a_level_holds_for_downgrades_too(settings: MakeSettings, history: Path) -> None:
    async with client_of(settings(history, allow_downgrade=True, max_level="warning")) as client:
        await client.post("/migrate", headers=APPLY, json={"accept": ["breaks-serving-code"]})
        plan = await plan_of(client, "b2")
        refused = problem(await downgrade(client, target="b2", plan_digest=plan["digest"]), "unsafe-plan", 409)
        rules = sorted({finding["rule"] for finding in refused["findings"]})
        assert "lossy-downgrade" in rules
        body = {"target": "b2", "plan_digest": plan["digest"], "accept": rules}
        answer = await client.post("/downgrade", headers=APPLY, json=body)
        assert answer.json()["outcome"] == "downgraded"


async def test_a_target_that_was_never_applied_is_not_below(settings: MakeSettings, history: Path) -> None:
    async with client_of(settings(history, allow_downgrade=True)) as client:
        await client.post("/migrate", headers=APPLY, json={"target": "a1"})
        answer = await client.get("/plan?direction=downgrade&target=c3", headers=READ)
        problem(answer, "unknown-target", 422)
        assert (await plan_of(client, "a1"))["pending"] == []


def test_the_terminal_goes_back_too(database: Database, history: Path) -> None:
    chosen = {"script_location": history, "allow_downgrade": True}
    terminal(database, "migrate", **chosen)
    refused = terminal(database, "downgrade", "a1", script_location=history)
    assert (refused.returncode, "Downgrades are off: " in refused.stderr) == (1, True)
    assert "Only a reviewed plan is run here: " in terminal(database, "downgrade", "a1", **chosen).stderr
    words = terminal(database, "plan", "--downgrade", "a1", **chosen).stdout
    assert words.startswith("DOWNGRADE from c3 to a1: 2 to run, in this order.")
    digest = json.loads(terminal(database, "plan", "--downgrade", "a1", "--json", **chosen).stdout)["digest"]
    done = terminal(database, "downgrade", "a1", "--plan", digest, **chosen)
    assert done.stdout.startswith("Downgraded from c3 to a1 in ")
