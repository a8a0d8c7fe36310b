"""POST /runs/{id}/cancel: a run is ended on request, from any instance, and nothing of its revision stays."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.migrator import runs
from tests import gate, servers
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database, Service
from tests.web.answers import problem

SLEEPS = {
    "a1": "op.execute('CREATE TABLE a (id int)')",
    "b2": "op.execute('CREATE TABLE b (id int)')\nop.execute('SELECT pg_sleep(60)')",
}
THINKS = {"a1": SLEEPS["a1"], "b2": f"op.execute('CREATE TABLE b (id int)')\n{gate.WAITS}\ntime.sleep(1)"}


def cancel(service: Service, location: str) -> httpx.Response:
    return httpx.post(f"{service.url}{location}/cancel", headers=APPLY, timeout=60)


def begun(
    service: Service, database: Database, *, revision: str, threads: ThreadPoolExecutor
) -> tuple[Future[Any], str]:
    """A plain call in a thread of its own, and where its run is; once it is at the revision."""
    call = threads.submit(httpx.post, f"{service.url}/migrate", headers=APPLY, timeout=90)
    at = f"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'migrate/% {revision} %'"
    servers.until(lambda: database.value(f"{at} AND datname = current_database()"), seconds=30, what="the revision")
    (run,) = service.get("/runs").json()["runs"]
    return call, f"/runs/{run['run_id']}"


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_statement_that_runs_is_cancelled_and_rolled_back(
    serve_many: Callable[..., list[Service]], write_history: WriteHistory, on: Database, database: Database, where: str
) -> None:
    service, other = serve_many(2, write_history(**SLEEPS), on=on)
    other = other if where == "there" else service
    with ThreadPoolExecutor() as threads:
        call, location = begun(service, database, revision="b2", threads=threads)
        answer = cancel(other, location)
        assert (answer.status_code, answer.json()["outcome"]) == (200, "cancelled"), answer.text
        document = problem(call.result(), "cancelled", 409)
    assert (document["revision"], document["rolled_back"]) == ("b2", True)
    assert [step["revision"] for step in document["applied"]] == ["a1"]
    assert [revision["revision"] for revision in document["remaining"]] == ["b2"]
    assert database.value("SELECT to_regclass('b') IS NULL")
    assert not database.is_locked
    again = cancel(other, location)
    assert (again.status_code, again.json()["outcome"]) == (200, "cancelled")
    newest = service.get("/runs").json()["runs"][0]
    assert (newest["outcome"], newest["to"], newest["error"]["type"]) == ("cancelled", ["a1"], document["type"])


def test_a_deployment_whose_own_history_is_broken_can_look_at_a_run_and_end_it(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(**SLEEPS))
    broken = write_history(a1="pass")
    (broken / "versions" / "b2.py").write_text("import no_such_module")
    with ThreadPoolExecutor() as threads:
        call, location = begun(service, database, revision="b2", threads=threads)
        other = serve(broken)
        assert (other.get(location).json()["state"], other.get(location).json()["revision"]) == ("running", "b2")
        assert cancel(other, location).json()["outcome"] == "cancelled"
        problem(call.result(), "cancelled", 409)


def test_a_run_between_two_statements_is_ended_by_its_next_transaction(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(**THINKS, c3="op.execute('CREATE TABLE c (id int)')"))
    with ThreadPoolExecutor() as threads:
        with gate.shut(database):
            call, location = begun(service, database, revision="b2", threads=threads)
            # Its queries are so short that cancelling rarely meets one; the word that is left for it does.
            database.execute(
                f"UPDATE migration_endpoint.run SET cancel_asked_at = now() WHERE id = '{location.rpartition('/')[2]}'"
            )
        document = problem(call.result(), "cancelled", 409)
    assert (document["revision"], document["rolled_back"]) == ("b2", True)
    assert database.value("SELECT to_regclass('b') IS NULL AND to_regclass('c') IS NULL")


async def test_a_run_that_is_busy_with_its_own_code_is_said_to_be_about_to_end(
    settings: MakeSettings,
    write_history: WriteHistory,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert runs._CANCEL_FOR_S == 5
    monkeypatch.setattr(runs, "_CANCEL_FOR_S", 0.3)
    computing, done = tmp_path / "computing", tmp_path / "done"
    computes = f"""
import pathlib
pathlib.Path({str(computing)!r}).touch()
end = time.monotonic() + 60
while not pathlib.Path({str(done)!r}).exists() and time.monotonic() < end:
    time.sleep(0.02)
