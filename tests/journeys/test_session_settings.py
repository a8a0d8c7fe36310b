"""The role, the search path and the session settings that the revisions of a deployment expect."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from app.database import lock
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database, until

SEEN = "(current_user || ' ' || session_user || ' ' || current_setting('search_path'))"
NOTES = f"INSERT INTO notes SELECT {SEEN}"


@pytest.fixture
def owner(database: Database) -> Iterator[str]:
    """A role that nobody can log in as, and that may make tables, of which it has no right on anybody else's."""
    name = f"owner_{secrets.token_hex(6)}"
    database.server.execute(f"CREATE ROLE {name}")
    try:
        database.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
        yield name
    finally:
        database.execute(f"DROP OWNED BY {name} CASCADE")
        database.server.execute(f"DROP ROLE {name}")


@pytest.fixture
def login(database: Database, owner: str) -> Iterator[Database]:
    """The database for a role that may be the owner, has nothing of it otherwise, and may make the ledger."""
    with database.server.role(f"NOINHERIT IN ROLE {owner}") as (name, password):
        database.execute(f'GRANT CREATE ON DATABASE "{database.address.database}" TO {name}')
        try:
            yield database.as_role(name, password)
        finally:
            database.execute(f"DROP OWNED BY {name} CASCADE")


async def call(configuration: Any, path: str = "/migrate", **body: Any) -> Any:
    async with client_of(configuration) as client:
        if path in ("/migrate", "/rehearse"):
            return await client.post(path, headers=APPLY, json=body)
        return await client.get(path, headers=READ)


EVERY_KIND = {
    "a1": "op.execute('CREATE TABLE notes (seen text)')",
    "b2": f'op.execute("{NOTES}")',
    "c3": f"op.get_bind().execute(sa.text(\"{NOTES} WHERE 1 = :one\"), {{'one': 1}})",
    "d4": f'op.execute("{NOTES}")',
    "e5": f'op.get_bind().commit()\nop.execute("{NOTES}")',
    "f6": f'op.execute("{NOTES}")',
}


async def test_the_revisions_are_run_as_the_role_and_the_ledger_is_the_logins(
    settings: MakeSettings, write_history: WriteHistory, database: Database, login: Database, owner: str
) -> None:
    configuration = settings(write_history(**EVERY_KIND), database_url=login.url, role=owner)
    answer = await call(configuration)
    assert answer.status_code == 200, answer.text
    assert answer.json()["warnings"] == []
    assert [step["revision"] for step in answer.json()["applied"]] == list(EVERY_KIND)
    who = login.address.username
    assert database.execute("SELECT DISTINCT seen FROM notes") == [(f'{owner} {who} "$user", public',)]
    assert database.value("SELECT count(*) FROM notes") == 5
    assert database.execute(
        "SELECT DISTINCT tablename, tableowner FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    ) == [("alembic_version", owner), ("notes", owner)]
    assert database.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'migration_endpoint'") == [
        (who,)
    ]
    assert not database.value(f"SELECT has_schema_privilege('{owner}', 'migration_endpoint', 'USAGE')")
    assert database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id") == [
        (each,) for each in EVERY_KIND
    ]
    status = (await call(configuration, "/status")).json()
    assert (status["state"], status["current"]) == ("up_to_date", ["f6"])
    assert (await call(configuration)).json()["outcome"] == "up_to_date"


async def test_a_revision_that_ends_its_transaction_is_still_the_roles_where_the_session_is_ours(
    settings: MakeSettings, write_history: WriteHistory, database: Database, login: Database, owner: str
) -> None:
    database.execute(f"CREATE SCHEMA shop AUTHORIZATION {owner}")
    note = f'op.execute("{NOTES}")\n'
    history = write_history(
        a1="op.execute('CREATE TABLE notes (seen text)')",
        b2=f"with op.get_context().autocommit_block():\n    {note}"
        "    op.execute('CREATE INDEX CONCURRENTLY ix_notes ON notes (seen)')\n"
        f"    op.get_bind().execute(sa.text(\"{NOTES} WHERE 1 = :one\"), {{'one': 1}})\n{note}",
        c3=f"op.execute('COMMIT')\n{note}op.execute('BEGIN')\n{note}",
        d4=note,
    )
    answer = await call(settings(history, database_url=login.url, role=owner, search_path="shop"))
    assert answer.status_code == 200, answer.text
    seen = f"{owner} {login.address.username} shop"
    assert database.execute("SELECT seen, count(*) FROM shop.notes GROUP BY 1") == [(seen, 6)]
    assert database.execute("SELECT tablename FROM pg_tables WHERE schemaname IN ('public', 'shop') ORDER BY 1") == [
        ("alembic_version",),
        ("notes",),
    ]
    assert database.value("SELECT to_regclass('shop.ix_notes')") is not None
    assert database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id") == [
        ("a1",),
        ("b2",),
        ("c3",),
        ("d4",),
    ]


