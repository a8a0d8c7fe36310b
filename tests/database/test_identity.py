"""The identity of a database, by which a digest tells it from its copies."""

from app.database import connection, identity, url
from tests.conftest import MakeSettings
from tests.servers import Database


async def identity_of(settings: MakeSettings, database: Database, *, before: str = "") -> str:
    async with connection.session(url.database(settings(database_url=database.url))) as session:
        rows = await session.execute(f"{before} SELECT {identity.EXPRESSION}")
    return str(rows[0][0])


async def test_a_database_is_known_by_its_cluster_itself_and_its_branch(
    settings: MakeSettings, database: Database
) -> None:
    oid = database.value("SELECT oid FROM pg_database WHERE datname = current_database()")
    cluster = database.value("SELECT system_identifier FROM pg_control_system()")
    assert await identity_of(settings, database) == f"{oid}/{cluster}"
    branch = "SET LOCAL neon.timeline_id = 'made-up-branch';"
    assert await identity_of(settings, database, before=branch) == f"{oid}/{cluster}/made-up-branch"


async def test_where_a_provider_keeps_the_cluster_s_identifier_to_itself_the_rest_has_to_do(
    settings: MakeSettings, database: Database
) -> None:
    oid = database.value("SELECT oid FROM pg_database WHERE datname = current_database()")
    database.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    with database.server.role() as (name, password):
        assert await identity_of(settings, database.as_role(name, password)) == str(oid)
