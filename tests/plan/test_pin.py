"""The pin: only the plan that was reviewed is run, whatever happens between the review and the run."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import gate
from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.servers import APPLY, READ, Database, until
from tests.terminal import terminal
from tests.web.answers import problem

TWO = {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": "op.execute('CREATE TABLE b (id int)')"}
NOBODYS = "0" * 64


async def digest_of(client: httpx.AsyncClient, **parameters: str) -> str:
    answer = await client.get("/plan", headers=READ, params=parameters)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["digest"])


async def migrate(client: httpx.AsyncClient, body: dict[str, Any], **headers: str) -> httpx.Response:
    return await client.post("/migrate", headers=APPLY | headers, json=body)


@pytest.mark.parametrize("way", ["body", "ETag", "bare", "list", "both"])
async def test_the_pinned_plan_is_run(settings: MakeSettings, write_history: WriteHistory, way: str) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        digest = await digest_of(client)
        body: dict[str, str] = {"plan_digest": digest} if way in ("body", "both") else {}
        tag = {"ETag": f'"{digest}"', "bare": digest, "list": f'"{NOBODYS}", "{digest}"', "both": f'"{digest}"'}.get(
            way
        )
        answer = await migrate(client, body, **({"If-Match": tag} if tag else {}))
    assert (answer.status_code, answer.json()["outcome"]) == (200, "upgraded")


@pytest.mark.parametrize(
    ("body", "tag"),
    [
        ({"plan_digest": NOBODYS}, None),
        ({}, f'"{NOBODYS}"'),
        ({"plan_digest": "the right one"}, f'"{NOBODYS}"'),
        ({}, 'W/"the right one"'),
    ],
)
async def test_another_plan_is_not_run_and_the_new_one_comes_with_the_refusal(
    settings: MakeSettings, write_history: WriteHistory, database: Database, body: dict[str, str], tag: str | None
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await migrate(client, {"target": "a1"})
        now = (await client.get("/plan", headers=READ)).json()
        body = {name: value.replace("the right one", now["digest"]) for name, value in body.items()}
        headers = {"If-Match": tag.replace("the right one", now["digest"])} if tag else {}
        document = problem(await migrate(client, body, **headers), "plan-changed", 412)
        assert document["plan"] == now
        # It works with the plan that came.
        assert (await migrate(client, {"plan_digest": document["plan"]["digest"]})).json()["outcome"] == "upgraded"
        refused = (await client.get("/runs", headers=READ)).json()["runs"][1]
    assert (refused["outcome"], refused["error"]["status"]) == ("refused", 412)
    assert "plan" not in refused["error"]
    assert database.value("SELECT to_regclass('b') IS NOT NULL")


async def test_a_pin_that_pins_nothing_is_refused(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        nothing = [({"plan_digest": "0007"}, ""), ({"plan_digest": NOBODYS + "\n"}, ""), ({}, "0007")]
        for body, tag in [*nothing, ({}, f'"{NOBODYS}", 0007')]:
            answer = await migrate(client, body, **({"If-Match": tag} if tag else {}))
            problem(answer, "invalid-request", 422)


async def test_a_revision_that_was_edited_after_the_review_is_not_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    reviewed, deployed = write_history(**TWO), write_history(**TWO | {"b2": "op.execute('DROP TABLE a')"})
    async with client_of(settings(reviewed)) as client:
        digest = await digest_of(client)
    async with client_of(settings(deployed)) as client:
        document = problem(await migrate(client, {"plan_digest": digest}), "plan-changed", 412)
    assert [each["sql"] for each in document["plan"]["pending"]] == ["CREATE TABLE a (id int);", "DROP TABLE a;"]
    assert database.value("SELECT to_regclass('a')") is None


async def test_the_plan_is_compared_once_the_lock_is_held(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    """Two callers pin the same plan. The second waits, while the first one is half through; then all is done."""
    history = write_history(a1=TWO["a1"], w2=gate.WAITS, b3="op.execute('CREATE TABLE b (id int)')")
    async with client_of(settings(history)) as first, client_of(settings(history)) as second:
        digest = await digest_of(first)
        with gate.shut(database):
            runs = [
                asyncio.create_task(migrate(each, {"plan_digest": digest, "lock_wait_s": 30}))
                for each in (first, second)
            ]
            await asyncio.to_thread(until, lambda: database.value("SELECT to_regclass('a') IS NOT NULL"))
            other = asyncio.create_task(migrate(second, {"plan_digest": NOBODYS, "lock_wait_s": 0.2}))
            problem(await other, "lock-held", 409)
            await asyncio.sleep(0.3)
            assert not any(run.done() for run in runs)
        outcomes = [(await run).json()["outcome"] for run in runs]
    assert sorted(outcomes) == ["up_to_date", "upgraded"]


async def test_what_was_done_meanwhile_by_others_is_a_changed_plan(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    """The first look sees the reviewed plan; while this caller waits for the lock, somebody runs a part of it."""
    history = write_history(a1=gate.WAITS, b2="pass", c3="pass")
    async with client_of(settings(history)) as client, client_of(settings(history)) as other:
        digest = await digest_of(client)
        with gate.shut(database):
            part = asyncio.create_task(migrate(other, {"target": "a1"}))
            await asyncio.to_thread(
                until, lambda: database.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 1
            )
            pinned = asyncio.create_task(migrate(client, {"plan_digest": digest, "lock_wait_s": 30}))
            await asyncio.sleep(0.3)
        assert (await part).json()["outcome"] == "upgraded"
        problem(await pinned, "plan-changed", 412)
    assert database.value("SELECT version_num FROM alembic_version") == "a1"


@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
async def test_a_run_that_stopped_halfway_is_continued_with_the_same_pin(
    settings: MakeSettings, tmp_path: Path, database: Database, direction: str
) -> None:
    """Twice: three calls, each of which comes one revision further."""
    folder = tmp_path / "halfway"
    may = "op.execute('SELECT 1 / count(*) FROM may_go WHERE revision = $${}$$')"
    for revision, down in (("a1", None), ("b2", "a1"), ("c3", "b2")):
        write_revision(folder, revision, down, may.format(revision), downgrade=may.format(revision))
    database.execute("CREATE TABLE may_go (revision text)")
    order = ["a1", "b2", "c3"]
    async with client_of(settings(folder, allow_downgrade=True)) as client:
        body: dict[str, str] = {}
        if direction == "downgrade":
            database.execute("INSERT INTO may_go VALUES ('a1'), ('b2'), ('c3')")
            await migrate(client, {})
            database.execute("DELETE FROM may_go")
            order, body = order[::-1], {"target": "base"}
        digest = await digest_of(client, **body, direction=direction)
        for applied, stuck in (([], order[0]), ([order[0]], order[1]), ([order[1]], order[2])):
            for revision in applied:
                database.execute(f"INSERT INTO may_go VALUES ('{revision}')")
            route = "/downgrade" if direction == "downgrade" else "/migrate"
            answer = await client.post(route, headers=APPLY, json={**body, "plan_digest": digest})
            document = problem(answer, "migration-failed", 500)
            assert ([step["revision"] for step in document["applied"]], document["revision"]) == (applied, stuck)
        # But what is left is not the plan of somebody who has seen only a part of it, nor with another target.
        another = await client.post(route, headers=APPLY, json={**body, "plan_digest": NOBODYS})
        problem(another, "plan-changed", 412)
        database.execute(f"INSERT INTO may_go VALUES ('{order[2]}')")
        done = await client.post(route, headers=APPLY, json={**body, "plan_digest": digest})
        assert (done.status_code, done.json()["remaining"]) == (200, [])
        runs = (await client.get("/runs", headers=READ)).json()["runs"]
    assert [run["plan_digest"] for run in runs if run["outcome"] != "refused"][:4] == [digest] * 4


async def test_a_plan_is_continued_behind_runs_of_other_histories_and_not_behind_others_of_its_own(
    settings: MakeSettings, write_history: WriteHistory, tmp_path: Path, database: Database
) -> None:
    folder, theirs = tmp_path / "halfway", write_history(z1="pass")
    write_revision(folder, "a1", None, "pass")
    write_revision(folder, "b2", "a1", "op.execute('SELECT 1 / 0')")
    async with client_of(settings(folder, allow_downgrade=True)) as client:
        pinned = {"plan_digest": await digest_of(client)}
        problem(await migrate(client, pinned), "migration-failed", 500)
        async with client_of(settings(theirs, version_table="theirs")) as other:
            assert (await migrate(other, {})).json()["outcome"] == "upgraded"
        problem(await migrate(client, pinned), "migration-failed", 500)
        # Somebody goes back and forth: the same is left to do, but not behind what the pinned run has done.
        back = {"target": "base", "plan_digest": await digest_of(client, direction="downgrade", target="base")}
        assert (await client.post("/downgrade", headers=APPLY, json=back)).status_code == 200
        assert (await migrate(client, {"target": "a1"})).json()["outcome"] == "upgraded"
        problem(await migrate(client, pinned), "plan-changed", 412)


async def test_what_is_left_is_not_the_plan_any_more_once_a_file_was_edited(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    revisions = {"a1": "pass", "b2": "op.execute('SELECT 1 / 0')", "c3": "pass"}
    reviewed = write_history(**revisions)
    mended = write_history(**revisions | {"b2": "pass"})
    async with client_of(settings(reviewed)) as client:
        digest = await digest_of(client)
        problem(await migrate(client, {"plan_digest": digest}), "migration-failed", 500)
    async with client_of(settings(mended)) as client:
        problem(await migrate(client, {"plan_digest": digest}), "plan-changed", 412)


async def test_a_revision_outside_of_the_plan_is_never_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    """Between the comparison and the run, and between two tries of a revision, Alembic reads the version anew."""
    history = write_history(a1=TWO["a1"], b2="op.execute('ALTER TABLE waited ADD n int')")
    database.execute("CREATE TABLE waited (id int)")
    async with client_of(settings(history, lock_timeout=0.3)) as client:
        await migrate(client, {"target": "a1"})
        database.execute("DROP TABLE a")
        digest = await digest_of(client)
        with database.connect() as holder:
            holder.execute("BEGIN; LOCK TABLE waited")
            run = asyncio.create_task(migrate(client, {"plan_digest": digest}))
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'waited'::regclass"
            await asyncio.to_thread(until, lambda: database.value(waits))
            database.execute("DELETE FROM alembic_version")
            await asyncio.sleep(0.5)
            holder.execute("ROLLBACK")
        document = problem(await run, "migration-failed", 500)
    assert "not what comes next in the plan" in document["detail"]
    assert document["applied"] == []
    assert database.value("SELECT to_regclass('a')") is None


async def test_the_same_idempotency_key_with_another_pin_is_another_request(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    key = {"Idempotency-Key": '"deploy-1"'}
    async with client_of(settings(write_history(**TWO))) as client:
        digest = await digest_of(client)
        assert (await migrate(client, {}, **key, **{"If-Match": f'"{digest}"'})).status_code == 200
        again = await migrate(client, {}, **key, **{"If-Match": f'"{digest}"'})
        assert again.headers["idempotency-replayed"] == "true"
        problem(await migrate(client, {}, **key, **{"If-Match": f'"{NOBODYS}"'}), "idempotency-key-reused", 422)
        problem(await migrate(client, {}, **key), "idempotency-key-reused", 422)


async def test_a_plan_that_is_done_already_is_up_to_date(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        digest = await digest_of(client)
        outcomes = [(await migrate(client, {"plan_digest": digest})).json()["outcome"] for _ in range(2)]
    assert outcomes == ["upgraded", "up_to_date"]


# --- MIGRATION_REQUIRE_PLAN


async def test_without_a_pin_nothing_is_run_where_one_is_required(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO), require_plan=True)) as client:
        problem(await migrate(client, {}), "plan-required", 428)
        problem(await migrate(client, {}, **{"If-Match": "*"}), "plan-required", 428)
        async with client_of(settings(write_history(**TWO))) as free:
            await migrate(free, {"target": "a1"})
        problem(await migrate(client, {}), "plan-required", 428)
        refused = (await client.get("/runs?outcome=refused", headers=READ)).json()["runs"]
        assert [run["error"]["status"] for run in refused] == [428]
        assert database.value("SELECT to_regclass('b')") is None
        digest = await digest_of(client)
        assert (await migrate(client, {"plan_digest": digest})).json()["outcome"] == "upgraded"
        # And with nothing left to do, as the rule is about the call.
        problem(await migrate(client, {}), "plan-required", 428)


def test_the_terminal_needs_the_pin_too(database: Database, write_history: WriteHistory) -> None:
    chosen = {"require_plan": True, "script_location": write_history(**TWO)}
    refused = terminal(database, "migrate", **chosen)
    assert (refused.returncode, "Only a reviewed plan is run here: " in refused.stderr) == (1, True)
    digest = json.loads(terminal(database, "plan", "--json", **chosen).stdout)["digest"]
    assert terminal(database, "migrate", "--plan", f'"{digest}"', **chosen).returncode == 0
    # And still where nothing is left to do, however quickly that could be told.
    assert terminal(database, "migrate", **chosen).returncode == 1


# --- MIGRATION_MAX_LEVEL, and what a caller accepts

DROPS = {
    "a1": "op.execute('CREATE TABLE a (id int, old int)')",
    "b2": "op.execute('ALTER TABLE a DROP COLUMN old')",
}


async def test_a_dangerous_plan_is_refused_unless_its_rules_are_accepted(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**DROPS)
    async with client_of(settings(history)) as client:
        await migrate(client, {"target": "a1"})
    async with client_of(settings(history, max_level="warning")) as client:
        document = problem(await migrate(client, {}), "unsafe-plan", 409)
        plan = (await client.get("/plan", headers=READ)).json()
        findings = plan["pending"][0]["findings"]
        assert document["findings"] == [each for each in findings if each["level"] == "danger"]
        assert document["digest"] == plan["digest"]
        assert {each["rule"] for each in document["findings"]} >= {"ban-drop-column", "breaks-serving-code"}
        assert all(each["safe_way"] for each in document["findings"])
        problem(await migrate(client, {"accept": ["ban-drop-column"]}), "unsafe-plan", 409)
        assert database.value("SELECT count(*) FROM pg_attribute WHERE attname = 'old'") == 1

        rules = sorted({each["rule"] for each in document["findings"]})
        answer = await migrate(client, {"accept": [*rules, "of-no-use"]})
        assert answer.json()["outcome"] == "upgraded"
    accepted = database.value(
        "SELECT accepted FROM migration_endpoint.run WHERE outcome = 'upgraded' AND target = 'heads'"
    )
    assert {(each["revision"], each["rule"], each["level"]) for each in accepted} == {
        ("b2", rule, "danger") for rule in rules
    }
    refusals = database.execute("SELECT error->>'status' FROM migration_endpoint.run WHERE outcome = 'refused'")
    assert refusals == [("409",), ("409",)]


async def test_a_stale_pin_is_said_before_the_findings_of_a_plan_that_nobody_has_reviewed(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    history = write_history(**DROPS)
    async with client_of(settings(history)) as client:
        await migrate(client, {"target": "a1"})
    async with client_of(settings(history, max_level="warning")) as client:
        problem(await migrate(client, {"plan_digest": NOBODYS}), "plan-changed", 412)
        problem(await migrate(client, {"plan_digest": await digest_of(client)}), "unsafe-plan", 409)


async def test_what_cannot_be_rendered_is_a_warning(settings: MakeSettings, write_history: WriteHistory) -> None:
    history = write_history(a1="if op.get_bind().execute(sa.text('SELECT 1')).scalar():\n    pass")
    async with client_of(settings(history, max_level="notice")) as client:
        document = problem(await migrate(client, {}), "unsafe-plan", 409)
        assert [each["rule"] for each in document["findings"]] == ["not-rendered"]
        assert (await migrate(client, {"accept": ["not-rendered"]})).status_code == 200


async def test_a_plan_no_worse_than_allowed_is_run(settings: MakeSettings, write_history: WriteHistory) -> None:
    history = write_history(**DROPS)
    async with client_of(settings(history, max_level="warning")) as client:
        # With a1 before it nobody knows yet what b2 drops.
        assert (await client.get("/plan", headers=READ)).json()["level"] != "danger"
        assert (await migrate(client, {"target": "a1"})).json()["outcome"] == "upgraded"
    async with client_of(settings(history, max_level="danger")) as client:
        assert (await client.get("/plan", headers=READ)).json()["level"] == "danger"
        assert (await migrate(client, {})).json()["outcome"] == "upgraded"
        assert (await migrate(client, {})).json()["outcome"] == "up_to_date"


async def test_what_is_accepted_where_nothing_would_be_refused_is_on_record_too(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**DROPS))) as client:
        await migrate(client, {"target": "a1"})
        assert (await migrate(client, {"accept": ["ban-drop-column"]})).json()["outcome"] == "upgraded"
    accepted = database.value("SELECT accepted FROM migration_endpoint.run WHERE target = 'heads'")
    assert accepted == [{"revision": "b2", "rule": "ban-drop-column", "level": "danger"}]


async def test_what_is_left_of_a_harmless_plan_is_judged_again_once_the_lock_is_held(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**DROPS), max_level="warning")) as client:
        key = (await client.get("/status", headers=READ)).json()["lock"]["key"]
        with database.connect() as held:
            held.execute(f"SELECT pg_advisory_lock({key})".encode())
            call = asyncio.create_task(migrate(client, {"lock_wait_s": 60}))
            while not await asyncio.to_thread(lambda: database.is_waited_for):
                assert not call.done()
            # What a run that goes as far as a1 leaves behind meanwhile.
            database.execute(
                "CREATE TABLE a (id int, old int); CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY); "
                "INSERT INTO alembic_version VALUES ('a1')"
            )
        problem(await call, "unsafe-plan", 409)
    assert database.value("SELECT count(*) FROM pg_attribute WHERE attname = 'old'") == 1


async def test_a_plan_that_was_judged_without_squawk_is_run_with_a_warning(
    settings: MakeSettings, write_history: WriteHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    async with client_of(settings(write_history(**TWO), max_level="warning")) as client:
        (warning,) = (await migrate(client, {})).json()["warnings"]
    assert warning.startswith("squawk is not installed here, so the plan was judged by the built-in rules alone")


def test_a_pipeline_sees_the_level_in_the_exit_code(database: Database, write_history: WriteHistory) -> None:
    history = write_history(**DROPS)
    terminal(database, "migrate", "--target", "a1", script_location=history)
    told = terminal(database, "plan", script_location=history, max_level="warning")
    assert told.returncode == 1
    assert "DANGER  breaks-serving-code" in told.stdout
    assert "the safe way:" in told.stdout
    assert terminal(database, "plan", script_location=history, max_level="danger").returncode == 0
    refused = terminal(database, "migrate", script_location=history, max_level="warning")
    assert (refused.returncode, "unsafe" in refused.stderr or "not let pass" in refused.stderr) == (1, True)
