"""A run whose network breaks in the middle: the caller is told, the lock is free again, and the next call goes on."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter

import pytest

from tests.conftest import MakeSettings, WriteHistory
from tests.journeys.struck import (
    CONTROL,
    GUARD,
    LEASE_S,
    LOST,
    SPARE_S,
    UNAVAILABLE,
    WORKING,
    a_history,
    at_work,
    calls_again,
    comes_true,
    has_answered_once,
    is_asleep,
    is_between_statements,
    is_committing,
    is_on_record,
    outcomes,
    revisions,
    steps,
    struck,
)
from tests.proxy import Proxy
from tests.restartable import Restartable, restartable
from tests.servers import Database

SHORT_SLEEP = "op.execute('SELECT pg_sleep(1)')"
LONG_SLEEP = "op.execute('SELECT pg_sleep(20)')"
SLEEP_OF_ITS_OWN = "time.sleep(1)"


@pytest.fixture(scope="module")
def own_server() -> Iterator[Restartable]:
    with restartable() as server:
        yield server


@dataclass(frozen=True)
class Fault:
    """What happens to the network in the middle of a revision, and what must come of it."""

    happens: Callable[[Proxy], object]
    slugs: tuple[str, ...]
    recorded: str = "failed"
    """The run's outcome before anybody calls again."""
    wait: str = LONG_SLEEP
    leaves_a_backend: bool = False
    """Whether PostgreSQL cannot know that nobody waits for the statement any more."""


def silence(proxy: Proxy) -> None:
    proxy.swallow()
    proxy.mute()


