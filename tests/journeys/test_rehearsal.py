"""A rehearsal tells what a run would do, and leaves nothing behind."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.dumps import dump
from tests.journeys.rehearsals import names, rehearse
from tests.servers import APPLY, READ, Database, Service, until

WITH_ROWS = "CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a SELECT g, g FROM generate_series(1, 1000) g"
CREATE_A, CREATE_C = "op.execute('CREATE TABLE a (id int)')", "op.execute('CREATE TABLE c (id int)')"


async def test_the_sample_history_is_rehearsed_up_to_its_autocommit_block(
    settings: MakeSettings, on: Database, database: Database
) -> None:
    before = dump(database)
    answer = await rehearse(settings(database_url=on.url))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["outcome"], told["stopped_at"]) == ("incomplete", "0004")
    assert told["stopped_because"] == "It has an autocommit block."
    assert names(told["steps"]) == ["0001", "0002", "0003"]
    assert names(told["remaining"]) == ["0004", "0005", "0006", "0007"]
    # What 0003 locks is locked already: in the one transaction by which 0001 has made it.
    assert [step["locks"] for step in told["steps"]] == [[], [], []]
    assert dump(database) == before


async def test_a_rehearsal_tells_locks_rows_and_what_is_written_anew(
    settings: MakeSettings, write_history: WriteHistory, on: Database, database: Database
) -> None:
    database.execute(f'{WITH_ROWS}; CREATE TABLE "B b" (a int REFERENCES a); CREATE TABLE d (id int)')
    history = write_history(
        a1="op.execute('ALTER TABLE a ALTER COLUMN n TYPE bigint')\n"
        "op.execute('DELETE FROM a WHERE id <= 10'); op.execute('UPDATE a SET n = 0 WHERE id <= 30')\n"
        "op.get_bind().execute(sa.text('INSERT INTO \"B b\" VALUES (:a)'), [{'a': 11}, {'a': 12}])",
        b2="op.execute('CREATE TABLE c AS SELECT id FROM a')",
        c3="op.execute('ALTER TABLE c ADD COLUMN n int'); op.execute('TRUNCATE d')",
    )
    before = dump(database)
    answer = await rehearse(settings(history, database_url=on.url))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["outcome"], told["stopped_at"], told["remaining"]) == ("passed", None, [])
    a1, b2, c3 = told["steps"]
    locked = [(lock["relation"], lock["mode"]) for lock in a1["locks"]]
    assert locked[:2] == [("a", "AccessExclusiveLock"), ('"B b"', "RowExclusiveLock")]
    assert a1["rewrote"] == ["a"]
    (rewritten,) = a1["rewritten"]
    assert (rewritten["relation"], rewritten["rows"]) == ("a", 990)
    assert rewritten["bytes"] >= 990 * 12
    assert a1["rows"] == [
        {"relation": '"B b"', "inserted": 2, "updated": 0, "deleted": 0},
        {"relation": "a", "inserted": 0, "updated": 20, "deleted": 10},
    ]
    assert b2["locks"] == []  # `a` is locked already, by a1
    assert b2["rows"] == [{"relation": "c", "inserted": 990, "updated": 0, "deleted": 0}]
    assert [lock["relation"] for lock in c3["locks"]] == ["d"]  # `c` is, since it was made
    assert (c3["rewritten"], c3["rows"]) == ([{"relation": "d", "rows": 0, "bytes": 0}], [])
    assert dump(database) == before
    assert database.value("SELECT to_regclass('alembic_version')") is None
    assert database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'migration_endpoint'") == 0


@pytest.fixture
def role(database: Database) -> Iterator[Database]:
    """The fresh database for a role that may create tables in its schema `public`, and owns nothing."""
    with database.server.role() as (name, password):
        database.execute(f"GRANT CREATE ON SCHEMA public TO {name}")
        yield database.as_role(name, password)
        database.execute(f"DROP OWNED BY {name}")


async def test_a_revision_that_fails_is_told_with_what_a_run_would_have_said(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute(WITH_ROWS)
    before = dump(database)
    history = write_history(
        a1="op.execute('ALTER TABLE a ADD m int')", b2="op.execute('DROP TABLE nothing')", c3="pass"
    )
    told = (await rehearse(settings(history))).json()
    assert (told["type"].partition("#")[2], told["status"], told["retryable"]) == ("rehearsal-failed", 409, False)
    first, last = told["steps"]
    assert (first["problem"], first["locks"][0]["relation"]) == (None, "a")
    assert last["problem"]["type"].endswith("#migration-failed")
    assert last["problem"]["sqlstate"] == "42P01"
    assert last["problem"]["where"] == "b2.py:13"
    assert (names(told["remaining"]), "applied" in told["problem"]) == (["c3"], False)
    assert dump(database) == before


async def test_a_deferred_constraint_is_checked_where_a_run_would_commit(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute(f"{WITH_ROWS}; CREATE TABLE b (a int REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
    late = "op.execute('INSERT INTO b VALUES (2000)')\nop.execute('INSERT INTO a VALUES (2000, 1)')"
    history = write_history(
        a1=late, b2="op.execute('ALTER TABLE b ADD n int')", c3="op.execute('INSERT INTO b VALUES (0)')"
    )
    told = (await rehearse(settings(history))).json()
    assert names(told["steps"]) == ["a1", "b2", "c3"]
    assert told["problem"]["sqlstate"] == "23503"


async def test_a_constraint_that_a_revision_defers_is_checked_at_its_end_and_deferred_no_longer(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute(f"{WITH_ROWS}; CREATE TABLE b (a int REFERENCES a DEFERRABLE INITIALLY IMMEDIATE)")
    late = "op.execute('INSERT INTO b VALUES (2000)')\nop.execute('INSERT INTO a VALUES (2000, 1)')"
    defers = "op.execute('SET CONSTRAINTS ALL DEFERRED')\n"
    told = (
        await rehearse(settings(write_history(a1=defers + late, b2="op.execute('INSERT INTO b VALUES (0)')")))
    ).json()
    assert (names(told["steps"]), told["problem"]["sqlstate"]) == (["a1", "b2"], "23503")
    assert told["problem"]["where"] is not None  # by its own statement, as in a transaction of its own
    told = (
        await rehearse(settings(write_history(a1=defers + "op.execute('INSERT INTO b VALUES (0)')", b2="pass")))
    ).json()
    assert (names(told["steps"]), told["problem"]["sqlstate"]) == (["a1"], "23503")


async def test_a_constraint_that_shares_its_name_with_one_that_cannot_wait_keeps_nobody_from_rehearsing(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute(
        f"{WITH_ROWS}; CREATE TABLE b (a int CONSTRAINT same REFERENCES a DEFERRABLE INITIALLY DEFERRED); "
        "CREATE TABLE d (a int CONSTRAINT same REFERENCES a)"
    )
    told = (await rehearse(settings(write_history(a1=CREATE_C, b2="op.execute('INSERT INTO b VALUES (0)')")))).json()
    assert (names(told["steps"]), told["problem"]["sqlstate"]) == (["a1", "b2"], "23503")


async def test_constraints_that_the_role_cannot_reach_keep_nobody_from_rehearsing(
    settings: MakeSettings, write_history: WriteHistory, database: Database, role: Database
) -> None:
    database.execute("CREATE SCHEMA closed; CREATE TABLE closed.a (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
    answer = await rehearse(settings(write_history(a1=CREATE_A), database_url=role.url))
    assert (answer.status_code, answer.json().get("outcome")) == (200, "passed"), answer.text


async def test_a_role_that_may_make_no_temporary_table_learns_what_to_grant(
    settings: MakeSettings, write_history: WriteHistory, database: Database, role: Database
) -> None:
    database.execute(f'REVOKE TEMPORARY ON DATABASE "{database.address.database}" FROM PUBLIC')
    history = write_history(a1=CREATE_A)
    answer = await rehearse(settings(history, database_url=role.url))
    told = answer.json()
    assert (answer.status_code, told["type"].partition("#")[2]) == (503, "permission-denied"), answer.text
    assert (told["sqlstate"], names(told["remaining"])) == ("42501", ["a1"])
    assert "temporary tables" in told["detail"]
    assert "GRANT TEMPORARY ON DATABASE" in told["hint"]
    database.execute(f'GRANT TEMPORARY ON DATABASE "{database.address.database}" TO {role.address.username}')
    assert (await rehearse(settings(history, database_url=role.url))).json()["outcome"] == "passed"


async def test_a_new_value_of_an_enum_cannot_be_used_in_the_same_rehearsal(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute("CREATE TYPE mood AS ENUM ('fine')")
    history = write_history(
        a1="op.execute(\"ALTER TYPE mood ADD VALUE 'new'\")", b2="op.execute(\"SELECT 'new'::mood; SELECT 1\")"
    )
    told = (await rehearse(settings(history))).json()
    assert (told["outcome"], told["stopped_at"]) == ("incomplete", "b2")
    # Within one revision it cannot be used in a run either.
    history = write_history(a1="op.execute(\"ALTER TYPE mood ADD VALUE 'new'; SELECT 'new'::mood\")")
    assert (await rehearse(settings(history))).json()["problem"]["sqlstate"] == "55P04"


async def test_a_table_that_is_locked_is_given_up_soon_and_its_blockers_are_named(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute(WITH_ROWS)
    history = write_history(a1="op.execute('ALTER TABLE a ADD m int')")
    with database.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE a IN ACCESS SHARE MODE")
        answer = await rehearse(settings(history, lock_timeout=60))
        told = answer.json()
        assert answer.status_code == 503, answer.text
        assert (told["type"].partition("#")[2], told["attempts"]) == ("lock-timeout", 1)
        assert [blocker["pid"] for blocker in told["blockers"]] == [holder.info.backend_pid]
        assert (told["steps"], names(told["remaining"])) == ([], ["a1"])


async def test_a_sequence_keeps_what_it_has_given_out(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute("CREATE TABLE a (id serial)")
    before = dump(database)
    assert (await rehearse(settings(write_history(a1="op.execute('INSERT INTO a DEFAULT VALUES')")))).status_code == 200
    assert dump(database) != before
    assert database.execute("SELECT last_value, is_called FROM a_id_seq") == [(1, True)]
    assert database.value("SELECT count(*) FROM a") == 0


async def test_after_runs_the_record_of_them_is_left_as_it_was(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    chosen = settings(write_history(a1=CREATE_A, b2=CREATE_C))
    async with client_of(chosen) as client:
        assert (await client.post("/migrate", headers=APPLY, json={"target": "a1"})).status_code == 200
    before = dump(database)
    told = (await rehearse(chosen)).json()
    assert (told["from"], names(told["steps"])) == (["a1"], ["b2"])
    assert (await rehearse(chosen, {"target": "a1"})).json()["steps"] == []
    assert (await rehearse(chosen, {"target": "z9"})).status_code == 422
    assert dump(database) == before


@pytest.mark.parametrize(("head", "left"), [("a1", ["b2"]), ("b2", [])])
async def test_what_somebody_applied_while_the_lock_was_waited_for_is_not_rehearsed(
    head: str, left: list[str], settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(a1=CREATE_A, b2=CREATE_C))) as client:
        key = (await client.get("/status", headers=READ)).json()["lock"]["key"]
        with database.connect() as held:
            held.execute(f"SELECT pg_advisory_lock({key})".encode())
            call = asyncio.create_task(client.post("/rehearse", headers=APPLY, json={"lock_wait_s": 60}))
            while not await asyncio.to_thread(lambda: database.is_waited_for):
                assert not call.done()
            database.execute(f"CREATE TABLE alembic_version AS SELECT varchar(32) '{head}' AS version_num")
        told = (await call).json()
    assert (told["outcome"], told["from"], names(told["steps"])) == ("passed", [head], left)


@pytest.mark.parametrize("name", ["production", "Production"])
async def test_production_is_spared_unless_it_is_told_otherwise(
    name: str, settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1=CREATE_A, b2=CREATE_C)
    answer = await rehearse(settings(history, environment=name))
    assert (answer.status_code, answer.json()["type"].partition("#")[2]) == (409, "rehearsal-not-allowed")
    async with client_of(settings(history, environment=name)) as client:
        assert (await client.post("/migrate", headers=APPLY, json={"target": "a1"})).status_code == 200
    answer = await rehearse(settings(history))  # of no environment, while the database is production's
    assert (answer.status_code, answer.json()["type"].partition("#")[2]) == (409, "rehearsal-not-allowed")
    allowed = await rehearse(settings(history, environment=name, rehearse_in="production"))
    assert allowed.status_code == 200, allowed.text
    assert database.execute("SELECT outcome FROM migration_endpoint.run") == [("upgraded",)]


def test_a_rehearsal_holds_the_lock_and_a_killed_one_leaves_nothing(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    database.execute(WITH_ROWS)
    before = dump(database)
    history = write_history(a1="op.execute('ALTER TABLE a ADD m int')", b2="op.execute('SELECT pg_sleep(60)')")
    service, other = serve(history, lease=2), serve(history, lease=2)
    call = threading.Thread(target=_post_and_lose, args=(service,))
    call.start()
    sleeping = (
        "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND datname = current_database()"
    )
    until(lambda: database.value(sleeping), what="the rehearsal to sleep")
    refused = other.post({"lock_wait_s": 0})
    assert (refused.status_code, refused.json()["type"].partition("#")[2]) == (409, "lock-held")
    assert refused.json()["holder"]["progress"] == "2/2"
    service.signal(signal.SIGKILL)
    call.join()
    until(lambda: not database.value(sleeping) and not database.is_locked, what="its backends to end")
    assert dump(database) == before


def _post_and_lose(service: Service) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{service.url}/rehearse", headers=APPLY, timeout=60)


async def test_a_read_key_may_not_rehearse(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(a1=CREATE_A))) as client:
        assert (await client.post("/rehearse", headers=READ)).status_code == 403
        assert (await client.post("/rehearse", headers=APPLY, json={"reason": "none"})).status_code == 422


async def test_the_time_of_a_rehearsal_is_bounded_like_a_run_s(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute(WITH_ROWS)
    before = dump(database)
    history = write_history(
        a1="op.execute('ALTER TABLE a ADD m int')", b2="op.execute('SELECT pg_sleep(60)')", c3="pass"
    )
    answer = await rehearse(settings(history, time_budget=2))
    told = answer.json()
    assert (told["type"].partition("#")[2], told["retryable"]) == ("time-budget-exhausted", False)
    assert (names(told["steps"]), names(told["remaining"])) == (["a1"], ["b2", "c3"])
    assert dump(database) == before
