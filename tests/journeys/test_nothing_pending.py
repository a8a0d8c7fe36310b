"""What the answer that nothing is pending costs, once a process is warm: round trips and threads are counted."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from app.database.connection import CONTROL
from tests import servers
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.proxy import Proxy
from tests.servers import APPLY, READ


class Threads(ThreadPoolExecutor):
    """Threads that count what they are given to do."""

    tasks = 0

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.tasks += 1
        return super().submit(*args, **kwargs)


@pytest.fixture
async def threads() -> Threads:
    """The threads of this test's event loop."""
    counting = Threads()
    asyncio.get_running_loop().set_default_executor(counting)
    return counting


async def migrate(client: httpx.AsyncClient) -> None:
    assert (await client.post("/migrate", headers=APPLY)).json()["outcome"] == "up_to_date"


async def migrate_to_head(client: httpx.AsyncClient) -> None:
    answer = await client.post("/migrate", headers=APPLY, json={"target": "head"})
    assert answer.json()["outcome"] == "up_to_date"


async def health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health", headers=READ)).json()["state"] == "up_to_date"


async def status(client: httpx.AsyncClient) -> None:
    assert (await client.get("/status", headers=READ)).json()["state"] == "up_to_date"


@pytest.mark.parametrize(
    ("ask", "round_trips"),
    [
        pytest.param(migrate, 1, id="POST /migrate"),
        pytest.param(migrate_to_head, 1, id="POST /migrate to head"),
        pytest.param(health, 2, id="GET /health"),  # and the hashes on record
        pytest.param(status, 4, id="GET /status"),  # and those, the holder of the lock, and the last runs
    ],
)
async def test_a_warm_answer_costs_few_round_trips_and_no_thread(
    ask: Callable[[httpx.AsyncClient], Any],
    round_trips: int,
    settings: MakeSettings,
    write_history: WriteHistory,
    proxy: Proxy,
    threads: Threads,
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="pass")
    async with client_of(settings(history, database_url=proxy.database.url)) as client:
        assert (await client.post("/migrate", headers=APPLY)).json()["outcome"] == "upgraded"
        await ask(client)
        proxy.questions.clear()
        before = threads.tasks
        await ask(client)
    assert proxy.questions == {CONTROL: round_trips}
    assert threads.tasks == before > 0


GLANCES = """
import asyncio, httpx, sys
from api.index import app
from tests.journeys.test_nothing_pending import Threads, migrate

async def call():
    threads = Threads()
    asyncio.get_running_loop().set_default_executor(threads)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url='http://test', timeout=60) as client:
        await migrate(client)
        before = threads.tasks
        await migrate(client)
    print(before > 0, threads.tasks - before, 'app.migrator.revisions' in sys.modules)

asyncio.run(call())
"""


async def test_so_does_one_of_a_process_that_never_needed_alembic(
    settings: MakeSettings, write_history: WriteHistory, proxy: Proxy
) -> None:
    history = write_history(a1="pass", b2="pass")
    async with client_of(settings(history)) as client:
        assert (await client.post("/migrate", headers=APPLY)).json()["outcome"] == "upgraded"
    assert await asyncio.to_thread(servers.said_by, GLANCES, proxy.database, history) == "True 0 False"
    assert proxy.questions == {CONTROL: 2}
