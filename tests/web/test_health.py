"""What a monitor sees: /livez says that the process answers, /health whether the database is where it should be."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from app.errors import NotConfigured
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import API_KEY, APPLY, READ, Database, until
from tests.web.answers import DEAD, assert_tells_no_secret, problem, without_database

NOT_CONFIGURED = NotConfigured("MIGRATION_LEASE: Input should be a number", variables=["MIGRATION_LEASE"])


def json_of(answer: httpx.Response, status: int) -> object:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


# --- /livez


@pytest.mark.parametrize("configuration", [without_database(), without_database(api_key=None), NOT_CONFIGURED])
async def test_livez_answers_whatever_else_is_wrong(configuration: object) -> None:
    async with client_of(configuration) as client:
        assert json_of(await client.get("/livez"), 200) == {"status": "pass"}
        head = await client.head("/livez")
        assert head.status_code == 200
        assert (await client.get("/livez", headers=READ)).json() == {"status": "pass"}


async def test_livez_never_knocks_at_the_database() -> None:
    async with counting_visitors() as (url, visitors), client_of(without_database(database_url=url)) as client:
        for _ in range(3):
            assert (await client.get("/livez", headers=APPLY)).status_code == 200
            assert (await client.head("/livez")).status_code == 200
        assert visitors == []
        await client.get("/health")
        assert len(visitors) == 1  # or the count would prove nothing


@asynccontextmanager
async def counting_visitors() -> AsyncIterator[tuple[str, list[object]]]:
    """A port that counts who connects, and hangs up after a moment; its connection string."""
    visitors: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visitors.append(writer.get_extra_info("peername"))
        await asyncio.sleep(0.2)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield DEAD.replace("127.0.0.1:1", f"127.0.0.1:{port}") + "?sslmode=disable", visitors


# --- /health


async def test_health_passes_at_the_head_and_warns_before(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(a1="pass", b2="pass"))) as client:
        assert json_of(await client.get("/health"), 200) == {"status": "warn"}
        assert json_of(await client.get("/health?strict=true"), 503) == {"status": "warn"}
        assert json_of(await client.get("/health?strict=false"), 200) == {"status": "warn"}
        assert (await client.post("/migrate", json={"target": "a1"}, headers=APPLY)).status_code == 200
        assert json_of(await client.get("/health"), 200) == {"status": "warn"}
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
        assert json_of(await client.get("/health"), 200) == {"status": "pass"}
        assert json_of(await client.get("/health?strict=true"), 200) == {"status": "pass"}


async def test_health_passes_when_the_database_is_ahead_of_the_deployment(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    later = write_history(a1="pass", b2="pass")
    async with client_of(settings(later)) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
    earlier = write_history(a1="pass")  # the deployment was rolled back
    async with client_of(settings(earlier)) as client:
        assert json_of(await client.get("/health?strict=true"), 200) == {"status": "pass"}
        assert (await client.get("/health", headers=READ)).json()["state"] == "database_ahead"
        problem(await client.post("/migrate", headers=APPLY), "database-ahead", 409)


async def test_health_fails_when_database_and_deployment_have_diverged(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(a1="pass", b2="pass"))) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
    async with client_of(settings(write_history(a1="pass", c3="pass"))) as client:
        assert json_of(await client.get("/health"), 503) == {"status": "fail"}
        assert (await client.get("/health", headers=READ)).json()["state"] == "diverged"


async def test_health_fails_without_a_database() -> None:
    async with client_of(without_database()) as client:
        assert json_of(await client.get("/health"), 503) == {"status": "fail"}
        answer = await client.get("/health", headers={**READ, "X-Request-ID": "monitor-7"})
        assert answer.status_code == 503
        assert answer.json()["problem"]["type"].endswith("#database-unavailable")
        assert answer.json()["problem"]["request_id"] == "monitor-7"
        assert_tells_no_secret(answer.text)


@pytest.mark.parametrize("configuration", [NOT_CONFIGURED, without_database(database_url=None)])
async def test_health_fails_when_the_service_is_not_configured(configuration: object) -> None:
    async with client_of(configuration) as client:
        assert json_of(await client.get("/health"), 503) == {"status": "fail"}
        assert (await client.head("/health")).status_code == 503


async def test_health_without_keys_still_looks_and_tells_nobody_any_more_than_the_word(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(a1="pass"), api_key=None)) as client:
        assert json_of(await client.get("/health", headers=READ), 200) == {"status": "warn"}


async def test_details_are_for_callers_with_a_key(settings: MakeSettings, write_history: WriteHistory) -> None:
    deployment = {
        "vercel_deployment_id": "dpl_7",
        "vercel_git_commit_sha": "0123abc",
        "vercel_env": "production",
    }
    async with client_of(settings(write_history(a1="pass", b2="pass"), **deployment)) as client:
        for headers in (READ, APPLY):
            assert json_of(await client.get("/health", headers=headers), 200) == {
                "status": "warn",
                "state": "pending",
                "pending": 2,
                "deployment": {"id": "dpl_7", "git_sha": "0123abc", "environment": "production"},
            }
        for authorization in ("Bearer wrong", "Bearer", "Basic x", API_KEY):
            answer = await client.get("/health", headers={"Authorization": authorization})
            assert json_of(answer, 200) == {"status": "warn"}
        assert json_of(await client.get(f"/health?key={API_KEY}"), 200) == {"status": "warn"}


async def test_head_has_the_status_of_get(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(a1="pass"))) as client:
        for query, status in (("", 200), ("?strict=true", 503)):
            get, head = await client.get(f"/health{query}"), await client.head(f"/health{query}")
            assert head.status_code == get.status_code == status
            assert head.headers["content-type"] == get.headers["content-type"]


async def test_strict_takes_yes_or_no_and_nothing_else() -> None:
    async with client_of(without_database()) as client:
        document = problem(await client.get("/health?strict=perhaps"), "invalid-request", 422)
    assert "strict" in document["detail"]


async def test_callers_at_the_same_time_share_one_look() -> None:
    async with counting_visitors() as (url, visitors), client_of(without_database(database_url=url)) as client:
        answers = await asyncio.gather(*(client.get("/health") for _ in range(25)))
        assert {answer.status_code for answer in answers} == {503}
        assert len(visitors) == 1
        await client.get("/health")
        assert len(visitors) == 2  # and whoever comes later looks anew


async def answers_of_one_look(
    client: httpx.AsyncClient, database: Database, callers: list[dict[str, str]]
) -> list[dict[str, object]]:
    """What callers with these headers are told, who come while there is one look at the database for all of them."""
    asked_for = "SELECT numbackends FROM pg_stat_database WHERE datname = current_database()"
    with database.connect() as held:
        held.execute("BEGIN; LOCK TABLE alembic_version")  # whoever looks now has to wait
        asked = [asyncio.create_task(client.get("/health", headers=headers)) for headers in callers]
        await asyncio.to_thread(until, lambda: database.value(asked_for) >= 3, what="the look")
        await asyncio.sleep(0.2)
        # The one that holds the table, the one that counts, and the look of all of them.
        assert database.value(asked_for) == 3
        held.execute("COMMIT")
    return [answer.json() for answer in await asyncio.gather(*asked)]


async def test_callers_at_the_same_time_share_one_connection_to_postgresql(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(a1="pass"))) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
        answers = await answers_of_one_look(client, database, [READ] * 20)
    assert [answer["status"] for answer in answers] == ["pass"] * 20


async def test_who_is_told_the_verdict_alone_waits_for_nothing_that_cannot_change_it(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(a1="pass", b2="pass"))) as client:
        assert (await client.post("/migrate", json={"target": "a1"}, headers=APPLY)).status_code == 200
        with database.connect() as held:
            held.execute("BEGIN; LOCK TABLE migration_endpoint.step")  # by which edited revisions are told
            assert (await asyncio.wait_for(client.get("/health"), 5)).json() == {"status": "warn"}
            told = asyncio.create_task(client.get("/health", headers=READ))
            await asyncio.sleep(0.3)
            assert not told.done()
            held.execute("COMMIT")
        assert (await told).json()["pending"] == 1


async def test_a_look_in_detail_does_for_those_too_who_are_told_the_verdict_alone(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(a1="pass"))) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
        answers = await answers_of_one_look(client, database, [READ, {}, READ, {}])
    assert [len(answer) > 1 for answer in answers] == [True, False, True, False]
    assert {answer["status"] for answer in answers} == {"pass"}


async def test_a_caller_who_hangs_up_does_not_end_the_look_of_the_others(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(a1="pass"))) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
        with database.connect() as held:
            held.execute("BEGIN; LOCK TABLE alembic_version")
            impatient = asyncio.create_task(client.get("/health"))
            await asyncio.sleep(0.1)
            patient = asyncio.create_task(client.get("/health"))
            await asyncio.sleep(0.1)
            impatient.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await impatient
            held.execute("COMMIT")
        assert (await patient).json() == {"status": "pass"}
