"""What revisions do with the driver itself: each way of theirs is fenced like any other, whatever class it goes by."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, Database

TABLE = "op.execute('CREATE TABLE t (id int, name text)')"
RAW = "raw = op.get_bind().connection.dbapi_connection\n"

WITH_PSYCOPG2 = {
    "a cursor, and a percent sign in a parameter": "raw.cursor().execute('INSERT INTO t VALUES (%s, %s)', (1, '50%'))",
    "parameters by name": "raw.cursor().execute('INSERT INTO t VALUES (%(id)s, %(name)s)', {'id': 1, 'name': 'a'})",
    "a percent sign without parameters": "raw.cursor().execute(\"INSERT INTO t VALUES (7 % 2, '100%')\")",
    "a statement in bytes": "raw.cursor().execute(b'INSERT INTO t VALUES (1)')",
    "executemany": "raw.cursor().executemany('INSERT INTO t VALUES (%s)', [(1,)])",
    "execute_values": (
        "from psycopg2.extras import execute_values\n"
        "execute_values(raw.cursor(), 'INSERT INTO t VALUES %s', [(1, 'a')])"
    ),
    "execute_batch": (
        "from psycopg2.extras import execute_batch\n"
        "execute_batch(raw.cursor(), 'INSERT INTO t VALUES (%s, %s)', [(1, 'a')])"
    ),
    "a cursor of another class": (
        "from psycopg2.extras import RealDictCursor\ncursor = raw.cursor(cursor_factory=RealDictCursor)\n"
        "cursor.execute('INSERT INTO t VALUES (1) RETURNING id')\nassert cursor.fetchone()['id'] == 1"
    ),
    "a named cursor of another class": (
        "from psycopg2.extras import DictCursor\ncursor = raw.cursor('mine', cursor_factory=DictCursor)\n"
        "cursor.execute('SELECT 1 AS id')\n"
        "for row in cursor:\n    op.execute('INSERT INTO t VALUES (%d)' % row['id'])"
    ),
    "a default class of cursors": (
        "from psycopg2.extras import NamedTupleCursor\nraw.cursor_factory = NamedTupleCursor\n"
        "cursor = raw.cursor()\ncursor.execute('INSERT INTO t VALUES (1) RETURNING id')\n"
        "assert cursor.fetchone().id == 1\nraw.cursor_factory = None"
    ),
    "composed SQL": (
        "from psycopg2 import sql\n"
        "raw.cursor().execute(sql.SQL('INSERT INTO {} VALUES ({})').format(sql.Identifier('t'), sql.Literal(1)))"
    ),
    "COPY from a file": ("import io\nraw.cursor().copy_expert('COPY t FROM STDIN', io.StringIO('1\\ta\\n'))"),
    "copy_from": "import io\nraw.cursor().copy_from(io.StringIO('1\\ta\\n'), 't')",
    "a function by its name": (
        "op.execute('CREATE FUNCTION f(n int) RETURNS int LANGUAGE sql AS $$INSERT INTO t VALUES (n); SELECT n$$')\n"
        "raw.cursor().callproc('f', (1,))"
    ),
    "a large object": (
        "written = raw.lobject(0, 'wb')\nwritten.write(b'x')\nwritten.close()\n"
        "raw.cursor().execute('INSERT INTO t SELECT 1 WHERE EXISTS (SELECT FROM pg_largeobject_metadata)')"
    ),
    "a list for IN": "op.get_bind().execute(sa.text('INSERT INTO t SELECT 1 WHERE 2 IN :some'), {'some': (2, 3)})",
    "a string for an array": (
        "op.execute('ALTER TABLE t ADD tags text[], ADD at timestamptz')\n"
        "op.get_bind().execute(sa.text('INSERT INTO t VALUES (1, NULL, :tags, :at)'), "
        "{'tags': '{a,b}', 'at': '2020-01-01'})"
    ),
    "a composite type of the revision's": (
        "from psycopg2.extras import register_composite\n"
        "op.execute('INSERT INTO t VALUES (1); CREATE TYPE pair AS (a int, b int)')\nregister_composite('pair', raw)\n"
        "assert op.get_bind().execute(sa.text('SELECT (1, 2)::pair')).scalar().b == 2"
    ),
    "a range type of the revision's": (
        "from psycopg2.extras import register_range\n"
        "op.execute('INSERT INTO t VALUES (1); CREATE TYPE floats AS RANGE (subtype = float8)')\n"
        "register_range('floats', 'Floats', raw.cursor())"
    ),
    "a look for hstore": (
        "from psycopg2.extras import HstoreAdapter\nop.execute('INSERT INTO t VALUES (1)')\nHstoreAdapter.get_oids(raw)"
    ),
    "a look at the transaction": (
        "from psycopg2 import extensions\nassert raw.status == extensions.STATUS_READY\n"
        "op.execute('INSERT INTO t VALUES (1)')\nassert raw.status == extensions.STATUS_IN_TRANSACTION\n"
        "raw.rollback()\nassert raw.status == extensions.STATUS_READY\nop.execute('INSERT INTO t VALUES (1)')\n"
        "raw.cursor('named').execute('SELECT 1')\nassert raw.status == extensions.STATUS_IN_TRANSACTION"
    ),
    "a parameter of no type": "op.get_bind().execute(sa.text('INSERT INTO t SELECT 1 WHERE :x IS NOT NULL'), {'x': 1})",
}


async def post(settings: Any) -> Any:
    async with client_of(settings) as client:
        return await client.post("/migrate", headers=APPLY, json={})


@pytest.mark.parametrize("driver", ["psycopg2"], indirect=True)
@pytest.mark.parametrize("habit", WITH_PSYCOPG2)
async def test_what_a_revision_does_by_psycopg2_itself_is_applied_with_its_version(
    habit: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    answer = await post(settings(write_history(a1=TABLE, b2=RAW + WITH_PSYCOPG2[habit])))
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT array_agg(id) FROM t") == [1]
    assert database.value("SELECT version_num FROM alembic_version") == "b2"


@pytest.mark.parametrize("driver", ["psycopg2"], indirect=True)
@pytest.mark.parametrize("habit", WITH_PSYCOPG2)
async def test_what_a_revision_does_by_psycopg2_itself_is_rolled_back_when_it_fails(
    habit: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    body = f"{RAW}{WITH_PSYCOPG2[habit]}\nraise RuntimeError('not so')"
    problem = (await post(settings(write_history(a1=TABLE, b2=body)))).json()
    assert (problem["message"], problem["rolled_back"]) == ("RuntimeError: not so", True)
    assert database.value("SELECT count(*) FROM t") == 0


TOLD = {
    "execute": "raw.cursor().execute('SELECT %s::regclass', (SECRET,))",
    "execute, by name": "raw.cursor().execute('SELECT %(name)s::regclass', {'name': SECRET})",
    "executemany": "raw.cursor().executemany('SELECT %s::regclass', [('t',), (SECRET,)])",
    "a function": "raw.cursor().callproc('regclass', (SECRET,))",
    "a named cursor": "raw.cursor('named').execute('SELECT %s::regclass', (SECRET,))",
}


@pytest.mark.parametrize("driver", ["psycopg2"], indirect=True)
@pytest.mark.parametrize("way", TOLD)
async def test_what_a_revision_sends_by_psycopg2_itself_is_not_told_when_it_fails(
    way: str, write_history: WriteHistory, settings: MakeSettings
) -> None:
    problem = (await post(settings(write_history(a1=TABLE, b2=f"SECRET = 's3cret_of_a_row'\n{RAW}{TOLD[way]}")))).json()
    assert problem["message"].endswith("does not exist")
    assert "s3cret" not in str(problem)


STREAMED = """
def streamed(sql, **parameters):
    return op.get_bind().execute(sa.text(sql).execution_options(stream_results=True, max_row_buffer=10), parameters)

