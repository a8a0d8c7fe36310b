"""The main job, end to end."""

from collections.abc import Callable

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database, Service


async def test_the_sample_history_runs_from_empty_to_head_and_then_has_nothing_to_do(
    settings: MakeSettings, database: Database
) -> None:
    async with client_of(settings()) as client:
        first = await client.post("/migrate", headers=APPLY)
        assert first.status_code == 200, first.text
        assert first.json()["outcome"] == "upgraded"
        assert first.json()["from"] == []
        assert first.json()["to"] == ["0007"]
        assert [step["revision"] for step in first.json()["applied"]] == [f"000{n}" for n in range(1, 8)]
        again = await client.post("/migrate", headers=APPLY)
        assert again.json()["outcome"] == "up_to_date"
        assert again.json()["run_id"] is None
        assert (await client.get("/status", headers=READ)).json()["state"] == "up_to_date"
    assert database.value("SELECT version_num FROM alembic_version") == "0007"
    assert database.value("SELECT count(*) FROM migration_endpoint.run") == 1


def test_a_service_in_its_own_process_migrates(
    write_history: WriteHistory, serve: Callable[..., Service], database: Database
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="op.execute('CREATE TABLE b (id int)')")
    answer = serve(history).post()
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT version_num FROM alembic_version") == "b2"


def test_through_pgbouncer_in_transaction_mode(
    write_history: WriteHistory,
    serve: Callable[..., Service],
    through_pgbouncer: Callable[..., Database],
    database: Database,
) -> None:
    answer = serve(None, on=through_pgbouncer("transaction")).post()
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT version_num FROM alembic_version") == "0007"
