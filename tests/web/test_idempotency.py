"""Idempotency-Key: the same call is carried out once, and answered the same each time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests import gate, servers
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database, Service
from tests.web.answers import problem

TWO = {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": "op.execute('CREATE TABLE b (id int)')"}
SLOW = {"a1": gate.WAITS}
KEY = '"8e03978e-40d5-43dd-bc93-6894a57f9324"'


async def keyed(client: httpx.AsyncClient, key: str = KEY, **body: Any) -> httpx.Response:
    return await client.post("/migrate", headers={**APPLY, "Idempotency-Key": key}, json=body)


async def test_the_same_key_and_body_give_the_first_runs_answer(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        first = await keyed(client, reason="deploy")
        assert (first.status_code, first.json()["outcome"]) == (200, "upgraded")
        assert "idempotency-replayed" not in first.headers
        database.execute("UPDATE alembic_version SET version_num = 'a1'")  # whatever has become of the database
        again = await keyed(client, reason="deploy")
        assert (again.status_code, again.text) == (200, first.text)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
        assert len((await client.get("/runs", headers=READ)).json()["runs"]) == 1


async def test_a_failure_is_answered_again_word_for_word_and_a_new_key_tries_again(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(a1="op.execute('SELECT 1/0')"))) as client:
        first, again = await keyed(client), await keyed(client)
        problem(first, "migration-failed", 500)
        assert (again.status_code, again.json()) == (500, first.json())
        assert again.headers["content-type"] == "application/problem+json"
        assert again.headers["idempotency-replayed"] == "true"
        other = await keyed(client, "another")
        assert other.json()["run_id"] != first.json()["run_id"]


async def test_an_answer_that_invites_to_call_again_is_not_kept(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="op.execute('ALTER TABLE a ADD n int')")
    async with client_of(settings(history, lock_timeout=0.1, lock_retries=0)) as client:
        with database.connect() as blocker:
            await client.post("/migrate", headers=APPLY, json={"target": "a1"})
            blocker.execute(b"BEGIN; LOCK TABLE a")
            problem(await keyed(client), "lock-timeout", 503)
        answer = await keyed(client)
        assert (answer.status_code, answer.json()["outcome"]) == (200, "upgraded")
        assert "idempotency-replayed" not in answer.headers
        again = await keyed(client)  # from now on the key stands for the second run
        assert (again.text, again.headers.get("idempotency-replayed")) == (answer.text, "true")


async def test_a_refusal_is_not_kept(settings: MakeSettings, write_history: WriteHistory, database: Database) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await client.post("/migrate", headers=APPLY, json={"target": "a1"})
        database.execute("UPDATE alembic_version SET version_num = 'zz'")
        problem(await keyed(client), "database-ahead", 409)
        database.execute("UPDATE alembic_version SET version_num = 'a1'")
        assert (await keyed(client)).json()["outcome"] == "upgraded"


async def test_a_different_body_is_refused(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        assert (await keyed(client, target="a1")).status_code == 200
        problem(await keyed(client, target="b2"), "idempotency-key-reused", 422)
        problem(await keyed(client), "idempotency-key-reused", 422)
        assert (await client.get("/status", headers=READ)).json()["current"] == ["a1"]


async def test_a_body_is_known_by_what_it_asks_for_and_not_by_how_it_is_written(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        first = await keyed(client, reason="deploy")
        headers = {**APPLY, "Idempotency-Key": KEY, "Content-Type": "application/json"}
        written = b'{ "lock_wait_s": null,\n "target": "heads", "reason": "\\u0064eploy" }'
        again = await client.post("/migrate", headers=headers, content=written)
        assert (again.text, again.headers.get("idempotency-replayed")) == (first.text, "true")
        problem(await keyed(client, reason="another"), "idempotency-key-reused", 422)
        problem(await keyed(client, reason="deploy", lock_wait_s=1), "idempotency-key-reused", 422)


async def test_the_answer_that_nothing_was_to_be_done_is_kept_too(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await client.post("/migrate", headers=APPLY)
        first = await keyed(client)
        again = await keyed(client)
        assert (first.json()["outcome"], again.text) == ("up_to_date", first.text)
        assert again.headers["idempotency-replayed"] == "true"
        problem(await keyed(client, target="a1"), "idempotency-key-reused", 422)


async def test_a_quoted_key_and_a_bare_one_are_the_same_and_another_callers_is_another(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    other = "another-apply-key-for-the-tests-0123456789"
    configuration = settings(write_history(**TWO), api_key=f"{servers.API_KEY},{other}")
    async with client_of(configuration) as client:
        first = await keyed(client, '"k1"')
        assert (await keyed(client, "k1")).text == first.text
        theirs = await client.post(
            "/migrate", headers={"Authorization": f"Bearer {other}", "Idempotency-Key": "k1"}, json={"target": "a1"}
        )
        assert (theirs.status_code, theirs.json()["outcome"]) == (200, "up_to_date")


@pytest.mark.parametrize("key", ["", '""', "   ", "x" * 256, 'a"b', '"a\\"b"', "tab\there", "\x80"])
async def test_a_key_that_is_none_is_said_clearly(settings: MakeSettings, key: str) -> None:
    async with client_of(settings()) as client:
        headers: dict[str, Any] = {**APPLY, "Idempotency-Key": key.encode("latin-1")}
        document = problem(await client.post("/migrate", headers=headers), "invalid-request", 422)
        assert document["errors"][0]["field"] == "header.idempotency-key"


async def test_a_run_that_still_goes_on_is_a_409_that_says_where_it_is(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**SLOW))) as client:
        with gate.shut(database):
            first = asyncio.create_task(keyed(client))
            while not (await client.get("/status", headers=READ)).json()["lock"]["held"]:
                pass  # each look gives the run a turn
            again = await keyed(client)
            document = problem(again, "still-running", 409)
            assert again.headers["location"] == f"/runs/{document['run_id']}"
            problem(await keyed(client, target="a1"), "idempotency-key-reused", 422)
        assert (await first).json()["run_id"] == document["run_id"]
        assert (await keyed(client)).text == (await first).text


def test_it_is_a_409_in_another_instance_too(
    serve_many: Callable[..., list[Service]], write_history: WriteHistory, database: Database
) -> None:
    here, there = serve_many(2, write_history(**SLOW))
    headers = {**APPLY, "Idempotency-Key": KEY}
    with ThreadPoolExecutor() as threads:
        with gate.shut(database):
            first = threads.submit(httpx.post, f"{here.url}/migrate", headers=headers, timeout=60)
            servers.until(lambda: database.is_locked, seconds=30, what="the first run to begin")
            servers.until(
                lambda: (
                    database.value("SELECT to_regclass('migration_endpoint.idempotency') IS NOT NULL")
                    and database.value("SELECT count(*) FROM migration_endpoint.idempotency")
                ),
                what="the key to be on record",
            )
            refused = httpx.post(f"{there.url}/migrate", headers=headers, timeout=60)
            document = problem(refused, "still-running", 409)
        answer = first.result()
    assert answer.json()["run_id"] == document["run_id"]
    again = httpx.post(f"{there.url}/migrate", headers=headers, timeout=60)
    assert (again.text, again.headers["idempotency-replayed"]) == (answer.text, "true")


async def test_a_run_that_died_gives_its_key_back(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        first = await keyed(client, target="a1")
        database.execute("UPDATE migration_endpoint.run SET outcome = 'running', answer = NULL, finished_at = NULL")
        database.execute("DELETE FROM alembic_version")
        database.execute("DROP TABLE a")
        again = await keyed(client, target="a1")
        assert again.json()["outcome"] == "upgraded"
        assert again.json()["run_id"] != first.json()["run_id"]
        assert "idempotency-replayed" not in again.headers


async def test_a_run_that_the_next_one_took_for_dead_gives_its_key_back_too(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        first = await keyed(client, target="a1")
        database.execute("UPDATE migration_endpoint.run SET outcome = 'running', answer = NULL, finished_at = NULL")
        assert (await client.post("/migrate", headers=APPLY)).json()["outcome"] == "upgraded"
        found = await client.get(f"/runs/{first.json()['run_id']}", headers=READ)
        assert found.json()["outcome"] == "abandoned"
        again = await keyed(client, target="a1")
        assert (again.status_code, again.json()["outcome"]) == (200, "up_to_date")
        assert "idempotency-replayed" not in again.headers


async def test_a_run_that_was_cancelled_is_answered_so_again(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**SLOW))) as client:
        with gate.shut(database):
            call = asyncio.create_task(keyed(client))
            while not (await client.get("/runs", headers=READ)).json()["runs"]:
                pass  # each look gives the run a turn
            database.execute("UPDATE migration_endpoint.run SET cancel_asked_at = now()")
        first = await call
        problem(first, "cancelled", 409)
        again = await keyed(client)
        assert (again.status_code, again.json()) == (409, first.json())
        assert again.headers["idempotency-replayed"] == "true"


async def test_a_first_call_that_still_waits_for_its_turn_is_a_409_that_cannot_say_where_it_is(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        with database.connect() as held:
            key = (await client.get("/status", headers=READ)).json()["lock"]["key"]
            held.execute(f"SELECT pg_advisory_lock({key})".encode())
            first = asyncio.create_task(keyed(client, lock_wait_s=60))
            while not await asyncio.to_thread(lambda: database.is_waited_for):
                assert not first.done()
            again = await keyed(client, lock_wait_s=60)
            document = problem(again, "still-running", 409)
            assert "run_id" not in document
            assert "location" not in again.headers
        assert (await first).json()["outcome"] == "upgraded"


async def test_a_key_is_kept_for_thirty_days(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        first = await keyed(client, "old", target="a1")
        database.execute("UPDATE migration_endpoint.idempotency SET since = since - interval '29 days'")
        await keyed(client, "new")
        assert (await keyed(client, "old", target="a1")).text == first.text
        database.execute("UPDATE migration_endpoint.idempotency SET since = since - interval '2 days'")
        await keyed(client, "newest")
        assert database.value("SELECT count(*) FROM migration_endpoint.idempotency") == 2


async def test_a_key_that_is_older_is_forgotten_though_its_row_is_still_there(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await keyed(client, target="a1")
        database.execute("UPDATE migration_endpoint.idempotency SET since = since - interval '31 days'")
        assert "idempotency-replayed" not in (await keyed(client, target="a1")).headers


async def test_without_a_ledger_the_call_is_carried_out_all_the_same(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    with database.server.role() as (role, password):
        database.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
        url = database.as_role(role, password).url
        async with client_of(settings(write_history(**TWO), database_url=url)) as client:
            first, again = await keyed(client), await keyed(client)
            assert (first.json()["outcome"], again.json()["outcome"]) == ("upgraded", "up_to_date")
            assert any("not on record" in warning for warning in first.json()["warnings"])
        database.execute(f"DROP OWNED BY {role}")


async def test_another_deployment_is_not_answered_with_what_the_last_one_reached(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(a1=TWO["a1"]))) as client:
        assert (await keyed(client, "release")).json()["to"] == ["a1"]
    async with client_of(settings(write_history(**TWO))) as client:
        answer = await keyed(client, "release")
        assert (answer.status_code, answer.json()["to"]) == (200, ["b2"])
        assert "idempotency-replayed" not in answer.headers
