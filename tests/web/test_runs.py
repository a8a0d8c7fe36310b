"""GET /runs, /runs/{id} and /status: what is on record."""

import asyncio
import hashlib
from uuid import UUID, uuid4

import httpx
import pytest

from tests import servers
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database
from tests.web.answers import assert_tells_no_secret, problem

TWO = {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": "op.execute('CREATE TABLE b (id int)')"}
LABEL = hashlib.sha256(servers.API_KEY.encode()).hexdigest()[:8]


async def recorded(client: httpx.AsyncClient) -> list[dict[str, object]]:
    answer = await client.get("/runs", headers=READ)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()["runs"]
    return found


async def test_without_a_ledger_there_are_no_runs(settings: MakeSettings) -> None:
    async with client_of(settings()) as client:
        assert await recorded(client) == []
        problem(await client.get(f"/runs/{uuid4()}", headers=READ), "not-found", 404)


async def test_a_run_is_on_record_with_its_steps(settings: MakeSettings, write_history: WriteHistory) -> None:
    history = write_history(**TWO)
    configuration = settings(
        history, vercel_deployment_id="dpl_1", vercel_git_commit_sha="4f1c9a2", vercel_env="preview"
    )
    async with client_of(configuration) as client:
        answer = await client.post("/migrate", headers=APPLY, json={"reason": "deploy"})
        (run,) = await recorded(client)
        assert UUID(str(run["run_id"])).version == 7
        assert run["run_id"] == answer.json()["run_id"]
        assert run["request_id"] == answer.headers["x-request-id"]
        assert (run["outcome"], run["target"], run["from"], run["to"]) == ("upgraded", "heads", [], ["b2"])
        assert (run["key_label"], run["reason"], run["error"], run["retries"]) == (LABEL, "deploy", None, 0)
        assert run["deployment"] == {"id": "dpl_1", "git_sha": "4f1c9a2", "environment": "preview"}
        assert str(run["started_at"]).endswith("Z")
        assert str(run["finished_at"]) >= str(run["started_at"])
        assert "steps" not in run

        one = (await client.get(f"/runs/{run['run_id']}", headers=READ)).json()
        steps = one.pop("steps")
        live = {name: one.pop(name) for name in ("state", "revision", "progress", "index_build")}
        assert live == {"state": "ended", "revision": None, "progress": None, "index_build": None}
        assert one == run
        assert (run["waited_ms"], run["pending"]) == (0, 2)
        assert [(step["revision"], step["direction"]) for step in steps] == [("a1", "upgrade"), ("b2", "upgrade")]
        for step in steps:
            file = history / "versions" / f"{step['revision']}.py"
            assert step["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
            assert step["duration_ms"] >= 0


async def test_how_long_a_run_has_waited_for_the_lock_is_on_record(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        with database.connect() as held:
            key = (await client.get("/status", headers=READ)).json()["lock"]["key"]
            held.execute(f"SELECT pg_advisory_lock({key})".encode())
            call = asyncio.create_task(client.post("/migrate", json={"lock_wait_s": 60}, headers=APPLY))
            while not await asyncio.to_thread(lambda: database.is_waited_for):
                assert not call.done()
        answer = (await call).json()
        (run,) = await recorded(client)
    assert run["waited_ms"] == answer["lock"]["waited_ms"] > 0


async def test_a_failure_is_on_record_with_its_problem(settings: MakeSettings, write_history: WriteHistory) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="op.execute('SELECT 1/0')")
    async with client_of(settings(history)) as client:
        document = problem(await client.post("/migrate", headers=APPLY), "migration-failed", 500)
        (run,) = await recorded(client)
        assert (run["outcome"], run["from"], run["to"]) == ("failed", [], ["a1"])
        error = run["error"]
        assert isinstance(error, dict)
        assert (error["revision"], error["sqlstate"]) == ("b2", "22012") == (document["revision"], document["sqlstate"])
        steps = (await client.get(f"/runs/{run['run_id']}", headers=READ)).json()["steps"]
        assert [step["revision"] for step in steps] == ["a1"]


async def test_a_refusal_is_on_record_once_there_is_a_ledger(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await client.post("/migrate", headers=APPLY)
        database.execute("UPDATE alembic_version SET version_num = 'zz'")
        refused = await client.post("/migrate", headers=APPLY)
        assert refused.status_code == 409
        newest, oldest = await recorded(client)
        assert (newest["outcome"], oldest["outcome"]) == ("refused", "upgraded")
        assert newest["request_id"] == refused.headers["x-request-id"]
        assert isinstance(newest["error"], dict)
        assert str(newest["error"]["type"]).endswith("#database-ahead")


async def test_the_runs_are_listed_newest_first_and_no_more_than_asked_for(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        for target in ("a1", "b2"):
            await client.post("/migrate", headers=APPLY, json={"target": target})
        assert [run["target"] for run in await recorded(client)] == ["b2", "a1"]
        (newest,) = (await client.get("/runs?limit=1", headers=READ)).json()["runs"]
        assert newest["target"] == "b2"
        for limit in ("0", "201", "many", "-1"):
            document = problem(await client.get(f"/runs?limit={limit}", headers=READ), "invalid-request", 422)
            assert document["errors"][0]["field"] == "query.limit"


@pytest.mark.parametrize("run_id", ["1", "not-a-uuid", "0198c1f0-0000-7000-8000-00000000000g", "'; DROP TABLE run"])
async def test_what_is_not_an_id_is_said_clearly(settings: MakeSettings, run_id: str) -> None:
    async with client_of(settings()) as client:
        answer = await client.get(httpx.URL("http://test/runs/").join(httpx.URL(path=f"/runs/{run_id}")), headers=READ)
        problem(answer, "invalid-request", 422)


async def test_the_status_tells_all_that_the_contract_names(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        before = (await client.get("/status", headers=READ)).json()
        assert before["state"] == "pending"
        assert (before["current"], before["heads"]) == ([], ["b2"])
        assert before["pending"] == [
            {"revision": "a1", "message": "Do a1."},
            {"revision": "b2", "message": "Do b2."},
        ]
        assert (before["lock"]["held"], before["lock"]["holder"], before["runs"]) == (False, None, [])
        for _ in range(7):
            await client.post("/migrate", headers=APPLY, json={"target": "nowhere"})
        await client.post("/migrate", headers=APPLY)
        after = (await client.get("/status", headers=READ)).json()
        assert (after["state"], after["current"], after["pending"]) == ("up_to_date", ["b2"], [])
        assert [run["outcome"] for run in after["runs"]] == ["upgraded"]
        assert after["lock"]["key"] == before["lock"]["key"]
        assert after["database"].keys() == {"server_version", "pooler", "pool_mode", "environment"}
        assert (after["database"]["pooler"], after["database"]["pool_mode"]) == (False, None)
        assert (
            after.keys()
            == before.keys()
            == {
                *("state", "current", "heads", "pending", "modified", "unrecorded", "lock", "runs"),
                *("broken_indexes", "drift", "database", "deployment", "warnings", "request_id"),
            }
        )


async def test_the_status_shows_who_holds_the_lock_as_far_as_that_is_known(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        key = (await client.get("/status", headers=READ)).json()["lock"]["key"]
        run_id = str(uuid4())
        with database.connect() as held:
            held.execute(f"BEGIN; SELECT pg_advisory_xact_lock({key})".encode())
            held.execute(f"SET LOCAL application_name = 'migrate/{run_id} b2 3/7'".encode())
            lock = (await client.get("/status", headers=READ)).json()["lock"]
            assert lock["held"] is True
            assert lock["holder"].pop("since").endswith("Z")
            pid = held.info.backend_pid
            assert lock["holder"] == {"run_id": run_id, "revision": "b2", "progress": "3/7", "pid": pid}
            refused = await client.post("/migrate", json={"lock_wait_s": 0}, headers=APPLY)
            document = problem(refused, "lock-held", 409)
            assert document["holder"]["run_id"] == run_id
            assert run_id in document["detail"]
            held.execute("SET LOCAL application_name = 'psql'")  # a DBA took the lock by hand
            holder = (await client.get("/status", headers=READ)).json()["lock"]["holder"]
            assert (holder["run_id"], holder["pid"]) == (None, pid)


async def test_to_look_changes_nothing(settings: MakeSettings, write_history: WriteHistory, database: Database) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        for path in ("/status", "/runs", f"/runs/{uuid4()}", "/health"):
            await client.get(path, headers=READ)
    assert database.value("SELECT count(*) FROM pg_class WHERE relname IN ('alembic_version', 'run', 'step')") == 0
    assert database.value("SELECT to_regnamespace('migration_endpoint') IS NULL")


async def test_a_call_that_finds_nothing_to_do_is_not_a_run(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        assert (await client.post("/migrate", headers=APPLY)).json()["outcome"] == "upgraded"
        again = (await client.post("/migrate", headers=APPLY)).json()
        assert (again["outcome"], again["run_id"]) == ("up_to_date", None)
        assert again["from"] == again["to"] == ["b2"]
        assert again["applied"] == again["remaining"] == []
        assert len(await recorded(client)) == 1


async def test_twenty_runs_are_listed_unless_the_caller_says_how_many(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        await client.post("/migrate", headers=APPLY)
        database.execute(
            "INSERT INTO migration_endpoint.run (id, version_table, outcome) "
            "SELECT gen_random_uuid(), 'public.alembic_version', 'refused' FROM generate_series(1, 250)"
        )
        for query, count in (("", 20), ("?limit=1", 1), ("?limit=200", 200)):
            assert len((await client.get(f"/runs{query}", headers=READ)).json()["runs"]) == count
        database.execute("UPDATE migration_endpoint.run SET version_table = 'tenant_7.alembic_version'")
        assert await recorded(client) == []  # they are another history's


async def test_the_ledger_is_in_the_schema_of_the_settings_whatever_its_name(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    schema = 'the "ledger\'s" \\ %s Schema'
    async with client_of(settings(write_history(**TWO), ledger_schema=schema)) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 200, answer.text
        assert answer.json()["warnings"] == []
        assert len(await recorded(client)) == 1
        assert len((await client.get("/status", headers=READ)).json()["runs"]) == 1
    assert database.value("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'the %'") == schema
    assert database.value("SELECT to_regnamespace('migration_endpoint') IS NULL")


# --- what a revision says must tell no secret


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("raise RuntimeError('postgresql://admin:hunter2@db.internal/app is down')", id="url"),
        pytest.param("raise RuntimeError('login failed: user=admin password=hunter2')", id="keyword"),
        pytest.param("raise RuntimeError(str({'user': 'admin', 'password': 'hunter2'}))", id="dict"),
        pytest.param(
            "op.execute(sa.text('SELECT CAST(:value AS integer)').bindparams(value='hunter2'))", id="parameter"
        ),
        pytest.param(
            "op.execute(sa.text('SELECT CAST(CAST(:value AS text) AS integer)').bindparams(value='hunter2\\n\"b'))",
            id="parameter-in-several-lines",
        ),
        pytest.param(
            "op.execute('CREATE TABLE t (name text UNIQUE)')\n"
            "op.execute(sa.text('INSERT INTO t VALUES (:a), (:b)').bindparams(a='hunter2', b='hunter2'))",
            id="row",
        ),
        pytest.param(
            "op.execute('CREATE TABLE t (name integer)')\n"
            "op.bulk_insert(sa.table('t', sa.column('name', sa.Integer)), [{'name': 1}, {'name': 'hunter2'}])",
            id="rows",
        ),
        pytest.param(
            "op.execute('CREATE TABLE t (name text)')\n"
            "op.execute(\"INSERT INTO t VALUES ('hunter2')\")\n"
            "op.execute('ALTER TABLE t ALTER name TYPE integer USING name::integer')",
            id="stored-value",
        ),
        pytest.param(
            "op.execute('CREATE TABLE t (name text CHECK (length(name) < 3))')\n"
            "op.execute(\"INSERT INTO t VALUES ('hunter2')\")",
            id="check",
        ),
    ],
)
async def test_the_problem_of_a_failing_revision_quotes_no_secret_and_no_value(
    settings: MakeSettings,
    write_history: WriteHistory,
    caplog: pytest.LogCaptureFixture,
    database: Database,
    body: str,
) -> None:
    caplog.set_level("INFO")
    async with client_of(settings(write_history(a1=body))) as client:
        answer = await client.post("/migrate", headers=APPLY)
        document = problem(answer, "migration-failed", 500)
        (run,) = await recorded(client)
    assert document["revision"] == "a1"
    assert document["where"].startswith("a1.py:")
    assert len(document["message"]) > 20  # what is left still says something
    assert_tells_no_secret(answer.text + str(run) + caplog.text, "hunter2", database.url)


async def test_a_revision_that_ends_its_process_fails_and_the_server_lives(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    history = write_history(a1="pass", b2="op.execute('CREATE TABLE b (id int)')\nraise SystemExit(3)")
    async with client_of(settings(history)) as client:
        document = problem(await client.post("/migrate", headers=APPLY), "migration-failed", 500)
        assert (document["revision"], document["rolled_back"]) == ("b2", True)
        assert document["where"].startswith("b2.py:")
        assert (await client.get("/status", headers=READ)).json()["current"] == ["a1"]


async def test_a_revision_may_say_what_neither_json_nor_postgresql_can_hold(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    async with client_of(settings(write_history(a1="raise RuntimeError('nul \\0 surrogate \\ud800 end')"))) as client:
        document = problem(await client.post("/migrate", headers=APPLY), "migration-failed", 500)
        assert "end" in document["message"]
        (run,) = await recorded(client)
    assert run["outcome"] == "failed"
    assert "end" in str(run["error"])
