"""Long runs without holding the line: 202 and polling, event streams, hanging up."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.database import lock
from app.main import create_app
from app.web import stream
from tests import gate, servers
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database, Service
from tests.web.answers import problem

THREE = {
    "a1": "op.execute('CREATE TABLE a (id int)')",
    "b2": f"{gate.WAITS}\nop.execute('CREATE TABLE waited (id int)')",
    "c3": "op.execute('CREATE TABLE c (id int)')",
}
NDJSON, SSE = "application/x-ndjson", "text/event-stream"
Events = list[tuple[str, dict[str, Any]]]


def post(service: Service, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{service.url}/migrate", headers={**APPLY, **named}, timeout=60)


def ended(service: Service, location: str) -> dict[str, Any]:
    """What GET tells of a run once it has ended."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = service.get(location).json()
        return found if found["state"] == "ended" else None

    found: dict[str, Any] = servers.until(look, seconds=30, what="the run to end")
    return found


def parsed(medium: str, lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a stream, each with its fields."""
    if medium == NDJSON:
        for line in lines:
            fields = json.loads(line)
            yield fields.pop("event"), fields
    else:
        for line in lines:
            name = line.removeprefix("event: ")
            data = next(lines).removeprefix("data: ")
            assert next(lines) == ""
            yield name, json.loads(data)


@contextmanager
def streaming(service: Service, method: str, path: str, medium: str) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    key = APPLY if method == "POST" else READ
    with httpx.stream(method, f"{service.url}{path}", headers={**key, "Accept": medium}, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].partition(";")[0] == medium
        assert answer.headers["x-request-id"]
        assert answer.headers["x-accel-buffering"] == "no"  # or nginx would collect the events
        yield parsed(medium, answer.iter_lines())


@pytest.fixture
def service(serve: Callable[..., Service], write_history: WriteHistory) -> Service:
    return serve(write_history(**THREE))


# --- 202


def test_a_caller_who_prefers_it_is_answered_at_once_and_can_watch(service: Service, database: Database) -> None:
    with gate.shut(database):
        answer = post(service, Prefer="respond-async")
        assert answer.status_code == 202, answer.text
        assert answer.headers["preference-applied"] == "respond-async"
        assert int(answer.headers["retry-after"]) > 0
        body, location = answer.json(), answer.headers["location"]
        assert (body["outcome"], body["pending"], body["location"]) == ("running", 3, location)
        assert location == f"/runs/{body['run_id']}"
        servers.until(lambda: service.get(location).json()["revision"] == "b2", what="the second revision")
        found = service.get(location).json()
        assert (found["state"], found["outcome"], found["progress"]) == ("running", "running", "2/3")
        assert [step["revision"] for step in found["steps"]] == ["a1"]
    found = ended(service, location)
    assert (found["outcome"], found["to"], found["error"]) == ("upgraded", ["c3"], None)
    assert (found["revision"], found["progress"], found["index_build"]) == (None, None, None)


def test_a_run_that_ends_within_the_wait_is_answered_plainly(service: Service, database: Database) -> None:
    with gate.shut(database):
        assert post(service, Prefer="wait=1").status_code == 202
    answer = post(service, Prefer="respond-async, wait=30")
    assert (answer.status_code, answer.json()["to"]) == (200, ["c3"])
    assert answer.headers["preference-applied"] == "wait=30"


def test_a_wait_is_also_the_longest_for_the_lock(service: Service, database: Database) -> None:
    with gate.shut(database):
        post(service, Prefer="respond-async")
        began = time.monotonic()
        problem(post(service, Prefer="wait=1"), "lock-held", 409)
        assert time.monotonic() - began < 8  # instead of the ten seconds of MIGRATION_LOCK_WAIT
        headers = {**APPLY, "Prefer": "wait=30"}
        at_once = httpx.post(f"{service.url}/migrate", headers=headers, json={"lock_wait_s": 0}, timeout=60)
        assert problem(at_once, "lock-held", 409)["waited_ms"] < 10_000  # and does not make a shorter one longer


@pytest.mark.parametrize("headers", [{"Prefer": "respond-async"}, {"Accept": NDJSON}, {"Accept": SSE}])
def test_what_is_settled_before_the_lock_is_held_has_its_real_status(
    serve: Callable[..., Service], write_history: WriteHistory, headers: dict[str, str], database: Database
) -> None:
    service = serve(write_history(**THREE))
    refused = httpx.post(f"{service.url}/migrate", headers=headers)
    problem(refused, "unauthenticated", 401)
    problem(httpx.post(f"{service.url}/migrate", headers={**APPLY, **headers}, json=1), "invalid-request", 422)
    with database.connect() as held:
        key = service.get("/status").json()["lock"]["key"]
        held.execute(f"SELECT pg_advisory_lock({key})".encode())
        body = {"lock_wait_s": 0}
        problem(httpx.post(f"{service.url}/migrate", headers={**APPLY, **headers}, json=body), "lock-held", 409)
    database.execute("CREATE TABLE gate (shut int)")
    assert post(service).status_code == 200
    up_to_date = post(service, **headers)
    assert (up_to_date.status_code, up_to_date.json()["outcome"]) == (200, "up_to_date")
    assert up_to_date.headers["content-type"] == "application/json"


def test_a_run_that_cannot_be_put_on_record_is_waited_for(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    with database.server.role() as (role, password):
        database.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
        service = serve(write_history(a1="op.execute('CREATE TABLE a (id int)')"), on=database.as_role(role, password))
        answer = post(service, Prefer="respond-async")
        assert (answer.status_code, answer.json()["outcome"]) == (200, "upgraded")
        assert "preference-applied" not in answer.headers
        database.execute(f"DROP OWNED BY {role}")


# --- streams


@pytest.mark.parametrize("medium", [NDJSON, SSE])
def test_events_come_as_they_happen_and_last_exactly_what_a_plain_call_gets(
    service: Service, database: Database, medium: str
) -> None:
    with gate.shut(database), streaming(service, "POST", "/migrate", medium) as events:
        seen: Events = [next(events) for _ in range(5)]
        database.execute("DELETE FROM gate")
        seen += events
    assert [name for name, _ in seen] == [
        *("run", "lock", "revision.started", "revision.applied", "revision.started"),
        *("revision.applied", "revision.started", "revision.applied", "result"),
    ]
    told = dict(seen)
    assert (told["run"]["target"], told["run"]["pending"]) == ("heads", 3)
    assert told["lock"]["waited_ms"] >= 0
    started = seen[2][1]
    assert (started["revision"], started["message"], started["progress"]) == ("a1", "Do a1.", "1/3")
    result = told["result"]
    assert result.pop("http_status") == 200
    assert result["applied"] == [
        {name: value for name, value in fields.items() if name not in ("event", "run_id")}
        for event, fields in seen
        if event == "revision.applied"
    ]
    kept = database.value(f"SELECT answer FROM migration_endpoint.run WHERE id = '{result['run_id']}'")
    assert result == kept
    plain = post(service).json()
    assert plain.keys() == result.keys()


def test_a_failure_is_the_last_event_with_its_status(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(a1="op.execute('SELECT 1/0')"))
    with streaming(service, "POST", "/migrate", NDJSON) as events:
        *_, (name, result) = events
    assert (name, result.pop("http_status"), result["status"]) == ("result", 500, 500)
    plain = post(service).json()
    assert plain.keys() == result.keys()
    differ = {"run_id", "request_id"}
    assert {k: v for k, v in plain.items() if k not in differ} == {k: v for k, v in result.items() if k not in differ}
    with streaming(service, "GET", f"/runs/{result['run_id']}/events", NDJSON) as events:
        *_, (name, again) = events
    assert (name, again.pop("http_status"), again) == ("result", 500, result)


def test_warnings_are_events_of_their_own(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database, through_pgbouncer: Any
) -> None:
    service = serve(write_history(a1="op.execute('CREATE TABLE a (id int)')"), on=through_pgbouncer("transaction"))
    with streaming(service, "POST", "/migrate", NDJSON) as events:
        seen = list(events)
    warnings = [fields["message"] for name, fields in seen if name == "warning"]
    assert warnings
    assert seen[-1][1]["warnings"] == warnings
    with streaming(service, "GET", f"/runs/{seen[0][1]['run_id']}/events", NDJSON) as events:
        assert [fields["message"] for name, fields in events if name == "warning"] == warnings


@pytest.mark.parametrize("medium", [NDJSON, SSE])
def test_a_run_can_be_followed_from_another_instance(
    serve_many: Callable[..., list[Service]], write_history: WriteHistory, database: Database, medium: str
) -> None:
    here, there = serve_many(2, write_history(**THREE))
    problem(there.get("/runs/0198c1f0-0000-7000-8000-000000000000/events"), "not-found", 404)
    with gate.shut(database):
        location = post(here, Prefer="respond-async").headers["location"]
        with streaming(there, "GET", f"{location}/events", medium) as events:
            seen: Events = [next(events) for _ in range(5)]
            database.execute("DELETE FROM gate")
            seen += events
    names = [name for name, _ in seen]
    assert names[:2] == ["run", "lock"]
    assert [name for name in names if name.startswith("revision")] == ["revision.started", "revision.applied"] * 3
    assert names[-1] == "result"
    assert dict(seen)["result"]["http_status"] == 200
    with streaming(there, "GET", f"{location}/events", medium) as events:
        assert list(events) == seen  # the same story, read when it is over
    started = [fields["progress"] for name, fields in seen if name == "revision.started"]
    assert started == ["1/3", "2/3", "3/3"]


def test_a_run_whose_function_died_is_told_as_lost(
    serve_many: Callable[..., list[Service]], write_history: WriteHistory, database: Database
) -> None:
    here, there = serve_many(2, write_history(**THREE))
    with gate.shut(database):
        location = post(here, Prefer="respond-async").headers["location"]
        here.signal(signal.SIGKILL)
        servers.until(lambda: there.get(location).json()["state"] == "lost", what="the run to be lost")
        with streaming(there, "GET", f"{location}/events", NDJSON) as events:
            *_, (name, result) = events
        assert (name, result["http_status"]) == ("result", 503)
        assert result["type"].endswith("#lock-lost")
        cancelled = httpx.post(f"{there.url}{location}/cancel", headers=APPLY)
        problem(cancelled, "run-ended", 409)
    assert post(there).status_code == 200
    assert there.get(location).json()["outcome"] == "abandoned"


async def test_a_silent_stream_pings(
    settings: MakeSettings, write_history: WriteHistory, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stream._PING_EVERY_S == 10
    monkeypatch.setattr(stream, "_PING_EVERY_S", 0.2)
    history = write_history(a1="op.execute('SELECT pg_sleep(1.1)')")
    async with client_of(settings(history)) as client:
        answer = await client.post("/migrate", headers={**APPLY, "Accept": NDJSON})
    names = [json.loads(line)["event"] for line in answer.text.splitlines()]
    assert names.count("ping") >= 3
    assert names[-1] == "result"


async def test_a_run_that_outlives_the_invocation_of_its_follower_is_not_told_to_its_end(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')")
    ends = datetime.now(UTC) + timedelta(hours=1)
    async with client_of(settings(history), invocation_ends=lambda: ends) as client:
        run_id = (await client.post("/migrate", headers=APPLY)).json()["run_id"]
        database.execute("UPDATE migration_endpoint.run SET outcome = 'running', answer = NULL, finished_at = NULL")
        with database.connect() as held:  # as its guard would
            key = (await client.get("/status", headers=READ)).json()["lock"]["key"]
            held.execute(f"BEGIN; SELECT pg_advisory_xact_lock({key})".encode())
            held.execute(f"SET LOCAL application_name = 'migrate/{run_id} b2 2/2'".encode())
            ends = datetime.now(UTC) + timedelta(seconds=2)
            async with asyncio.timeout(30):
                answer = await client.get(f"/runs/{run_id}/events", headers=READ)
    assert answer.headers["content-type"].partition(";")[0] == NDJSON  # unless the caller says otherwise
    names = [json.loads(line)["event"] for line in answer.text.splitlines()]
    assert names == ["run", "lock", "revision.started", "revision.applied", "revision.started"]


# --- hanging up


@pytest.mark.parametrize("accept", [NDJSON, SSE])
async def test_the_invocation_of_a_caller_who_hangs_up_lasts_until_the_run_has_ended(
    settings: MakeSettings, write_history: WriteHistory, database: Database, accept: str
) -> None:
    headers = {**APPLY, "Accept": accept, "Host": "test"}
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/migrate",
        "raw_path": b"/migrate",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    coming: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]
    began = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if coming:
            return coming.pop()
        await began.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if b"revision.started" in message.get("body", b""):
            began.set()

    service = create_app(settings(write_history(**THREE)))
    with gate.shut(database):
        invocation = asyncio.create_task(service(scope, receive, send))
        async with asyncio.timeout(30):
            await began.wait()
        await asyncio.wait({invocation}, timeout=0.5)
        assert not invocation.done()
    await invocation
    assert database.value("SELECT outcome FROM migration_endpoint.run") == "upgraded"


@pytest.mark.parametrize("accept", ["application/json", NDJSON, SSE])
def test_a_caller_who_hangs_up_does_not_stop_the_run(service: Service, database: Database, accept: str) -> None:
    key = APPLY["Authorization"]
    request = f"POST /migrate HTTP/1.1\r\nHost: test\r\nAuthorization: {key}\r\nAccept: {accept}\r\n\r\n"
    with gate.shut(database):
        with socket.create_connection(("127.0.0.1", service.port)) as caller:
            caller.sendall(request.encode())
            servers.until(lambda: database.value("SELECT to_regclass('a') IS NOT NULL"), seconds=30, what="the run")
        time.sleep(0.3)  # for the server to notice
        assert database.is_locked
    servers.until(lambda: not database.is_locked, seconds=30, what="the run to end")
    (run,) = service.get("/runs").json()["runs"]
    assert (run["outcome"], run["to"]) == ("upgraded", ["c3"])


async def test_a_server_that_ends_the_call_of_a_caller_who_hangs_up_does_not_end_the_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**THREE))) as client:

        async def outcomes() -> list[str]:
            runs = (await client.get("/runs", headers=READ)).json()["runs"]
            return [run["outcome"] for run in runs]

        with gate.shut(database):
            call = asyncio.create_task(client.post("/migrate", headers=APPLY))
            while not await outcomes():
                pass  # each look gives the run a turn
            call.cancel()
            await asyncio.wait({call})
            assert call.cancelled()
        async with asyncio.timeout(30):
            while await outcomes() == ["running"]:
                pass
        assert await outcomes() == ["upgraded"]


# --- an index build


def test_the_phase_and_percentage_of_an_index_build_are_shown(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE t AS SELECT n FROM generate_series(1, 20000) n')",
        b2="with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY t_n ON t (n)')",
    )
    service = serve(history)
    assert httpx.post(f"{service.url}/migrate", json={"target": "a1"}, headers=APPLY, timeout=60).status_code == 200
    with database.connect() as writer:
        writer.execute(b"BEGIN; INSERT INTO t VALUES (0)")  # the build waits for it
        location = post(service, Prefer="respond-async").headers["location"]
        servers.until(lambda: service.get(location).json()["index_build"], what="the build to be seen")
        build = service.get(location).json()["index_build"]
        assert (build["table"], build["phase"]) == ("t", "waiting for writers before build")
        assert build["index"] in (None, "t_n")
        assert build["percent"] == 0
        writer.execute(b"ROLLBACK")
    assert ended(service, location)["outcome"] == "upgraded"


def test_a_revision_whose_id_is_long_is_told_whole(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(**{"20260101120000_wait": gate.WAITS, "20260101130000_go": "pass"}))
    with gate.shut(database):
        location = post(service, Prefer="respond-async").headers["location"]
        servers.until(lambda: service.get(location).json()["progress"] == "1/2", what="the first revision")
        assert service.get(location).json()["revision"] == "20260101120000_wait"
        with streaming(service, "GET", f"{location}/events", NDJSON) as events:
            seen: Events = [next(events) for _ in range(3)]
            database.execute("DELETE FROM gate")
            seen += events
    started = [fields["revision"] for name, fields in seen if name == "revision.started"]
    assert started == ["20260101120000_wait", "20260101130000_go"]


async def test_a_follower_leaves_before_its_invocation_ends(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(a1="pass"))) as client:
        run_id = (await client.post("/migrate", headers=APPLY)).json()["run_id"]
        database.execute("UPDATE migration_endpoint.run SET outcome = 'running', answer = NULL")
    with database.connect() as holder:
        holder.execute(f"SELECT pg_advisory_lock({lock.key('public.alembic_version')})".encode())
        ends = datetime.now(UTC) + timedelta(seconds=5)
        async with client_of(settings(write_history(a1="pass")), invocation_ends=lambda: ends) as client:
            answer = await client.get(f"/runs/{run_id}/events", headers=READ)
        assert datetime.now(UTC) < ends
    assert "result" not in answer.text
