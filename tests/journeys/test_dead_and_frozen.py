"""A server that dies or freezes in the middle of a run: the next one takes over, and nothing is applied twice."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.conftest import WriteHistory
from tests.servers import Database, Service, until

LEASE_S = 2

WORKERS = "application_name ~ '^migrate/[0-9a-f-]{36}$'"
GUARDS = "application_name ~ '^migrate/[0-9a-f-]{36} '"


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(4)
    yield pool
    pool.shutdown(wait=False)  # the services end after this, and with them the calls


def count(database: Database, condition: str) -> int:
    """How many backends of this database are at work and fulfil a condition."""
    found: int = database.value(
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND {condition}"
    )
    return found


def steps(database: Database) -> list[str]:
    return [revision for (revision,) in database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id")]


def outcomes(database: Database) -> list[str]:
    rows = database.execute("SELECT outcome FROM migration_endpoint.run ORDER BY started_at, id")
    return [outcome for (outcome,) in rows]


@pytest.mark.parametrize("mode", ["direct", "transaction"])
def test_a_server_that_is_killed_in_a_long_statement_leaves_a_free_lock_and_the_next_one_finishes(
    mode: str,
    write_history: WriteHistory,
    serve_many: Callable[..., list[Service]],
    through_pgbouncer: Callable[..., Database],
    database: Database,
    background: ThreadPoolExecutor,
) -> None:
    lease_s = 5
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')",
        b2="op.execute('CREATE TABLE b (id int)')\n"
        "if not op.get_bind().scalar(sa.text('SELECT count(*) FROM patience')):\n    op.execute('SELECT pg_sleep(20)')",
        c3="op.execute('CREATE TABLE c (id int)')",
    )
    database.execute("CREATE TABLE patience (id int)")
    on = database if mode == "direct" else through_pgbouncer(mode)
    doomed, heir = serve_many(2, history, on, lease=lease_s)
    call = background.submit(doomed.post)
    until(
        lambda: database.execute(
            "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)' AND datname = current_database()"
        )
    )
    assert database.is_locked

    doomed.signal(signal.SIGKILL)
    until(lambda: not database.is_locked, seconds=lease_s, what="the lock to be free")
    until(
        lambda: not count(database, "query = 'SELECT pg_sleep(20)'"),
        seconds=5,
        what="the backend to be gone",
    )
    with pytest.raises(httpx.HTTPError):
        call.result()
    assert database.value("SELECT to_regclass('b')") is None
    assert outcomes(database) == ["running"]

    database.execute("INSERT INTO patience VALUES (1)")
    answer = heir.post()
    assert answer.status_code == 200, answer.text
    assert [step["revision"] for step in answer.json()["applied"]] == ["b2", "c3"]
    assert outcomes(database) == ["abandoned", "upgraded"]
    assert steps(database) == ["a1", "b2", "c3"]


@contextmanager
def frozen(service: Service) -> Iterator[None]:
    service.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        service.signal(signal.SIGCONT)


SLOW_ONCE = {
    # Where the process is when it freezes → how the revision is slow for the first run only.
    "in a statement": "op.execute('SELECT pg_sleep(6)')",
    "between statements": "time.sleep(3)",
}


@pytest.mark.parametrize("mode", ["direct", "transaction"])
@pytest.mark.parametrize("place", SLOW_ONCE)
def test_a_server_that_freezes_for_longer_than_the_lease_is_overtaken_and_cannot_commit(
    place: str,
    mode: str,
    write_history: WriteHistory,
    serve_many: Callable[..., list[Service]],
    through_pgbouncer: Callable[..., Database],
    database: Database,
    background: ThreadPoolExecutor,
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')",
        b2="op.execute('CREATE TABLE b (id int)')\n"
        "if not op.get_bind().scalar(sa.text('SELECT count(*) FROM patience')):\n"
        f"    {SLOW_ONCE[place]}\n"
        "op.execute('CREATE TABLE b_too (id int)')",
        c3="op.execute('CREATE TABLE c (id int)')",
    )
    database.execute("CREATE TABLE patience (id int)")
    on = database if mode == "direct" else through_pgbouncer(mode)
    icy, heir = serve_many(2, history, on, lease=LEASE_S)
    call = background.submit(icy.post)
    until(lambda: database.is_locked and " b2 " in guard_name(database), what="the run to be at b2")
    if place == "in a statement":
        until(
            lambda: database.execute(
                "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(6)' AND datname = current_database()"
            )
        )
    else:
        until(lambda: count(database, f"{WORKERS} AND query LIKE '%patience%'"), what="the revision to sleep")
    with frozen(icy):
        frozen_at = time.monotonic()
        database.execute("INSERT INTO patience VALUES (1)")
        answer = heir.post({"lock_wait_s": 10})
        assert time.monotonic() - frozen_at < LEASE_S + 4
        assert answer.status_code == 200, answer.text
        assert [step["revision"] for step in answer.json()["applied"]] == ["b2", "c3"]
    late = call.result()
    assert late.status_code == 503, late.text + icy.logged()
    assert late.json()["type"].endswith("#lock-lost"), late.text
    assert late.json()["retryable"] is True
    assert [step["revision"] for step in late.json()["applied"]] == ["a1"]
    assert steps(database) == ["a1", "b2", "c3"]
    assert outcomes(database) == ["abandoned", "upgraded"]
    assert database.value("SELECT version_num FROM alembic_version") == "c3"
    if place == "in a statement":
        assert any("Ended backend" in warning for warning in answer.json()["warnings"]), answer.text


def guard_name(database: Database) -> str:
    rows = database.execute(
        f"SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND {GUARDS}"
    )
    return str(rows[0][0]) if rows else ""