async def test_the_search_path_says_where_tables_land_and_where_the_version_is(
    settings: MakeSettings, write_history: WriteHistory, database: Database, on: Database
) -> None:
    database.execute('CREATE SCHEMA "Shop"')
    history = write_history(
        a1="op.create_table('orders', sa.Column('id', sa.Integer, primary_key=True))",
        b2="op.add_column('orders', sa.Column('note', sa.Text))",
        c3="assert sa.inspect(op.get_bind()).default_schema_name == 'Shop'",
        d4="assert sa.inspect(op.get_bind()).has_table('orders')",
    )
    configuration = settings(history, database_url=on.url, search_path='"Shop", public')
    answer = await call(configuration)
    assert answer.status_code == 200, answer.text
    assert answer.json()["applied"][1]["locks"][0]["relation"] == "orders"  # as the search path has it
    assert database.execute('SELECT version_num FROM "Shop".alembic_version') == [("d4",)]
    assert database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    status = (await call(configuration, "/status")).json()
    assert (status["state"], status["lock"]["key"]) == ("up_to_date", lock.key("Shop.alembic_version"))
    assert (await call(configuration, "/health")).json()["status"] == "pass"
    assert (await call(configuration)).json()["outcome"] == "up_to_date"
    elsewhere = (await call(settings(history, database_url=on.url), "/status")).json()
    assert elsewhere["state"] == "pending"


async def test_behind_a_pooler_a_run_says_what_does_not_hold_there(
    settings: MakeSettings, write_history: WriteHistory, through_pgbouncer: Any
) -> None:
    chosen = {"search_path": "public", "session_settings": '{"work_mem": "7MB"}'}
    configuration = settings(
        write_history(a1="op.execute('CREATE TABLE a ()')"), database_url=through_pgbouncer("transaction").url, **chosen
    )
    for answer in (await call(configuration), await call(configuration, "/status")):
        (warning,) = answer.json()["warnings"]
        assert "nor do MIGRATION_SEARCH_PATH and MIGRATION_SESSION_SETTINGS hold" in warning


@pytest.mark.parametrize("which", ["search_path", "role"])
async def test_behind_a_pooler_a_statement_that_would_go_elsewhere_is_refused(
    settings: MakeSettings,
    write_history: WriteHistory,
    database: Database,
    through_pgbouncer: Any,
    owner: str,
    which: str,
) -> None:
    database.execute(f"CREATE SCHEMA shop AUTHORIZATION {owner}; CREATE TABLE public.notes (seen text)")
    build = "    op.execute('CREATE INDEX CONCURRENTLY ix_notes ON notes (seen)')"
    history = write_history(
        a1=f"op.execute('CREATE TABLE IF NOT EXISTS shop.notes (seen text)')\nop.execute(\"{NOTES}\")",
        b2=f"with op.get_context().autocommit_block():\n{build}",
    )
    on = through_pgbouncer("transaction")
    database.execute(f"GRANT INSERT ON public.notes TO {owner}")
    answer = await call(
        settings(history, database_url=on.url, **{which: {"search_path": "shop", "role": owner}[which]})
    )
    problem = answer.json()
    assert (answer.status_code, problem["type"].partition("#")[2]) == (500, "migration-failed"), problem
    assert f"MIGRATION_{which.upper()}" in problem["detail"]
    assert "direct" in problem["hint"]
    assert [step["revision"] for step in problem["applied"]] == ["a1"]
    assert database.value("SELECT count(*) FROM pg_class WHERE relname = 'ix_notes'") == 0


async def test_session_settings_hold_for_each_revision_and_each_autocommit_block(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    asked = {"work_mem": "7MB", "shop.tenant": "acme, inc", "jit": False, "statement_timeout": "1h"}
    names = ", ".join(f"current_setting('{name}')" for name in asked)
    note = f"op.execute(\"INSERT INTO notes SELECT concat_ws(' ', {names})\")\n".replace("'", "'")
    history = write_history(
        a1=f"op.execute('CREATE TABLE notes (seen text)')\n{note}",
        b2=f"{note}with op.get_context().autocommit_block():\n    {note}",
        c3=note,
    )
    answer = await call(settings(history, session_settings=json.dumps(asked)))
    assert answer.status_code == 200, answer.text
    assert database.execute("SELECT seen, count(*) FROM notes GROUP BY 1") == [("7MB acme, inc off 1h", 4)]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"role": "no_such_role"}, 'MIGRATION_ROLE: role "no_such_role" does not exist'),
        ({"search_path": 'a, "b'}, "MIGRATION_SEARCH_PATH"),
        ({"session_settings": '{"work_men": "1MB"}'}, "MIGRATION_SESSION_SETTINGS"),
        ({"search_path": "a", "session_settings": '{"work_mem": "much"}'}, "MIGRATION_SESSION_SETTINGS"),
        ({"search_path": "a", "session_settings": '{"server_version": "1"}', "role": "postgres"}, "MIGRATION_SESSION"),
    ],
)
async def test_what_postgresql_does_not_take_is_said_at_the_first_look(
    settings: MakeSettings, write_history: WriteHistory, database: Database, wrong: dict[str, str], words: str
) -> None:
    configuration = settings(write_history(a1="op.execute('CREATE TABLE a (id int)')"), **wrong)
    for path in ("/migrate", "/status", "/plan", "/rehearse"):
        answer = await call(configuration, path)
        assert answer.status_code == 503, answer.text
        assert answer.json()["type"].endswith("#not-configured")
        assert words in answer.json()["detail"], answer.json()
        assert len(answer.json()["variables"]) == 1
    assert database.value("SELECT to_regnamespace('migration_endpoint')") is None


