"""A database that cannot be reached or used: each way has its problem, and none tells a secret."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.servers import APPLY, READ, Database, Postgres, Service
from tests.web.answers import DEAD, DEAD_PASSWORD, assert_tells_no_secret, problem, without_database

CREATE_A = "op.execute('CREATE TABLE a (id int)')"


@pytest.fixture
def role(postgres: Postgres, database: Database) -> Iterator[Callable[[], Database]]:
    """The fresh database, for a role that may log in and nothing else; what it owns is dropped in the end."""
    with postgres.role() as (name, password):
        yield lambda: database.as_role(name, password)
        database.execute(f"DROP OWNED BY {name}")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every logger of this process, at its most talkative."""
    caplog.set_level(logging.DEBUG)
    return caplog


async def everything(configuration: Settings, slug: str) -> list[dict[str, object]]:
    """Ask every route that needs the database: each has this problem and tells no secret; the documents."""
    assert configuration.database_url is not None
    url = configuration.database_url.get_secret_value()
    secrets = [url, *filter(None, re.findall(r"://[^:]*:([^@]*)@", url))]
    async with client_of(configuration) as client:
        # At the same time, since each of them tries again for a while.
        answers = await asyncio.gather(
            client.post("/migrate", headers=APPLY),
            client.get("/status", headers=READ),
            client.get("/runs", headers=READ),
            client.get("/runs/0198c1f0-0000-7000-8000-000000000000", headers=READ),
        )
        health = await client.get("/health", headers=READ)
        assert health.status_code == 503
        assert health.json()["status"] == "fail"
        assert health.json()["problem"]["type"].endswith(f"#{slug}")
        assert (await client.get("/health")).json() == {"status": "fail"}
    for answer in (*answers, health):
        assert_tells_no_secret(answer.text, *secrets)
    return [problem(answer, slug, 503) for answer in answers]


def assert_log_is_clean(log: pytest.LogCaptureFixture, *secrets: str) -> None:
    assert_tells_no_secret(log.text, *secrets)
    assert not [record for record in log.records if record.exc_info]


# --- no way to the database


async def test_a_port_where_nobody_listens(log: pytest.LogCaptureFixture) -> None:
    for document in await everything(without_database(), "database-unavailable"):
        assert "127.0.0.1:1" in str(document["detail"])
        assert document["retryable"] is True
    assert_log_is_clean(log)


async def test_a_host_that_has_no_address(log: pytest.LogCaptureFixture) -> None:
    url = DEAD.replace("127.0.0.1:1", "db.nowhere.invalid")
    for document in await everything(without_database(database_url=url), "database-unavailable"):
        assert "db.nowhere.invalid:5432" in str(document["detail"])
    assert_log_is_clean(log)