"""
    async with client_of(settings(write_history(a1=SLEEPS["a1"] + computes))) as client:
        call = asyncio.create_task(client.post("/migrate", headers=APPLY))
        try:
            await asyncio.to_thread(servers.until, computing.exists, seconds=30, what="the revision to compute")
            (found,) = (await client.get("/runs", headers=READ)).json()["runs"]
            location = f"/runs/{found['run_id']}"
            answer = await client.post(f"{location}/cancel", headers=APPLY)
            assert (answer.status_code, answer.json()["state"]) == (202, "running"), answer.text
            assert answer.headers["location"] == location
        finally:
            done.touch()
        problem(await call, "cancelled", 409)
    assert database.value("SELECT to_regclass('a') IS NULL")


def test_an_index_build_is_cancelled_and_what_it_leaves_is_named(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(
        write_history(
            a1="op.execute('CREATE TABLE t AS SELECT 1 AS n')",
            b2="with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY t_n ON t (n)')",
        )
    )
    httpx.post(f"{service.url}/migrate", json={"target": "a1"}, headers=APPLY, timeout=60)
    with database.connect() as writer, ThreadPoolExecutor() as threads:
        writer.execute(b"BEGIN; INSERT INTO t VALUES (0)")
        call = threads.submit(httpx.post, f"{service.url}/migrate", headers=APPLY, timeout=90)
        servers.until(
            lambda: database.value("SELECT count(*) FROM pg_stat_progress_create_index WHERE relid = 't'::regclass"),
            what="the build",
        )
        location = f"/runs/{service.get('/runs').json()['runs'][0]['run_id']}"
        assert cancel(service, location).json()["outcome"] == "cancelled"
        document = problem(call.result(), "cancelled", 409)
        assert [index["name"] for index in document["broken_indexes"]] == ["public.t_n"]
    assert httpx.post(f"{service.url}/migrate", headers=APPLY, timeout=60).status_code == 200


def test_what_has_ended_or_never_was_is_said_clearly(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(a1=SLEEPS["a1"]))
    nowhere = "/runs/0198c1f0-0000-7000-8000-000000000000"
    problem(cancel(service, nowhere), "not-found", 404)
    run_id = service.post().json()["run_id"]
    problem(cancel(service, nowhere), "not-found", 404)
    problem(cancel(service, f"/runs/{run_id}"), "run-ended", 409)
    assert service.get(f"/runs/{run_id}").json()["outcome"] == "upgraded"
    read_only = httpx.post(f"{service.url}/runs/{run_id}/cancel", headers=READ)
    problem(read_only, "insufficient-scope", 403)
    problem(httpx.post(f"{service.url}/runs/{run_id}/cancel"), "unauthenticated", 401)


def test_the_next_run_continues_where_a_cancelled_one_stopped(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(**THINKS))
    with gate.shut(database):
        location = httpx.post(
            f"{service.url}/migrate", headers={**APPLY, "Prefer": "respond-async"}, timeout=60
        ).headers["location"]
        servers.until(lambda: service.get(location).json()["revision"] == "b2", what="the second revision")
        answer = cancel(service, location)
        assert answer.status_code in (200, 202)
    servers.until(lambda: service.get(location).json()["outcome"] == "cancelled", seconds=30, what="the end")
    answer = service.post()
    assert [step["revision"] for step in answer.json()["applied"]] == ["b2"]


@pytest.mark.parametrize(
    "body",
    [
        "try:\n    op.execute('SELECT pg_sleep(60)')\nexcept Exception:\n    op.execute('SELECT 1')",
        "try:\n    op.execute('SELECT pg_sleep(60)')\nexcept Exception:\n    raise RuntimeError('no sleep')",
    ],
    ids=["swallowed", "raised anew"],
)
def test_however_a_revision_takes_it_a_cancelled_run_is_cancelled(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database, body: str
) -> None:
    service = serve(write_history(a1=body))
    with ThreadPoolExecutor() as threads:
        call, location = begun(service, database, revision="a1", threads=threads)
        servers.until(
            lambda: database.value(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%SELECT pg_sleep(60)%' AND state = 'active' "
                "AND pid <> pg_backend_pid()"
            ),
            what="the statement",
        )
        assert cancel(service, location).json()["outcome"] == "cancelled"
        document = problem(call.result(), "cancelled", 409)
    assert document["retryable"] is False


def test_the_run_of_another_history_in_the_same_database_is_not_ours_to_cancel(
    serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(a1=SLEEPS["a1"]))
    service.post()
    database.execute(
        "INSERT INTO migration_endpoint.run (id, version_table, outcome) "
        "SELECT '0198c1f0-0000-7000-8000-000000000000', 'tenant_7.alembic_version', 'running'"
    )
    problem(cancel(service, "/runs/0198c1f0-0000-7000-8000-000000000000"), "not-found", 404)
    assert database.value("SELECT count(cancel_asked_at) FROM migration_endpoint.run") == 0