FAULTS = {
    # Which connection's end is noticed first is a race.
    "everything is cut": Fault(Proxy.cut, (LOST, UNAVAILABLE)),
    "the guard is cut": Fault(lambda proxy: proxy.cut(CONTROL, GUARD), (LOST,)),
    "the working connection is cut": Fault(lambda proxy: proxy.cut(WORKING), (UNAVAILABLE,)),
    "everything is silent": Fault(silence, (LOST, UNAVAILABLE), recorded="running", leaves_a_backend=True),
    "the guard is silent": Fault(lambda proxy: proxy.mute(CONTROL, GUARD), (LOST,)),
    # As long as the statement runs nobody can tell silence from patience, so it is a short one.
    "the working connection is silent": Fault(lambda proxy: proxy.mute(WORKING), (UNAVAILABLE,), wait=SHORT_SLEEP),
    "the working connection is silent between statements": Fault(
        lambda proxy: proxy.mute(WORKING), (UNAVAILABLE,), wait=SLEEP_OF_ITS_OWN
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_fault_in_the_middle_of_a_revision_is_told_and_the_next_call_goes_on(
    fault: Fault, write_history: WriteHistory, settings: MakeSettings, database: Database, proxy: Proxy
) -> None:
    database.execute("CREATE TABLE patience (id int)")
    history = a_history(write_history, fault.wait)
    through = settings(history, database_url=proxy.database.url, lease=LEASE_S, connect_timeout=1)
    is_there = is_between_statements if fault.wait == SLEEP_OF_ITS_OWN else is_asleep

    told = await struck(through, lambda: fault.happens(proxy), when=lambda: is_there(database), otherwise=proxy.cut)
    problem = told.problem(*fault.slugs)
    assert problem["revision"] == "b2"
    assert revisions(problem, "applied") == ["a1"]
    assert revisions(problem, "remaining") == ["b2", "c3"]
    assert told.after_s < LEASE_S + SPARE_S
    await comes_true(
        lambda: not database.is_locked, seconds=1 + max(0, LEASE_S - told.after_s), what="the lock to be free"
    )
    if not fault.leaves_a_backend:
        await comes_true(lambda: not at_work(database), seconds=3, what="the working backend to be gone")
    assert database.value("SELECT to_regclass('b')") is None
    recorded = database.execute("SELECT id::text, outcome FROM migration_endpoint.run")
    assert recorded == [(problem["run_id"], fault.recorded)]
    assert steps(database) == ["a1"]

    database.execute("INSERT INTO patience VALUES (1)")
    proxy.swallow(False)
    answer = await calls_again(through)
    assert revisions(answer, "applied") == ["b2", "c3"]
    assert any("Ended backend" in warning for warning in answer["warnings"]) == fault.leaves_a_backend
    assert outcomes(database) == ["abandoned" if fault.recorded == "running" else "failed", "upgraded"]
    assert steps(database) == ["a1", "b2", "c3"]
    assert database.value("SELECT version_num FROM alembic_version") == "c3"
    assert at_work(database) == []
    assert not database.is_locked


SLOW_TO_COMMIT = (
    "CREATE TABLE slow (id int);"
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';"
    "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON slow "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()"
)
"""A table whose rows are waited for at the COMMIT."""


async def test_a_commit_whose_answer_is_lost_is_told_as_what_it_is(
    write_history: WriteHistory, settings: MakeSettings, database: Database, proxy: Proxy
) -> None:
    database.execute(SLOW_TO_COMMIT)
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')",
        b2="op.execute('INSERT INTO slow VALUES (1)')",
        c3="op.execute('CREATE TABLE c (id int)')",
    )
    through = settings(history, database_url=proxy.database.url, lease=LEASE_S, connect_timeout=1)

    told = await struck(through, lambda: proxy.mute(WORKING), when=lambda: is_committing(database), otherwise=proxy.cut)
    problem = told.problem(UNAVAILABLE)
    assert steps(database) == ["a1", "b2"]
    assert outcomes(database) == ["failed"]
    assert not database.is_locked

    assert revisions(await calls_again(through), "applied") == ["c3"]
    assert steps(database) == ["a1", "b2", "c3"]
    assert outcomes(database) == ["failed", "upgraded"]
    assert database.value("SELECT count(*) FROM slow") == 1

    assert revisions(problem, "applied") == ["a1", "b2"]
    assert revisions(problem, "remaining") == ["c3"]


async def test_the_lost_answer_to_the_commit_of_a_whole_run_is_no_failure(
    write_history: WriteHistory, settings: MakeSettings, database: Database, proxy: Proxy
) -> None:
    database.execute(SLOW_TO_COMMIT)
    history = write_history(a1="op.execute('LOCK TABLE slow')", b2="op.execute('INSERT INTO slow VALUES (1)')")
    through = settings(
        history, database_url=proxy.database.url, lease=LEASE_S, connect_timeout=1, transaction_per_run=True
    )
    told = await struck(through, lambda: proxy.mute(WORKING), when=lambda: is_committing(database), otherwise=proxy.cut)
    assert told.answer.status_code == 200, told.answer.text
    answer = told.answer.json()
    assert revisions(answer, "applied") == steps(database) == ["a1", "b2"]
    assert [lock["relation"] for lock in answer["applied"][0]["locks"]] == ["slow"]
    assert any("read back, the database is at the target" in warning for warning in answer["warnings"])
    assert outcomes(database) == ["upgraded"]


async def test_silence_right_after_the_login_of_the_working_connection_is_noticed(
    write_history: WriteHistory, settings: MakeSettings, database: Database, proxy: Proxy
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')")
    through = settings(history, database_url=proxy.database.url, lease=LEASE_S)
    proxy.latency_s = 0.1  # so that the answer is still on its way when the silence begins

    def silence_in_a_quick_network() -> None:
        proxy.mute(WORKING)
        proxy.latency_s = 0

    told = await struck(
        through, silence_in_a_quick_network, when=lambda: has_answered_once(database), otherwise=proxy.cut
    )
    assert revisions(told.problem(UNAVAILABLE), "remaining") == ["a1"]
    assert told.after_s < LEASE_S + SPARE_S
    await comes_true(lambda: not database.is_locked, seconds=1, what="the lock to be free")
    assert outcomes(database) == ["failed"]


IS_LOCKED = attrgetter("is_locked")


@pytest.mark.parametrize(
    ("fault", "happens_once", "latency_s"),
    [(Proxy.cut, IS_LOCKED, 0.25), (Proxy.refuse, IS_LOCKED, 0.25), (Proxy.refuse, is_on_record, 0.1)],
    ids=["cut while the lock is granted", "refused with the lock held", "refused with the run on record"],
)
async def test_a_fault_before_the_first_revision_changes_nothing_and_leaves_a_free_lock(
    fault: Callable[[Proxy], object],
    happens_once: Callable[[Database], bool],
    latency_s: float,
    write_history: WriteHistory,
    settings: MakeSettings,
    database: Database,
    proxy: Proxy,
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')")
    through = settings(history, database_url=proxy.database.url, lease=LEASE_S)
    proxy.latency_s = latency_s  # what has happened at the server is known there some time before it is known here

    told = await struck(through, lambda: fault(proxy), when=lambda: happens_once(database), otherwise=proxy.cut)
    problem = told.problem(UNAVAILABLE)
    assert not database.is_locked
    assert at_work(database) == []
    assert database.value("SELECT to_regclass('a')") is None
    assert is_on_record(database) == (happens_once is is_on_record)
    if is_on_record(database):
        assert outcomes(database) == ["running"]
        assert revisions(problem, "applied") == []
        assert revisions(problem, "remaining") == ["a1"]

    proxy.latency_s = 0
    proxy.accept()
    assert revisions(await calls_again(through), "applied") == ["a1"]
    assert outcomes(database)[-1] == "upgraded"
    assert "running" not in outcomes(database)
    assert steps(database) == ["a1"]


async def test_a_server_that_is_restarted_in_mid_run_is_found_again(
    own_server: Restartable, write_history: WriteHistory, settings: MakeSettings
) -> None:
    with own_server.database() as database:
        database.execute("CREATE TABLE patience (id int)")
        history = a_history(write_history)
        configuration = settings(history, database_url=database.url, lease=LEASE_S)

        told = await struck(configuration, own_server.restart, when=lambda: is_asleep(database))
        problem = told.problem(LOST, UNAVAILABLE)
        assert revisions(problem, "applied") == ["a1"]
        assert revisions(problem, "remaining") == ["b2", "c3"]
        assert not database.is_locked
        assert at_work(database) == []
        assert database.value("SELECT to_regclass('b')") is None
        # A server that stays away for longer than one wants to wait for it leaves nowhere to write down the end.
        (recorded,) = outcomes(database)
        assert recorded in ("failed", "running")
        assert steps(database) == ["a1"]

        database.execute("INSERT INTO patience VALUES (1)")
        assert revisions(await calls_again(configuration), "applied") == ["b2", "c3"]
        assert outcomes(database) == ["abandoned" if recorded == "running" else "failed", "upgraded"]
        assert steps(database) == ["a1", "b2", "c3"]


async def test_a_server_that_is_starting_up_is_tried_again(
    own_server: Restartable, write_history: WriteHistory, settings: MakeSettings
) -> None:
    with own_server.database() as database:
        configuration = settings(write_history(a1="op.execute('CREATE TABLE a (id int)')"), database_url=database.url)
        await asyncio.to_thread(own_server.start_without_an_end)
        call = asyncio.create_task(calls_again(configuration))
        await asyncio.sleep(0.5)
        assert not call.done(), call.result()
        await asyncio.to_thread(own_server.recovered)
        assert revisions(await call, "applied") == ["a1"]
