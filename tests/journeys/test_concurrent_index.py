"""CREATE INDEX CONCURRENTLY inside a run, with somebody waiting for the lock and an old transaction in its way."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import WriteHistory
from tests.servers import Database, Service, until


@pytest.mark.parametrize("mode", ["direct", "transaction"])
def test_an_index_is_built_concurrently_while_others_poll_for_the_lock(
    mode: str,
    write_history: WriteHistory,
    serve_many: Callable[..., list[Service]],
    through_pgbouncer: Callable[..., Database],
    database: Database,
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a AS SELECT generate_series(1, 1000) AS id')",
        b2="with op.get_context().autocommit_block():\n"
        "    op.create_index('a_id', 'a', ['id'], postgresql_concurrently=True)",
        c3="op.execute('CREATE TABLE c (id int)')",
    )
    on = database if mode == "direct" else through_pgbouncer(mode)
    # A lock timeout shorter than the build's wait: it must not end the build.
    builder, waiter = serve_many(2, history, on, lease=2, lock_timeout=0.3)
    database.execute("CREATE TABLE other (id int)")
    with ThreadPoolExecutor(2) as pool, database.connect() as old:
        # A snapshot older than the build: PostgreSQL makes the build wait for it.
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM other")
        building = pool.submit(builder.post)
        try:
            until(
                lambda: database.execute(
                    "SELECT pid FROM pg_stat_activity WHERE query LIKE '/* migrate/% CREATE INDEX CONCURRENTLY%' "
                    "AND wait_event_type = 'Lock' AND datname = current_database()"
                ),
                seconds=20,
                what="the build to wait for the old transaction",
            )
            waiting = pool.submit(waiter.post, {"lock_wait_s": 30})
            until(lambda: shown(waiter) == ("b2", "2/3"), every=0.1, what="the holder's progress to show")
            polled = until(lambda: polls(database), what="the waiter to ask for the lock")
            until(lambda: polls(database) != polled, what="the waiter to ask again")
            assert not building.done()
            assert not waiting.done()
        finally:
            old.execute("ROLLBACK")
        built, waited = building.result(timeout=20), waiting.result(timeout=20)
    assert built.status_code == 200, built.text
    assert built.json()["outcome"] == "upgraded"
    assert waited.status_code == 200, waited.text
    assert waited.json()["outcome"] == "up_to_date"
    assert database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'a_id'::regclass") is True
    assert database.value("SELECT count(*) FROM migration_endpoint.step") == 3


def shown(service: Service) -> tuple[str, str] | None:
    holder = service.get("/status").json()["lock"]["holder"]
    return (holder["revision"], holder["progress"]) if holder else None


def polls(database: Database) -> object:
    """When a waiter last asked who holds the lock; changes with each poll."""
    return database.value(
        "SELECT max(state_change) FROM pg_stat_activity WHERE datname = current_database() "
        "AND state = 'idle' AND query LIKE '%pg_locks%' AND pid <> pg_backend_pid()"
    )
