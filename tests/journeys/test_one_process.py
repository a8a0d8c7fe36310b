"""Many callers in one process: Alembic's global proxies allow one upgrade at a time."""

import asyncio
from collections import Counter

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, Database, Postgres


async def test_concurrent_calls_in_one_process_are_one_run_and_many_who_find_the_work_done(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE seen (id int)')",
        **{f"b{n}": f"op.execute('INSERT INTO seen VALUES ({n})')\ntime.sleep(0.02)" for n in range(10)},
    )
    highest = 0
    async with client_of(settings(history)) as client:
        calls = [asyncio.create_task(client.post("/migrate", headers=APPLY)) for _ in range(20)]
        while not all(call.done() for call in calls):
            highest = max(
                highest,
                database.value(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid()"
                ),
            )
            await asyncio.sleep(0.02)
        answers = [call.result() for call in calls]
    assert [answer.status_code for answer in answers] == [200] * 20
    assert Counter(answer.json()["outcome"] for answer in answers) == {"upgraded": 1, "up_to_date": 19}
    assert database.execute("SELECT id FROM seen ORDER BY id") == [(n,) for n in range(10)]
    assert highest <= 4, "the guard, the control session and the working connection; one that just closes"


async def test_two_applications_in_one_process_do_not_mix_up_their_upgrades(
    write_history: WriteHistory, settings: MakeSettings, database: Database, postgres: Postgres
) -> None:
    def body(name: str, n: int) -> str:
        table = f"op.execute('CREATE TABLE {name}{n} (id int)')\ntime.sleep(0.01)\n"
        return table + f"op.create_index('i{name}{n}', '{name}{n}', ['id'])"

    one = write_history(**{f"a{n}": body("one", n) for n in range(10)})
    two = write_history(**{f"b{n}": body("two", n) for n in range(10)})
    with postgres.database() as other:
        async with (
            client_of(settings(one)) as first,
            client_of(settings(two, database_url=other.url)) as second,
        ):
            answers = await asyncio.gather(*(client.post("/migrate", headers=APPLY) for client in (first, second)))
        assert [answer.status_code for answer in answers] == [200, 200], [answer.text for answer in answers]
        tables = "SELECT count(*) FROM pg_indexes WHERE indexname LIKE '{}%'"
        assert database.value(tables.format("ione")) == 10
        assert other.value(tables.format("itwo")) == 10
        assert database.value(tables.format("itwo")) == other.value(tables.format("ione")) == 0
