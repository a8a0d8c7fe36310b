"""What a failed revision's hint says: that it is for another driver, or that its history begins on a full database."""

from typing import Any, get_args

import pytest

from app.settings import Driver
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, Database

SECRET = "s3cret-of-a-row"
TABLE = "CREATE TABLE t (id int UNIQUE, code varchar, tags text[], day date, at timestamptz, meta jsonb, uid uuid)"
CONNECTION = "b = op.get_bind()\nt = sa.table('t', sa.column('id', sa.String), sa.column('uid', sa.String))\n"
WAITS = "import asyncio\nwaits = asyncio.sleep(0)\n"

WRITTEN_FOR_PSYCOPG2 = {
    "an untyped parameter": "b.execute(sa.text('SELECT jsonb_build_object(:k, :v)'), {'k': 'a', 'v': SECRET})",
    "a parameter of two types": "b.execute(sa.text('UPDATE t SET id = :x, code = :x'), {'x': 1})",
    "a str for an array": "b.execute(sa.text('UPDATE t SET tags = :v'), {'v': '{a,' + SECRET + '}'})",
    "a str for a day": "b.execute(sa.text('UPDATE t SET day = :v'), {'v': '2020-02-29'})",
    "a str for a time, for many": "b.execute(sa.text('UPDATE t SET at = :v'), [{'v': '2020-02-29'}, {'v': 'now'}])",
    "an int for a varchar": "b.execute(sa.text('UPDATE t SET code = :v'), {'v': 7})",
    "a str for an int": "b.execute(sa.text('UPDATE t SET id = :v'), {'v': '7'})",
    "a varchar for an integer": "b.execute(t.update().values(id='7'))",
    "a varchar for a uuid": "b.execute(t.update().values(uid='00000000-0000-0000-0000-000000000001'))",
    "a varchar beside an integer": "b.execute(sa.select(t.c.uid).where(t.c.id == '5'))",
    "IN with a tuple": "b.execute(sa.text('DELETE FROM t WHERE id IN :ids'), {'ids': (1, 2)})",
    "SET": "b.execute(sa.text('SET LOCAL lock_timeout = :v'), {'v': '3s'})",
    "DDL": "b.execute(sa.text('ALTER TABLE t ALTER id SET DEFAULT :v'), {'v': 3})",
    "several statements": "b.execute(sa.text('DELETE FROM t WHERE id = :v; DELETE FROM t'), {'v': 3})",
    "in an autocommit block": (
        "with op.get_context().autocommit_block():\n    b.execute(sa.text('UPDATE t SET day = :v'), {'v': 'today'})"
    ),
    "%s": "b.exec_driver_sql('UPDATE t SET code = %s', (SECRET,))",
    "%(name)s": "b.exec_driver_sql('UPDATE t SET code = %(code)s', {'code': SECRET})",
    "%s on the raw cursor": "b.connection.cursor().execute('UPDATE t SET code = %s', (SECRET,))",
    "Json": "from psycopg2.extras import Json\nb.execute(sa.text('UPDATE t SET meta = :v'), {'v': Json({})})",
    "copy_expert": "import io\nb.connection.cursor().copy_expert('COPY t (code) FROM STDIN', io.StringIO(SECRET))",
    "mogrify": "b.connection.cursor().mogrify('SELECT %s', (SECRET,))",
    "execute_values": (
        "from psycopg2.extras import execute_values\n"
        "execute_values(b.connection.cursor(), 'INSERT INTO t (code) VALUES %s', [(SECRET,)])"
    ),
    "a cursor of its own kind": (
        "from psycopg2.extras import DictCursor\nb.connection.cursor(cursor_factory=DictCursor).execute('SELECT 1')"
    ),
    "composed SQL": (
        "from psycopg2 import sql\nb.connection.cursor().execute(sql.SQL('SELECT {}').format(sql.Literal(SECRET)))"
    ),
    "an isolation level by its number": "b.connection.set_isolation_level(0)",
    "an event loop of its own": WAITS + "try:\n    asyncio.run(waits)\nfinally:\n    waits.close()",
    "an event loop that is made": (
        f"{WAITS}loop = asyncio.new_event_loop()\n"
        "try:\n    loop.run_until_complete(waits)\nfinally:\n    waits.close()\n    loop.close()"
    ),
    "composed SQL as a string": (
        "from psycopg2 import sql\nraw = b.connection.dbapi_connection\n"
        "op.execute(sql.SQL('SELECT {}').format(sql.Literal(1)).as_string(raw))"
    ),
}
ANYBODYS_FAULT = {
    "an operator in literal SQL": "op.execute(\"SELECT 1 = 'a'::text\")",
    "a type in literal SQL": "op.execute(\"UPDATE t SET id = 'a'::text\")",
    "a typing error beside a parameter": "b.execute(sa.text('UPDATEE t SET id = :v'), {'v': 1})",
    "a duplicate": "b.execute(sa.text('INSERT INTO t (id) VALUES (:v), (:v)'), {'v': 1})",
    "a missing function": "b.execute(sa.text('SELECT nowhere(CAST(:v AS int))'), {'v': 1})",
    "an int that is too large": "b.execute(sa.text('UPDATE t SET id = :v'), {'v': 2**40})",
    "a dict": "b.execute(sa.text('UPDATE t SET meta = :v'), {'v': {'a': 1}})",
    "Python": "None.copy_expert",
    "Python's types": "'a' + 1",
    "another module": "import nowhere",
    "another failure of a loop": "raise RuntimeError('Event loop is closed')",
}


