"""One look at the database: what it tells, and what it may cost a connection that knows no catalog yet."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from app.database import catalog, connection, url
from app.database.catalog import USUAL, Facts, VersionTable
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, Database

LEDGER = "migration_endpoint"


async def look(settings: MakeSettings, database: Database, version_table: VersionTable = USUAL) -> Facts:
    async with connection.session(url.database(settings(database_url=database.url))) as session:
        return await catalog.look(session, ledger_schema=LEDGER, version_table=version_table)


async def migrated(settings: MakeSettings, write_history: WriteHistory, **changes: Any) -> None:
    async with client_of(settings(write_history(a1="op.execute('CREATE TABLE a (id int)')"), **changes)) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of EXPLAIN, and all below it."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


@pytest.mark.parametrize("has_a_ledger", [True, False], ids=["migrated", "empty"])
async def test_a_look_joins_nothing(
    settings: MakeSettings, write_history: WriteHistory, database: Database, has_a_ledger: bool
) -> None:
    if has_a_ledger:
        await migrated(settings, write_history)
    asked = ", ".join(catalog.questions(LEDGER, USUAL).values())
    (plan,) = database.value(f"EXPLAIN (FORMAT JSON) SELECT {asked}")
    found = list(nodes(plan["Plan"]))
    assert [each["Node Type"] for each in found if "Join" in each["Node Type"] or "Loop" in each["Node Type"]] == []
    # The functions are those that read a query only where it is needed, see deferred.py.
    read = {each.get("Relation Name", each.get("Function Name")) for each in found} - {None}
    assert read == {"pg_index", "pg_description", "pg_database", "ts_stat"}


@pytest.mark.parametrize("has_a_ledger", [True, False], ids=["migrated", "empty"])
async def test_a_look_that_asks_nothing_costly_tells_the_rest_and_reads_no_table_that_grows(
    settings: MakeSettings, write_history: WriteHistory, database: Database, has_a_ledger: bool
) -> None:
    if has_a_ledger:
        await migrated(settings, write_history)
    whole = await look(settings, database)
    async with connection.session(url.database(settings())) as session:
        short = await catalog.look(session, ledger_schema=LEDGER, version_table=USUAL, costly=frozenset())
    assert short == dataclasses.replace(whole, answers={})
    with pytest.raises(AssertionError, match="has not asked for broken_indexes"):
        _ = short.broken_indexes
    asked = ", ".join(catalog.questions(LEDGER, USUAL, frozenset({"environment"})).values())
    (plan,) = database.value(f"EXPLAIN (FORMAT JSON) SELECT {asked}")
    read = {each.get("Relation Name", each.get("Function Name")) for each in nodes(plan["Plan"])} - {None}
    assert read == {"ts_stat"}


async def test_an_empty_database_has_neither_revision_nor_ledger_and_says_where_the_version_would_be(
    settings: MakeSettings, database: Database
) -> None:
    facts = await look(settings, database)
    assert (facts.heads, facts.version_table) == ((), "public.alembic_version")
    assert (facts.ledger_exists, facts.ledger_is_current, facts.environment) == (False, False, None)
    assert facts.broken_indexes == ()


async def test_the_version_table_is_found_where_the_search_path_finds_it(
    settings: MakeSettings, database: Database
) -> None:
    database.execute('CREATE SCHEMA "o""dd"')
    database.execute('CREATE TABLE "o""dd".alembic_version (version_num text)')
    database.execute(f'ALTER DATABASE "{database.address.database}" SET search_path = "nowhere", "o""dd", public')
    assert (await look(settings, database)).version_table == 'o"dd.alembic_version'
    assert (await look(settings, database, VersionTable("alembic_version", "else"))).version_table == (
        "else.alembic_version"
    )
    database.execute('DROP TABLE "o""dd".alembic_version')
    assert (await look(settings, database)).version_table == 'o"dd.alembic_version'  # where it would be made


@pytest.mark.parametrize("lacks", ["step", "index_build", "idempotency", "fingerprint", "form"])
async def test_a_ledger_that_lacks_something_is_told_from_a_current_one(
    settings: MakeSettings, write_history: WriteHistory, database: Database, lacks: str
) -> None:
    await migrated(settings, write_history)
    assert (await look(settings, database)).ledger_is_current
    if lacks == "form":
        database.execute(f"COMMENT ON TABLE {LEDGER}.run IS 'of an earlier version'")
    else:
        database.execute(f"DROP TABLE {LEDGER}.{lacks} CASCADE")
    facts = await look(settings, database)
    assert not facts.ledger_is_current
    assert facts.ledger_exists is (lacks not in {"run", "step"})
    assert facts.ledger_knows_builds is (lacks not in {"run", "step", "index_build"})
    assert facts.ledger_knows_fingerprints is (lacks not in {"run", "step", "fingerprint"})


@pytest.mark.parametrize("may", ["nothing", "use the schema", "read", "all of it"])
async def test_a_ledger_that_the_role_may_not_read_is_none(
    settings: MakeSettings, write_history: WriteHistory, database: Database, may: str
) -> None:
    await migrated(settings, write_history, vercel_env="production")
    with database.server.role() as (name, password):
        if may in {"use the schema", "all of it"}:
            database.execute(f"GRANT USAGE ON SCHEMA {LEDGER} TO {name}")
        if may in {"read", "all of it"}:
            database.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {LEDGER} TO {name}")
        database.execute(f"GRANT SELECT ON alembic_version TO {name}")
        try:
            facts = await look(settings, database.as_role(name, password))
        finally:
            database.execute(f"DROP OWNED BY {name}")
    is_there = may == "all of it"
    assert (facts.ledger_exists, facts.ledger_is_current) == (is_there, is_there)
    assert facts.environment == ("production" if is_there else None)
    assert facts.heads == ("a1",)


async def test_every_broken_index_is_told_by_its_name_whatever_that_is(
    settings: MakeSettings, database: Database
) -> None:
    longest = "\x01" * 62
    names = [("public", "t", "b"), ("public", "t", "a b"), (longest + '"', longest + "'", longest + "\\")]
    for name in names:
        schema, table, index = (f'U&"{_escaped(each)}"' for each in name)
        database.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        database.execute(f"CREATE TABLE IF NOT EXISTS {schema}.{table} (id int)")
        database.execute(f"CREATE INDEX {index} ON {schema}.{table} (id)")
    database.execute("CREATE INDEX fine ON t (id)")
    database.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid >= 16384 AND indexrelid <> 'fine'::regclass"
    )
    told = [(index.name, index.table) for index in (await look(settings, database)).broken_indexes]
    assert told == [
        (f'"{longest}"""."{longest}\\"', f'"{longest}"""."{longest}\'"'),
        ('public."a b"', "public.t"),
        ("public.b", "public.t"),
    ]


def _escaped(name: str) -> str:
    """As SQL wants it between U&"…"."""
    return "".join(f"\\{ord(each):04x}" for each in name)
