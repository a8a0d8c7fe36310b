"""A revision that fails: what stays, what is rolled back, what the answer and the ledger say, and how it goes on."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database, Service, free_port


def names(steps: list[dict[str, Any]]) -> list[str]:
    return [step["revision"] for step in steps]


def steps(database: Database) -> list[str]:
    return [revision for (revision,) in database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id")]


def recorded(database: Database) -> list[tuple[Any, ...]]:
    return database.execute(
        "SELECT outcome, from_heads, to_heads, error->>'sqlstate' FROM migration_endpoint.run ORDER BY started_at, id"
    )


def test_a_failure_in_the_middle_keeps_what_came_before_and_a_corrected_deployment_continues(
    write_history: WriteHistory, serve: Callable[..., Service], database: Database
) -> None:
    before = {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": "op.execute('CREATE TABLE b (id int)')"}
    after = {"d4": "op.execute('CREATE TABLE d (id int)')"}
    broken = write_history(
        **before,
        c3="op.execute('CREATE TABLE c (id int)')\n"
        "op.execute(sa.text('SELECT count(*) FROM a WHERE :secret IS NOT NULL').bindparams(secret='p4ssw0rd'))\n"
        "op.execute(\"INSERT INTO nowhere VALUES ('s3cret')\")",
        **after,
    )
    with_bug = serve(broken)
    failed = with_bug.post({"reason": "deploy 1"})
    assert failed.status_code == 500, failed.text
    assert failed.headers["content-type"] == "application/problem+json"
    problem = failed.json()
    assert problem["type"].endswith("#migration-failed")
    assert problem["retryable"] is False
    assert problem["revision"] == "c3"
    assert problem["sqlstate"] == "42P01"
    assert problem["message"] == 'relation "nowhere" does not exist'
    assert problem["where"] == "c3.py:15"
    assert problem["rolled_back"] is True
    assert names(problem["applied"]) == ["a1", "b2"]
    assert names(problem["remaining"]) == ["c3", "d4"]
    for hidden in ("s3cret", "p4ssw0rd", "Traceback"):
        assert hidden not in failed.text
        assert hidden not in with_bug.logged()
    assert database.execute("SELECT to_regclass('b')::text, to_regclass('c')::text") == [("b", None)]
    assert database.value("SELECT version_num FROM alembic_version") == "b2"
    assert recorded(database) == [("failed", [], ["b2"], "42P01")]
    run = with_bug.get(f"/runs/{problem['run_id']}").json()
    assert run["outcome"] == "failed"
    assert run["error"]["revision"] == "c3"
    assert run["reason"] == "deploy 1"
    assert names(run["steps"]) == ["a1", "b2"]
    with_bug.process.terminate()

    corrected = serve(write_history(**before, c3="op.execute('CREATE TABLE c (id int)')", **after))
    again = corrected.post()
    assert again.status_code == 200, again.text
    assert again.json()["from"] == ["b2"]
    assert names(again.json()["applied"]) == ["c3", "d4"]
    assert steps(database) == ["a1", "b2", "c3", "d4"]
    assert recorded(database)[1] == ("upgraded", ["b2"], ["d4"], None)
    assert [run["outcome"] for run in corrected.get("/runs").json()["runs"]] == ["upgraded", "failed"]


async def failure_of(history: Any, settings: MakeSettings, **changes: Any) -> dict[str, Any]:
    async with client_of(settings(history, **changes)) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 500, answer.text
        found: dict[str, Any] = answer.json()
        return found


async def test_a_failing_statement_with_parameters_is_told_without_them(
    write_history: WriteHistory, settings: MakeSettings
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE people (email text PRIMARY KEY)')",
        b2="people = sa.table('people', sa.column('email', sa.Text))\n"
        "op.bulk_insert(people, [{'email': 'ann@example.org'}, {'email': 'ann@example.org'}])",
    )
    problem = await failure_of(history, settings)
    assert problem["sqlstate"] == "23505"
    assert "people_pkey" in problem["message"]
    assert "ann@example.org" not in json.dumps(problem)
    assert problem["where"] == "b2.py:14"


SECRET = "hunter2-S3cret"
ASKS = "b, secret = op.get_bind(), " + repr(SECRET) + "\n"
QUOTES = {
    "a literal where none can be": f"op.execute(\"CREATE TABLE '{SECRET}'\")",
    "one with a prefix": f"op.execute(\"CREATE TABLE E'{SECRET}'\")",
    "one of several lines": f"op.execute(\"CREATE TABLE '{SECRET}\\n'\")",
    "one in dollar quotes": f"op.execute('CREATE TABLE $of${SECRET}$of$')",
    "one without an end": f'op.execute("INSERT INTO t VALUES (\'{SECRET}")',
    "a name without an end": f"op.execute('INSERT INTO \"t VALUES ({SECRET})')",
    "a comment without an end": f"op.execute('SELECT 1 /* {SECRET}')",
    "a literal, in German": (
        "op.execute(\"DO $$BEGIN RAISE 'Syntaxfehler bei »''" + SECRET + "''«' USING ERRCODE = '42601'; END$$\")"
    ),
    "a value of a type, in German": (
        "op.execute(\"DO $$BEGIN RAISE 'ungültig für Typ integer: »" + SECRET + "«' USING ERRCODE = '22P02'; END$$\")"
    ),
    "a parameter behind a value": "b.execute(sa.text('INSERT INTO t VALUES (7 :pw)'), {'pw': secret})",
    "a parameter for a name": "b.execute(sa.text('CREATE TABLE :name (id int)'), {'name': secret})",
    "a parameter that is looked up": "b.execute(sa.text('SELECT CAST(:x AS text)::regclass'), {'x': secret})",
    "a long one": "b.execute(sa.text('SELECT CAST(:x AS text)::regclass'), {'x': secret * 9})",
    "one of many": "b.execute(sa.text('SELECT CAST(:x AS text)::regclass'), [{'x': 'pg_class'}, {'x': secret}])",
    "one in a list": (
        "b.execute(sa.text('SELECT (:x)[1]::regclass').bindparams(sa.bindparam('x', type_=sa.ARRAY(sa.Text))), "
        "{'x': [secret]})"
    ),
    "one that a function tells": (
        "op.execute(\"CREATE FUNCTION f(x text) RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE 'not %', x; END$$\")\n"
        "b.execute(sa.text('SELECT f(CAST(:x AS text))'), {'x': secret})"
    ),
    "one that Python refuses": (
        "mood = sa.Enum('well', name='mood', validate_strings=True)\n"
        "b.execute(sa.table('t', sa.column('mood', mood)).insert(), {'mood': secret})"
    ),
    "a parameter of the driver's": (
        "b.exec_driver_sql('CREATE TABLE ' + ('%s' if b.dialect.driver == 'psycopg2' else '$1'), (secret,))"
    ),
}


@pytest.mark.parametrize("case", QUOTES)
async def test_what_postgresql_quotes_of_a_statement_is_told_without_what_may_be_a_value(
    case: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    problem = await failure_of(write_history(a1=ASKS + QUOTES[case]), settings)
    assert problem["message"]
    record = database.value("SELECT error::text FROM migration_endpoint.run")
    assert "migration-failed" in record
    assert "hunter2" not in (json.dumps(problem) + record).lower(), problem["message"]


NAMES = {
    'syntax error at or near "TABL"': "op.execute('CREATE TABL t')",
    'syntax error at or near ""a name""': "op.execute('CREATE \"a name\"')",
    'relation "users" does not exist': "op.get_bind().execute(sa.text('DELETE FROM users WHERE s = :s'), {'s': 'use'})",
    'type "mood" does not exist': "op.get_bind().execute(sa.text('SELECT CAST(NULL AS mood), :m'), {'m': 'oo'})",
}


@pytest.mark.parametrize("words", NAMES)
async def test_what_postgresql_says_of_names_is_told_as_it_is(
    words: str, write_history: WriteHistory, settings: MakeSettings
) -> None:
    assert (await failure_of(write_history(a1=NAMES[words]), settings))["message"] == words


async def test_an_exception_in_python_rolls_the_revision_back_and_says_where(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')",
        b2="op.execute('CREATE TABLE b (id int)')\n\n{}['no such key']",
    )
    problem = await failure_of(history, settings)
    assert problem["type"].endswith("#migration-failed")
    assert problem["sqlstate"] is None
    assert problem["message"] == "KeyError: 'no such key'"
    assert problem["where"] == "b2.py:15"
    assert problem["rolled_back"] is True
    assert database.value("SELECT to_regclass('b')") is None
    assert steps(database) == ["a1"]


async def test_a_revision_that_committed_something_before_it_failed_does_not_claim_to_be_rolled_back(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')",
        b2="with op.get_context().autocommit_block():\n    op.execute('CREATE TABLE stays (id int)')\n"
        "op.execute('CREATE TABLE goes (id int)')\nraise RuntimeError('too bad')",
    )
    problem = await failure_of(history, settings)
    assert problem["rolled_back"] is False
    assert "stays" in problem["detail"]
    assert database.execute("SELECT to_regclass('stays')::text, to_regclass('goes')::text") == [("stays", None)]
    assert steps(database) == ["a1"]
    assert database.value("SELECT version_num FROM alembic_version") == "a1"


async def test_a_statement_that_fails_in_an_autocommit_block_is_told_like_any_other(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(a1="with op.get_context().autocommit_block():\n    op.execute('CREATE TABL a')")
    problem = await failure_of(history, settings)
    assert problem["sqlstate"] == "42601"
    assert problem["where"] == "a1.py:14"


async def test_a_commit_that_fails_leaves_neither_the_revision_nor_its_step(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)')",
        b2="op.execute('CREATE TABLE b (id int)')\nop.execute('INSERT INTO a VALUES (1), (1)')",
        c3="op.execute('CREATE TABLE c (id int)')",
    )
    problem = await failure_of(history, settings)
    assert problem["sqlstate"] == "23505"
    assert problem["revision"] == "b2"
    assert problem["rolled_back"] is True
    assert names(problem["applied"]) == ["a1"]
    assert steps(database) == ["a1"]
    assert database.value("SELECT version_num FROM alembic_version") == "a1"
    assert database.value("SELECT to_regclass('b')") is None


async def test_a_statement_timeout_of_the_role_is_a_problem_of_its_own(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(a1="op.execute(\"SET LOCAL statement_timeout = '50ms'; SELECT pg_sleep(10)\")")
    async with client_of(settings(history)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 504, answer.text
    assert answer.json()["type"].endswith("#statement-timeout")
    assert answer.json()["revision"] == "a1"
    assert answer.json()["retryable"] is False


async def test_a_backend_that_an_administrator_ends_is_a_problem_worth_another_call(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')",
        b2="op.execute('CREATE TABLE b (id int)')\nop.execute('SELECT pg_terminate_backend(pg_backend_pid())')",
    )
    async with client_of(settings(history)) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 503, answer.text
        assert answer.json()["type"].endswith("#database-unavailable")
        assert answer.json()["revision"] == "b2"
        assert names(answer.json()["applied"]) == ["a1"]
        assert (await client.get("/status", headers=READ)).json()["current"] == ["a1"]
    assert [outcome for outcome, *_ in recorded(database)] == ["failed"]
    assert database.value("SELECT to_regclass('b')") is None


ELSEWHERE = {
    "a service": "import socket\nsocket.create_connection(('127.0.0.1', PORT))",
    "a database": "import psycopg2\npsycopg2.connect(host='127.0.0.1', port=PORT)",
    "a database of PostgreSQL's own": "op.execute(\"DO $$BEGIN RAISE 'refused' USING ERRCODE = '08001'; END$$\")",
}


@pytest.mark.parametrize("where", ELSEWHERE)
async def test_a_connection_of_the_revisions_own_that_is_refused_is_a_failure_and_not_worth_another_call(
    where: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    body = f"PORT = {free_port()}\nop.execute('CREATE TABLE b (id int)')\n{ELSEWHERE[where]}"
    problem = await failure_of(write_history(a1="op.execute('CREATE TABLE a (id int)')", b2=body), settings)
    assert problem["type"].endswith("#migration-failed")
    assert "refused" in problem["message"]
    assert (problem["retryable"], problem["rolled_back"], problem["revision"]) == (False, True, "b2")
    assert database.value("SELECT to_regclass('b')") is None


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt()"])
async def test_a_revision_that_tries_to_end_the_process_only_ends_its_run(
    error: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')", b2=f"op.execute('CREATE TABLE b (id int)')\nraise {error}"
    )
    problem = await failure_of(history, settings)
    assert problem["revision"] == "b2"
    assert problem["rolled_back"] is True
    assert names(problem["applied"]) == ["a1"]
    assert steps(database) == ["a1"]
    assert [outcome for outcome, *_ in recorded(database)] == ["failed"]
    assert not database.is_locked
