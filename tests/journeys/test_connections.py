"""Connections are counted: in pg_stat_activity, while a run goes on, while callers wait, and when nothing happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.proxy import Proxy
from tests.servers import APPLY, READ, Database, until

COUNT = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' "
    "AND (application_name = 'migration-endpoint' OR application_name LIKE 'migrate/%')"
)


@asynccontextmanager
async def counting(database: Database) -> AsyncIterator[list[int]]:
    """Look every few milliseconds how many connections of ours are open; the list grows meanwhile."""
    counts: list[int] = []
    ended = asyncio.Event()

    def count() -> None:
        with database.connect() as opened:
            while not ended.is_set():
                row = opened.execute(COUNT).fetchone()
                assert row is not None
                counts.append(row[0])

    counter = asyncio.create_task(asyncio.to_thread(count))
    try:
        yield counts
    finally:
        ended.set()
        await counter


async def test_a_run_opens_at_most_three_connections_and_an_idle_instance_holds_none(
    on: Database, settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute("CREATE TABLE busy (id int)")
    # A lock timeout, an index build, silence longer than the lease: whatever makes a watcher look.
    history = write_history(
        a1="op.execute('ALTER TABLE busy ADD x int')",
        b2="with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY ON busy (x)')",
        c3="op.execute('SELECT pg_sleep(1.5)')",
    )
    async with client_of(settings(history, database_url=on.url, lock_timeout=0.2, lease=1)) as client:
        async with counting(database) as counts:
            with database.connect() as holder, holder.transaction():
                holder.execute("LOCK TABLE busy")
                call = asyncio.create_task(client.post("/migrate", headers=APPLY))
                await asyncio.sleep(0.7)
            answer = await call
        assert answer.status_code == 200, answer.text
        assert len(counts) > 100
        assert max(counts) == 3
        if on is database:  # a pooler keeps its connections, and the names of their last clients
            await asyncio.to_thread(until, lambda: database.value(COUNT) == 0, seconds=2, what="no connection")
            for path in ("/status", "/health", "/runs"):
                assert (await client.get(path, headers=READ)).status_code == 200
            await asyncio.to_thread(until, lambda: database.value(COUNT) == 0, seconds=2, what="no connection")


async def test_fifty_callers_who_wait_for_another_instance_hold_at_most_four_between_them(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')\nop.execute('SELECT pg_sleep(3)')")
    async with client_of(settings(history)) as elsewhere, client_of(settings(history)) as client:
        run = asyncio.create_task(elsewhere.post("/migrate", headers=APPLY))
        of_the_run = 2  # the guard and the working connection, once it is on record
        sleeping = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE query LIKE '%pg_sleep(3)' AND pid <> pg_backend_pid() AND datname = current_database()"
        )
        await asyncio.to_thread(until, lambda: database.value(sleeping), what="the run elsewhere")
        async with counting(database) as counts:
            waiters = await asyncio.gather(
                *(client.post("/migrate", headers=APPLY, json={"lock_wait_s": 0.5 + n % 5}) for n in range(50))
            )
        assert (await run).status_code == 200
    assert {answer.status_code for answer in waiters} == {200, 409}
    assert of_the_run < max(counts) <= of_the_run + 4


async def test_fifty_callers_who_wait_for_a_run_of_their_own_instance_need_no_more_than_it_does_and_one(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')\nop.execute('SELECT pg_sleep(2)')")
    async with client_of(settings(history)) as client, counting(database) as counts:
        answers = await asyncio.gather(
            *(client.post("/migrate", headers=APPLY, json={"lock_wait_s": 0.5 + n % 4}) for n in range(50))
        )
    assert {answer.status_code for answer in answers} == {200, 409}
    assert [answer.json()["outcome"] for answer in answers if answer.status_code == 200].count("upgraded") == 1
    assert max(counts) <= 4


async def test_fifty_callers_of_one_instance_share_what_one_of_them_sees_after_the_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database, proxy: Proxy
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')\nop.execute('SELECT pg_sleep(1)')")
    async with client_of(settings(history, database_url=proxy.database.url)) as client:

        async def call(**headers: str) -> str:
            answer = await client.post("/migrate", headers=APPLY | headers)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["outcome"])

        outcomes = await asyncio.gather(*(call() for _ in range(50)))
        assert sorted(outcomes) == ["up_to_date"] * 49 + ["upgraded"]
        # The first call's look by itself, as of a cold function; guard, record, work, reading back; and one to spare.
        assert proxy.logins.total() <= 6

        # What was seen before a call came is not what it is told.
        database.execute("DROP TABLE a, alembic_version")
        assert await call() == "upgraded"

        # And whose answer is to be kept has it kept.
        await asyncio.gather(*(call(**{"Idempotency-Key": f"call-{number}"}) for number in range(5)))
        assert database.value("SELECT count(*) FROM migration_endpoint.idempotency") == 5
