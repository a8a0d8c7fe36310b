"""The function under Vercel's own shim, as a deployment runs it."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests import gate, shim
from tests.conftest import WriteHistory
from tests.servers import APPLY, READ, Database, environment, until
from tests.shim import Shim

TWENTY = {f"r{number:02}": f"op.execute('CREATE TABLE t{number} (id int)')\ntime.sleep(0.3)" for number in range(20)}


def test_the_function_migrates_and_tells_how_it_stands(database: Database) -> None:
    deployment = {"VERCEL_DEPLOYMENT_ID": "dpl_made_up", "VERCEL_GIT_COMMIT_SHA": "4f1c9a2", "VERCEL_ENV": "production"}
    with shim.function(environment(database) | deployment) as function:
        assert function.get("/livez").json() == {"status": "pass"}
        assert function.get("/health").json() == {"status": "warn"}
        first = function.post("/migrate", headers=APPLY, body={"reason": "the first deploy"})
        assert first.status_code == 200, first.text
        assert first.json()["to"] == ["0007"]
        assert first.json()["deployment"] == {"id": "dpl_made_up", "git_sha": "4f1c9a2", "environment": "production"}
        assert function.post("/migrate", headers=APPLY).json()["outcome"] == "up_to_date"
        assert function.get("/status", headers=READ).json()["state"] == "up_to_date"
        assert function.get("/health").json() == {"status": "pass"}
    assert database.value("SELECT version_num FROM alembic_version") == "0007"


def test_what_is_missing_is_an_answer_and_no_reason_not_to_start(database: Database) -> None:
    nothing = environment(None, api_key="", read_key="", lease="a while")
    with shim.function(nothing) as function:
        assert function.get("/livez").status_code == 200
        answer = function.post("/migrate", headers=APPLY)
        assert answer.status_code == 503, answer.text
        assert answer.json()["type"].endswith("#not-configured")
        assert answer.json()["variables"] == ["MIGRATION_LEASE"]
    with shim.function(environment(None)) as function:
        unauthenticated = function.post("/migrate")
        assert unauthenticated.status_code == 401
        assert unauthenticated.headers["www-authenticate"] == 'Bearer realm="migrate"'
        no_database = function.post("/migrate", headers=APPLY)
        assert no_database.status_code == 503, no_database.text
        assert no_database.json()["variables"] == ["MIGRATION_DATABASE_URL"]
        assert function.get("/health").status_code == 503


def of_the_service(function: Shim, invocation: str) -> list[dict[str, Any]]:
    """What the service has logged in an invocation; fails if something of it isn't one line of JSON."""
    logged = [log for log in function.logs if log.stream is None and log.invocation == invocation]
    assert all("\n" not in log.message for log in logged)
    return [json.loads(log.message) for log in logged]


def test_each_event_of_a_run_is_one_json_message_of_its_invocation(
    write_history: WriteHistory, database: Database
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')",
        b2="print('a line of the revision')\nop.execute('CREATE TABLE b (id int)')",
        c3="op.execute('CREATE TABLE a (id int)')",
    )
    with shim.function(environment(database, script_location=history)) as function:
        answer = function.post("/migrate", headers=APPLY, invocation="the run")
        assert answer.status_code == 500, answer.text
        until(lambda: function.ended("the run"), what="the end of the invocation")
        events = of_the_service(function, "the run")
        assert [event["event"] for event in events] == [
            "run.started",
            *["revision.started", "revision.applied"] * 2,
            "revision.started",
            "run.ended",
        ]
        assert {event["run_id"] for event in events} == {answer.json()["run_id"]}
        # The revisions ran in a thread, and what they print belongs to the invocation too.
        printed = [log.message.strip() for log in function.logs if log.stream == "stdout"]
        assert printed == ["a line of the revision"]
        assert {log.invocation for log in function.logs} == {"the run"}


