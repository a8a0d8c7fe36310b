"""GET /status?drift=true: what of the schema is not as the last run left it."""

import subprocess
import sys
from typing import Any

import httpx
import pytest

from app.database import lock, tables
from app.database.literals import literal
from tests import servers
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database
from tests.web.answers import problem

SAMPLE = "6c4544c519ca2df45122db88761852f1edb1aea74b8735d247515ea1d5bf3030"
"""The fingerprint of what migrations/ makes, on whatever PostgreSQL."""
TABLE = {"a1": "op.execute('CREATE TABLE a (id int)')"}
TWO = {**TABLE, "b2": "op.execute('CREATE VIEW b AS SELECT id FROM a')"}


async def migrated(client: httpx.AsyncClient, **body: object) -> dict[str, Any]:
    answer = await client.post("/migrate", headers=APPLY, json=body)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def looked(client: httpx.AsyncClient) -> tuple[dict[str, Any], list[str]]:
    """The member `drift`, and the warnings."""
    answer = await client.get("/status?drift=true", headers=READ)
    assert answer.status_code == 200, answer.text
    return answer.json()["drift"], answer.json()["warnings"]


def messages(drift: dict[str, Any]) -> list[str]:
    return [each["message"] for each in drift["differences"]]


async def test_the_sample_history_leaves_the_same_fingerprint_on_every_server(
    settings: MakeSettings, database: Database
) -> None:
    async with client_of(settings()) as client:
        run = await migrated(client)
        drift, warnings = await looked(client)
    assert (drift["fingerprint"], drift["recorded"]["fingerprint"]) == (SAMPLE, SAMPLE)
    assert (drift["differs"], drift["differences"], warnings, run["warnings"]) == (False, [], [], [])
    assert drift["recorded"]["run_id"] == run["run_id"]
    assert drift["recorded"]["taken_at"].endswith("Z")
    assert drift["recorded"]["server_version"] == database.value("SHOW server_version").split()[0]


async def test_what_was_changed_outside_is_told_until_the_next_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await migrated(client, target="a1")
        database.execute("ALTER TABLE a ADD note text, ALTER id TYPE bigint; CREATE TABLE mine (id int)")
        drift, _ = await looked(client)
        assert drift["differs"] is True
        assert drift["fingerprint"] != drift["recorded"]["fingerprint"]
        assert drift["differences"] == [
            {
                "object": "column a.id",
                "change": "changed",
                "message": "column a.id was changed outside of migrations: from integer to bigint",
            },
            {
                "object": "column a.note",
                "change": "added",
                "message": "column a.note was added outside of migrations",
            },
            {"object": "table mine", "change": "added", "message": "table mine was added outside of migrations"},
        ]
        run = await migrated(client)
        drift, _ = await looked(client)
        assert (drift["differs"], drift["recorded"]["run_id"]) == (False, run["run_id"])


async def test_who_does_not_ask_is_not_told(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await migrated(client)
        for query in ("", "?drift=false"):
            assert (await client.get(f"/status{query}", headers=READ)).json()["drift"] is None
        problem(await client.get("/status?drift=perhaps", headers=READ), "invalid-request", 422)


async def test_before_any_run_there_is_nothing_to_compare_with(settings: MakeSettings, database: Database) -> None:
    database.execute("CREATE TABLE mine (id int)")
    async with client_of(settings()) as client:
        drift, warnings = await looked(client)
    assert len(drift.pop("fingerprint")) == 64
    assert drift == {"recorded": None, "differs": None, "differences": []}
    assert warnings == []


async def test_a_ledger_of_an_earlier_form_has_no_fingerprint_until_the_next_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await migrated(client, target="a1")
        database.execute("DROP TABLE migration_endpoint.fingerprint")
        database.execute(f"COMMENT ON TABLE migration_endpoint.run IS '{tables.FORM.replace('3', '2')}'")
        assert (await looked(client))[0]["recorded"] is None
        await migrated(client)
        assert (await looked(client))[0]["differs"] is False


async def test_a_call_that_finds_nothing_to_do_takes_no_fingerprint(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TABLE))) as client:
        await migrated(client)
        database.execute("ALTER TABLE a ADD note text")
        assert (await migrated(client))["outcome"] == "up_to_date"
        assert messages((await looked(client))[0]) == ["column a.note was added outside of migrations"]


@pytest.mark.parametrize("time_budget", [None, 3])
async def test_a_fingerprint_that_cannot_be_taken_changes_nothing_of_the_run(
    settings: MakeSettings, write_history: WriteHistory, database: Database, time_budget: float | None
) -> None:
    async with client_of(settings(write_history(**TWO), time_budget=time_budget)) as client:
        await migrated(client, target="a1")
        with database.connect() as somebody, somebody.transaction():
            somebody.execute("LOCK TABLE migration_endpoint.fingerprint")
            run = await migrated(client)
        assert (run["outcome"], run["to"]) == ("upgraded", ["b2"])
        (warning,) = run["warnings"]
        assert warning.startswith("No fingerprint of the schema was taken, so drift is not known until the next run: ")
        assert ("lock timeout" in warning) == (time_budget is None), "within a budget there is no time to wait for it"
        recorded = (await client.get(f"/runs/{run['run_id']}", headers=READ)).json()
        assert (recorded["outcome"], recorded["to"]) == ("upgraded", ["b2"])
        # The one of the earlier run must not pass for this one's.
        drift, (warning,) = await looked(client)
        assert (drift["differs"], drift["differences"]) == (None, [])
        assert warning.startswith(f"Run {run['run_id']} has changed the schema, or may have, and left no fingerprint")


