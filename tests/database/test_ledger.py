"""The ledger: what it keeps of runs and steps, and that it never stops a run."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app.database import connection, footprint, lock, url
from app.database.connection import Session
from app.database.ledger import Attempt, Ledger, new_run_id
from app.report import Deployment, Selection
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database


@pytest.fixture
async def session(settings: MakeSettings) -> AsyncIterator[Session]:
    async with connection.session(url.database(settings())) as opened:
        yield opened


def attempt(**changes: Any) -> Attempt:
    return Attempt(
        **{
            "run_id": new_run_id(),
            "target": "heads",
            "deployment": Deployment(id="dpl_1", git_sha="abc", environment="production"),
            "request_id": "request 1",
            "key_label": "0123abcd",
            "reason": "it's \\ a 'reason'; --",
            **changes,
        }
    )


@pytest.fixture
def ledger() -> Ledger:
    return Ledger('The "Ledger" of ÄÖ', "public.\"alembic's version")


def step(ledger: Ledger, run: Attempt, revision: str, *, down: tuple[str, ...] = (), direction: str = "upgrade") -> str:
    import datetime as dt

    return ledger.step(
        run.run_id,
        revision=revision,
        direction=direction,
        down_revisions=down,
        sha256="0" * 64,
        started_at=dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
        duration_ms=12,
    ).insert(footprint.NOTHING)


async def test_a_run_is_kept_from_its_start_to_its_end(ledger: Ledger, session: Session) -> None:
    first = attempt()
    assert await ledger.start(session, first, from_heads=(), exists=False) is None
    running = await ledger.run(session, first.run_id)
    assert running is not None
    assert (running.outcome, running.finished_at, running.duration_ms, running.from_, running.to) == (
        "running",
        None,
        None,
        [],
        None,
    )
    await session.execute(step(ledger, first, "a1"))
    await session.execute(step(ledger, first, "b'2", down=("a1",)))
    await ledger.finish(session, first.run_id, "upgraded", to_heads=("b'2",), retries=3)
    ended = await ledger.run(session, first.run_id)
    assert ended is not None
    assert (ended.outcome, ended.to, ended.retries, ended.error) == ("upgraded", ["b'2"], 3, None)
    assert ended.reason == first.reason
    assert ended.deployment == first.deployment
    assert (ended.key_label, ended.request_id, ended.target) == ("0123abcd", "request 1", "heads")
    assert ended.finished_at is not None
    assert ended.finished_at >= ended.started_at
    assert [(each.revision, each.direction, each.duration_ms) for each in ended.steps] == [
        ("a1", "upgrade", 12),
        ("b'2", "upgrade", 12),
    ]
    assert await ledger.parents(session) == {"a1": (), "b'2": ("a1",)}


async def test_a_run_that_is_still_running_when_the_next_one_starts_was_abandoned(
    ledger: Ledger, session: Session
) -> None:
    dead, elsewhere, alive = attempt(), attempt(), attempt()
    other = Ledger(ledger.schema, "shop.alembic_version")
    await ledger.start(session, dead, from_heads=(), exists=False)
    await other.start(session, elsewhere, from_heads=(), exists=True)
    await ledger.start(session, alive, from_heads=("a1",), exists=True)
    outcomes = {run.run_id: run.outcome for run in (await ledger.runs(session, Selection(limit=9))).runs}
    assert outcomes == {dead.run_id: "abandoned", alive.run_id: "running"}
    assert [run.outcome for run in (await other.runs(session, Selection(limit=9))).runs] == ["running"]
    # The dead one wakes up and tells its own story: too late.
    await ledger.finish(session, dead.run_id, "upgraded", to_heads=("z9",), retries=0)
    told = await ledger.run(session, dead.run_id)
    assert told is not None
    assert (told.outcome, told.to) == ("abandoned", None)


async def test_an_error_is_kept_whatever_its_text(ledger: Ledger, session: Session) -> None:
    failed, refused = attempt(), attempt(reason=None, key_label=None, deployment=Deployment())
    error = {"detail": "it's \\u0041 \\u0000 \\\\ \" \x00ü \ud800 {}", "nested": {"blockers": [{"pid": 1}]}, "n": None}
    await ledger.start(session, failed, from_heads=(), exists=False)
    await ledger.finish(session, failed.run_id, "failed", to_heads=(), retries=0, error=error)
    kept = await ledger.run(session, failed.run_id)
    assert kept is not None
    assert kept.outcome == "failed"
    assert kept.error is not None
    assert kept.error["nested"] == {"blockers": [{"pid": 1}]}
    assert kept.error["detail"] == "it's \\u0041 \\u0000 \\\\ \" ü ? {}"
    await ledger.refuse(session, refused, from_heads=("x",), error={"detail": "no"})
    again = await ledger.run(session, refused.run_id)
    assert again is not None
    assert (again.outcome, again.error, again.from_) == ("refused", {"detail": "no"}, ["x"])
    assert again.finished_at is not None


async def test_the_newest_runs_come_first(ledger: Ledger, session: Session) -> None:
    attempts = [attempt() for _ in range(5)]
    for number, each in enumerate(attempts):
        await ledger.start(session, each, from_heads=(), exists=number > 0)
    assert [run.run_id for run in (await ledger.runs(session, Selection(limit=3))).runs] == [
        each.run_id for each in attempts[:1:-1]
    ]
    assert await ledger.run(session, new_run_id()) is None


async def test_starting_twice_at_the_same_schema_is_no_error(ledger: Ledger, session: Session) -> None:
    for _ in range(2):
        assert await ledger.start(session, attempt(), from_heads=(), exists=False) is None
    assert len((await ledger.runs(session, Selection(limit=9))).runs) == 2


FORM_3 = (
    "ALTER TABLE migration_endpoint.step DROP COLUMN committed_itself, DROP COLUMN no_effect, "
    "ADD CONSTRAINT step_run_id_fkey FOREIGN KEY (run_id) REFERENCES migration_endpoint.run (id); "
    "COMMENT ON TABLE migration_endpoint.run IS 'The ledger of Migration Endpoint, form 3'"
)


async def test_a_ledger_of_form_3_is_read_written_and_brought_up_to_date(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')", b2="op.get_bind().commit()\nop.execute('SELECT 1')"
    )
    async with client_of(settings(history)) as client:
        first = (await client.post("/migrate", headers=APPLY, json={"target": "a1"})).json()["run_id"]
        database.execute(FORM_3)
        (old,) = (await client.get(f"/runs/{first}", headers=READ)).json()["steps"]
        assert (old["committed_itself"], old["no_effect"]) == (False, False)
        with database.connect() as somebody:
            somebody.execute(b"SELECT pg_advisory_lock(%d)" % lock.key("public.alembic_version"))
            refused = await client.post("/migrate", headers=APPLY, json={"lock_wait_s": 0})
            assert refused.status_code == 409, refused.text
        assert database.value("SELECT count(*) FROM migration_endpoint.run WHERE outcome = 'refused'") == 1
        second = (await client.post("/migrate", headers=APPLY)).json()["run_id"]
        (new,) = (await client.get(f"/runs/{second}", headers=READ)).json()["steps"]
    assert (new["revision"], new["committed_itself"], new["no_effect"]) == ("b2", False, True)
    assert database.value("SELECT count(*) FROM pg_constraint WHERE conname = 'step_run_id_fkey'") == 0
    assert "form 4" in database.value("SELECT obj_description('migration_endpoint.run'::regclass)")


async def test_a_step_locks_no_row_of_its_run(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    """Who updates the run meanwhile, such as a cancel, need not wait for a revision; nor need the revision."""
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')")
    async with client_of(settings(history)) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
    assert database.value("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'migration_endpoint.step'::regclass") == 0


def test_run_ids_sort_by_time() -> None:
    ids = [new_run_id() for _ in range(3)]
    assert {each.version for each in ids} == {7}
    assert len(set(ids)) == 3


async def test_a_role_that_may_not_write_the_ledger_migrates_with_a_warning(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    with database.server.role() as (name, password):
        database.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
        theirs = database.as_role(name, password)
        history = write_history(a1="op.execute('CREATE TABLE a (id int)')")
        async with client_of(settings(history, database_url=theirs.url)) as client:
            answer = await client.post("/migrate", headers=APPLY)
            assert answer.status_code == 200, answer.text
            (warning,) = answer.json()["warnings"]
            assert "ledger" in warning
            assert "permission denied" in warning.lower()
            assert (await client.get("/runs", headers=READ)).json() == {"runs": [], "next": None}
        assert database.value("SELECT to_regclass('a')::text") == "a"
        assert database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'migration_endpoint'") == 0
        database.execute(f"DROP OWNED BY {name}")


async def test_a_ledger_in_a_schema_of_ones_own_choice(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(a1="pass")
    async with client_of(settings(history, ledger_schema='Our "Runs"')) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
        (run,) = (await client.get("/runs", headers=READ)).json()["runs"]
    assert run["outcome"] == "upgraded"
    assert database.value('SELECT count(*) FROM "Our ""Runs""".step') == 1


@pytest.mark.parametrize("mode", ["direct", "transaction"])
async def test_a_step_is_written_by_the_transaction_that_applies_its_revision(
    mode: str,
    write_history: WriteHistory,
    settings: MakeSettings,
    database: Database,
    through_pgbouncer: Callable[..., Database],
) -> None:
    on = database if mode == "direct" else through_pgbouncer(mode)
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')",
        b2="with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY i ON a (id)')",
        c3="op.execute('CREATE TABLE c (id int)')",
    )
    for target in ("a1", "b2", "c3"):
        async with client_of(settings(history, database_url=on.url)) as client:
            assert (await client.post("/migrate", headers=APPLY, json={"target": target})).status_code == 200
        # xmin is the transaction that wrote a row.
        assert database.execute(
            "SELECT s.xmin = v.xmin FROM migration_endpoint.step s JOIN alembic_version v ON v.version_num = s.revision"
        ) == [(True,)]
