"""A network that is slow, or not there at all, when a run wants to connect."""

import asyncio
import time

import httpx
import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.journeys.struck import LEASE_S, comes_true, revisions
from tests.proxy import Proxy
from tests.servers import APPLY, Database

CREATE_A = "op.execute('CREATE TABLE a (id int)')"
PATIENCE_S = 20
"""Far more than a bounded number of attempts may take, and far less than for ever."""


def assert_unavailable(answer: httpx.Response, words: str) -> None:
    assert answer.status_code == 503, answer.text
    problem = answer.json()
    assert problem["type"].endswith("#database-unavailable")
    assert problem["retryable"] is True
    assert int(answer.headers["retry-after"]) > 0
    assert words in problem["detail"]


async def test_a_port_where_nobody_listens_is_a_problem_until_somebody_does(
    write_history: WriteHistory, settings: MakeSettings, database: Database, proxy: Proxy
) -> None:
    proxy.refuse()
    async with client_of(settings(write_history(a1=CREATE_A), database_url=proxy.database.url)) as client:
        async with asyncio.timeout(PATIENCE_S):
            answer = await client.post("/migrate", headers=APPLY)
        assert_unavailable(answer, f"127.0.0.1:{proxy.database.address.port}")
        proxy.accept()
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT to_regclass('a')") is not None


async def test_a_port_where_nobody_listens_for_a_moment_is_tried_again(
    write_history: WriteHistory, settings: MakeSettings, proxy: Proxy
) -> None:
    proxy.refuse()
    async with client_of(settings(write_history(a1=CREATE_A), database_url=proxy.database.url)) as client:
        call = asyncio.create_task(client.post("/migrate", headers=APPLY))
        await asyncio.sleep(0.2)
        assert not call.done(), call.result().text
        proxy.accept()
        answer = await call
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
async def test_a_port_where_somebody_listens_and_says_nothing_is_given_up_after_the_connect_timeout(
    sslmode: str, write_history: WriteHistory, settings: MakeSettings, proxy: Proxy
) -> None:
    proxy.swallow()
    url = proxy.database.address.update_query_dict({"sslmode": sslmode}).render_as_string(hide_password=False)
    async with client_of(settings(write_history(a1=CREATE_A), database_url=url, connect_timeout=1)) as client:
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            answer = await client.post("/migrate", headers=APPLY)
        assert_unavailable(answer, "did not answer within 1 s")
        assert time.monotonic() - began >= 1
        await comes_true(lambda: not proxy.names(), seconds=3, what="the connection to be closed")
        proxy.swallow(False)
        if sslmode != "require":  # which this server may not be able to
            answer = await client.post("/migrate", headers=APPLY)
            assert answer.status_code == 200, answer.text


async def test_200_ms_of_latency_make_a_run_slower_and_change_nothing_else(
    write_history: WriteHistory, settings: MakeSettings, database: Database, proxy: Proxy
) -> None:
    round_trip_s = 0.2
    history = write_history(
        a1=CREATE_A,
        b2="with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY a_id ON a (id)')",
        c3="op.execute('CREATE TABLE c (id int)')",
    )
    proxy.latency_s = round_trip_s / 2
    async with client_of(settings(history, database_url=proxy.database.url, lease=LEASE_S)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text
    assert revisions(answer.json(), "applied") == ["a1", "b2", "c3"]
    assert answer.json()["warnings"] == []
    assert database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'a_id'::regclass") is True
    assert database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id") == [("a1",), ("b2",), ("c3",)]
    assert database.execute("SELECT outcome FROM migration_endpoint.run") == [("upgraded",)]
    # Measured: 50, of which SQLAlchemy's acquaintance with the server costs 10. A password costs 8 more.
    assert answer.json()["duration_ms"] / 1000 / round_trip_s < 75


async def test_a_call_with_nothing_to_do_costs_few_round_trips(
    write_history: WriteHistory, settings: MakeSettings, proxy: Proxy
) -> None:
    round_trip_s = 0.4
    async with client_of(settings(write_history(a1=CREATE_A), database_url=proxy.database.url)) as client:
        assert (await client.post("/migrate", headers=APPLY)).json()["outcome"] == "upgraded"
        proxy.latency_s = round_trip_s / 2
        began = time.monotonic()
        answer = await client.post("/migrate", headers=APPLY)
        took_s = time.monotonic() - began
    assert answer.json()["outcome"] == "up_to_date"
    # Measured: 3, to log in, to look, and to see the connection closed. A password costs 2 more.
    assert 2 <= took_s / round_trip_s < 7