async def test_a_socket_that_is_not_there(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    url = f"postgresql://somebody:{DEAD_PASSWORD}@/nowhere?host={tmp_path}"
    await everything(without_database(database_url=url), "database-unavailable")
    assert_log_is_clean(log)


async def test_several_hosts_of_which_none_answers(log: pytest.LogCaptureFixture) -> None:
    url = DEAD.replace("127.0.0.1:1", "127.0.0.1:1,127.0.0.1:2")
    for document in await everything(without_database(database_url=url), "database-unavailable"):
        assert "127.0.0.1:1, 127.0.0.1:2" in str(document["detail"])
    assert_log_is_clean(log)


@asynccontextmanager
async def listening(answer: bytes | None) -> AsyncIterator[str]:
    """A server that is no PostgreSQL: it says `answer` and hangs up, or nothing at all; its connection string."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield DEAD.replace("127.0.0.1:1", f"127.0.0.1:{port}")


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
async def test_a_host_that_keeps_silent(log: pytest.LogCaptureFixture, sslmode: str) -> None:
    async with listening(None) as url:
        configuration = without_database(database_url=f"{url}?sslmode={sslmode}", connect_timeout=0.1)
        for document in await everything(configuration, "database-unavailable"):
            assert "did not answer within 0.1 s" in str(document["detail"])
    assert_log_is_clean(log)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n", b"E"])
async def test_a_host_that_is_no_postgresql(log: pytest.LogCaptureFixture, answer: bytes) -> None:
    async with listening(answer) as url:
        configuration = without_database(database_url=f"{url}?sslmode=disable", connect_timeout=1)
        await everything(configuration, "database-unavailable")
    assert_log_is_clean(log)


async def test_a_server_without_tls_where_tls_is_required(log: pytest.LogCaptureFixture) -> None:
    async with listening(b"N") as url:  # PostgreSQL's answer to an SSLRequest
        for document in await everything(without_database(database_url=f"{url}?sslmode=require"), "tls-failed"):
            assert "does not speak TLS" in str(document["detail"])
            assert "sslmode=disable" in str(document["hint"])
            assert document["retryable"] is False
    assert_log_is_clean(log)


async def test_a_server_whose_tls_is_none(log: pytest.LogCaptureFixture) -> None:
    async with listening(b"SHello, this is no TLS") as url:
        await everything(without_database(database_url=f"{url}?sslmode=require"), "tls-failed")
    assert_log_is_clean(log)


# --- a server that says no


async def test_a_database_that_does_not_exist(
    settings: MakeSettings, database: Database, log: pytest.LogCaptureFixture
) -> None:
    missing = Database(database.server, database.address.set(database="no_such_database"))
    for document in await everything(settings(database_url=missing.url), "database-unavailable"):
        assert '"no_such_database"' in str(document["detail"])
        assert document["retryable"] is False
    assert_log_is_clean(log, missing.url)


async def test_a_wrong_password(
    settings: MakeSettings, database: Database, role: Callable[[], Database], log: pytest.LogCaptureFixture
) -> None:
    wrong = database.as_role(str(role().address.username), "hunter2-hunter2")
    for document in await everything(settings(database_url=wrong.url), "database-auth-failed"):
        assert str(wrong.address.username) in str(document["detail"])
        assert document["retryable"] is False
    assert_log_is_clean(log, "hunter2", wrong.url)


async def test_a_role_that_does_not_exist(
    settings: MakeSettings, database: Database, log: pytest.LogCaptureFixture
) -> None:
    nobody = database.as_role("no_such_role", "hunter2-hunter2")
    await everything(settings(database_url=nobody.url), "database-auth-failed")
    assert_log_is_clean(log, "hunter2", nobody.url)


async def test_a_role_that_may_not_connect(
    settings: MakeSettings, database: Database, role: Callable[[], Database], log: pytest.LogCaptureFixture
) -> None:
    database.execute(f'REVOKE CONNECT ON DATABASE "{database.address.database}" FROM PUBLIC')
    await everything(settings(database_url=role().url), "permission-denied")
    assert_log_is_clean(log, str(role().address.password))


async def test_a_database_that_takes_no_more_connections(
    settings: MakeSettings, database: Database, role: Callable[[], Database], log: pytest.LogCaptureFixture
) -> None:
    database.execute(f"ALTER ROLE {role().address.username} CONNECTION LIMIT 0")
    for document in await everything(settings(database_url=role().url), "database-unavailable"):
        assert "too many connections" in str(document["detail"]).lower()
        assert document["retryable"] is True
    assert_log_is_clean(log, str(role().address.password))


async def test_a_role_without_rights_on_the_schema_changes_nothing(
    settings: MakeSettings,
    database: Database,
    role: Callable[[], Database],
    write_history: WriteHistory,
    log: pytest.LogCaptureFixture,
) -> None:
    async with client_of(settings(write_history(a1=CREATE_A), database_url=role().url)) as client:
        document = problem(await client.post("/migrate", headers=APPLY), "permission-denied", 503)
        assert "public" in document["detail"]
        assert "GRANT CREATE" in document["hint"]
        assert (await client.get("/status", headers=READ)).json()["state"] == "pending"
    assert database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    assert_log_is_clean(log, str(role().address.password), role().url)


async def test_a_role_that_may_not_read_the_version_table(
    settings: MakeSettings, database: Database, role: Callable[[], Database], log: pytest.LogCaptureFixture
) -> None:
    database.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    for document in await everything(settings(database_url=role().url), "permission-denied"):
        assert "alembic_version" in str(document["detail"])
    assert_log_is_clean(log, str(role().address.password))


async def test_a_revision_that_the_role_may_not_run_fails_and_names_what_to_grant(
    settings: MakeSettings, database: Database, role: Callable[[], Database], write_history: WriteHistory
) -> None:
    database.execute("CREATE TABLE mine (id int)")
    database.execute(f"GRANT CREATE ON SCHEMA public TO {role().address.username}")
    history = write_history(a1=CREATE_A, b2="op.execute('ALTER TABLE mine ADD COLUMN name text')")
    async with client_of(settings(history, database_url=role().url)) as client:
        document = problem(await client.post("/migrate", headers=APPLY), "migration-failed", 500)
    assert document["sqlstate"] == "42501"
    assert document["revision"] == "b2"
    assert document["rolled_back"] is True
    assert "owns the tables" in document["hint"]
    assert database.value("SELECT version_num FROM alembic_version") == "a1"


async def test_a_role_that_owns_the_schema_needs_nothing_else(
    settings: MakeSettings, database: Database, role: Callable[[], Database], write_history: WriteHistory
) -> None:
    database.execute(f"ALTER SCHEMA public OWNER TO {role().address.username}")
    database.execute(f'GRANT CREATE ON DATABASE "{database.address.database}" TO {role().address.username}')
    async with client_of(settings(write_history(a1=CREATE_A), database_url=role().url)) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 200, answer.text
        assert answer.json()["warnings"] == []
        (run,) = (await client.get("/runs", headers=READ)).json()["runs"]
        assert run["outcome"] == "upgraded"
    database.execute("ALTER SCHEMA public OWNER TO CURRENT_USER")  # or it would be dropped with what the role owns


# --- a ledger that cannot be kept


async def test_without_the_right_to_make_a_ledger_the_run_goes_on_with_a_warning(
    settings: MakeSettings, database: Database, role: Callable[[], Database], write_history: WriteHistory
) -> None:
    database.execute(f"GRANT CREATE ON SCHEMA public TO {role().address.username}")
    async with client_of(settings(write_history(a1=CREATE_A, b2="pass"), database_url=role().url)) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 200, answer.text
        assert answer.json()["to"] == ["b2"]
        warning, idle = answer.json()["warnings"]
        assert "not on record" in warning
        assert "had no effect" in idle
        assert "permission denied" in warning.lower()
        assert (await client.get("/status", headers=READ)).json()["state"] == "up_to_date"
        assert (await client.get("/runs", headers=READ)).json() == {"runs": [], "next": None}
    assert database.value("SELECT version_num FROM alembic_version") == "b2"
    assert database.value("SELECT to_regclass('migration_endpoint.run') IS NULL")
    assert not database.is_locked


@pytest.mark.parametrize("granted", ["nothing", "USAGE", "SELECT"])
async def test_a_ledger_of_another_role_does_not_stop_the_run(
    settings: MakeSettings, database: Database, role: Callable[[], Database], write_history: WriteHistory, granted: str
) -> None:
    name = role().address.username
    history = write_history(a1=CREATE_A, b2="pass")
    async with client_of(settings(history)) as client:  # the administrator runs the first revision
        assert (await client.post("/migrate", json={"target": "a1"}, headers=APPLY)).status_code == 200
    database.execute(f"GRANT ALL ON alembic_version TO {name}")
    if granted != "nothing":
        database.execute(f"GRANT USAGE ON SCHEMA migration_endpoint TO {name}")
    if granted == "SELECT":
        database.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA migration_endpoint TO {name}")
    async with client_of(settings(history, database_url=role().url)) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 200, answer.text
        assert answer.json()["to"] == ["b2"]
        warning, idle = answer.json()["warnings"]
        assert "not on record" in warning
        assert "had no effect" in idle
        status = await client.get("/status", headers=READ)
        assert status.status_code == 200, status.text
        assert status.json()["state"] == "up_to_date"
        assert len(status.json()["runs"]) == (1 if granted == "SELECT" else 0)
        assert (await client.get("/health")).json() == {"status": "pass"}


# --- revisions that cannot be loaded


@pytest.mark.parametrize(
    "code",
    [
        "raise RuntimeError('cannot connect to postgresql://somebody:hunter2@db/app')",
        "import no_such_module",
        "def upgrade(:",
        "import sys; sys.exit('password=hunter2')",
    ],
)
async def test_revisions_that_cannot_be_loaded_are_a_matter_of_the_deployment(
    settings: MakeSettings, write_history: WriteHistory, log: pytest.LogCaptureFixture, code: str
) -> None:
    history = write_history(a1="pass")
    (history / "versions" / "b2.py").write_text(code)
    async with client_of(settings(history)) as client:
        for answer in (
            await client.post("/migrate", headers=APPLY),
            await client.get("/status", headers=READ),
        ):
            document = problem(answer, "broken-history", 503)
            assert "alembic history" in document["hint"]
            assert_tells_no_secret(answer.text, "hunter2")
        assert (await client.get("/health")).json() == {"status": "fail"}
        assert (await client.get("/livez")).status_code == 200
    assert_log_is_clean(log, "hunter2")


async def test_a_history_that_is_not_there_is_a_matter_of_the_deployment(
    settings: MakeSettings, tmp_path: Path
) -> None:
    async with client_of(settings(tmp_path / "nowhere")) as client:
        document = problem(await client.post("/migrate", headers=APPLY), "not-configured", 503)
    assert "nowhere" in document["detail"]


async def test_a_broken_chain_of_revisions_is_a_matter_of_the_deployment(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    history = write_history(a1="pass")
    write_revision(history, "c3", "b2", "pass")
    async with client_of(settings(history)) as client:
        document = problem(await client.post("/migrate", headers=APPLY), "broken-history", 503)
    assert "b2" in document["detail"]


# --- the same in a process of its own, whose whole output is read


def test_a_process_tells_no_secret_when_the_password_is_wrong(
    database: Database, role: Callable[[], Database], serve: Callable[..., Service]
) -> None:
    wrong = database.as_role(str(role().address.username), "hunter2-hunter2")
    service = serve(None, on=wrong)
    problem(service.post(), "database-auth-failed", 503)
    problem(service.get("/status"), "database-auth-failed", 503)
    assert service.get("/health").status_code == 503
    assert_tells_no_secret(service.logged(), "hunter2", wrong.url, str(database.address.password or "hunter2"))


def test_a_process_starts_and_says_so_when_a_variable_cannot_be_used(serve: Callable[..., Service]) -> None:
    service = serve(None, lease="hunter2", read_key="hunter2", database_url="postgresql://somebody:hunter2@[::1/x")
    assert service.get("/livez").json() == {"status": "pass"}
    answer = service.post()
    assert problem(answer, "not-configured", 503)["variables"] == ["MIGRATION_LEASE"]
    assert httpx.get(f"{service.url}/health").json() == {"status": "fail"}
    assert_tells_no_secret(answer.text + service.logged(), "hunter2")


def test_a_process_logs_a_run_as_lines_of_json_and_nothing_secret(
    write_history: WriteHistory, serve: Callable[..., Service], database: Database
) -> None:
    failing = "raise RuntimeError('postgresql://somebody:hunter2@db/app says no')"
    service = serve(write_history(a1=CREATE_A, b2=failing))
    document = problem(service.post(), "migration-failed", 500)
    assert_tells_no_secret(json.dumps(document) + service.logged(), "hunter2", database.url)
    events = [json.loads(line) for line in service.logged().splitlines() if line.startswith("{")]
    assert [event["event"] for event in events] == [
        "run.started",
        "revision.started",
        "revision.applied",
        "revision.started",
        "run.ended",
    ]
    assert {event["run_id"] for event in events} == {document["run_id"]}
    assert events[-1]["outcome"] == "migration-failed"
