"""The routes for webhooks, on a real database: who is let in, what is carried out, and what a replay gets."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.settings import from_environment
from app.web import hooks
from tests import gate, servers
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import READ, Database, Service
from tests.web.answers import problem
from tests.web.test_notices import COMMIT, DEPLOYMENT_STATUS, OTHER_COMMIT, REPOSITORY_DISPATCH, STANDARD, VERCEL

SECRET = "webhook-secret-for-the-tests-0123"
STANDARD_SECRET = "whsec_" + base64.b64encode(SECRET.encode()).decode()
SECRETS: dict[str, Any] = {
    "vercel_webhook_secret": SECRET,
    "github_webhook_secret": SECRET,
    "standard_webhook_secret": STANDARD_SECRET,
}
HERE: dict[str, Any] = {
    "vercel_deployment_id": "dpl_7Gk2",
    "vercel_git_commit_sha": COMMIT,
    "vercel_project_id": "prj_1",
    "vercel_env": "production",
}
TWO = {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": "op.execute('CREATE TABLE b (id int)')"}
EVENTS = [
    pytest.param("vercel", VERCEL, id="vercel"),
    pytest.param("github", DEPLOYMENT_STATUS, id="github-deployment_status"),
    pytest.param("github", REPOSITORY_DISPATCH, id="github-repository_dispatch"),
    pytest.param("standard", STANDARD, id="standard"),
]


def signed(sender: str, body: bytes, secret: str = SECRET, message_id: str = "msg_1") -> dict[str, str]:
    """The headers that such a sender signs a body with."""
    if sender == "vercel":
        return {"x-vercel-signature": hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()}
    if sender == "github":
        return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}
    at = str(int(time.time()))
    code = hmac.new(secret.encode(), f"{message_id}.{at}.".encode() + body, hashlib.sha256).digest()
    signature = "v1,bm90IHRoaXMgb25l v1," + base64.b64encode(code).decode()
    return {"webhook-id": message_id, "webhook-timestamp": at, "webhook-signature": signature}


async def send(client: httpx.AsyncClient, sender: str, event: Any, **options: str) -> httpx.Response:
    body = json.dumps(event).encode()
    return await client.post(f"/hooks/{sender}", content=body, headers=signed(sender, body, **options))


@pytest.mark.parametrize("sender", ["vercel", "github", "standard"])
async def test_a_hook_is_not_there_until_its_secret_is_set(settings: MakeSettings, sender: str) -> None:
    others: dict[str, Any] = {name: secret for name, secret in SECRETS.items() if not name.startswith(sender)}
    async with client_of(settings(**others)) as client:
        problem(await send(client, sender, VERCEL), "not-found", 404)
        problem(await client.get(f"/hooks/{sender}"), "not-found", 404)
    async with client_of(settings(**SECRETS)) as client:
        problem(await client.post(f"/hooks/{sender}", content=b"{}"), "bad-signature", 401)
        problem(await client.get(f"/hooks/{sender}"), "method-not-allowed", 405)


@pytest.mark.parametrize(("sender", "event"), EVENTS)
async def test_an_event_of_this_deployment_begins_a_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database, sender: str, event: Any
) -> None:
    async with client_of(settings(write_history(**TWO), **SECRETS, **HERE)) as client:
        answer = await send(client, sender, event)
        assert answer.status_code == 202, answer.text
        run = (await client.get(answer.headers["location"], headers=READ)).json()
        assert (run["outcome"], run["key_label"], run["state"]) == ("upgraded", sender, "ended")
        assert "dpl_7Gk2" in run["reason"] or COMMIT in run["reason"]
        # Nothing was left to do for another event.
        other = await send(client, "standard", {"type": "migrate"}, message_id="msg_2")
        assert (other.status_code, other.json()["outcome"]) == (200, "up_to_date")
    assert database.value("SELECT to_regclass('b') IS NOT NULL")


@pytest.mark.parametrize(("sender", "event"), EVENTS)
async def test_a_replay_is_known_by_the_id_that_is_signed(
    settings: MakeSettings, write_history: WriteHistory, database: Database, sender: str, event: Any
) -> None:
    async with client_of(settings(write_history(**TWO), **SECRETS, **HERE)) as client:
        first = await send(client, sender, event)
        database.execute("UPDATE alembic_version SET version_num = 'a1'")
        # Whatever else its sender writes when it tries again.
        again = await send(client, sender, {**event, "tried": 2})
        assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
        assert again.json()["run_id"] == first.json()["run_id"]
        assert len((await client.get("/runs", headers=READ)).json()["runs"]) == 1


def test_a_sender_that_tries_again_while_its_run_goes_on_is_told_where_it_is(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(a1=gate.WAITS), **SECRETS)
    body = json.dumps(STANDARD).encode()

    def event() -> httpx.Response:
        return httpx.post(f"{service.url}/hooks/standard", content=body, headers=signed("standard", body), timeout=60)

    with gate.shut(database):
        first, again = event(), event()
        assert (first.status_code, again.status_code) == (202, 202)
        assert again.headers["location"] == first.headers["location"]
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json().keys() == first.json().keys()
        assert service.get(first.headers["location"]).json()["state"] == "running"
    servers.until(lambda: service.get(first.headers["location"]).json()["state"] == "ended", what="the end")


@pytest.mark.parametrize(("sender", "event"), EVENTS)
async def test_an_event_of_another_deployment_is_refused(
    settings: MakeSettings, write_history: WriteHistory, database: Database, sender: str, event: Any
) -> None:
    there: dict[str, Any] = {**HERE, "vercel_deployment_id": "dpl_other", "vercel_git_commit_sha": OTHER_COMMIT}
    async with client_of(settings(write_history(**TWO), **SECRETS, **there)) as client:
        document = problem(await send(client, sender, event), "wrong-deployment", 409)
        assert document["deployment"]["id"] == "dpl_other"
    assert database.value("SELECT to_regclass('a') IS NULL")


@pytest.mark.parametrize(
    ("sender", "event", "changes"),
    [
        pytest.param("vercel", {**VERCEL, "type": "deployment.created"}, {}, id="another-event-of-vercel"),
        pytest.param("vercel", VERCEL, {"vercel_project_id": "prj_2", "vercel_deployment_id": "dpl_2"}, id="project"),
        pytest.param("vercel", VERCEL, {"vercel_env": "preview", "vercel_deployment_id": "dpl_2"}, id="environment"),
        pytest.param("github", {"zen": "Keep it logically awesome.", "hook_id": 1}, {}, id="ping"),
        pytest.param("github", {"ref": "refs/heads/main", "commits": []}, {}, id="push"),
        pytest.param("standard", {"type": "invoice.paid", "data": {}}, {}, id="another-event"),
    ],
)
async def test_an_event_that_is_not_for_us_is_thanked_for(
    settings: MakeSettings, write_history: WriteHistory, database: Database, sender: str, event: Any, changes: Any
) -> None:
    async with client_of(settings(write_history(**TWO), **{**SECRETS, **HERE, **changes})) as client:
        answer = await send(client, sender, event)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["x-request-id"]
    assert database.value("SELECT to_regclass('a') IS NULL")


@pytest.mark.parametrize(("sender", "event"), EVENTS)
async def test_what_is_not_signed_by_a_known_secret_is_refused_whatever_it_is(
    settings: MakeSettings, write_history: WriteHistory, database: Database, sender: str, event: Any
) -> None:
    body = json.dumps(event).encode()
    honest = signed(sender, body)
    async with client_of(settings(write_history(**TWO), **SECRETS, **HERE)) as client:
        for content, headers in (
            (body, {}),
            (body, signed(sender, body, secret="another-secret-of-the-tests-0123")),
            (body + b" ", honest),
            (b"\xff not JSON", honest),
            (body, dict.fromkeys(honest, "x")),
            (body, dict.fromkeys(honest, "")),
            (body, dict.fromkeys(honest, "\x80" * 70)),
            (body, {"Authorization": f"Bearer {servers.API_KEY}"}),
        ):
            raw: dict[str, Any] = {name: value.encode("latin-1") for name, value in headers.items()}
            answer = await client.post(f"/hooks/{sender}", content=content, headers=raw)
            document = problem(answer, "bad-signature", 401)
            assert answer.headers["www-authenticate"]
            assert SECRET not in str(document)
    assert database.value("SELECT to_regclass('a') IS NULL")


@pytest.mark.parametrize("sender", ["vercel", "github", "standard"])
async def test_what_is_signed_and_is_no_event_is_said_clearly(settings: MakeSettings, sender: str) -> None:
    async with client_of(settings(**SECRETS)) as client:
        for body in (b"", b"[]", b"1", b"{", b"\xff", b'{"type": 1, "deployment_status": {"state": "success"}}'):
            headers = signed(sender, body)
            problem(await client.post(f"/hooks/{sender}", content=body, headers=headers), "invalid-request", 422)
        huge = b" " * (1024 * 1024 + 1)
        headers = signed(sender, huge)
        problem(await client.post(f"/hooks/{sender}", content=huge, headers=headers), "body-too-large", 413)


async def test_an_event_names_the_environment_as_its_platform_does(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    ours: dict[str, Any] = {**HERE, **SECRETS, "environment": "prod"}
    async with client_of(settings(write_history(**TWO), **ours)) as client:
        assert (await send(client, "github", DEPLOYMENT_STATUS)).status_code == 202


async def test_where_something_else_is_not_configured_a_hook_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATION_LEASE", "soon")
    monkeypatch.setenv("MIGRATION_VERCEL_WEBHOOK_SECRET", SECRET)
    async with client_of(from_environment()) as client:
        document = problem(await send(client, "vercel", VERCEL), "not-configured", 503)
        assert document["variables"] == ["MIGRATION_LEASE"]
        problem(await send(client, "github", DEPLOYMENT_STATUS), "not-found", 404)


async def test_an_event_may_be_larger_than_any_body_of_a_call(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(**TWO), **SECRETS, **HERE)) as client:
        answer = await send(client, "github", {**DEPLOYMENT_STATUS, "workflow": "x" * 500_000})
        assert answer.status_code == 202, answer.text


async def test_a_run_that_cannot_be_put_on_record_is_waited_for(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    with database.server.role() as (role, password):
        database.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
        url = database.as_role(role, password).url
        async with client_of(settings(write_history(**TWO), database_url=url, **SECRETS, **HERE)) as client:
            answer = await send(client, "vercel", VERCEL)
            assert (answer.status_code, answer.json()["outcome"]) == (200, "upgraded")
        database.execute(f"DROP OWNED BY {role}")


async def test_a_sender_is_not_kept_waiting_for_the_lock(
    settings: MakeSettings, write_history: WriteHistory, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hooks._LONGEST_WAIT_S == 5
    monkeypatch.setattr(hooks, "_LONGEST_WAIT_S", 0.3)
    async with client_of(settings(write_history(**TWO), lock_wait=120, **SECRETS, **HERE)) as client:
        with database.connect() as held:
            key = (await client.get("/status", headers=READ)).json()["lock"]["key"]
            held.execute(f"SELECT pg_advisory_lock({key})".encode())
            async with asyncio.timeout(60):
                problem(await send(client, "vercel", VERCEL), "lock-held", 409)
        assert (await send(client, "vercel", VERCEL)).status_code == 202  # a refusal does not use up the event


async def test_a_sender_that_tries_again_before_its_run_has_begun_is_told_to_come_back(
    settings: MakeSettings, write_history: WriteHistory, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "_LONGEST_WAIT_S", 120)
    async with client_of(settings(write_history(**TWO), lock_wait=120, **SECRETS, **HERE)) as client:
        with database.connect() as held:
            key = (await client.get("/status", headers=READ)).json()["lock"]["key"]
            held.execute(f"SELECT pg_advisory_lock({key})".encode())
            first = asyncio.create_task(send(client, "vercel", VERCEL))
            while not await asyncio.to_thread(lambda: database.is_waited_for):
                assert not first.done()
            again = await send(client, "vercel", VERCEL)
            problem(again, "still-running", 409)
            assert "location" not in again.headers
        assert (await first).status_code == 202


async def test_every_secret_of_a_list_is_good(settings: MakeSettings, write_history: WriteHistory) -> None:
    rotated: dict[str, Any] = {"vercel_webhook_secret": f"the-new-secret-of-the-tests-4567, {SECRET}"}
    async with client_of(settings(write_history(**TWO), **rotated, **HERE)) as client:
        assert (await send(client, "vercel", VERCEL)).status_code == 202
        new = await send(client, "vercel", {**VERCEL, "id": "uev_2"}, secret="the-new-secret-of-the-tests-4567")
        assert new.status_code == 200


async def test_a_secret_that_cannot_be_used_is_named_and_not_quoted(settings: MakeSettings) -> None:
    async with client_of(settings(github_webhook_secret="Tick-Trick", standard_webhook_secret="Tick-Trick")) as client:
        for sender in ("github", "standard"):
            document = problem(await send(client, sender, {}), "not-configured", 503)
            assert document["variables"] == [f"MIGRATION_{sender.upper()}_WEBHOOK_SECRET"]
            assert "Tick-Trick" not in str(document)
        assert (await client.get("/livez")).status_code == 200


async def test_a_failed_run_is_seen_where_the_event_leads_and_is_tried_again_when_the_event_comes_again(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(a1="op.execute('SELECT 1/0')"), **SECRETS, **HERE)) as client:
        first = await send(client, "vercel", VERCEL)
        assert first.status_code == 202
        run = (await client.get(first.headers["location"], headers=READ)).json()
        assert (run["outcome"], run["error"]["instance"]) == ("failed", "/hooks/vercel")
        again = await send(client, "vercel", VERCEL)
        assert again.status_code == 202
        assert again.headers["location"] != first.headers["location"]


async def test_the_hooks_stand_in_the_description_once_they_are_there(settings: MakeSettings) -> None:
    async with client_of(settings(docs=True)) as client:
        assert not [path for path in (await client.get("/openapi.json")).json()["paths"] if "hooks" in path]
    async with client_of(settings(docs=True, **SECRETS)) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        assert {path for path in paths if "hooks" in path} == {"/hooks/vercel", "/hooks/github", "/hooks/standard"}
        assert {"202", "204", "401", "409"} <= paths["/hooks/vercel"]["post"]["responses"].keys()