async def test_a_login_that_may_not_be_the_role_is_told_how_it_may(
    settings: MakeSettings, write_history: WriteHistory, database: Database, owner: str
) -> None:
    with database.server.role() as (name, password):
        answer = await call(
            settings(write_history(a1="pass"), database_url=database.as_role(name, password).url, role=owner)
        )
    assert answer.json()["type"].endswith("#not-configured"), answer.json()
    assert f'permission denied to set role "{owner}"' in answer.json()["detail"]
    assert "GRANT" in answer.json()["hint"]


async def test_a_rehearsal_goes_by_the_same_settings_and_leaves_nothing(
    settings: MakeSettings, write_history: WriteHistory, database: Database, on: Database, owner: str
) -> None:
    database.execute(f"CREATE SCHEMA shop AUTHORIZATION {owner}")
    is_so = f"assert op.get_bind().scalar(sa.text(\"SELECT {SEEN}\")).split()[::2] == ['{owner}', 'shop']"
    history = write_history(
        a1="op.execute('CREATE TABLE notes (id int)')", b2=is_so, c3="op.execute('RESET ROLE')", d4=is_so
    )
    configuration = settings(history, database_url=on.url, role=owner, search_path="shop")
    answer = await call(configuration, "/rehearse")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["outcome"], len(answer.json()["steps"])) == ("passed", 4)
    assert database.value("SELECT to_regclass('shop.notes')") is None
    assert (await call(configuration)).status_code == 200


async def test_a_run_as_another_role_can_be_cancelled(
    settings: MakeSettings, write_history: WriteHistory, database: Database, on: Database, owner: str
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="op.execute('SELECT pg_sleep(60)')")
    configuration = settings(history, database_url=on.url, role=owner)
    stepped = "SELECT run_id FROM migration_endpoint.step"
    async with client_of(configuration) as client:
        run = asyncio.create_task(client.post("/migrate", headers=APPLY, json={}))
        await asyncio.to_thread(until, lambda: asleep(database), what="b2 to be at work")
        ((run_id,),) = database.execute(stepped)
        assert (await client.post(f"/runs/{run_id}/cancel", headers=APPLY)).status_code in (200, 202)
        problem = (await run).json()
    assert problem["type"].endswith("#cancelled"), problem


def asleep(database: Database) -> bool:
    return bool(
        database.execute(
            "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' "
            "AND datname = current_database() AND pid <> pg_backend_pid()"
        )
    )


def test_the_plain_command_goes_by_the_same_settings(database: Database, owner: str) -> None:
    from tests.journeys.test_alembic_command import alembic
    from tests.servers import PROJECT

    database.execute(f"CREATE SCHEMA shop AUTHORIZATION {owner}")
    chosen: dict[str, Any] = {"role": owner, "search_path": "shop"}
    alembic(PROJECT, database, "upgrade", "0002", **chosen)
    assert database.execute("SELECT version_num FROM shop.alembic_version") == [("0002",)]
    assert database.value("SELECT tableowner FROM pg_tables WHERE tablename = 'products'") == owner
    assert "0002" in alembic(PROJECT, database, "current", **chosen)[0]


@pytest.mark.parametrize("sets", ["SET ROLE {0}", "set local  role {0}", "SELECT set_config('role', '{0}', false)"])
async def test_a_role_that_a_revision_sets_itself_lasts_as_in_alembic_and_needs_no_right_on_the_record(
    settings: MakeSettings, write_history: WriteHistory, database: Database, owner: str, sets: str
) -> None:
    login = database.value("SELECT current_user")
    lets = f"GRANT ALL ON alembic_version TO {owner}; GRANT CREATE ON SCHEMA public TO {owner}"
    history = write_history(
        a1=f"op.execute({lets!r})\nop.execute({sets.format(owner)!r})\nop.execute('CREATE TABLE a ()')",
        b2="op.execute('CREATE TABLE b ()')",
        c3="op.execute('RESET ROLE')\nop.execute('CREATE TABLE c ()')",
        d4="op.execute('CREATE TABLE d ()')",
    )
    answer = await call(settings(history))
    assert answer.status_code == 200, answer.text
    lasting = login if "local" in sets else owner
    assert database.execute("SELECT tablename, tableowner FROM pg_tables WHERE tablename < 'e' ORDER BY 1")[:5] == [
        ("a", owner),
        ("alembic_version", login),
        ("b", lasting),
        ("c", login),
        ("d", login),
    ]
    assert database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id") == [
        ("a1",),
        ("b2",),
        ("c3",),
        ("d4",),
    ]
