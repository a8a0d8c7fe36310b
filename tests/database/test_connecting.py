"""Connecting: what is tried again, and what is not."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.database import connection, cures, url
from app.errors import DatabaseAuthFailed, DatabaseUnavailable, PermissionDenied, TlsFailed
from tests import servers
from tests.conftest import MakeSettings
from tests.database.attempts import LONG_S, answers, refusal, said, session, soon
from tests.proxy import Proxy
from tests.restartable import Restartable, restartable
from tests.servers import Database, Postgres
from tests.tls import front


@pytest.fixture(scope="module")
def own() -> Iterator[Restartable]:
    """A server that nobody else uses."""
    with restartable() as server:
        yield server


@pytest.fixture
def recovering(own: Restartable) -> Iterator[Database]:
    """A database whose server answers that it does not accept connections (57P03), until it has recovered."""
    with own.database() as database:
        own.start_without_an_end()
        try:
            yield database
        finally:
            if said(database):
                own.recovered()
                servers.until(lambda: not said(database), what="the server to be up")


# --- what passes


async def test_a_connection_that_becomes_free_is_taken(postgres: Postgres, database: Database) -> None:
    with postgres.role("CONNECTION LIMIT 1") as (name, password):
        limited = database.as_role(name, password)
        held = limited.connect()
        assert "too many connections" in (await refusal(limited, patient=False)).detail.lower()
        with soon(held.close):
            assert await answers(limited)


async def test_a_limit_that_stays_is_reported_after_a_bounded_number_of_attempts(
    postgres: Postgres, database: Database
) -> None:
    with postgres.role("CONNECTION LIMIT 0") as (name, password):
        began = time.monotonic()
        problem = await refusal(database.as_role(name, password))
        assert 2 < time.monotonic() - began < LONG_S
        assert problem.detail.endswith("Tried 5 times.")
        assert str(problem) == problem.detail
        assert (problem.hint, problem.retryable) == (cures.TOO_MANY, True)


async def test_slow_answers_are_waited_for_no_longer_than_quick_ones(
    postgres: Postgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_PATIENCE_S", 0.1)  # over before the second attempt
    with postgres.role("CONNECTION LIMIT 0") as (name, password):
        assert (await refusal(database.as_role(name, password))).detail.endswith("Tried 2 times.")


async def test_a_server_that_is_starting_up_is_waited_for(recovering: Database, own: Restartable) -> None:
    assert (await refusal(recovering, patient=False)).hint == cures.STARTING
    with soon(own.recovered):
        async with session(recovering) as opened:
            assert await opened.execute("SELECT pg_is_in_recovery()") == [(False,)]


async def test_a_server_that_is_starting_up_behind_a_pooler_is_waited_for(
    recovering: Database, own: Restartable
) -> None:
    # PgBouncer hands on the server's words under an SQLSTATE of its own (08P01).
    with servers.pgbouncer(recovering, mode="transaction") as pooled:
        reconfigure_pgbouncer(server_login_retry=1)
        problem = await refusal(pooled, patient=False)
        assert "the database system is not accepting connections" in problem.detail.lower()
        assert problem.hint == cures.STARTING
        with soon(own.recovered):
            assert await answers(pooled)


def reconfigure_pgbouncer(**settings: object) -> None:
    """Let the PgBouncer that this test has started read further settings."""
    (pgbouncer,) = (each for each in psutil.Process().children() if each.name() == "pgbouncer")
    with Path(pgbouncer.cmdline()[-1]).open("a") as file:
        file.writelines(f"{name} = {value}\n" for name, value in settings.items())
    pgbouncer.send_signal(signal.SIGHUP)


async def test_a_pooler_that_has_a_place_again_is_entered(through_pgbouncer: Callable[..., Database]) -> None:
    pooled = through_pgbouncer("transaction")
    held = pooled.connect()
    reconfigure_pgbouncer(max_client_conn=1)
    servers.until(lambda: "no more connections allowed" in said(pooled), what="the limit")
    assert (await refusal(pooled, patient=False)).hint == cures.TOO_MANY
    with soon(held.close):
        assert await answers(pooled)


async def test_a_port_that_refuses_is_tried_until_somebody_listens(proxy: Proxy) -> None:
    proxy.refuse()
    assert "Connection refused" in (await refusal(proxy.database, patient=False)).detail
    with soon(proxy.accept):
        assert await answers(proxy.database)


async def test_a_port_that_goes_on_refusing_is_reported_soon(proxy: Proxy) -> None:
    proxy.refuse()
    began = time.monotonic()
    problem = await refusal(proxy.database)
    assert 0.5 < time.monotonic() - began < LONG_S
    assert problem.detail.endswith("Connection refused. Tried 3 times.")
    assert problem.retryable


async def test_a_connection_that_is_cut_before_the_login_has_ended_is_tried_again(proxy: Proxy) -> None:
    proxy.swallow()
    attempt = asyncio.create_task(answers(proxy.database))
    await asyncio.to_thread(servers.until, proxy.names, what="the first attempt")
    proxy.swallow(False)
    assert proxy.cut() == 1
    assert await attempt


async def test_somebody_who_waits_for_a_connection_can_be_told_to_stop(postgres: Postgres, database: Database) -> None:
    with postgres.role("CONNECTION LIMIT 0") as (name, password), pytest.raises(TimeoutError):
        await asyncio.wait_for(answers(database.as_role(name, password)), 0.4)


# --- what stays


async def test_what_would_fail_again_is_not_tried_again(postgres: Postgres, database: Database) -> None:
    missing = Database(database.server, database.address.set(database="no_such_database"))
    problems = [await refusal(missing)]
    with postgres.role() as (name, password):
        problems.append(await refusal(database.as_role(name, "wrong")))
        database.execute(f'REVOKE CONNECT ON DATABASE "{database.address.database}" FROM PUBLIC')
        problems.append(await refusal(database.as_role(name, password)))
    async with front(database, None) as without_tls:
        problems.append(await refusal(f"postgresql://somebody@127.0.0.1:{without_tls.port}/x?sslmode=require"))
    assert [type(problem) for problem in problems] == [
        DatabaseUnavailable,
        DatabaseAuthFailed,
        PermissionDenied,
        TlsFailed,
    ]
    for problem in problems:
        assert "Tried" not in problem.detail
        assert not problem.retryable


async def test_a_pooler_that_refuses_a_startup_parameter_refuses_it_once(
    through_pgbouncer: Callable[..., Database],
) -> None:
    problem = await refusal(through_pgbouncer("transaction").url + "?options=-c%20search_path%3Dshop")
    assert "Unsupported startup parameter: options" in problem.detail
    assert "Tried" not in problem.detail
    assert (problem.hint, problem.retryable) == (cures.POOLER, False)


async def test_a_database_that_is_not_there_is_called_so_behind_a_pooler_too(
    through_pgbouncer: Callable[..., Database],
) -> None:
    pooled = through_pgbouncer("transaction")
    problem = await refusal(Database(pooled.server, pooled.address.set(database="no_such_database")))
    assert 'no database "no_such_database"' in problem.detail
    assert (problem.hint, problem.retryable) == (cures.NO_SUCH_DATABASE, False)


async def test_a_pooler_without_a_free_connection_is_said_to_be_in_the_way(
    through_pgbouncer: Callable[..., Database],
) -> None:
    pooled = through_pgbouncer("transaction", pool_size=1)
    reconfigure_pgbouncer(query_wait_timeout=1)
    with pooled.connect() as somebody:
        somebody.execute("BEGIN; SELECT 1")
        problem = await refusal(pooled)
    assert "query_wait_timeout" in problem.detail
    assert (problem.hint, problem.retryable) == (cures.POOLER, True)


async def test_a_path_that_is_dead_is_noticed_by_the_kernel(settings: MakeSettings, proxy: Proxy) -> None:
    opened = await connection.connect(url.database(settings(database_url=proxy.database.url)), application_name="a")
    try:
        wire = connection._socket_of(opened)
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [wire.getsockopt(socket.IPPROTO_TCP, name) for name in names] == [10, 5, 3]
    finally:
        await connection.close(opened)
