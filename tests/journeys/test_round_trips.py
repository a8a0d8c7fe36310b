"""What a run asks of the database: a function may be some 70 ms away from it."""

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.proxy import Proxy
from tests.servers import APPLY


async def test_a_revision_of_one_statement_takes_two_round_trips_or_three_where_only_the_last_result_is_told(
    write_history: WriteHistory, settings: MakeSettings, proxy: Proxy, driver: str
) -> None:
    def history(count: int) -> dict[str, str]:
        return {f"r{number}": f"op.execute('CREATE TABLE t{number} (id int)')" for number in range(count)}

    counted = []
    for count in (1, 3, 13):  # each goes on where the last one ended
        proxy.questions.clear()
        configured = settings(write_history(**history(count)), database_url=proxy.database.url)
        async with client_of(configured) as client:
            assert (await client.post("/migrate", headers=APPLY)).status_code == 200
        counted.append(sum(many for name, many in proxy.questions.items() if name.startswith("migrate/")))
    _, two, ten = counted
    assert ten - two == 8 * {"asyncpg": 2, "psycopg2": 3}[driver]
