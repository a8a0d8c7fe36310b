"""`+1`, `label@-1` and their like: counted once in a run, under the lock, and not anew when something is repeated."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import gate
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database, Service, until
from tests.shapes import SHAPES, write_shape
from tests.terminal import terminal
from tests.web.answers import problem

FOUR = {name: f"op.execute('CREATE TABLE {name} (id int)')" for name in ("a1", "b2", "c3", "d4")}
KEY = {**APPLY, "Idempotency-Key": '"one-step-forward"'}


def names(steps: list[dict[str, Any]]) -> list[str]:
    return [step["revision"] for step in steps]


async def migrate(client: httpx.AsyncClient, target: str, **body: Any) -> httpx.Response:
    return await client.post("/migrate", headers=APPLY, json={"target": target, **body})


async def plan(client: httpx.AsyncClient, **parameters: str) -> dict[str, Any]:
    answer = await client.get("/plan", headers=READ, params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_each_call_goes_one_step_further_and_the_last_one_says_that_there_is_no_further(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(**FOUR))) as client:
        for before, after in (([], "a1"), (["a1"], "b2")):
            answer = (await migrate(client, "+1")).json()
            assert (answer["outcome"], answer["target"]) == ("upgraded", "+1")
            assert (answer["from"], answer["to"], names(answer["applied"])) == (before, [after], [after])
        answer = (await migrate(client, "a1+2")).json()
        assert (answer["target"], answer["to"]) == ("a1+2", ["c3"])
        assert (await migrate(client, "a1+2")).json()["outcome"] == "up_to_date"
        problem(await migrate(client, "+2"), "unknown-target", 422)
        assert (await migrate(client, "+1")).json()["to"] == ["d4"]
        refused = problem(await migrate(client, "+1"), "unknown-target", 422)
        assert refused["detail"] == "The database is at its head, d4: nothing is further on for `+1`."
        (last, *_) = (await client.get("/runs", headers=READ)).json()["runs"]
        assert (last["target"], last["to"]) == ("+1", ["d4"])


async def test_labels_lead_each_along_its_branch_and_back(
    settings: MakeSettings, tmp_path: Path, database: Database
) -> None:
    history = write_shape(tmp_path / "history", SHAPES["a dependency across"])
    async with client_of(settings(history, allow_downgrade=True)) as client:

        async def goes_back(target: str) -> list[str]:
            planned = await plan(client, target=target, direction="downgrade")
            body = {"target": target, "plan_digest": planned["digest"]}
            answer = await client.post("/downgrade", headers=APPLY, json=body)
            assert answer.status_code == 200, answer.text
            assert answer.json()["target"] == target
            assert names(answer.json()["applied"]) == names(planned["pending"])
            return names(answer.json()["applied"])

        assert names((await migrate(client, "bill@+1")).json()["applied"]) == ["shop1", "shop2", "bill1"]
        assert names((await migrate(client, "shop@+1")).json()["applied"]) == ["shop3"]
        assert names((await migrate(client, "bill@head")).json()["applied"]) == ["bill2"]
        problem(await migrate(client, "+1"), "unknown-target", 422)
        problem(await client.get("/plan?direction=downgrade&target=-1", headers=READ), "unknown-target", 422)
        assert await goes_back("bill@-1") == ["bill2"]
        assert await goes_back("shop3-1") == ["shop3"]
        assert await goes_back("bill@base") == ["bill1"]
        assert await goes_back("-1") == ["shop2"]
        assert await goes_back("-1") == ["shop1"]
        problem(await client.get("/plan?direction=downgrade&target=-1", headers=READ), "unknown-target", 422)
    assert database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1  # alembic_version


async def test_a_way_back_spares_the_other_branch(settings: MakeSettings, tmp_path: Path) -> None:
    history = write_shape(tmp_path / "history", SHAPES["two heads"])
    async with client_of(settings(history, allow_downgrade=True)) as client:
        await migrate(client, "heads")
        planned = await plan(client, target="c3@-1", direction="downgrade")
        body = {"target": "c3@-1", "plan_digest": planned["digest"]}
        answer = (await client.post("/downgrade", headers=APPLY, json=body)).json()
        assert (names(answer["applied"]), answer["to"]) == (["c3"], ["b3"])


async def test_a_revision_that_is_tried_again_is_not_counted_again(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    """After a lock timeout Alembic begins anew, at a database that is one revision further than before."""
    history = write_history(
        a1="op.execute('CREATE TABLE a1 (id int)')",
        b2="op.execute('UPDATE tries SET n = n + 1')\n"
        "if op.get_bind().scalar(sa.text('SELECT last_value FROM twice')) < 2:\n"
        "    op.get_bind().scalar(sa.text(\"SELECT nextval('twice')\"))\n"
        "    op.execute(\"DO $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '55P03'; END $$\")",
        c3="pass",
        d4="pass",
    )
    database.execute("CREATE TABLE tries AS SELECT 0 AS n; CREATE SEQUENCE twice")
    async with client_of(settings(history, lock_retries=5)) as client:
        answer = await migrate(client, "+2")
        assert answer.status_code == 200, answer.text
        assert (names(answer.json()["applied"]), answer.json()["to"]) == (["a1", "b2"], ["b2"])
    assert database.value("SELECT retries FROM migration_endpoint.run") >= 1


def test_who_waits_for_a_run_counts_from_where_that_has_left_it(
    write_history: WriteHistory, serve_many: Callable[..., list[Service]], database: Database
) -> None:
    history = write_history(a1="op.execute('SELECT 1')", b2=gate.WAITS, c3="pass", d4="pass")
    first, second = serve_many(2, history)
    with ThreadPoolExecutor(2) as pool:
        with gate.shut(database):
            holder = pool.submit(first.post, {"target": "b2"})
            until(lambda: database.is_locked, what="the first run to hold the lock")
            until(
                lambda: database.execute("SELECT 1 FROM pg_tables WHERE tablename = 'alembic_version'"),
                what="a version",
            )
            waiter = pool.submit(second.post, {"target": "+1", "lock_wait_s": 30})
            until(lambda: database.is_waited_for, what="the second run to wait")
        assert holder.result().json()["to"] == ["b2"]
        answer = waiter.result().json()
    assert (answer["from"], answer["to"], names(answer["applied"])) == (["b2"], ["c3"], ["c3"])


FAILS = {
    "a1": "op.execute('CREATE TABLE a1 (id int)')",
    "b2": "op.execute('SELECT 1 / n FROM divisor')",
    "c3": "pass",
    "d4": "pass",
}


async def test_a_pinned_plan_is_continued_to_where_it_led(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute("CREATE TABLE divisor AS SELECT 0 AS n")
    async with client_of(settings(write_history(**FAILS), max_level="warning", allow_downgrade=True)) as client:
        digest = (await plan(client, target="+3"))["digest"]
        stopped = problem(await migrate(client, "+3", plan_digest=digest), "migration-failed", 500)
        assert (names(stopped["applied"]), names(stopped["remaining"])) == (["a1"], ["b2", "c3"])
        database.execute("UPDATE divisor SET n = 1")
        problem(await migrate(client, "+2", plan_digest=digest), "plan-changed", 412)  # the pin is for `+3`
        answer = (await migrate(client, "+3", plan_digest=digest)).json()
        assert (answer["outcome"], names(answer["applied"]), answer["to"]) == ("upgraded", ["b2", "c3"], ["c3"])
        again = (await migrate(client, "+3", plan_digest=digest)).json()
        assert (again["outcome"], again["to"]) == ("up_to_date", ["c3"]), "what was pinned is done"

        back = (await plan(client, target="-2", direction="downgrade"))["digest"]
        for outcome in ("downgraded", "up_to_date"):
            body = {"target": "-2", "plan_digest": back, "accept": ["lossy-downgrade"]}
            answer = (await client.post("/downgrade", headers=APPLY, json=body)).json()
            assert (answer["outcome"], answer["to"]) == (outcome, ["a1"])


async def test_a_pin_does_not_hold_once_it_would_count_from_elsewhere(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(**FOUR))) as client:
        digest = (await plan(client, target="+1"))["digest"]
        await migrate(client, "a1")
        changed = problem(await migrate(client, "+1", plan_digest=digest), "plan-changed", 412)
        assert names(changed["plan"]["pending"]) == ["b2"]
        assert (await client.get("/status", headers=READ)).json()["current"] == ["a1"]


async def test_what_has_got_somewhere_is_not_to_be_repeated_and_says_where_it_was_going(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1="op.execute('SELECT 1')", b2="op.execute('ALTER TABLE busy ADD n int')", c3="pass")
    database.execute("CREATE TABLE busy (id int)")
    async with client_of(settings(history, lock_timeout=0.1, lock_retries=0)) as client:
        with database.connect() as blocker:
            blocker.execute("BEGIN; LOCK TABLE busy")
            stopped = problem(await migrate(client, "+2"), "lock-timeout", 503)
            assert (names(stopped["applied"]), stopped["retryable"]) == (["a1"], False)
            assert "Call again with the target `b2`, which `+2` meant" in stopped["hint"]
            at_once = problem(await migrate(client, "+1"), "lock-timeout", 503)
            assert (at_once["applied"], at_once["retryable"]) == ([], True), "the same call means the same still"
            named = problem(await migrate(client, "b2"), "lock-timeout", 503)
            assert named["retryable"] is True
        recorded = (await client.get(f"/runs/{stopped['run_id']}", headers=READ)).json()
        assert (recorded["target"], recorded["error"]["retryable"]) == ("+2", False)


async def test_the_same_key_is_the_same_step(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(**FOUR))) as client:
        for replayed in (None, "true", "true"):
            answer = await client.post("/migrate", headers=KEY, json={"target": "+1"})
            assert (answer.status_code, answer.json()["to"]) == (200, ["a1"])
            assert answer.headers.get("idempotency-replayed") == replayed
        assert (await client.get("/status", headers=READ)).json()["current"] == ["a1"]


@pytest.mark.parametrize(
    ("killed_in", "expected"),
    [("a1", "upgraded"), ("b2", "unknown-target"), (None, "up_to_date")],
    ids=["before it has done anything", "in its midst", "before it could answer"],
)
def test_the_key_of_a_run_that_died_takes_no_step_too_many(
    write_history: WriteHistory,
    serve: Callable[..., Service],
    database: Database,
    killed_in: str | None,
    expected: str,
) -> None:
    history = write_history(**(FOUR | ({killed_in: gate.WAITS} if killed_in else {})))

    def call(service: Service) -> httpx.Response:
        return httpx.post(f"{service.url}/migrate", json={"target": "+2"}, headers=KEY, timeout=30)

    killed = serve(history, lease=2)
    with ThreadPoolExecutor(1) as pool, gate.shut(database):
        running = pool.submit(call, killed)
        if killed_in is None:
            running.result()
            # As if the function had died between its last COMMIT and its answer.
            database.execute("UPDATE migration_endpoint.run SET outcome = 'running', finished_at = NULL, answer = NULL")
        else:
            guard = f"datname = current_database() AND application_name LIKE 'migrate/% {killed_in} %'"
            until(
                lambda: database.execute(f"SELECT pid FROM pg_stat_activity WHERE {guard}"),
                seconds=30,
                what="it to be there",
            )
        killed.signal(signal.SIGKILL)
    answer = call(serve(history, lease=2))
    if expected == "unknown-target":
        refused = problem(answer, expected, 422)
        assert refused["hint"] == "`+2` meant `b2` then: call with that target, and a new key."
        assert database.value("SELECT version_num FROM alembic_version") == "a1"
    else:
        assert (answer.json()["outcome"], answer.json()["to"]) == (expected, ["b2"]), answer.text


async def test_a_rehearsal_counts_too(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(**FOUR))) as client:
        await migrate(client, "+1")
        answer = (await client.post("/rehearse", headers=APPLY, json={"target": "+2"})).json()
        assert (answer["outcome"], answer["target"], names(answer["steps"])) == ("passed", "+2", ["b2", "c3"])
        assert (await migrate(client, "+1")).json()["to"] == ["b2"]


async def test_a_plus_in_a_query_has_to_be_escaped(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(**FOUR))) as client:
        told = (await client.get("/plan?target=%2B2", headers=READ)).json()
        assert (told["target"], names(told["pending"])) == ("+2", ["a1", "b2"])
        refused = problem(await client.get("/plan?target=+2", headers=READ), "unknown-target", 422)
        assert "a + is written %2B" in refused["hint"]
        required = await client.post("/downgrade", headers=APPLY, json={"target": "base+1"})
        assert required.json()["type"].endswith("#downgrade-not-allowed")
    async with client_of(settings(write_history(**FOUR), allow_downgrade=True)) as client:
        required = await client.post("/downgrade", headers=APPLY, json={"target": "base+1"})
        assert "GET /plan?direction=downgrade&target=base%2B1 tells" in problem(required, "plan-required", 428)["hint"]


def test_the_terminal_counts_too(write_history: WriteHistory, database: Database) -> None:
    chosen = {"script_location": write_history(**FOUR), "allow_downgrade": True}
    assert terminal(database, "migrate", "--target", "+2", **chosen).stdout.startswith("Upgraded from base to b2 in ")
    told = terminal(database, "plan", "--downgrade", "-1", **chosen)
    assert told.stdout.startswith("DOWNGRADE from b2 to -1: 1 to run"), told.stderr
    digest = told.stdout.split("digest")[1].split()[0]
    done = terminal(database, "downgrade", "-1", "--plan", digest, **chosen)
    assert done.stdout.startswith("Downgraded from b2 to a1 in "), done.stderr
    refused = terminal(database, "stamp", "+1", "--yes", **chosen)
    assert (refused.returncode, "A stamp takes a revision by its name" in refused.stderr) == (2, True)