rows = streamed('SELECT id FROM t ORDER BY id')
seen = [rows.fetchone()[0]]
op.execute('INSERT INTO t VALUES (-1)')
seen += [row[0] for row in rows.fetchmany(5)]
op.execute('ALTER TABLE t ADD more int; ALTER TABLE t ADD still_more int')
seen += [row[0] for row in rows]
assert seen == list(range(2000)), seen
streamed('SELECT id FROM t').fetchone()
assert streamed('SELECT id FROM t WHERE id > :least', least=5).first() is not None
op.alter_column('t', 'id', type_=sa.BigInteger())
op.drop_table('t')
"""


async def test_rows_that_are_streamed_are_in_nobodys_way(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    rows = "op.execute('INSERT INTO t SELECT generate_series(0, 1999)')"
    answer = await post(settings(write_history(a1=TABLE, b2=rows, c3=STREAMED, d4="op.execute('CREATE TABLE d ()')")))
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT to_regclass('t')") is None


MODES = {
    "an isolation level of the driver's": (
        "raw.set_isolation_level(0)\nraw.cursor().execute(\"ALTER TYPE mood ADD VALUE 'new'\")\n"
        "raw.set_isolation_level(1)\nassert raw.isolation_level == 1\n"
        "raw.cursor().execute(\"CREATE TABLE m (mood mood DEFAULT 'new')\")"
    ),
    "autocommit": (
        "raw.rollback()\nraw.autocommit = True\nassert raw.autocommit\n"
        "raw.cursor().execute(\"ALTER TYPE mood ADD VALUE 'new'\")\nraw.autocommit = False\n"
        "raw.cursor().execute(\"CREATE TABLE m (mood mood DEFAULT 'new')\")"
    ),
    "modes of a session": (
        "import psycopg2\nraw.rollback()\nraw.set_session('serializable', readonly=True, deferrable=True)\n"
        "cursor = raw.cursor()\ncursor.execute('SHOW transaction_isolation')\n"
        "assert cursor.fetchone() == ('serializable',)\n"
        "cursor.execute('SHOW transaction_read_only')\nassert cursor.fetchone() == ('on',)\n"
        "try:\n    raw.readonly = False\nexcept psycopg2.ProgrammingError:\n    raw.rollback()\n"
        "raw.set_session(isolation_level='default', readonly=False, deferrable='default')\n"
        "assert (raw.isolation_level, raw.readonly, raw.deferrable) == (None, False, None)\n"
        "with raw.cursor() as cursor:\n    cursor.execute(\"ALTER TYPE mood ADD VALUE 'new'\")\nraw.commit()\n"
        "raw.cursor().execute(\"CREATE TABLE m (mood mood DEFAULT 'new')\")"
    ),
    "a reset": (
        "from psycopg2 import extensions\ncursor = raw.cursor()\n"
        "cursor.execute(\"SET work_mem = '1MB'; SET SESSION lock_timeout = '9s'\")\nraw.commit()\n"
        "raw.set_session('serializable', deferrable=True)\nop.execute('CREATE TABLE lost ()')\nraw.reset()\n"
        "assert (raw.isolation_level, raw.deferrable, raw.status) == (None, None, extensions.STATUS_READY)\n"
        "raw.autocommit = True\nlooks = \"SELECT concat_ws(' ', current_setting('client_connection_check_interval'), "
        "current_setting('lock_timeout'), current_setting('work_mem') = '1MB', to_regclass('lost') IS NULL)\"\n"
        "cursor.execute(looks)\nassert cursor.fetchone() == ('1s 0 f t',)\nraw.autocommit = False\n"
        "op.execute('CREATE TABLE m ()')\ncursor.execute(looks)\nassert cursor.fetchone() == ('1s 1s f t',)"
    ),
    "a block that commits": (
        "with raw:\n    raw.cursor().execute(\"ALTER TYPE mood ADD VALUE 'new'\")\n"
        "raw.cursor().execute(\"CREATE TABLE m (mood mood DEFAULT 'new')\")"
    ),
}


@pytest.mark.parametrize("driver", ["psycopg2"], indirect=True)
@pytest.mark.parametrize("mode", MODES)
async def test_a_revision_may_set_modes_by_psycopg2_itself(
    mode: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(a1="op.execute(\"CREATE TYPE mood AS ENUM ('old')\")", b2=RAW + MODES[mode])
    answer = await post(settings(history))
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT version_num FROM alembic_version") == "b2"
    assert database.value("SELECT to_regclass('m')::text") == "m"


async def test_the_engine_tells_where_the_database_is_and_no_password(
    driver: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    body = (
        "url = op.get_bind().engine.url\nop.execute(f'COMMENT ON DATABASE \"{url.database}\" IS $$its own$$')\n"
        "op.execute(f'CREATE TABLE t AS SELECT $${url.render_as_string(hide_password=False)}$$ AS said')"
    )
    with database.server.role("SUPERUSER") as (name, password):
        theirs = database.as_role(name, password).address.set(drivername="postgresql")
        text = theirs.render_as_string(hide_password=False)
        answer = await post(settings(write_history(a1=body), database_url=text))
        database.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
    assert answer.status_code == 200, answer.text
    told = sa.make_url(database.value("SELECT said FROM t"))
    assert password in text
    assert told == sa.make_url(text.replace(f":{password}", "")).set(drivername=f"postgresql+{driver}")


HSTORE = """
raw.cursor().execute("INSERT INTO t SELECT 1, %s::hstore -> 'a'", ({'a': 'b'},))
assert op.get_bind().execute(sa.text("SELECT 'a => b'::hstore, '2020-01-01'::date, 1.5, '{1}'::int[]")).one() == (
    {'a': 'b'}, __import__('datetime').date(2020, 1, 1), __import__('decimal').Decimal('1.5'), [1])
