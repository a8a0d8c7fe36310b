"""A rehearsal tells what a run would do, and leaves nothing behind, whatever the revisions try."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.lint import statements
from app.lint.statements import Statement
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.dumps import dump
from tests.servers import APPLY, READ, Database, Service, until

WITH_ROWS = "CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a SELECT g, g FROM generate_series(1, 1000) g"
CREATE_A, CREATE_C = "op.execute('CREATE TABLE a (id int)')", "op.execute('CREATE TABLE c (id int)')"


async def rehearse(configuration: Any, body: dict[str, Any] | None = None) -> httpx.Response:
    async with client_of(configuration) as client:
        return await client.post("/rehearse", headers=APPLY, json=body or {})


def names(revisions: list[dict[str, Any]]) -> list[str]:
    return [each["revision"] for each in revisions]


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


STOPPED = "stopped"
FAILED = "failed"
PASSED = "passed"


@pytest.mark.parametrize(
    ("body", "ends"),
    [
        ("op.execute('COMMIT')", STOPPED),
        ("op.execute('COMMIT; CREATE TABLE x ()')", STOPPED),
        ("op.execute('ROLLBACK; CREATE TABLE x ()')", STOPPED),
        ("op.execute('/* ; */ Rollback and chain')", STOPPED),
        ("op.execute('CREATE TABLE x (); end')", STOPPED),
        ("op.get_bind().commit()", STOPPED),
        ("op.get_bind().rollback()\nop.execute('CREATE TABLE x ()')", STOPPED),
        ("try:\n    op.get_bind().commit()\nexcept BaseException:\n    pass", STOPPED),
        ("try:\n    op.execute('COMMIT')\nexcept Exception:\n    pass\nop.execute('CREATE TABLE x ()')", STOPPED),
        # A sequence would keep what it gives out.
        ("try:\n    op.execute('COMMIT')\nexcept Exception:\n    pass\nop.execute('SELECT nextval($$s$$)')", STOPPED),
        ("with op.get_bind().engine.begin() as other:\n    other.execute(sa.text('CREATE TABLE x ()'))", STOPPED),
        (
            (
                "other = op.get_bind().engine.execution_options(isolation_level='AUTOCOMMIT')\n"
                "with other.connect() as opened:\n    opened.execute(sa.text('CREATE TABLE x ()'))"
            ),
            STOPPED,
        ),
        ("with op.get_context().autocommit_block():\n    op.execute('CREATE TABLE x ()')", STOPPED),
        ("op.get_bind().connection.set_isolation_level('AUTOCOMMIT')\nop.execute('CREATE TABLE x ()')", STOPPED),
        ("op.execute('SET CONSTRAINTS ALL IMMEDIATE')", STOPPED),
        (
            (
                "from sqlalchemy.util import await_only\ndriver = op.get_bind().connection.driver_connection\n"
                "await_only(driver.execute('COMMIT; CREATE TABLE x ()'))"
            ),
            FAILED,
        ),
        # As in a run, which is in a transaction block as well.
        ("op.execute('DO $$ BEGIN CREATE TABLE x (); COMMIT; END $$')", FAILED),
        ("op.execute('CALL commits()')", FAILED),
        ("op.get_bind().execution_options(isolation_level='AUTOCOMMIT')", FAILED),
        (
            (
                "from sqlalchemy.orm import Session\nwith Session(op.get_bind()) as session:\n"
                "    session.execute(sa.text('CREATE TABLE x ()'))\n    session.commit()"
            ),
            PASSED,
        ),
        (
            (
                "op.execute('SAVEPOINT mine; CREATE TABLE x ()')\nop.execute('ROLLBACK TO SAVEPOINT mine')\n"
                "op.execute('ROLLBACK WORK TO mine')\nop.execute('RELEASE mine')\n"
                "with op.get_bind().begin_nested():\n    op.execute('CREATE TABLE x ()')"
            ),
            PASSED,
        ),
        ("op.execute('CREATE TABLE x (n int); COPY x FROM STDIN')", FAILED),
        (
            (
                "op.execute('SAVEPOINT mine; CREATE TABLE x ()')\n"
                "try:\n    op.execute('SELECT nothing; SELECT 1')\n"
                "except sa.exc.DBAPIError:\n    op.execute('ROLLBACK TO mine; SELECT 1; -- and on')"
            ),
            PASSED,
        ),
        ("op.execute(\"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'\")", PASSED),
    ],
)
async def test_a_revision_that_tries_to_commit_leaves_nothing(
    body: str, ends: str, settings: MakeSettings, write_history: WriteHistory, on: Database, database: Database
) -> None:
    database.execute(
        "CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE x (); COMMIT; END $$; "
        "CREATE TABLE before (id int); CREATE SEQUENCE s"
    )
    before = dump(database)
    history = write_history(a1=CREATE_A, b2=f"op.execute('DROP TABLE before')\n{body}", c3=CREATE_C)
    answer = await rehearse(settings(history, database_url=on.url))
    assert dump(database) == before
    told = answer.json()
    if ends == FAILED:
        assert answer.status_code == 409, answer.text
        assert told["type"].endswith("#rehearsal-failed")
        assert names(told["steps"]) == ["a1", "b2"]
        assert told["steps"][1]["problem"] == told["problem"]
        assert names(told["remaining"]) == ["c3"]
        return
    assert answer.status_code == 200, answer.text
    assert told["outcome"] == {STOPPED: "incomplete", PASSED: "passed"}[ends], told
    assert names(told["steps"]) == (["a1"] if ends == STOPPED else ["a1", "b2", "c3"])
    assert names(told["remaining"]) == (["b2", "c3"] if ends == STOPPED else [])
    assert (told["stopped_at"], bool(told["stopped_because"])) == (("b2", True) if ends == STOPPED else (None, False))


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("op.get_bind().rollback()", "(rollback())"),
        ("op.get_bind().engine.connect()", "It opens a connection of its own."),
        ("op.get_bind().connection.set_isolation_level('AUTOCOMMIT')", "(isolation level AUTOCOMMIT)"),
        ("op.execute('SELECT 1; abort')", "(abort)"),
    ],
)
async def test_what_a_revision_wanted_is_said(
    body: str, because: str, settings: MakeSettings, write_history: WriteHistory
) -> None:
    answer = await rehearse(settings(write_history(a1=body)))
    assert because in answer.json()["stopped_because"], answer.text


@pytest.mark.parametrize("sql", ["COMMIT; CREATE TABLE x ()", "DO $$ BEGIN END $$; COMMIT"])
async def test_postgresql_itself_refuses_a_commit_that_nobody_has_seen_coming(
    sql: str,
    settings: MakeSettings,
    write_history: WriteHistory,
    on: Database,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statements, "controls_transactions", lambda _: None)
    before = dump(database)
    answer = await rehearse(settings(write_history(a1=CREATE_A, b2=f"op.execute('{sql}')"), database_url=on.url))
    assert dump(database) == before
    assert answer.status_code == 200, answer.text
    assert (answer.json()["outcome"], answer.json()["stopped_at"]) == ("incomplete", "b2")


@pytest.mark.parametrize("sql", ["ROLLBACK; CREATE TABLE x ()", "ROLLBACK"])
async def test_behind_a_rollback_that_nobody_has_seen_coming_nothing_can_be_written(
    sql: str,
    settings: MakeSettings,
    write_history: WriteHistory,
    on: Database,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statements, "controls_transactions", lambda _: None)
    before = dump(database)
    history = write_history(a1=CREATE_A, b2=f"op.execute('{sql}')", c3=CREATE_C)
    answer = await rehearse(settings(history, database_url=on.url))
    assert dump(database) == before
    assert_something_may_be_left(answer, "b2")


async def test_behind_a_pooler_postgresql_itself_says_what_one_statement_is(
    settings: MakeSettings,
    write_history: WriteHistory,
    database: Database,
    through_pgbouncer: Callable[..., Database],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def overlooks_it(sql: str, split: Callable[[str], list[Statement]] = statements.split) -> list[Statement]:
        seems = (statements.Token("word", "SELECT", 0, "SELECT"),)
        return [Statement(sql, seems, 1, 0)] if "ROLLBACK" in sql else split(sql)

    monkeypatch.setattr(statements, "split", overlooks_it)
    before = dump(database)
    history = write_history(a1=CREATE_A, b2="op.execute('ROLLBACK; CREATE TABLE x ()')", c3=CREATE_C)
    url = through_pgbouncer("transaction").url
    told = (await rehearse(settings(history, database_url=url))).json()
    assert dump(database) == before
    assert (told["outcome"], told["stopped_at"]) == ("incomplete", "b2")
    assert "several statements" in told["stopped_because"]


NOT_AS_IT_SEEMS = r"""op.execute(r"SELECT '\'; ROLLBACK; BEGIN READ WRITE; CREATE TABLE x (); COMMIT; --'")"""


@pytest.mark.parametrize(
    "turned_off",
    [
        "op.execute('SET standard_conforming_strings = off')",
        "op.execute('SET LOCAL \"standard_conforming_strings\" TO 0; SELECT 1')",
        "op.execute(sa.text('SELECT set_config(:name, :off, true)').bindparams(name=NAME, off='off'))",
        "op.execute(\"DO $$ BEGIN PERFORM set_config('standard_' || 'conforming_strings', 'off', false); END $$\")",
    ],
)
async def test_strings_that_postgresql_reads_in_another_way_are_not_sent(
    turned_off: str, settings: MakeSettings, write_history: WriteHistory, on: Database, database: Database
) -> None:
    before = dump(database)
    body = f"{turned_off.replace('NAME', repr('standard_conforming_strings'))}\n{NOT_AS_IT_SEEMS}"
    told = (await rehearse(settings(write_history(a1=CREATE_A, b2=body), database_url=on.url))).json()
    assert dump(database) == before
    assert (told["outcome"], told["stopped_at"]) == ("incomplete", "b2")
    assert "standard_conforming_strings" in told["stopped_because"]


async def test_what_pg_dump_begins_with_can_be_rehearsed(
    settings: MakeSettings, write_history: WriteHistory, on: Database
) -> None:
    body = "op.execute(r\"SET standard_conforming_strings = on; CREATE TABLE x (n text DEFAULT '\\'); SELECT 1\")"
    told = (await rehearse(settings(write_history(a1=body), database_url=on.url))).json()
    assert told["outcome"] == "passed", told


BY_THE_DRIVER = (
    "from sqlalchemy.util import await_only\nawait_only(op.get_bind().connection.driver_connection.execute('{}'))\n"
)


@pytest.mark.parametrize(
    "follows",
    [
        "",
        "op.execute('CREATE TABLE x ()')",
        "op.get_bind().execute(sa.text('INSERT INTO before VALUES (:id)'), {'id': 1})",
        "op.get_bind().execute(sa.text('INSERT INTO before VALUES (:id)'), [{'id': 1}, {'id': 2}])",
    ],
)
async def test_what_follows_a_lost_transaction_is_never_sent(
    follows: str, settings: MakeSettings, write_history: WriteHistory, on: Database, database: Database
) -> None:
    database.execute("CREATE TABLE before (id int)")
    before = dump(database)
    body = BY_THE_DRIVER.format("ROLLBACK") + follows
    answer = await rehearse(settings(write_history(a1=CREATE_A, b2=body), database_url=on.url))
    assert dump(database) == before
    assert_something_may_be_left(answer, "b2")


async def test_a_transaction_that_took_the_place_of_the_rehearsal_s_is_told_from_it(
    settings: MakeSettings, write_history: WriteHistory, on: Database
) -> None:
    history = write_history(a1=CREATE_A, b2=BY_THE_DRIVER.format("ROLLBACK; BEGIN READ WRITE"), c3=CREATE_C)
    chosen = settings(history, database_url=on.url)
    async with client_of(chosen) as client:
        assert (await client.post("/migrate", headers=APPLY, json={"target": "a1"})).status_code == 200
    assert_something_may_be_left(await rehearse(chosen), "b2")


def assert_something_may_be_left(answer: httpx.Response, revision: str) -> None:
    told = answer.json()
    assert (answer.status_code, told["type"].partition("#")[2]) == (409, "rehearsal-failed"), told
    assert revision in told["detail"]
    assert "may have been left behind" in told["detail"]
    assert "/status?drift=true" in told["hint"]
    assert told["steps"][-1]["revision"] == revision
    assert told["problem"]["revision"] == revision
    assert "rolled back" not in told["detail"] + told["problem"]["detail"]


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
