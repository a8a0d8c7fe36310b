"""The environment interlock: a database is changed by the environment that it belongs to, and by no other."""

import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database
from tests.web.answers import problem

TWO = {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": "op.execute('CREATE TABLE b (id int)')"}
NEON = "ALTER DATABASE \"{name}\" SET neon.timeline_id = '{timeline}'"
"""Where Neon's server has a setting of its own, any other takes one of that name; a new connection sees it."""


def belongs_to(database: Database) -> str | None:
    rows = database.execute("SELECT name FROM migration_endpoint.environment")
    return str(rows[0][0]) if rows else None


async def test_the_first_successful_run_binds_the_database_to_its_environment(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    failing = write_history(a1=TWO["a1"], b2="op.execute('SELECT 1/0')")
    async with client_of(settings(failing, vercel_env="preview")) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 500
        assert belongs_to(database) is None
    history = write_history(**TWO)
    async with client_of(settings(history, vercel_env="production")) as client:
        assert (await client.get("/status", headers=READ)).json()["database"]["environment"] is None
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
        assert belongs_to(database) == "production"
        assert (await client.get("/status", headers=READ)).json()["database"]["environment"] == "production"


@pytest.mark.parametrize("target", ["heads", "a1"], ids=["pending", "nothing-pending"])
async def test_a_preview_may_not_migrate_the_production_database(
    settings: MakeSettings, write_history: WriteHistory, database: Database, target: str
) -> None:
    history = write_history(**TWO)
    async with client_of(settings(history, vercel_env="production")) as client:
        await client.post("/migrate", headers=APPLY, json={"target": "a1"})
    async with client_of(settings(history, vercel_env="preview")) as client:
        with database.connect() as held:  # it is refused before the lock: nobody has to wait for it
            key = (await client.get("/status", headers=READ)).json()["lock"]["key"]
            held.execute(f"SELECT pg_advisory_lock({key})".encode())
            refused = await client.post("/migrate", headers=APPLY, json={"target": target, "lock_wait_s": 30})
        document = problem(refused, "wrong-environment", 409)
        assert (document["database_environment"], document["deployment_environment"]) == ("production", "preview")
        assert "python -m app environment set" in document["hint"]
        newest, _ = (await client.get("/runs", headers=READ)).json()["runs"]
        assert (newest["outcome"], newest["deployment"]["environment"]) == ("refused", "preview")
    assert database.value("SELECT to_regclass('b') IS NULL")
    assert belongs_to(database) == "production"


async def test_the_environment_is_what_is_set_before_what_vercel_says(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**TWO)
    # A custom environment of Vercel's is a preview to VERCEL_ENV.
    async with client_of(settings(history, vercel_env="preview", vercel_target_env="staging")) as client:
        answer = await client.post("/migrate", headers=APPLY, json={"target": "a1"})
        assert answer.json()["deployment"]["environment"] == belongs_to(database) == "staging"
    async with client_of(settings(history, environment="Staging", vercel_env="production")) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200  # in whatever case it is written
    assert belongs_to(database) == "staging"  # as the first run has written it


async def test_who_names_no_environment_is_let_through_and_binds_nothing(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**TWO)
    async with client_of(settings(history)) as client:
        await client.post("/migrate", headers=APPLY, json={"target": "a1"})
        assert belongs_to(database) is None
        database.execute("INSERT INTO migration_endpoint.environment (name) VALUES ('production')")
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 200
        assert any("MIGRATION_ENVIRONMENT" in warning for warning in answer.json()["warnings"])
    assert belongs_to(database) == "production"


async def test_a_database_that_is_at_the_target_already_is_bound_as_well(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**TWO)
    async with client_of(settings(history)) as client:  # as from a terminal that names no environment
        await client.post("/migrate", headers=APPLY)
    async with client_of(settings(history, vercel_env="production")) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert (answer.json()["outcome"], belongs_to(database)) == ("up_to_date", "production")
    async with client_of(settings(history, vercel_env="preview")) as client:
        problem(await client.post("/migrate", headers=APPLY), "wrong-environment", 409)


async def test_white_space_around_a_name_is_not_part_of_it(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**TWO)
    async with client_of(settings(history, environment="production\n", vercel_env="production")) as client:
        await client.post("/migrate", headers=APPLY)
    assert belongs_to(database) == "production"
    async with client_of(settings(history, environment="  ", vercel_env="production")) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200


async def test_who_reads_the_ledger_for_long_does_not_keep_a_run_from_taking_place(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await client.post("/migrate", headers=APPLY, json={"target": "a1"})
        database.execute("COMMENT ON TABLE migration_endpoint.run IS NULL")  # as an earlier version has made it
        with database.connect() as backup:
            backup.execute(b"BEGIN")
            backup.execute(b"SELECT * FROM migration_endpoint.run")
            answer = await client.post("/migrate", headers=APPLY)
            assert (answer.status_code, answer.json()["to"]) == (200, ["b2"])
            assert any("not on record" in warning for warning in answer.json()["warnings"])
            assert (await client.get("/status", headers=READ)).status_code == 200


async def test_a_branch_of_neon_is_a_copy_and_belongs_to_whoever_migrates_it_first(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history, name = write_history(**TWO), database.address.database
    database.execute(NEON.format(name=name, timeline="a" * 32))
    async with client_of(settings(history, vercel_env="production")) as client:
        await client.post("/migrate", headers=APPLY, json={"target": "a1"})
    async with client_of(settings(history, vercel_env="preview")) as client:
        problem(await client.post("/migrate", headers=APPLY), "wrong-environment", 409)
        database.execute(NEON.format(name=name, timeline="b" * 32))  # what a branch finds in its copy
        assert (await client.get("/status", headers=READ)).json()["database"]["environment"] is None
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
        assert belongs_to(database) == "preview"
    async with client_of(settings(history, vercel_env="production")) as client:
        problem(await client.post("/migrate", headers=APPLY), "wrong-environment", 409)


async def test_a_name_may_have_any_characters(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    name, schema = 'it\'s <b> & \\ "größe"', 'Lëdger "x" \\ \''
    async with client_of(settings(write_history(**TWO), environment=name, ledger_schema=schema)) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
        assert (await client.get("/status", headers=READ)).json()["database"]["environment"] == name


async def test_a_role_that_may_not_read_the_ledger_is_told_of_no_environment(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**TWO)
    async with client_of(settings(history, vercel_env="production")) as client:
        await client.post("/migrate", headers=APPLY)
    with database.server.role() as (role, password):
        database.execute(f"GRANT SELECT ON alembic_version TO {role}")
        url = database.as_role(role, password).url
        async with client_of(settings(history, database_url=url, vercel_env="preview")) as client:
            answer = await client.get("/status", headers=READ)
            assert answer.status_code == 200, answer.text
            assert answer.json()["database"]["environment"] is None
        database.execute(f"DROP OWNED BY {role}")


async def test_a_ledger_of_an_earlier_version_is_brought_up_to_date_by_the_next_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**TWO)
    async with client_of(settings(history, vercel_env="production")) as client:
        await client.post("/migrate", headers=APPLY, json={"target": "a1"})
        database.execute(
            "ALTER TABLE migration_endpoint.run DROP COLUMN waited_ms, DROP COLUMN pending, DROP COLUMN answer, "
            "DROP COLUMN cancel_asked_at, DROP CONSTRAINT run_outcome_check, ADD CONSTRAINT run_outcome_check "
            "CHECK (outcome IN ('running', 'upgraded', 'downgraded', 'stamped', 'failed', 'refused', 'abandoned'))"
        )
        database.execute("DROP TABLE migration_endpoint.environment, migration_endpoint.idempotency")
        database.execute("COMMENT ON TABLE migration_endpoint.run IS NULL")
        (old,) = (await client.get("/runs", headers=READ)).json()["runs"]
        one = (await client.get(f"/runs/{old['run_id']}", headers=READ)).json()
        assert (one["outcome"], one["waited_ms"], one["state"]) == ("upgraded", None, "ended")
        answer = await client.post("/migrate", headers={**APPLY, "Idempotency-Key": "k"})
        assert (answer.status_code, answer.json()["warnings"]) == (200, [])
        assert len((await client.get("/runs", headers=READ)).json()["runs"]) == 2
        database.execute("UPDATE migration_endpoint.run SET outcome = 'cancelled'")  # which it had no word for
        assert (await client.get(f"/runs/{old['run_id']}", headers=READ)).json()["outcome"] == "cancelled"
    assert belongs_to(database) == "production"


def test_the_tables_are_those_that_a_look_asks_for() -> None:
    from app.database import tables

    made = {line.split(".")[1].split()[0] for line in tables.statements("s").splitlines() if "CREATE TABLE" in line}
    assert made == set(tables.NAMES)