"""


@pytest.mark.parametrize("driver", ["psycopg2"], indirect=True)
async def test_values_have_the_types_that_psycopg2_gives_them(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    if not database.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'hstore'"):
        pytest.skip("this PostgreSQL comes without the extension hstore")
    database.execute("CREATE EXTENSION hstore")
    answer = await post(settings(write_history(a1=TABLE, b2=RAW + HSTORE)))
    assert answer.status_code == 200, answer.text
    assert database.execute("SELECT id, name FROM t") == [(1, "b")]


CHANGED = {
    "a type": ("ALTER TABLE t ALTER amount TYPE double precision", [(1, 7.0), (2, 7.0)]),
    "a type in a function": ("SELECT widen()", [(1, 7.0), (2, 7.0)]),
    "the order of columns": (
        "ALTER TABLE t RENAME TO u; CREATE TABLE t AS SELECT amount, id FROM u",
        [(7, 1), (7, 2)],
    ),
    "the search path": (
        "CREATE SCHEMA s; CREATE TABLE s.t (amount float, id int); SET search_path = s, public",
        [(7.0, 2)],
    ),
}
INSERT = "op.get_bind().execute(sa.text('INSERT INTO t (id, amount) VALUES (:id, :amount)'), {'id': %d, 'amount': 7})\n"
SELECTS = {
    "with parameters": "rows = op.get_bind().execute(sa.text('SELECT * FROM t WHERE :yes'), {'yes': True}).all()\n",
    "without": "rows = op.get_bind().execute(sa.text('SELECT * FROM t')).all()\n",
}
KEEP = (
    "op.get_bind().execute(sa.text('INSERT INTO seen VALUES (:seen)'), {'seen': repr([tuple(row) for row in rows])})\n"
)


@pytest.mark.parametrize("select", SELECTS)
@pytest.mark.parametrize("change", CHANGED)
@pytest.mark.parametrize("revisions", ["one revision", "three"])
async def test_a_statement_that_is_repeated_is_right_about_what_has_changed(
    change: str, select: str, revisions: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute(
        "CREATE TABLE t (id int, amount bigint); CREATE TABLE seen (what text); CREATE FUNCTION widen() RETURNS void "
        "LANGUAGE sql AS 'ALTER TABLE t ALTER amount TYPE double precision'"
    )
    changes, rows = CHANGED[change]
    a, b, c = INSERT % 1 + SELECTS[select], f"op.execute({changes!r})\n", INSERT % 2 + SELECTS[select] + KEEP
    history = write_history(a=a, b=b, c=c) if revisions == "three" else write_history(a=a + b + c)
    answer = await post(settings(history))
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT what FROM seen") == repr(rows)


@pytest.mark.parametrize("select", SELECTS)
async def test_it_is_so_about_what_somebody_else_has_changed_between_two_transactions(
    select: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE TABLE t (id int, amount bigint); CREATE TABLE seen (what text)")
    changes, rows = CHANGED["a type"]
    elsewhere = (
        f"op.get_bind().commit()\nimport psycopg\nwith psycopg.connect({database.url!r}) as other:\n"
        f"    other.execute({changes!r})\n"
    )
    body = INSERT % 1 + SELECTS[select] + elsewhere + INSERT % 2 + SELECTS[select] + KEEP
    answer = await post(settings(write_history(a1=body)))
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT what FROM seen") == repr(rows)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "<+03>-03"])
async def test_values_are_those_of_psycopg2(
    zone: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute(
        f"ALTER DATABASE \"{database.address.database}\" SET timezone = '{zone}'; "
        'CREATE TABLE t (price numeric, at timestamptz, kind "char"); CREATE TABLE seen (what text)'
    )
    has_a_zone = zone == "<+03>-03"
    body = (
        "import datetime as dt\nbind = op.get_bind()\n"
        "bind.execute(sa.text('INSERT INTO t VALUES (:price, :at, :kind)'), "
        f"{{'price': 0.1, 'kind': 'p', 'at': dt.datetime(2020, 6, 1, 2, tzinfo={'dt.UTC' if has_a_zone else None})}})\n"
        "kind, real, at = bind.execute(sa.text(\"SELECT kind, CAST('0.1' AS real), at FROM t\")).one()\n"
        "what = repr((kind, real, str(at.date()), at.tzinfo is not None))\n"
        "bind.execute(sa.text('INSERT INTO seen VALUES (:what)'), {'what': what})"
    )
    answer = await post(settings(write_history(a1=body)))
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT what FROM seen") == "('p', 0.1, '2020-06-01', True)"
    at = "'2020-06-01 02:00+00'" if has_a_zone else f"'2020-06-01 02:00 {zone}'"
    assert database.value(f"SELECT price::text || kind::text || (at = {at}::timestamptz) FROM t") == "0.1ptrue"


@pytest.mark.parametrize("driver", ["asyncpg"], indirect=True)
@pytest.mark.parametrize(
    ("zone", "statement", "value"),
    [
        ("UTC", "UPDATE t SET name = 'due' WHERE day < :now", "dt.datetime(2020, 6, 1, 12)"),
        ("<+03>-03", "INSERT INTO t (at) VALUES (:now)", "dt.datetime(2020, 6, 1, 12)"),
    ],
)
async def test_what_would_be_another_value_to_asyncpg_fails(
    zone: str, statement: str, value: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute(
        f"ALTER DATABASE \"{database.address.database}\" SET timezone = '{zone}'; "
        "CREATE TABLE t (name text, day date, at timestamptz)"
    )
    body = f"import datetime as dt\nop.get_bind().execute(sa.text({statement!r}), {{'now': {value}}})"
    answer = await post(settings(write_history(a1=body)))
    assert (answer.status_code, answer.json()["rolled_back"]) == (500, True)
    assert "MIGRATION_DRIVER=psycopg2" in answer.json()["hint"]


@pytest.mark.parametrize("driver", ["asyncpg"], indirect=True)
@pytest.mark.parametrize(
    "copies",
    [
        "raw.run_async(copies)",
        "sa.util.await_only(copies(raw.driver_connection))",
        "sa.util.await_only(copies(op.get_bind().connection.driver_connection))",
    ],
)
async def test_what_goes_through_asyncpg_s_own_connection_goes_with_the_revision(
    copies: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE TABLE t (id int)")
    body = f"{RAW}async def copies(own):\n    await own.copy_records_to_table('t', records=[(1,)])\n{copies}\n"
    answer = await post(settings(write_history(a1=body, b2=body + "1 / 0")))
    assert answer.json()["rolled_back"] is True
    assert [step["no_effect"] for step in answer.json()["applied"]] == [False]
    assert database.value("SELECT count(*) FROM t") == 1


async def test_the_word_returning_is_no_reason_for_a_transaction(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE TABLE t (id int, state text); INSERT INTO t VALUES (1, 'returning')")
    body = (
        "with op.get_context().autocommit_block():\n"
        "    op.execute(\"CREATE INDEX CONCURRENTLY i ON t (id) WHERE state = 'returning'\")\n"
        "    op.execute('/* returning */ VACUUM t')\n"
        "    op.execute('DO $$ DECLARE n int; BEGIN UPDATE t SET id = 2 RETURNING id INTO n; COMMIT; END $$')"
    )
    answer = await post(settings(write_history(a1=body)))
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT id FROM t") == 2


@pytest.mark.parametrize("way", ["op.execute({!r})", "op.get_bind().execute(sa.text({!r}))"])
async def test_a_revision_may_begin_with_the_modes_of_its_transaction(
    way: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    sets = way.format("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE")
    keeps = "op.execute(\"CREATE TABLE t AS SELECT current_setting('transaction_isolation') AS level\")"
    # In the first revision Alembic has asked for the version before it, in the same transaction.
    answer = await post(settings(write_history(a1="pass", b2=f"{sets}\n{keeps}", c3="op.execute('TABLE t')")))
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT level FROM t") == "repeatable read"


CASTERS = {
    "JSON on this connection": "psycopg2.extras.register_default_jsonb(raw, loads=lambda text: text)",
    "JSON everywhere": "psycopg2.extras.register_default_jsonb(globally=True, loads=lambda text: text)",
    "truth on this connection": (
        "extensions = psycopg2.extensions\nvalues = extensions.BOOLEAN.values\n"
        "extensions.register_type(extensions.new_type(values, 'theirs', lambda text, _: text), raw)"
    ),
}


@pytest.fixture
def casters() -> Iterator[None]:
    """Those that psycopg2 has for every connection are there again afterwards."""
    from psycopg2 import extensions

    before = dict(extensions.string_types)
    yield
    extensions.string_types.clear()
    extensions.string_types.update(before)


@pytest.mark.usefixtures("casters")
@pytest.mark.parametrize("driver", ["psycopg2"], indirect=True)
@pytest.mark.parametrize("caster", CASTERS)
async def test_what_a_revision_makes_of_values_by_psycopg2_itself_does_not_reach_our_own_reads(
    caster: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    body = f"import psycopg2.extras\n{RAW}{CASTERS[caster]}\nop.execute('ALTER TABLE t ADD more int; TRUNCATE t')"
    history = write_history(a1=TABLE, b2=body, c3="op.execute('ALTER TABLE t ADD most int')", d4="op.drop_table('t')")
    answer = await post(settings(history))
    assert answer.status_code == 200, answer.text
    applied = answer.json()["applied"]
    assert [step["revision"] for step in applied] == ["a1", "b2", "c3", "d4"]
    assert [lock["relation"] for step in applied for lock in step["locks"]] == ["t"] * 3
    assert applied[1]["rewrote"] == ["t"]