async def failure_of(history: Any, settings: MakeSettings, path: str = "/migrate", **changes: Any) -> dict[str, Any]:
    async with client_of(settings(history, **changes)) as client:
        answer = await client.post(path, headers=APPLY)
    assert answer.status_code in {409, 500}, answer.text
    found: dict[str, Any] = answer.json()
    assert SECRET not in answer.text
    return found


@pytest.mark.parametrize("case", WRITTEN_FOR_PSYCOPG2)
async def test_a_revision_that_only_psycopg2_carries_is_told_so_and_psycopg2_does(
    case: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute(TABLE)
    history = write_history(a1=f"SECRET = {SECRET!r}\n{CONNECTION}{WRITTEN_FOR_PSYCOPG2[case]}")
    problem = await failure_of(history, settings)
    assert problem["type"].endswith("#migration-failed")
    assert "MIGRATION_DRIVER=psycopg2" in problem["hint"], problem
    async with client_of(settings(history, driver="psycopg2")) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text


async def test_a_revision_that_misses_psycopg2_itself_is_told_so_too(
    write_history: WriteHistory, settings: MakeSettings
) -> None:
    body = "raise ModuleNotFoundError(\"No module named 'psycopg2'\", name='psycopg2.extras')"
    assert "MIGRATION_DRIVER=psycopg2" in (await failure_of(write_history(a1=body), settings))["hint"]


@pytest.mark.parametrize("case", ANYBODYS_FAULT)
async def test_a_revision_that_no_driver_carries_is_not_sent_to_another(
    case: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute(TABLE)
    problem = await failure_of(write_history(a1=CONNECTION + ANYBODYS_FAULT[case]), settings)
    assert problem["type"].endswith("#migration-failed")
    assert problem["hint"].startswith("Correct the revision"), problem


async def test_who_uses_psycopg2_already_is_not_told_to(write_history: WriteHistory, settings: MakeSettings) -> None:
    body = "op.get_bind().execute(sa.text('SELECT 1 = CAST(:v AS text)'), {'v': 'a'})"
    asked = await failure_of(write_history(a1=body), settings)
    assert (asked["sqlstate"], "psycopg2" in asked["hint"]) == ("42883", True)
    problem = await failure_of(write_history(a1=body), settings, driver="psycopg2")
    assert (problem["sqlstate"], "psycopg2" in problem["hint"]) == ("42883", False)


BEGINS_LATE = {
    "a table": "op.add_column('users', sa.Column('email', sa.Text))",
    "a schema": "op.execute('CREATE TABLE shop.product (id int)')",
    "a type": "op.execute(\"ALTER TYPE mood ADD VALUE 'calm'\")",
    "a table that is looked at": "sa.Table('users', sa.MetaData(), autoload_with=op.get_bind())",
    "a table, with a parameter": "op.get_bind().execute(sa.text('DELETE FROM users WHERE id = :id'), {'id': 1})",
}


@pytest.mark.parametrize("driver", get_args(Driver), indirect=True)
@pytest.mark.parametrize("case", BEGINS_LATE)
async def test_a_history_without_its_baseline_is_told_to_restore_a_dump_and_stamp(
    case: str, driver: str, write_history: WriteHistory, settings: MakeSettings
) -> None:
    problem = await failure_of(write_history(a1=BEGINS_LATE[case], b2="pass"), settings)
    assert "pg_dump --schema-only" in problem["hint"], problem
    assert "python -m app stamp" in problem["hint"]


async def test_a_rehearsal_gives_the_same_hint(write_history: WriteHistory, settings: MakeSettings) -> None:
    problem = await failure_of(write_history(a1=BEGINS_LATE["a table"]), settings, "/rehearse")
    assert "python -m app stamp" in problem["problem"]["hint"]


async def test_a_statement_that_takes_no_parameters_is_not_taken_for_a_lost_connection(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute(TABLE)
    problem = await failure_of(write_history(a1=CONNECTION + WRITTEN_FOR_PSYCOPG2["DDL"]), settings)
    assert problem["retryable"] is False
    assert problem["message"] == "the server expects 0 arguments for this query, 1 was passed"


@pytest.mark.parametrize(
    ("version", "history"),
    [
        (None, {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": BEGINS_LATE["a table"]}),
        ("a1", {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": BEGINS_LATE["a table"]}),
        (None, {"a1": "op.execute('CREATE TABLE a (id int); ALTER TABLE a ALTER COLUMN name TYPE text')"}),
        (None, {"a1": "op.execute('CREATE TABLE a (id int); GRANT SELECT ON a TO somebody_unknown')"}),
    ],
    ids=["something was applied", "something had been applied", "a column", "a role"],
)
async def test_whoever_misses_something_later_is_not_told_of_a_baseline(
    version: str | None,
    history: dict[str, str],
    write_history: WriteHistory,
    settings: MakeSettings,
    database: Database,
) -> None:
    if version:
        database.execute(f"CREATE TABLE alembic_version AS SELECT '{version}'::varchar(32) AS version_num")
    problem = await failure_of(write_history(**history), settings)
    assert problem["hint"].startswith("Correct the revision"), problem
