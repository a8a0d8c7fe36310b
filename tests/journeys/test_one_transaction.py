"""MIGRATION_TRANSACTION_PER_RUN: all pending revisions in one transaction, with its price."""

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.database import lock
from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.servers import APPLY, READ, Database, until

KEY = lock.key("public.alembic_version")
ABCD = {name: f"op.execute('CREATE TABLE {name} (id int)')" for name in ("a1", "b2", "c3", "d4")}
BLOCK = (
    "op.execute('CREATE TABLE b2 (id int)')\nwith op.get_context().autocommit_block():\n"
    "    op.execute('CREATE INDEX CONCURRENTLY a1_id ON a1 (id)')\nop.execute('CREATE TABLE b2_too (id int)')"
)
END_THE_GUARD = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE application_name ~ '^migrate/[0-9a-f-]{36} ' AND datname = current_database()"
)


def names(steps: list[dict[str, Any]]) -> list[str]:
    return [step["revision"] for step in steps]


def recorded(database: Database) -> list[str]:
    return [revision for (revision,) in database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id")]


def tables(database: Database) -> list[str]:
    found = database.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"
    )
    return [name for (name,) in found if name != "alembic_version"]


async def post(configuration: Any, status: int = 200, **body: Any) -> dict[str, Any]:
    async with client_of(configuration) as client:
        answer = await client.post("/migrate", headers=APPLY, json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def is_one_transaction(database: Database) -> bool:
    """Whether one transaction has written the steps and the version; xmin is the transaction that wrote a row."""
    return bool(
        database.value(
            "SELECT count(DISTINCT xmin::text) = 1 FROM (SELECT xmin FROM migration_endpoint.step UNION ALL "
            "SELECT xmin FROM alembic_version) AS written"
        )
    )


async def test_all_revisions_are_one_transaction(
    write_history: WriteHistory, settings: MakeSettings, on: Database, database: Database
) -> None:
    history = write_history(**ABCD)
    answer = await post(settings(history, database_url=on.url, transaction_per_run=True))
    assert names(answer["applied"]) == recorded(database) == tables(database) == list(ABCD)
    assert not any(step["committed_itself"] or step["no_effect"] for step in answer["applied"])
    assert is_one_transaction(database)


async def test_without_the_setting_they_are_not(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    await post(settings(write_history(**ABCD)))
    assert not is_one_transaction(database)


async def test_nothing_is_told_as_applied_before_it_is_committed(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(**ABCD)
    async with client_of(settings(history, transaction_per_run=True)) as client:
        answer = await client.post("/migrate", headers=APPLY | {"Accept": "application/x-ndjson"})
    events = [json.loads(line) for line in answer.text.splitlines() if line]
    told = [(event["event"], event["revision"]) for event in events if event["event"].startswith("revision.")]
    assert told == [("revision.started", name) for name in ABCD] + [("revision.applied", name) for name in ABCD]
    assert [event.get("progress") for event in events if event["event"] == "revision.started"] == [
        "1/4",
        "2/4",
        "3/4",
        "4/4",
    ]


async def test_a_failure_undoes_all_of_it(
    write_history: WriteHistory, settings: MakeSettings, on: Database, database: Database
) -> None:
    await post(settings(write_history(a1=ABCD["a1"])))
    history = write_history(**ABCD | {"c3": "op.execute('CREATE TABLE c3 (id int)')\nop.execute('SELECT 1/0')"})
    problem = await post(settings(history, database_url=on.url, transaction_per_run=True), 500)
    assert (problem["revision"], problem["rolled_back"], problem["applied"]) == ("c3", True, [])
    assert names(problem["remaining"]) == ["b2", "c3", "d4"]
    assert problem["detail"] == "Revision c3 failed: division by zero; the whole run is rolled back."
    assert "MIGRATION_TRANSACTION_PER_RUN" in problem["hint"]
    assert database.value("SELECT version_num FROM alembic_version") == "a1"
    assert recorded(database) == tables(database) == ["a1"]
    assert names((await post(settings(write_history(**ABCD), transaction_per_run=True)))["applied"]) == [
        "b2",
        "c3",
        "d4",
    ]


async def test_a_commit_that_fails_undoes_all_of_it(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    history = write_history(**ABCD | {"b2": "op.execute('INSERT INTO late VALUES (1), (1)')"})
    problem = await post(settings(history, transaction_per_run=True), 500)
    assert (problem["sqlstate"], problem["rolled_back"], problem["applied"]) == ("23505", True, [])
    assert names(problem["remaining"]) == list(ABCD)
    assert (recorded(database), tables(database)) == ([], ["late"])


async def test_a_lock_timeout_has_all_of_it_run_again(
    write_history: WriteHistory, settings: MakeSettings, on: Database, database: Database
) -> None:
    database.execute("CREATE TABLE busy (id int)")
    history = write_history(**ABCD | {"c3": "op.execute('ALTER TABLE busy ADD x int')"})
    chosen = settings(history, database_url=on.url, transaction_per_run=True, lock_timeout=0.1)
    with database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE busy IN ACCESS SHARE MODE")
        waits = (
            "SELECT count(*) FROM pg_locks WHERE relation = 'busy'::regclass AND NOT granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )

        def lets_go() -> None:
            until(lambda: database.value(waits), every=0.005, what="the revision to wait")
            until(lambda: not database.value(waits), every=0.005, what="its wait to time out")
            holder.execute("COMMIT")

        letting_go = threading.Thread(target=lets_go)
        letting_go.start()
        try:
            answer = await post(chosen)
        finally:
            letting_go.join()
    assert names(answer["applied"]) == recorded(database) == list(ABCD)
    assert is_one_transaction(database)
    assert database.value("SELECT retries FROM migration_endpoint.run") >= 1


async def test_a_lock_that_stays_is_given_up_after_as_many_tries_as_ever(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE TABLE busy (id int)")
    history = write_history(**ABCD | {"c3": "op.execute('ALTER TABLE busy ADD x int')"})
    with database.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE busy IN ACCESS SHARE MODE")
        chosen = settings(history, transaction_per_run=True, lock_timeout=0.1, lock_retries=2)
        problem = await post(chosen, 503)
    assert problem["type"].endswith("#lock-timeout")
    assert (problem["attempts"], problem["rolled_back"], problem["applied"]) == (3, True, [])
    assert names(problem["remaining"]) == list(ABCD)
    assert tables(database) == ["busy"]


async def test_each_step_tells_what_its_own_revision_locked(
    write_history: WriteHistory, settings: MakeSettings, on: Database, database: Database
) -> None:
    database.execute("CREATE TABLE x (id int); CREATE TABLE y (id int); INSERT INTO y VALUES (1)")
    history = write_history(
        a1="op.execute('ALTER TABLE x ADD n int')",
        b2="op.execute('ALTER TABLE y ALTER id TYPE bigint')\nop.execute('UPDATE x SET n = 1')",
        c3="op.execute('CREATE TABLE z (id int)')",
        d4="op.execute('ALTER TABLE z ADD n int')\nop.execute('CREATE INDEX ON x (id)')",
    )
    async with client_of(settings(history, database_url=on.url, transaction_per_run=True)) as client:
        answer = (await client.post("/migrate", headers=APPLY)).json()
        run = (await client.get(f"/runs/{answer['run_id']}", headers=READ)).json()
    for steps in (answer["applied"], run["steps"]):
        found = {
            step["revision"]: ([(each["relation"], each["mode"]) for each in step["locks"]], step["rewrote"])
            for step in steps
        }
        assert found == {
            "a1": ([("x", "AccessExclusiveLock")], []),
            "b2": ([("y", "AccessExclusiveLock"), ("x", "RowExclusiveLock")], ["y"]),
            "c3": ([], []),
            "d4": ([("x", "ShareLock")], []),
        }


# --- a revision that commits by itself


async def test_an_autocommit_block_splits_it_and_what_is_committed_is_told(
    write_history: WriteHistory, settings: MakeSettings, on: Database, database: Database
) -> None:
    broken = ABCD | {"b2": BLOCK, "d4": "op.execute('CREATE TABLE d4 (id int)')\nop.execute('SELECT 1/0')"}
    chosen = {"database_url": on.url, "transaction_per_run": True}
    problem = await post(settings(write_history(**broken), **chosen), 500)
    # Its own rest is committed with its version: the index would be there already if it were run again.
    assert names(problem["applied"]) == recorded(database) == ["a1", "b2"]
    assert [step["committed_itself"] for step in problem["applied"]] == [False, True]
    assert (problem["revision"], problem["rolled_back"]) == ("d4", True)
    assert names(problem["remaining"]) == ["c3", "d4"]
    assert tables(database) == ["a1", "b2", "b2_too"]
    assert database.value("SELECT version_num FROM alembic_version") == "b2"
    answer = await post(settings(write_history(**ABCD | {"b2": BLOCK}), **chosen))
    assert names(answer["applied"]) == ["c3", "d4"]


async def test_what_came_before_an_autocommit_block_is_told_although_its_revision_fails(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(**ABCD | {"b2": f"{BLOCK}\nop.execute('SELECT 1/0')"})
    problem = await post(settings(history, transaction_per_run=True), 500)
    assert names(problem["applied"]) == recorded(database) == ["a1"]
    assert (problem["revision"], problem["rolled_back"]) == ("b2", False)
    assert tables(database) == ["a1", "b2"]
    assert database.value("SELECT version_num FROM alembic_version") == "a1"


async def test_without_a_ledger_it_is_told_as_well(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(**ABCD | {"b2": f"{BLOCK}\nop.execute('SELECT 1/0')"})
    with database.server.role() as (name, password):
        database.execute(f"GRANT CREATE ON SCHEMA public TO {name}")
        theirs = settings(history, transaction_per_run=True, database_url=database.as_role(name, password).url)
        problem = await post(theirs, 500)
        assert (names(problem["applied"]), problem["rolled_back"]) == (["a1"], False)
        assert database.value("SELECT version_num FROM alembic_version") == "a1"
        database.execute(f"DROP OWNED BY {name}")


@pytest.mark.usefixtures("nobody_sees_the_lock_go")
@pytest.mark.parametrize(
    "splits",
    [
        "op.execute('COMMIT')",
        "op.execute('COMMIT; BEGIN')",
        "op.get_bind().commit()",
        "with op.get_context().autocommit_block():\n    op.execute('SELECT 1')",
    ],
)
async def test_behind_such_a_revision_there_is_one_fenced_transaction_again(
    splits: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    block = "with op.get_context().autocommit_block():\n    op.execute('SELECT 1')"
    history = write_history(
        **ABCD | {"b2": f"{ABCD['b2']}\n{splits}", "d4": f'{ABCD["d4"]}\nop.execute("{END_THE_GUARD}")'}, e5=block
    )
    problem = await post(settings(history, transaction_per_run=True), 503)
    assert problem["type"].endswith("#lock-lost")
    assert names(problem["applied"]) == recorded(database) == tables(database) == ["a1", "b2"]
    assert database.value("SELECT version_num FROM alembic_version") == "b2"
    # Alembic itself goes on in the transaction that there is.
    history = write_history(**ABCD | {"c3": f"{ABCD['c3']}\n{splits}"}, e5=block)
    answer = await post(settings(history, transaction_per_run=True))
    assert names(answer["applied"]) == ["c3", "d4", "e5"]


async def test_a_revision_that_takes_back_what_came_before_it_is_found_out(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    await post(settings(write_history(a1=ABCD["a1"])))
    history = write_history(**ABCD | {"c3": f"op.get_bind().rollback()\n{ABCD['c3']}"})
    problem = await post(settings(history, transaction_per_run=True), 500)
    assert "c3 has run, and the version is not where it was before it" in problem["detail"]
    assert "take its rollback() out" in problem["hint"]
    assert (problem["revision"], problem["applied"], problem["rolled_back"]) == ("c3", [], True)
    assert recorded(database) == tables(database) == ["a1"]


@pytest.mark.parametrize("way", ["op.get_bind().rollback()", "op.execute('ROLLBACK; BEGIN')"])
async def test_on_a_new_database_it_is_found_out_as_well(
    way: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    """What is missing then is not what a dump would have."""
    needs = "op.execute('ALTER TABLE a1 ADD COLUMN x int')"
    for history, revision, hint in (
        (write_history(**ABCD | {"b2": f"{way}\n{ABCD['b2']}"}), "b2", "take its rollback() out"),
        (write_history(**ABCD | {"a1": f"{ABCD['a1']}\n{way}"}), "a1", "take its rollback() out"),
        (write_history(**ABCD | {"b2": f"{way}\n{needs}"}), "b2", "they share a transaction"),
    ):
        problem = await post(settings(history, transaction_per_run=True), 500)
        assert (problem["revision"], problem["applied"], problem["rolled_back"]) == (revision, [], True), problem
        assert hint in problem["hint"], problem
        assert database.value("SELECT to_regclass('a1') IS NULL AND to_regclass('alembic_version') IS NULL")


# --- the lock, and the time


@pytest.mark.usefixtures("nobody_sees_the_lock_go")
async def test_without_the_lock_nothing_of_it_is_committed(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(**ABCD | {"d4": f'{ABCD["d4"]}\nop.execute("{END_THE_GUARD}")'})
    problem = await post(settings(history, transaction_per_run=True), 503)
    assert problem["type"].endswith("#lock-lost")
    assert (problem["applied"], names(problem["remaining"])) == ([], list(ABCD))
    assert (recorded(database), tables(database)) == ([], [])


SLOW = {name: f"{body}\ntime.sleep(0.7)" for name, body in ABCD.items()}


async def test_a_run_that_had_all_of_its_time_is_not_told_to_call_again(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    problem = await post(settings(write_history(**SLOW), transaction_per_run=True, time_budget=2), 504)
    assert problem["type"].endswith("#statement-timeout")
    assert problem["retryable"] is False
    assert "No call gives these revisions more time" in problem["hint"]
    assert "MIGRATION_TRANSACTION_PER_RUN" in problem["hint"]
    assert (problem["applied"], problem["rolled_back"], names(problem["remaining"])) == ([], True, list(ABCD))
    assert (recorded(database), tables(database)) == ([], [])


async def test_a_run_that_had_to_wait_starts_again_with_more_time(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    with database.connect() as holder:
        holder.execute(f"SELECT pg_advisory_lock({KEY})")
        letting_go = threading.Timer(2.6, lambda: holder.execute("SELECT pg_advisory_unlock_all()"))
        letting_go.start()
        try:
            history = write_history(**ABCD | {"a1": f"{ABCD['a1']}\ntime.sleep(1.2)"})
            problem = await post(settings(history, transaction_per_run=True, time_budget=4), 503)
        finally:
            letting_go.join()
    assert problem["type"].endswith("#time-budget-exhausted")
    assert "starts again with the first" in problem["hint"]
    assert "continues" not in problem["hint"]
    assert (problem["applied"], tables(database)) == ([], [])


async def test_behind_a_split_the_next_call_continues(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        **SLOW | {"a1": f"{BLOCK.replace('b2', 'a1_').replace('ON a1', 'ON a1_')}\ntime.sleep(0.9)"}
    )
    problem = await post(settings(history, transaction_per_run=True, time_budget=2), 503)
    assert problem["type"].endswith("#time-budget-exhausted")
    assert "continues where this one stopped" in problem["hint"]
    assert names(problem["applied"]) == recorded(database) == ["a1"]


# --- downgrades, and what env.py says


async def downgraded(client: httpx.AsyncClient, target: str) -> httpx.Response:
    wanted = {"direction": "downgrade", "target": target}
    digest = (await client.get("/plan", headers=READ, params=wanted)).json()["digest"]
    return await client.post("/downgrade", headers=APPLY, json={"target": target, "plan_digest": digest})


async def test_downgrades_are_one_transaction_too(tmp_path: Path, settings: MakeSettings, database: Database) -> None:
    folder, before = tmp_path / "history", None
    for name, body in ABCD.items():
        write_revision(folder, name, before, body, downgrade=f"op.execute('DROP TABLE {name}')")
        before = name
    await post(settings(folder))
    database.execute("CREATE VIEW keeps AS SELECT * FROM b2")
    async with client_of(settings(folder, transaction_per_run=True, allow_downgrade=True)) as client:
        failed = (await downgraded(client, "a1")).json()
        assert (failed["revision"], failed["applied"], failed["rolled_back"]) == ("b2", [], True), failed
        assert tables(database) == list(ABCD)
        database.execute("DROP VIEW keeps")
        answer = (await downgraded(client, "a1")).json()
    assert names(answer["applied"]) == ["d4", "c3", "b2"]
    assert tables(database) == ["a1"]
    written = "SELECT count(DISTINCT xmin::text) FROM migration_endpoint.step WHERE direction = 'downgrade'"
    assert database.value(written) == 1


@pytest.mark.parametrize("theirs", ["transactional_ddl=False", "transaction_per_migration=True"])
async def test_the_setting_overrides_env_py(
    theirs: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(**ABCD)
    env_py = history / "env.py"
    env_py.write_text(env_py.read_text().replace("context.configure(", f"context.configure({theirs}, "))
    await post(settings(history, transaction_per_run=True))
    assert is_one_transaction(database)
