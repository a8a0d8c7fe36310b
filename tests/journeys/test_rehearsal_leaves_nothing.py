"""A rehearsal leaves nothing behind, whatever the revisions try; where it might have, it says so."""

from collections.abc import Callable

import httpx
import pytest

from app.lint import statements
from app.lint.statements import Statement
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.dumps import dump
from tests.journeys.rehearsals import names, rehearse
from tests.servers import APPLY, Database

CREATE_A, CREATE_C = "op.execute('CREATE TABLE a (id int)')", "op.execute('CREATE TABLE c (id int)')"
STOPPED = "stopped"
FAILED = "failed"
PASSED = "passed"


BY_THE_DRIVER = (
    "driver = op.get_bind().connection.driver_connection\n"
    "if hasattr(driver, 'pgconn_ptr'):\n"
    "    from psycopg2 import extensions\n    extensions.cursor(driver).execute('{0}')\n"
    "else:\n"
    "    from sqlalchemy.util import await_only\n    await_only(driver.execute('{0}'))\n"
)
"""Past SQLAlchemy, and past the cursors that are fenced."""


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
        (BY_THE_DRIVER.format("COMMIT; CREATE TABLE x ()"), FAILED),
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


async def test_postgresql_itself_says_what_one_statement_is(
    settings: MakeSettings,
    write_history: WriteHistory,
    on: Database,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def overlooks_it(sql: str, split: Callable[[str], list[Statement]] = statements.split) -> list[Statement]:
        seems = (statements.Token("word", "SELECT", 0, "SELECT"),)
        return [Statement(sql, seems, 1, 0)] if "ROLLBACK" in sql else split(sql)

    monkeypatch.setattr(statements, "split", overlooks_it)
    before = dump(database)
    history = write_history(a1=CREATE_A, b2="op.execute('ROLLBACK; CREATE TABLE x ()')", c3=CREATE_C)
    told = (await rehearse(settings(history, database_url=on.url))).json()
    assert dump(database) == before
    assert (told["outcome"], told["stopped_at"]) == ("incomplete", "b2")
    assert "several statements" in told["stopped_because"]


NOT_AS_IT_SEEMS = r"""op.execute(r"SELECT '\''; ROLLBACK; BEGIN READ WRITE; CREATE TABLE x (); COMMIT; --'")"""


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
