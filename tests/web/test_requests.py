"""What POST /migrate takes, what it refuses and in which words, and what every answer has."""

import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.main import create_app
from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.servers import APPLY, READ
from tests.web.answers import assert_tells_no_secret, problem, without_database

JSON = {**APPLY, "Content-Type": "application/json"}
ROUTES = {
    "/migrate": "POST",
    "/status": "GET",
    "/runs": "GET",
    "/runs/0198c1f0-0000-7000-8000-000000000000": "GET",
    "/health": "GET, HEAD",
    "/livez": "GET, HEAD",
}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


async def post(content: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
    """POST /migrate to a service whose database is not there; the body is looked at before the database."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client_of(without_database()) as client:
        return await client.post("/migrate", content=content, headers={**JSON, **named})


async def was_taken(answer: httpx.Response) -> bool:
    """Whether nothing was wrong with the request: then the absent database is what the answer is about."""
    problem(answer, "database-unavailable", 503)
    return True


# --- the body


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="ends-early"),
        pytest.param(b'{"target": "heads",}', id="trailing-comma"),
        pytest.param(b"{'target': 'heads'}", id="single-quotes"),
        pytest.param(b"target=heads", id="form"),
        pytest.param(b'{"target": "heads"} {}', id="two-documents"),
        pytest.param(b"\xff\xfe{\x00}\x00", id="utf-16"),
        pytest.param(b'{"target": "\xff"}', id="not-utf-8"),
        pytest.param(b'{"target": "\xed\xa0\x80"}', id="surrogate-in-utf-8"),
        pytest.param(b'{"target": "\\ud800"}', id="lone-surrogate"),
        pytest.param(b"\0", id="nul"),
        pytest.param(b"[" * 30_000, id="deeply-nested"),
        pytest.param(b'{"lock_wait_s": ' + b"1" * 30_000 + b"}", id="endless-number"),
    ],
)
async def test_what_is_not_json_is_refused(body: bytes) -> None:
    answer = await post(body)
    document = problem(answer, "invalid-request", 422)
    assert document["errors"]
    assert len(answer.content) < 2000


@pytest.mark.parametrize("body", [b"[]", b'"heads"', b"7", b"null", b"true", b'[{"target": "heads"}]'])
async def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    problem(await post(body), "invalid-request", 422)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"revision": "a1"}, "revision"),
        ({"Target": "a1"}, "Target"),
        ({"target": "heads", "dry_run": True}, "dry_run"),
        ({"target": 7}, "target"),
        ({"target": None}, "target"),
        ({"target": ["a1"]}, "target"),
        ({"target": ""}, "target"),
        ({"target": "x" * 201}, "target"),
        ({"lock_wait_s": "10"}, "lock_wait_s"),
        ({"lock_wait_s": True}, "lock_wait_s"),
        ({"lock_wait_s": -0.1}, "lock_wait_s"),
        ({"lock_wait_s": 3600.1}, "lock_wait_s"),
        ({"lock_wait_s": 1e308}, "lock_wait_s"),
        ({"lock_wait_s": float("nan")}, "lock_wait_s"),
        ({"lock_wait_s": float("inf")}, "lock_wait_s"),
        ({"reason": 7}, "reason"),
        ({"reason": {"deploy": "abc"}}, "reason"),
        ({"reason": "x" * 501}, "reason"),
    ],
)
async def test_a_field_that_is_unknown_or_has_a_wrong_value_is_named(body: dict[str, Any], field: str) -> None:
    document = problem(await post(json.dumps(body).encode()), "invalid-request", 422)
    assert [error["field"] for error in document["errors"]] == [field]
    assert field in document["detail"]


async def test_every_fault_is_named_at_once_and_what_came_is_not_quoted() -> None:
    body = {"target": 7, "lock_wait_s": "hunter2", "reason": "hunter2" * 100, "extra": "hunter2"}
    answer = await post(json.dumps(body).encode())
    document = problem(answer, "invalid-request", 422)
    assert {error["field"] for error in document["errors"]} == set(body)
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n", b"{}", b" {} ", b'{"reason": null, "lock_wait_s": null}'])
async def test_nothing_needs_to_be_said(body: bytes) -> None:
    assert await was_taken(await post(body))


async def test_an_empty_body_needs_no_media_type() -> None:
    async with client_of(without_database()) as client:
        for media_type in ({}, {"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": ""}):
            assert await was_taken(await client.post("/migrate", headers={**APPLY, **media_type}))


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON ; charset=utf-8",
        "application/vnd.api+json",
    ],
)
async def test_json_is_taken_however_it_is_declared(media_type: str) -> None:
    assert await was_taken(await post(b'{"target": "heads"}', Content_Type=media_type))


@pytest.mark.parametrize(
    "media_type",
    [
        pytest.param("application/x-www-form-urlencoded", id="curl-d"),
        pytest.param("multipart/form-data; boundary=x", id="curl-F"),
        pytest.param("text/plain", id="text"),
        pytest.param("text/json", id="almost"),
        pytest.param("application/jsonx", id="longer"),
        pytest.param("application/xml", id="xml"),
        pytest.param("", id="empty"),
        pytest.param("application/" + "x" * 5000, id="long"),
    ],
)
async def test_a_body_of_another_media_type_is_refused_and_told_the_header_to_add(media_type: str) -> None:
    answer = await post(b'{"target": "heads"}', Content_Type=media_type)
    document = problem(answer, "wrong-media-type", 415)
    assert "Content-Type: application/json" in document["hint"]
    assert len(answer.content) < 2000


async def test_a_body_without_a_media_type_is_refused() -> None:
    async with client_of(without_database()) as client:
        problem(await client.post("/migrate", headers=APPLY, content=b"{}"), "wrong-media-type", 415)


@pytest.mark.parametrize("size", [64 * 1024 + 1, 1024 * 1024, 8 * 1024 * 1024])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused(size: int, chunked: bool) -> None:
    body = b'{"reason": "' + b"x" * size + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 16384):
            yield body[start : start + 16384]

    answer = await post(chunks() if chunked else body)
    assert ("content-length" in answer.request.headers) is not chunked
    assert "64 KiB" in problem(answer, "body-too-large", 413)["detail"]


async def test_a_large_body_is_not_read_to_its_end() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 4096
            yield b" " * 4096

    problem(await post(endless()), "body-too-large", 413)
    assert sent < 1024 * 1024


async def test_a_body_of_the_largest_size_is_read() -> None:
    assert await was_taken(await post(b"{}" + b" " * (64 * 1024 - 2)))


# --- the target

ODD_TARGETS = [
    "base",
    "-1",
    "+1",
    "+0",
    "-0",
    "+99",
    "+heads",
    "head+1",
    "head-1",
    "heads-1",
    "heads+1",
    "a1+1",
    "b2-1",
    "b2-9",
    "a1:b2",
    "a1:",
    ":",
    "::",
    "@",
    "@head",
    "head@",
    "nowhere@head",
    "nowhere@heads",
    "a1@head",
    "a1@b2",
    "a1@@b2",
    "current",
    "None",
    "*",
    "%",
    "a",
    "A1",
    " ",
    " heads",
    "heads ",
    "heads,head",
    "a1,b2",
    "a1 b2",
    "../../etc/passwd",
    "'; DROP TABLE alembic_version; --",
    "%(here)s",
    "{0.__class__}",
    "\0",
    "heads\0",
    "a1\0",
    "\n",
    "\x1b[31m",
    "é",
    "\N{FULLWIDTH LATIN SMALL LETTER A}1",
    "\N{RIGHT-TO-LEFT OVERRIDE}1a",
    "\N{GRINNING FACE}",
    "1" * 200,
    "+" + "9" * 199,
    "-" + "9" * 199,
]


@pytest.mark.parametrize("branched", [False, True])
async def test_an_odd_target_is_refused_or_obeyed_and_never_a_defect(
    settings: MakeSettings, write_history: WriteHistory, branched: bool
) -> None:
    history = write_history(a1="pass", b2="pass")
    if branched:
        write_revision(history, "c3", "a1", "pass")
    answers = {}
    async with client_of(settings(history)) as client:
        for target in ODD_TARGETS:
            answer = await client.post("/migrate", json={"target": target}, headers=APPLY)
            if answer.status_code == 200:
                answers[target] = answer.json()["to"]
            elif answer.status_code == 409:
                answers[target] = problem(answer, "multiple-heads", 409)["heads"]
            else:
                answers[target] = problem(answer, "unknown-target", 422)["type"]
    for wrong in ("base", "-1", "current", "a1,b2", "nowhere@head", "\0", "\N{GRINNING FACE}", "../../etc/passwd"):
        assert answers[wrong].endswith("#unknown-target"), answers[wrong]


@pytest.mark.parametrize("target", ["heads", "head", "b2d4e6", "b2d", "a1@head"])
async def test_a_target_may_be_written_as_alembic_writes_it(
    settings: MakeSettings, write_history: WriteHistory, target: str
) -> None:
    async with client_of(settings(write_history(a1="pass", b2d4e6="pass"))) as client:
        answer = await client.post("/migrate", json={"target": target}, headers=APPLY)
        assert answer.json()["to"] == ["b2d4e6"]
        assert answer.json()["target"] == target


async def test_an_unknown_target_is_named_together_with_what_there_is(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(a1="pass", b2="pass"))) as client:
        answer = await client.post("/migrate", json={"target": "zz9"}, headers=APPLY)
        document = problem(answer, "unknown-target", 422)
        assert document["target"] == "zz9"
        assert document["heads"] == ["b2"]
        assert "zz9" in document["detail"]
        assert (await client.get("/status", headers=READ)).json()["current"] == []


async def test_a_reason_may_hold_any_text(settings: MakeSettings, write_history: WriteHistory) -> None:
    reason = "'; DROP SCHEMA x; -- \\ \" $$ %s {} \N{GRINNING FACE}\n\t" + "é" * 400
    async with client_of(settings(write_history(a1="pass"))) as client:
        answer = await client.post("/migrate", json={"reason": reason}, headers=APPLY)
        assert answer.status_code == 200, answer.text
        (run,) = (await client.get("/runs", headers=READ)).json()["runs"]
        assert run["reason"] == reason


async def test_a_reason_with_a_nul_loses_it_and_nothing_else(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(a1="op.execute('CREATE TABLE a (id int)')"))) as client:
        answer = await client.post("/migrate", json={"reason": "deploy\0 7"}, headers=APPLY)
        assert answer.status_code == 200, answer.text
        assert answer.json()["warnings"] == []
        (run,) = (await client.get("/runs", headers=READ)).json()["runs"]
        assert run["reason"] == "deploy 7"


# --- routes and methods


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nowhere",
        "/migrate/",
        "/status/",
        "/runs/",
        "/livez/",
        "/health/",
        "/Migrate",
        "//migrate",
        "/migrate/heads",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/favicon.ico",
        "/.env",
        "/%00",
        "/%ff",
        "/" + "x" * 5000,
    ],
)
async def test_an_unknown_route_is_a_problem(path: str) -> None:
    async with client_of(without_database()) as client:
        for method in ("GET", "POST"):
            answer = await client.request(method, path, headers=APPLY)
            document = problem(answer, "not-found", 404)
            assert "POST /migrate" in document["hint"]


@pytest.mark.parametrize(("path", "allowed"), ROUTES.items())
async def test_another_method_is_a_problem_that_says_which_are_allowed(path: str, allowed: str) -> None:
    others = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} - set(allowed.split(", "))
    async with client_of(without_database()) as client:
        for method in others:
            answer = await client.request(method, path, headers=APPLY)
            assert answer.status_code == 405
            assert sorted(answer.headers["allow"].split(", ")) == allowed.split(", ")
            if method != "HEAD":
                problem(answer, "method-not-allowed", 405)


# --- every answer


async def every_kind_of_answer(client: httpx.AsyncClient, request_id: dict[str, str]) -> dict[str, httpx.Response]:
    apply, read = {**APPLY, **request_id}, {**READ, **request_id}
    return {
        "200": await client.get("/livez", headers=request_id),
        "200 HEAD": await client.head("/livez", headers=request_id),
        "401": await client.post("/migrate", headers=request_id),
        "403": await client.post("/migrate", headers=read),
        "404": await client.get("/nowhere", headers=request_id),
        "405": await client.get("/migrate", headers=request_id),
        "413": await client.post("/migrate", headers=apply, content=b"x" * 100_000),
        "415": await client.post("/migrate", headers=apply, content=b"x=1"),
        "422": await client.post("/migrate", headers=apply, json=[]),
        "422 query": await client.get("/runs?limit=0", headers=read),
        "422 path": await client.get("/runs/7", headers=read),
        "503": await client.get("/status", headers=read),
        "503 health": await client.get("/health", headers=request_id),
        "500": await client.get("/defect", headers=request_id),
    }


def client_with_a_defect() -> httpx.AsyncClient:
    """A client of a service that has one route too many, which raises what no route should."""
    app = create_app(without_database())

    async def defect() -> None:
        hunter2 = "hunter2"
        raise RuntimeError(f"could not log in with postgresql://somebody:{hunter2}@db.internal/app")

    app.add_api_route("/defect", defect)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


async def test_no_answer_may_be_stored_and_each_has_a_request_id_of_its_own() -> None:
    async with client_with_a_defect() as client:
        answers = await every_kind_of_answer(client, {})
    for kind, answer in answers.items():
        assert answer.status_code == int(kind[:3]), answer.text
        assert answer.headers.get_list("cache-control") == ["no-store"]
        (given,) = answer.headers.get_list("x-request-id")
        assert UUID.fullmatch(given)
        if answer.status_code >= 400 and "health" not in kind:
            assert answer.json()["request_id"] == given
    assert len({answer.headers["x-request-id"] for answer in answers.values()}) == len(answers)


async def test_a_request_id_that_is_given_comes_back_in_every_answer() -> None:
    async with client_with_a_defect() as client:
        answers = await every_kind_of_answer(client, {"X-Request-ID": "ci-7.2_b:3"})
    for kind, answer in answers.items():
        assert answer.headers.get_list("x-request-id") == ["ci-7.2_b:3"]
        if answer.status_code >= 400 and "health" not in kind:
            assert answer.json()["request_id"] == "ci-7.2_b:3"


@pytest.mark.parametrize(
    "given", [b"", b" ", b"a b", b"x" * 129, b"a\tb", b"\xc3\xa9", b"<script>", b'"', b"a;b", b"a,b"]
)
async def test_a_request_id_that_cannot_be_used_is_replaced(given: bytes) -> None:
    async with client_of(without_database()) as client:
        answer = await client.get("/livez", headers=[(b"X-Request-ID", given)])
    assert UUID.fullmatch(answer.headers["x-request-id"])


async def test_the_request_id_is_in_the_answer_the_log_and_the_ledger(
    settings: MakeSettings, write_history: WriteHistory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "migration_endpoint")
    headers = {**APPLY, "X-Request-ID": "deploy-7"}
    async with client_of(settings(write_history(a1="op.execute('CREATE TABLE a (id int)')"))) as client:
        answer = (await client.post("/migrate", headers=headers)).json()
        recorded = (await client.get(f"/runs/{answer['run_id']}", headers=READ)).json()
    assert answer["request_id"] == recorded["request_id"] == "deploy-7"
    events = [json.loads(record.message) for record in caplog.records if record.name == "migration_endpoint"]
    assert [event["event"] for event in events] == ["run.started", "revision.started", "revision.applied", "run.ended"]
    assert {event["request_id"] for event in events} == {"deploy-7"}
    assert {event["run_id"] for event in events} == {answer["run_id"]}


async def test_a_defect_of_ours_is_an_internal_error_that_tells_nothing_but_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with client_with_a_defect() as client:
        answer = await client.get("/defect?password=hunter2", headers=APPLY)
        assert (await client.get("/livez")).status_code == 200
    problem(answer, "internal-error", 500)
    assert_tells_no_secret(answer.text, "hunter2", "RuntimeError", "db.internal", __file__)
    (record,) = [record for record in caplog.records if "internal_error" in record.message]
    event = json.loads(record.message)
    assert event["error"] == "RuntimeError"
    assert event["request_id"] == answer.headers["x-request-id"]
    assert any(place.startswith(__file__) for place in event["places"])
    assert record.exc_info is None
    assert_tells_no_secret(caplog.text, "db.internal", "://somebody")
    assert "hunter2" not in "".join(kept.getMessage() for kept in caplog.records if kept.name != "httpx")
