"""A user's own env.py: one that takes the connection works unchanged, another is told which lines it lacks."""

import contextlib
import gc
import logging
import logging.config
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alembic
import pytest

from app.migrator import stamp
from app.migrator.call import Call
from app.migrator.revisions import handover
from app.problem import Problem
from app.report import Event
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, PROJECT, READ, Database

TEMPLATES = Path(alembic.__file__).parent / "templates"
NEVER_AWAITED = pytest.mark.filterwarnings(
    "ignore:coroutine 'run_async_migrations' was never awaited"  # the template makes one that cannot be run
)
CREATE = {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": "op.execute('CREATE TABLE b (id int)')"}
COOKBOOK = """
from logging.config import fileConfig

from alembic import context
from sqlalchemy import engine_from_config, pool, text

config = context.config
fileConfig(config.config_file_name)
target_metadata = None
seen = []


def include_object(thing, name, kind, reflected, compare_to):
    return kind != "table" or name != "spatial_ref_sys"


def note(ctx, step, heads, run_args):
    ctx.connection.execute(text("INSERT INTO seen VALUES (:version)"), {"version": ",".join(heads)})


def run_migrations_offline():
    context.configure(url=config.get_main_option("sqlalchemy.url"), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def do_run_migrations(connection):
    tenant = context.get_x_argument(as_dictionary=True).get("tenant", "nobody")
    connection.execute(text("CREATE TABLE IF NOT EXISTS seen (version text)"))
    connection.execute(text(f"SET myapp.tenant = '{tenant}'"))
    context.configure(
        connection=connection, target_metadata=target_metadata, include_object=include_object, on_version_apply=note
    )
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online():
    connectable = config.attributes.get("connection", None)
    if connectable is None:
        connectable = engine_from_config(
            config.get_section(config.config_ini_section), prefix="sqlalchemy.", poolclass=pool.NullPool
        )
        with connectable.connect() as connection:
            do_run_migrations(connection)
    else:
        do_run_migrations(connectable)


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
"""
OF_ITS_OWN = """
import os
import sqlalchemy as sa
from alembic import context

engine = sa.create_engine(sa.make_url({url!r}).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
with engine.connect() as connection:
    try:
        context.configure(connection=connection)
    except Exception:
        {otherwise}
    with context.begin_transaction():
        context.run_migrations()
"""


def unheard(_: Event) -> None:
    """Nobody listens."""


async def call(configuration: Any, what: str) -> Any:
    """Run, rehearse, plan or stamp: the answer's status and document."""
    if what == "stamp":
        try:
            run = await stamp.stamp(Call(request_id="test", target="heads"), configuration, emit=unheard)
        except Problem as problem:
            return problem.status, problem.document()
        return 200, run.model_dump(mode="json")
    async with client_of(configuration) as client:
        if what == "plan":
            answer = await client.get("/plan", headers=READ)
        else:
            answer = await client.post(f"/{what}", headers=APPLY, json={})
    return answer.status_code, answer.json()


def is_refused(status: int, document: Any) -> bool:
    assert status == 503, document
    assert document["type"].endswith("#unsuitable-env-py")
    assert document["retryable"] is False
    return True


def is_untouched(database: Database) -> bool:
    return database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []


def with_lines(env_py: str, lines: str) -> str:
    """env.py with the lines that a refusal shows, before its last `else:`."""
    before, otherwise, after = env_py.rpartition("else:\n")
    return f"{before}{lines}\n{otherwise}{after}"


@contextlib.contextmanager
def collecting_no_garbage() -> Iterator[None]:
    """What is never awaited is said so as it goes: behind this, and neither in another test nor in a call of Python's
    own that has no builtins, where that would be an error.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


@NEVER_AWAITED
@pytest.mark.parametrize("template", ["generic", "async", "pyproject", "pyproject_async"])
async def test_alembics_own_templates_are_refused_until_they_have_the_three_lines(
    settings: MakeSettings, write_history: WriteHistory, database: Database, template: str, driver: str
) -> None:
    with collecting_no_garbage():
        history = write_history(**CREATE)
        env_py = (TEMPLATES / template / "env.py").read_text()
        (history / "env.py").write_text(env_py)
        for what in ("migrate", "rehearse", "stamp"):
            status, document = await call(settings(history), what)
            assert is_refused(status, document)
            assert handover.ONLINE in document["hint"]
            assert "env.py:" in document["detail"]
            # asyncpg's revisions are run in an event loop.
            in_a_loop = "async" in template and driver == "asyncpg"
            assert ("asyncio.run() cannot be called" if in_a_loop else "KeyError: 'url'") in document["detail"]
            assert is_untouched(database)
        assert document["run_id"]
        assert database.execute(
            "SELECT DISTINCT outcome, error ->> 'type' LIKE '%unsuitable%' FROM migration_endpoint.run"
        ) == [("failed", True)]
        assert (await call(settings(history), "plan"))[0] == 200  # offline it needs no connection
        with_them = write_history(**CREATE)
        (with_them / "env.py").write_text(with_lines(env_py, handover.ONLINE))
        for what in ("plan", "rehearse", "migrate"):
            status, document = await call(settings(with_them), what)
            assert status == 200, document
        assert database.execute("SELECT version_num FROM alembic_version") == [("b2",)]
        assert database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id") == [("a1",), ("b2",)]


@pytest.mark.parametrize("otherwise", ["raise", "pass  # goes on regardless"])
async def test_a_connection_of_its_own_is_refused_before_anything_is_run_on_it(
    settings: MakeSettings, write_history: WriteHistory, database: Database, otherwise: str
) -> None:
    history = write_history(**CREATE)
    (history / "env.py").write_text(OF_ITS_OWN.format(url=database.url, otherwise=otherwise))
    for what in ("migrate", "rehearse", "stamp"):
        status, document = await call(settings(history), what)
        assert is_refused(status, document)
        assert "it configured another connection (env.py:9)" in document["detail"]
        assert is_untouched(database)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("", "it ended without a call of `context.configure`"),
        ("raise SystemExit('DATABASE_URL is not set')", "it raised `SystemExit: DATABASE_URL is not set` (env.py:5)"),
        ("connection.connect()", "no attribute 'connect'` (env.py:5)"),
        ("raise ValueError('postgresql://me:secret-of-mine@db.example/shop')", "postgresql://***@db.example/shop"),
        ("context.configure(dialect_name='postgresql')", "it configured no connection (env.py:5)"),
        ("context.configure(connection)", "it ended without a call of `context.run_migrations`"),
    ],
)
async def test_an_env_py_that_comes_to_nothing_is_refused_with_its_own_words(
    settings: MakeSettings, write_history: WriteHistory, database: Database, code: str, words: str
) -> None:
    history = write_history(**CREATE)
    head = "from alembic import context\n\nconnection = context.config.attributes.get('connection')\n\n"
    (history / "env.py").write_text(f"{head}{code}\n")
    status, document = await call(settings(history), "migrate")
    assert is_refused(status, document)
    assert words in document["detail"], document
    assert "secret-of-mine" not in str(document)
    assert document["rolled_back"] is True
    assert is_untouched(database)


@pytest.mark.parametrize("what", ["migrate", "rehearse", "stamp", "plan"])
async def test_a_missing_env_py_is_said_to_be_missing(
    settings: MakeSettings, write_history: WriteHistory, database: Database, what: str
) -> None:
    history = write_history(**CREATE)
    (history / "env.py").unlink()
    status, document = await call(settings(history), what)
    assert is_refused(status, document)
    assert document["detail"] == f"There is no env.py in {history.name}."
    assert "migrations/env.py" in document["hint"]
    assert is_untouched(database)


async def test_a_plan_shows_the_lines_that_make_an_env_py_run_offline(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**CREATE)
    head = "from alembic import context\n\ntarget_metadata = None\n"
    takes_it = handover.ONLINE.removeprefix("el").replace("is not None", "is not None or True")
    (history / "env.py").write_text(f"{head}connection = context.config.attributes['connection']\n{takes_it}\n")
    status, document = await call(settings(history), "plan")
    assert is_refused(status, document)
    assert "it raised `KeyError: 'connection'` (env.py:4)" in document["detail"]
    assert handover.OFFLINE in document["hint"]
    offline_too = write_history(**CREATE)
    (offline_too / "env.py").write_text(f"{head}{handover.OFFLINE}\n{handover.ONLINE}\n")
    status, document = await call(settings(offline_too), "plan")
    assert (status, [each["sql"] for each in document["pending"]]) == (
        200,
        ["CREATE TABLE a (id int);", "CREATE TABLE b (id int);"],
    )


def keeping(**place: str) -> str:
    """An env.py that keeps the version in a place of its own, swallows whatever Alembic says to that, and goes on."""
    options = "".join(f", {name}={value!r}" for name, value in place.items())
    return f"""
from alembic import context

connection = context.config.attributes.get("connection")
try:
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", literal_binds=True{options})
    else:
        context.configure(connection=connection{options})
except Exception:
    pass
with context.begin_transaction():
    context.run_migrations()
"""


@pytest.mark.parametrize(
    ("place", "said", "otherwise", "hint"),
    [
        (
            {"version_table": "schema_version"},
            "version_table='schema_version'",
            "version_table='alembic_version'",
            "Set MIGRATION_VERSION_TABLE=schema_version, then",
        ),
        (
            {"version_table": "alembic_version", "version_table_schema": "shop"},
            "version_table_schema='shop'",
            "version_table_schema=None",
            "Set MIGRATION_VERSION_TABLE_SCHEMA=shop, then",
        ),
        (
            {"version_table": "v", "version_table_schema": "shop"},
            "version_table='v', version_table_schema='shop'",
            "version_table='alembic_version', version_table_schema=None",
            "Set MIGRATION_VERSION_TABLE=v and MIGRATION_VERSION_TABLE_SCHEMA=shop, then",
        ),
    ],
)
async def test_a_version_table_that_only_env_py_knows_is_refused_before_anything_is_run(
    settings: MakeSettings,
    write_history: WriteHistory,
    database: Database,
    place: dict[str, str],
    said: str,
    otherwise: str,
    hint: str,
) -> None:
    """The database would be taken for empty, and the whole history run on it once more."""
    history = write_history(a1="op.execute('CREATE TABLE IF NOT EXISTS a (id int)')", b2="op.execute('TRUNCATE a')")
    (history / "env.py").write_text(keeping(**place))
    table = f"{place.get('version_table_schema', 'public')}.{place['version_table']}"
    database.execute("CREATE SCHEMA shop")
    database.execute(f"CREATE TABLE {table} (version_num varchar(32) PRIMARY KEY)")
    database.execute(f"INSERT INTO {table} VALUES ('b2')")
    database.execute("CREATE TABLE a (id int)")
    database.execute("INSERT INTO a VALUES (1)")
    for what, line in (("plan", 7), ("rehearse", 9), ("stamp", 9), ("migrate", 9)):
        status, document = await call(settings(history), what)
        assert (status, document["type"].partition("#")[2]) == (503, "not-configured"), document
        assert document["detail"] == (
            f"env.py says {said} (env.py:{line}), and the settings say {otherwise}. Nothing was run."
        )
        assert document["hint"].startswith(hint)
        assert document["variables"]
    assert database.value("SELECT count(*) FROM a") == 1
    told = {
        name.removeprefix("MIGRATION_").lower(): place[name.removeprefix("MIGRATION_").lower()]
        for name in document["variables"]
    }
    status, document = await call(settings(history, **told), "migrate")
    assert (status, document.get("outcome")) == (200, "up_to_date"), document


async def test_a_version_table_that_is_set_wins_over_that_of_env_py(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**CREATE)
    (history / "env.py").write_text(keeping(version_table="theirs", version_table_schema="nowhere"))
    ours = {"version_table": "alembic_version", "version_table_schema": "public"}
    for what in ("plan", "rehearse", "migrate"):
        status, document = await call(settings(history, **ours), what)
        assert status == 200, document
    assert database.execute("SELECT version_num FROM public.alembic_version") == [("b2",)]


def leading(*lines: str) -> str:
    """An env.py that does something to the connection before the migrations are run on it."""
    told = "\n".join(f"    {line}" for line in lines)
    return f"""
from alembic import context
from sqlalchemy import text

connection = context.config.attributes.get("connection")


def run(connection, **options):
    context.configure(connection=connection, **options)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
{told}
"""


LEAD_ELSEWHERE = {
    "SET search_path": ["connection.execute(text('SET search_path TO shop, public'))", "run(connection)"],
    "and commit()": [
        "connection.execute(text('SET search_path TO shop, public'))",
        "connection.commit()",
        "run(connection)",
    ],
    "behind configure": [
        "context.configure(connection=connection)",
        "with context.begin_transaction():",
        "    context.execute('SET search_path TO shop, public')",
        "    context.run_migrations()",
    ],
    "the driver's own cursor": [
        "connection.connection.cursor().execute('SET search_path TO shop, public')",
        "run(connection)",
    ],
    "schema_translate_map": ["run(connection.execution_options(schema_translate_map={None: 'shop'}))"],
}
LEAD_THERE = {
    "SET search_path": ["connection.execute(text('SET search_path TO public, shop'))", "run(connection)"],
    "SET of something else": ["connection.execute(text(\"SET statement_timeout = '1h'\"))", "run(connection)"],
    "schema_translate_map": ["run(connection.execution_options(schema_translate_map={None: 'public'}))"],
    "SET LOCAL": [
        "connection.execute(text('SET LOCAL search_path TO shop'))",
        "run(connection)",  # before which it is committed
    ],
}


@pytest.mark.parametrize("lines", LEAD_ELSEWHERE.values(), ids=list(LEAD_ELSEWHERE))
async def test_an_env_py_that_leads_to_another_version_table_is_refused_before_anything_is_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database, lines: list[str]
) -> None:
    history = write_history(**CREATE)
    (history / "env.py").write_text(leading(*lines))
    database.execute("CREATE SCHEMA shop")
    commits = "connection.commit()" in lines  # which a rehearsal does not
    for what in ("stamp", "migrate") if commits else ("rehearse", "stamp", "migrate"):
        status, document = await call(settings(history), what)
        assert is_refused(status, document)
        assert "env.py leads to the version table shop.alembic_version (env.py:" in document["detail"]
        assert document["detail"].endswith("Nothing was run.")
        assert "Set MIGRATION_SEARCH_PATH instead" in document["hint"]
        assert database.execute("SELECT tablename FROM pg_tables WHERE schemaname IN ('public', 'shop')") == []
    if "schema_translate_map" not in lines[0]:  # what is set wins over what env.py has set
        status, document = await call(settings(history, search_path="shop, public"), "migrate")
        assert status == 200, document
        assert database.execute("SELECT version_num FROM shop.alembic_version") == [("b2",)]


@pytest.mark.parametrize("lines", LEAD_THERE.values(), ids=list(LEAD_THERE))
async def test_an_env_py_may_do_to_the_connection_what_leads_to_the_same_version_table(
    settings: MakeSettings, write_history: WriteHistory, database: Database, lines: list[str]
) -> None:
    history = write_history(**CREATE)
    (history / "env.py").write_text(leading(*lines))
    database.execute("CREATE SCHEMA shop")
    is_local = any("SET LOCAL" in line for line in lines)  # to the one transaction that a rehearsal is
    for what in ("migrate",) if is_local else ("rehearse", "migrate"):
        status, document = await call(settings(history), what)
        assert status == 200, document
    assert database.execute("SELECT version_num FROM public.alembic_version") == [("b2",)]


async def test_a_schema_of_the_version_that_is_set_lets_env_py_have_its_search_path(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**CREATE)
    (history / "env.py").write_text(leading(*LEAD_ELSEWHERE["SET search_path"]))
    database.execute("CREATE SCHEMA shop")
    status, document = await call(settings(history, version_table_schema="public"), "migrate")
    assert status == 200, document
    assert database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'shop' ORDER BY 1") == [("a",), ("b",)]


async def test_an_env_py_that_goes_on_with_another_schema_is_refused_with_what_it_has_done(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**CREATE)
    (history / "env.py").write_text(
        leading(
            "for tenant in ('public', 'shop'):",
            "    connection.execute(text(f'SET search_path TO {tenant}'))",
            "    connection.commit()",
            "    try:",
            "        run(connection)",
            "    except Exception:",
            "        pass",
        )
    )
    database.execute("CREATE SCHEMA shop")
    status, document = await call(settings(history), "migrate")
    assert is_refused(status, document)
    assert "env.py goes on after its `context.run_migrations` (env.py:9), and" in document["detail"]
    assert "Nothing was run" not in document["detail"]
    assert "one at a time" in document["hint"]
    assert ([step["revision"] for step in document["applied"]], document["remaining"]) == (["a1", "b2"], [])
    assert database.execute("SELECT version_num FROM public.alembic_version") == [("b2",)]
    assert database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'shop'") == []


BEGIN = {
    "with begin() around all": ["with connection.begin():", "    run(connection)"],
    "with begin() as, and commit()": ["with connection.begin() as trans:", "    run(connection)", "    trans.commit()"],
    "begin() before, commit() after": [
        "trans = connection.begin()",
        "connection.execute(text('CREATE TABLE IF NOT EXISTS before (id int)'))",
        "context.configure(connection=connection)",
        "try:",
        "    context.run_migrations()",
        "    trans.commit()",
        "except Exception:",
        "    trans.rollback()",
        "    raise",
        "finally:",
        "    trans.close()",
        "    assert not trans.is_active",
    ],
    "begin() behind configure": [
        "context.configure(connection=connection)",
        "with connection.begin():",
        "    context.run_migrations()",
    ],
    "begin() behind all": [
        "context.configure(connection=connection)",
        "with context.begin_transaction():",
        "    context.run_migrations()",
        "with connection.begin():",
        "    connection.execute(text('CREATE TABLE behind (id int)'))",
    ],
}


@pytest.mark.parametrize("per_run", [False, True], ids=["a transaction each", "one per run"])
@pytest.mark.parametrize("lines", BEGIN.values(), ids=list(BEGIN))
async def test_an_env_py_with_a_transaction_of_its_own_works_unchanged(
    settings: MakeSettings, write_history: WriteHistory, database: Database, lines: list[str], per_run: bool
) -> None:
    table = "op.execute('CREATE TABLE {} (id int)')".format
    index = "with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY ix ON a (id)')"
    before = CREATE | {"c3": table("c") if per_run else index}
    chosen = {"transaction_per_run": per_run}

    async def called(what: str, d4: str) -> Any:
        history = write_history(**before, d4=d4)
        (history / "env.py").write_text(leading(*lines))
        return await call(settings(history, **chosen), what)

    if not per_run:  # the index is not for a rehearsal
        status, document = await called("migrate", f"{table('d')}\nop.execute('SELECT 1/0')")
        assert (status, document["revision"], document["rolled_back"]) == (500, "d4", True), document
        assert "division by zero; it is rolled back" in document["detail"]
        assert [step["revision"] for step in document["applied"]] == ["a1", "b2", "c3"]
    else:
        status, document = await called("rehearse", table("d"))
        assert (status, document["outcome"]) == (200, "passed"), document
        assert is_untouched(database)
        status, document = await called("migrate", f"{table('d')}\nop.execute('SELECT 1/0')")
        assert (status, document["rolled_back"], document["applied"]) == (500, True, []), document
        assert database.value("SELECT to_regclass('a') IS NULL")
    assert database.value("SELECT to_regclass('d') IS NULL AND to_regclass('behind') IS NULL")
    status, document = await called("migrate", table("d"))
    assert status == 200, document
    steps = "SELECT revision, committed_itself FROM migration_endpoint.step ORDER BY id"
    assert database.execute(steps) == [("a1", False), ("b2", False), ("c3", not per_run), ("d4", False)]
    assert ("CREATE TABLE behind" in lines[-1]) == database.value("SELECT to_regclass('behind') IS NOT NULL")
    assert ("before" in lines[1]) == database.value("SELECT to_regclass('before') IS NOT NULL")


async def test_its_transaction_is_one_for_a_stamp_too(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    for lines in BEGIN.values():
        history = write_history(**CREATE)
        (history / "env.py").write_text(leading(*lines))
        status, document = await call(settings(history), "stamp")
        assert (status, document["to"]) == (200, ["b2"]), document
        database.execute("DROP TABLE alembic_version")
        database.execute("DROP TABLE IF EXISTS behind")


SWALLOW = {
    "pass": ["try:", "    run(connection)", "except Exception:", "    pass"],
    "commit()": ["try:", "    run(connection)", "except Exception:", "    connection.commit()"],
    "sys.exit": ["try:", "    run(connection)", "except Exception:", "    raise SystemExit(3)"],
    "an error of its own": [
        "try:",
        "    run(connection)",
        "finally:",
        "    connection.execute(text('SELECT nothing_of_the_kind'))",
    ],
    "another try": ["try:", "    run(connection)", "except Exception:", "    run(connection)"],
}


@pytest.mark.parametrize("per_run", [False, True], ids=["a transaction each", "one per run"])
@pytest.mark.parametrize("lines", SWALLOW.values(), ids=list(SWALLOW))
async def test_an_env_py_that_swallows_the_error_of_a_revision_does_not_hide_it(
    settings: MakeSettings, write_history: WriteHistory, database: Database, lines: list[str], per_run: bool
) -> None:
    history = write_history(**CREATE, c3="op.execute('CREATE TABLE c (id int)')\nop.execute('SELECT 1/0')", d4="pass")
    (history / "env.py").write_text(leading(*lines))
    chosen = settings(history, transaction_per_run=per_run)
    if "commit()" not in lines[-1]:  # which is no way for a rehearsal
        status, document = await call(chosen, "rehearse")
        assert (status, document["type"].partition("#")[2]) == (409, "rehearsal-failed"), document
        assert (document["problem"]["revision"], document["problem"]["sqlstate"]) == ("c3", "22012")
    status, document = await call(chosen, "migrate")
    assert (status, document["rolled_back"]) == (500, True), document
    assert (document["revision"], document["sqlstate"], document["message"]) == ("c3", "22012", "division by zero")
    assert document["where"].startswith("c3.py:")
    applied = [] if per_run else ["a1", "b2"]
    assert [step["revision"] for step in document["applied"]] == applied
    assert [step["revision"] for step in document["remaining"]] == ["a1", "b2", "c3", "d4"][len(applied) :]
    assert database.value("SELECT to_regclass('c') IS NULL")


async def test_an_env_py_of_the_cookbook_works_unchanged(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    """It configures logging unconditionally, and uses the connection before it hands it to Alembic."""
    index = "with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY ix ON a (id)')"
    told = "op.execute(\"INSERT INTO a VALUES (length(current_setting('myapp.tenant')))\")"
    history = write_history(**CREATE, c3=index, d4=told)
    (history / "env.py").write_text(COOKBOOK)
    configuration = settings(history, x="tenant=acme")
    handlers = list(logging.getLogger().handlers)
    stranger = logging.getLogger("a.logger.of.the.platform")
    for what in ("plan", "rehearse", "migrate"):
        status, document = await call(configuration, what)
        assert status == 200, document
    assert logging.getLogger().handlers == handlers
    assert not stranger.disabled
    assert logging.config.fileConfig.__module__ == "logging.config"
    assert [step["revision"] for step in document["applied"]] == ["a1", "b2", "c3", "d4"]
    assert database.execute("SELECT version FROM seen") == [("a1",), ("b2",), ("c3",), ("d4",)]
    assert database.execute("SELECT id FROM a") == [(4,)]


async def test_the_async_template_with_a_shared_connection_works_unchanged(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**CREATE)
    template = (TEMPLATES / "async" / "env.py").read_text()
    shared = template.replace(
        "    asyncio.run(run_async_migrations())",
        '    connectable = config.attributes.get("connection", None)\n    if connectable is None:\n'
        "        asyncio.run(run_async_migrations())\n    else:\n        do_run_migrations(connectable)",
    )
    assert shared != template
    (history / "env.py").write_text(shared)
    status, document = await call(settings(history), "migrate")
    assert (status, document["outcome"]) == (200, "upgraded"), document


async def test_what_env_py_raises_once_it_has_configured_ours_is_a_failure_of_the_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**CREATE)
    env_py = (PROJECT / "migrations" / "env.py").read_text()
    (history / "env.py").write_text(
        env_py.replace("        context.run_migrations()", "        raise ValueError('late')")
    )
    status, document = await call(settings(history), "migrate")
    assert (status, document["type"].partition("#")[2]) == (500, "migration-failed")
    assert "ValueError: late" in document["detail"]
    status, document = await call(settings(history), "plan")
    assert document["detail"] == "env.py cannot be run offline, as a plan needs it: ValueError: late"


async def test_what_the_database_says_to_env_py_is_not_taken_for_a_fault_of_env_py(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**CREATE)
    asks = "from sqlalchemy import text\nconnection.execute(text('SELECT 1/0'))"
    (history / "env.py").write_text(
        f"from alembic import context\nconnection = context.config.attributes['connection']\n{asks}\n"
    )
    status, document = await call(settings(history), "migrate")
    assert (status, document["type"].partition("#")[2], document["sqlstate"]) == (500, "migration-failed", "22012")


def test_the_page_on_env_py_shows_the_lines_of_the_refusals() -> None:
    page = (PROJECT / "docs" / "env-py.md").read_text()
    assert handover.ONLINE in page
    assert handover.OFFLINE in page


@pytest.mark.parametrize("path", ["/migrate", "/plan"])
async def test_an_env_py_that_takes_the_connection_and_raises_before_that_is_not_told_to_take_it(
    path: str, settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    folder = write_history(**CREATE)
    (folder / "env.py").write_text(f"import no_such_module\n{COOKBOOK}")
    async with client_of(settings(folder)) as client:
        told = (await client.request("GET" if path == "/plan" else "POST", path, headers=APPLY)).json()
    assert told["type"].partition("#")[2] == "unsuitable-env-py"
    assert "it raised `ModuleNotFoundError: No module named 'no_such_module'` (env.py:1)" in told["detail"]
    assert told["hint"].startswith("It seems to take the connection: correct what it raises")
    assert database.value("SELECT to_regclass('a')") is None