async def test_a_run_that_failed_halfway_leaves_nothing_to_compare_with(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    first = write_history(a1=TWO["a1"])
    async with client_of(settings(first)) as client:
        await migrated(client)
    async with client_of(settings(write_history(**TWO, c3="op.execute('SELECT 1/0')"))) as client:
        failed = problem(await client.post("/migrate", headers=APPLY), "migration-failed", 500)
        assert [each["revision"] for each in failed["applied"]] == ["b2"]
        drift, (warning,) = await looked(client)
        assert (drift["differs"], drift["recorded"] is None) == (None, False)
        assert failed["run_id"] in warning
        # One that changed nothing changes nothing here.
        database.execute("DELETE FROM migration_endpoint.step WHERE revision = 'b2'; DROP VIEW b")
        assert (await looked(client))[0]["differs"] is False


@pytest.mark.parametrize("error", [None, '{"rolled_back": false}'])
async def test_after_a_run_that_may_have_left_something_drift_is_not_known(
    settings: MakeSettings, write_history: WriteHistory, database: Database, error: str | None
) -> None:
    async with client_of(settings(write_history(**TABLE))) as client:
        await migrated(client)
        outcome = "failed" if error else "abandoned"
        database.execute(
            "INSERT INTO migration_endpoint.run (id, version_table, outcome, error) VALUES "
            f"(gen_random_uuid(), 'theirs.alembic_version', '{outcome}', {literal(error)})"
        )
        assert (await looked(client))[0]["differs"] is False, "another history's runs are not ours"
        database.execute("UPDATE migration_endpoint.run SET version_table = 'public.alembic_version'")
        assert (await looked(client))[0]["differs"] is None


async def test_a_run_under_way_may_be_what_differs(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TABLE))) as client:
        await migrated(client)
        with database.connect() as holder, holder.transaction():
            holder.execute(f"SELECT pg_advisory_xact_lock({lock.key('public.alembic_version')})".encode())
            holder.execute("ALTER TABLE a ADD note text")
            drift, warnings = await looked(client)
        assert drift["differs"] is False
        assert warnings == ["A run is under way: what differs may be its doing."]


async def test_between_major_versions_a_view_is_compared_by_its_existence(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await migrated(client)
        database.execute("UPDATE migration_endpoint.fingerprint SET server_version = 130022")
        database.execute("CREATE OR REPLACE VIEW b AS SELECT 1 AS id")
        drift, (warning,) = await looked(client)
        assert (drift["differs"], drift["recorded"]["server_version"]) == (False, "13.22")
        assert warning.startswith("What this is compared with is of PostgreSQL 13.22, and this is ")
        database.execute("DROP VIEW b")
        assert messages((await looked(client))[0]) == ["view b was removed outside of migrations"]


async def test_a_view_that_somebody_has_locked_does_not_hold_up_the_rest(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await migrated(client)
        with database.connect() as somebody, somebody.transaction():
            somebody.execute("LOCK TABLE b")
            answer = (await client.get("/status?drift=true", headers=READ)).json()
        assert (answer["state"], answer["drift"]) == ("up_to_date", None)
        assert answer["warnings"] == ["The schema could not be read: canceling statement due to lock timeout"]


async def test_a_role_that_may_read_nothing_of_the_ledger_gets_the_fingerprint_alone(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**TABLE)
    async with client_of(settings(history)) as client:
        await migrated(client)
    with database.server.role() as (role, password):
        database.execute(f"GRANT SELECT ON alembic_version TO {role}")
        async with client_of(settings(history, database_url=database.as_role(role, password).url)) as client:
            drift, _ = await looked(client)
        database.execute(f"DROP OWNED BY {role}")
    assert (drift["recorded"], drift["differs"], drift["differences"]) == (None, None, [])


def test_the_terminal_tells_drift_and_the_plain_alembic_command_leaves_a_fingerprint_too(database: Database) -> None:
    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            check=True,
            cwd=servers.PROJECT,
            env=servers.environment(database),
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    assert "drift is not known: no run has left a fingerprint" in run("app", "status", "--drift")
    run("app", "migrate")
    run("alembic", "downgrade", "0001")
    ((last, outcome),) = database.execute(
        "SELECT r.id, r.outcome FROM migration_endpoint.fingerprint f JOIN migration_endpoint.run r ON r.id = f.run_id"
    )
    assert outcome == "downgraded"
    assert f"no drift: the schema is as run {last} left it" in run("app", "status", "--drift")
    database.execute("DROP INDEX ix_orders_customer_id")
    told = "  drift    index ix_orders_customer_id was removed outside of migrations\n"
    assert told in run("app", "status", "--drift")
    assert "drift" not in run("app", "status")