def test_two_requests_at_once_share_the_process_and_keep_their_logs_apart(
    write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')\ntime.sleep(1)")
    with shim.function(environment(database, script_location=history)) as function, ThreadPoolExecutor() as callers:
        ids = {f"invocation-{name}": f"request-{name}" for name in "ab"}
        calls = [
            callers.submit(function.post, "/migrate", headers={**APPLY, "X-Request-ID": request}, invocation=invocation)
            for invocation, request in ids.items()
        ]
        answers = [call.result() for call in calls]
        assert [answer.status_code for answer in answers] == [200, 200], [answer.text for answer in answers]
        waited, ran = sorted((answer.json() for answer in answers), key=lambda answer: answer["outcome"])
        assert (waited["outcome"], ran["outcome"]) == ("up_to_date", "upgraded")
        assert waited["lock"]["waited_ms"] > 0
        for invocation in ids:
            until(lambda invocation=invocation: function.ended(invocation), what="the end of the invocation")
        (invocation,) = {log.invocation for log in function.logs}
        assert ids[invocation] == ran["request_id"]
        assert {event["request_id"] for event in of_the_service(function, invocation)} == {ran["request_id"]}


def test_a_near_deadline_ends_a_run_between_revisions_and_the_next_call_finishes(
    write_history: WriteHistory, database: Database
) -> None:
    with shim.function(environment(database, script_location=write_history(**TWENTY))) as function:
        # Without a deadline: what a first run has to import takes none of the next one's time.
        assert function.post("/migrate", headers=APPLY, body={"target": "r00"}).status_code == 200
        deadline = datetime.now(UTC) + timedelta(seconds=4)
        first = function.post("/migrate", headers=APPLY, deadline=deadline)
        assert first.status_code == 503, first.text
        assert first.json()["type"].endswith("#time-budget-exhausted")
        assert first.json()["applied"]
        assert first.json()["remaining"]
        second = function.post("/migrate", headers=APPLY)
        assert second.status_code == 200, second.text
        applied = [step["revision"] for answer in (first, second) for step in answer.json()["applied"]]
        assert applied == list(TWENTY)[1:]


WAITS_FOR_A_FILE = """
import asyncio
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.routing import Route

tasks = set()


async def work():
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    print("worked")


async def awaited(request):
    return Response(background=BackgroundTask(work))


async def forgotten(request):
    tasks.add(asyncio.create_task(work()))
    return Response()


app = Starlette(routes=[Route(f"/{each.__name__}", each) for each in (awaited, forgotten)])
"""


def test_a_background_task_keeps_its_invocation_alive_and_a_bare_task_does_not(tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(WAITS_FOR_A_FILE)
    with shim.function(environment(None), tmp_path, entrypoint="index.py") as function:
        assert function.get("/awaited", invocation="awaited").status_code == 200
        assert function.get("/forgotten", invocation="forgotten").status_code == 200
        until(lambda: function.ended("forgotten"), what="the end of an invocation whose work has not ended")
        assert not function.ended("awaited")
        assert not function.logs
        (tmp_path / "go").touch()
        until(lambda: function.ended("awaited"), what="the end of the invocation")
        until(lambda: len(function.logs) == 2, what="both to have worked")
        kinds = [
            message["type"]
            for message in function.messages
            if message["type"] in {"log", "end"} and message["payload"]["context"]["invocationId"] == "awaited"
        ]
        assert kinds == ["log", "end"]


def test_an_invocation_lasts_as_long_as_the_run_that_it_was_answered_early_for(
    write_history: WriteHistory, database: Database
) -> None:
    with shim.function(environment(database, script_location=write_history(a1=gate.WAITS))) as function:
        with gate.shut(database):
            answer = function.post("/migrate", headers={**APPLY, "Prefer": "respond-async"}, invocation="early")
            assert answer.status_code == 202, answer.text
            location = answer.headers["location"]
            assert function.get(location, headers=READ).json()["state"] == "running"
            assert not function.ended("early")
        until(lambda: function.ended("early"), what="the end of the invocation")
        assert function.get(location, headers=READ).json()["outcome"] == "upgraded"
        assert of_the_service(function, "early")[-1]["event"] == "run.ended"


def test_an_invocation_lasts_as_long_as_the_run_whose_caller_has_hung_up(
    write_history: WriteHistory, database: Database
) -> None:
    with shim.function(environment(database, script_location=write_history(a1=gate.WAITS))) as function:
        with gate.shut(database):
            headers = {**APPLY, "Accept": "application/x-ndjson"}
            with function.stream("/migrate", headers=headers, invocation="hung up") as answer:
                assert json.loads(next(answer.iter_lines()))["event"] == "run"
            until(lambda: database.is_locked, what="the run")
            assert function.get("/livez").status_code == 200
            assert not function.ended("hung up")
        until(lambda: function.ended("hung up"), what="the end of the invocation")
        (run,) = function.get("/runs", headers=READ).json()["runs"]
        assert run["outcome"] == "upgraded"
        assert of_the_service(function, "hung up")[-1]["event"] == "run.ended"
