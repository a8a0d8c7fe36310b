"""What a run really did: which tables each revision locked, how, for how long, and which it wrote anew."""

import time
from typing import Any

import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.proxy import Proxy
from tests.servers import APPLY, READ, Database

SLEPT_S = 0.15
WITH_ROWS = "CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a SELECT g, g FROM generate_series(1, 1000) g"


async def applied(configuration: Any) -> dict[str, dict[str, Any]]:
    """The steps of a run by their revision, as its caller is told; and see that the record says the same."""
    async with client_of(configuration) as client:
        answer = await client.post("/migrate", headers=APPLY)
        assert answer.status_code == 200, answer.text
        recorded = (await client.get(f"/runs/{answer.json()['run_id']}", headers=READ)).json()["steps"]
    steps = {step["revision"]: step for step in answer.json()["applied"]}
    for step in recorded:
        told = steps[step["revision"]]
        assert (step["locks"], step["rewrote"]) == (told["locks"], told["rewrote"])
    return steps


def locks(step: dict[str, Any]) -> list[tuple[str, str]]:
    return [(lock["relation"], lock["mode"]) for lock in step["locks"]]


async def test_the_sample_history_tells_what_it_locked(settings: MakeSettings) -> None:
    steps = await applied(settings())
    orders, products = ("orders", "AccessExclusiveLock"), ("products", "AccessExclusiveLock")
    assert {revision: locks(step) for revision, step in steps.items()} == {
        "0001": [],  # nobody can wait for a table that was not there before
        "0002": [],
        "0003": [orders],
        "0004": [products],  # committed before the backfill in the autocommit block
        "0005": [],
        "0006": [products],
        "0007": [products],
    }
    assert all(step["rewrote"] == [] for step in steps.values())
    assert steps["0004"]["locks"][0]["held_ms"] <= steps["0004"]["duration_ms"]


@pytest.mark.parametrize(
    ("body", "locked", "rewrote"),
    [
        ("ALTER TABLE a ADD COLUMN note text", [("a", "AccessExclusiveLock")], []),
        ("ALTER TABLE a ALTER COLUMN n TYPE bigint", [("a", "AccessExclusiveLock")], ["a"]),
        ("TRUNCATE a", [("a", "AccessExclusiveLock")], ["a"]),
        ("ALTER TABLE a RENAME TO z", [("a", "AccessExclusiveLock")], []),
        ('DROP TABLE "Old Shop"."Its"', [('"Old Shop"."Its"', "AccessExclusiveLock")], []),
        ("DROP VIEW v", [("v", "AccessExclusiveLock")], []),
        ("REFRESH MATERIALIZED VIEW m", [("m", "AccessExclusiveLock"), ("a", "AccessShareLock")], ["m"]),
        (
            "ALTER TABLE b ADD FOREIGN KEY (a) REFERENCES a (id)",
            [("a", "ShareRowExclusiveLock"), ("b", "ShareRowExclusiveLock")],
            [],
        ),
        ("ALTER TABLE a VALIDATE CONSTRAINT positive", [("a", "ShareUpdateExclusiveLock")], []),
        ("CREATE INDEX ON a (n)", [("a", "ShareLock")], []),
        ("UPDATE a SET n = n + 1 WHERE id < 10", [("a", "RowExclusiveLock")], []),
        (
            "DO $$ BEGIN EXECUTE 'ALTER TABLE a ALTER COLUMN n TYPE bigint'; END $$",
            [("a", "AccessExclusiveLock")],
            ["a"],
        ),
        ("SELECT cleared()", [("b", "AccessExclusiveLock")], ["b"]),
        ("CREATE TABLE c (id int); ALTER TABLE c ADD COLUMN n int; DROP TABLE c", [], []),
        ("CREATE TEMP TABLE t AS SELECT 1 AS one; TRUNCATE t", [], []),
        ('SET search_path = "Old Shop", public; ALTER TABLE a DROP COLUMN n', [("a", "AccessExclusiveLock")], []),
        ("SELECT count(*) FROM pg_class", [], []),
        (
            "ALTER TABLE p ADD COLUMN n int",
            [("p", "AccessExclusiveLock"), ("p_1", "AccessExclusiveLock"), ("p_2", "AccessExclusiveLock")],
            [],
        ),
    ],
)
async def test_a_statement_s_locks_and_rewrites_are_told(
    body: str,
    locked: list[tuple[str, str]],
    rewrote: list[str],
    write_history: WriteHistory,
    settings: MakeSettings,
    on: Database,
    database: Database,
) -> None:
    database.execute(
        f"{WITH_ROWS}; ALTER TABLE a ADD CONSTRAINT positive CHECK (n > 0) NOT VALID; "
        "CREATE TABLE b (a int); CREATE VIEW v AS SELECT 1 AS one; CREATE MATERIALIZED VIEW m AS SELECT id FROM a; "
        'CREATE SCHEMA "Old Shop"; CREATE TABLE "Old Shop"."It'
        's" (id int); '
        "CREATE FUNCTION cleared() RETURNS void LANGUAGE plpgsql AS $$ BEGIN TRUNCATE b; END $$; "
        "CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1); "
        "CREATE TABLE p_2 PARTITION OF p FOR VALUES IN (2)"
    )
    steps = await applied(settings(write_history(a1=f"op.execute({body!r})"), database_url=on.url))
    assert locks(steps["a1"]) == locked
    assert steps["a1"]["rewrote"] == rewrote


async def test_a_backfill_holds_the_lock_of_the_alter_before_it(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute(f"{WITH_ROWS}; CREATE TABLE b (id int)")
    history = write_history(
        a1=f"op.execute('ALTER TABLE a ADD COLUMN note text')\ntime.sleep({SLEPT_S})\n"
        "bind = op.get_bind()\n"
        "bind.execute(sa.text('INSERT INTO b VALUES (:id)'), {'id': 1})\n"
        "bind.execute(sa.text('UPDATE a SET note = :note WHERE id = :id'), [{'note': 'x', 'id': n} for n in range(9)])"
    )
    began = time.monotonic()
    step = (await applied(settings(history)))["a1"]
    longest_ms = (time.monotonic() - began) * 1000
    altered, inserted = step["locks"]
    assert (altered["relation"], altered["mode"]) == ("a", "AccessExclusiveLock")
    assert SLEPT_S * 1000 <= altered["held_ms"] <= longest_ms
    assert (inserted["relation"], inserted["mode"]) == ("b", "RowExclusiveLock")
    assert inserted["held_ms"] <= altered["held_ms"] - SLEPT_S * 1000


async def test_a_lock_is_held_from_its_own_statement_on(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE TABLE early (id int); CREATE TABLE late (id int)")
    history = write_history(
        a1="op.execute('LOCK TABLE early IN SHARE MODE')\n"
        f"op.execute('SELECT pg_sleep({SLEPT_S}); SELECT 1')\n"
        "op.execute('ALTER TABLE late ADD COLUMN n int')"
    )
    late, early = (await applied(settings(history)))["a1"]["locks"]
    assert (early["relation"], late["relation"]) == ("early", "late")
    assert early["held_ms"] >= SLEPT_S * 1000 + late["held_ms"]


async def test_of_one_table_a_milder_lock_is_told_only_if_it_was_held_for_longer(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE TABLE a (id int); CREATE TABLE b (id int)")
    history = write_history(
        a1="op.execute('LOCK TABLE a IN SHARE MODE')\n"
        "op.execute('LOCK TABLE b IN ACCESS EXCLUSIVE MODE')\n"
        f"op.execute('SELECT pg_sleep({SLEPT_S}); SELECT 1')\n"
        "op.execute('LOCK TABLE a IN ACCESS EXCLUSIVE MODE')\n"
        "op.execute('LOCK TABLE b IN SHARE MODE')"
    )
    step = (await applied(settings(history)))["a1"]
    assert locks(step) == [("b", "AccessExclusiveLock"), ("a", "AccessExclusiveLock"), ("a", "ShareLock")]


async def test_what_a_savepoint_takes_back_was_locked_all_the_same(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute(WITH_ROWS)
    history = write_history(
        a1="bind = op.get_bind()\n"
        "savepoint = bind.begin_nested()\n"
        "op.execute('ALTER TABLE a ALTER COLUMN n TYPE bigint')\n"
        f"op.execute('SELECT pg_sleep({SLEPT_S}); SELECT 1')\n"
        "op.execute('SELECT 1; SELECT 2')\n"
        "savepoint.rollback()\n"
        "op.execute('SELECT 1; SELECT 2')",
        b2="savepoint = op.get_bind().begin_nested()\nop.execute('CREATE TABLE c (id int)')\nsavepoint.commit()\n"
        "op.execute('ALTER TABLE c ADD COLUMN n int')",
    )
    steps = await applied(settings(history))
    assert locks(steps["a1"]) == [("a", "AccessExclusiveLock")]
    assert steps["a1"]["locks"][0]["held_ms"] >= SLEPT_S * 1000
    assert steps["a1"]["rewrote"] == []
    assert locks(steps["b2"]) == []


async def test_a_savepoint_can_be_rolled_back_however_long_the_failed_statement_took(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute(WITH_ROWS)
    history = write_history(
        a1="bind = op.get_bind()\n"
        "try:\n"
        "    with bind.begin_nested():\n"
        f"        op.execute('SELECT pg_sleep({SLEPT_S}); SELECT 1/0')\n"
        "except sa.exc.DBAPIError:\n"
        "    pass\n"
        "op.execute('SAVEPOINT mine')\n"
        "try:\n"
        f"    op.execute('SELECT pg_sleep({SLEPT_S}); SELECT 1/0')\n"
        "except sa.exc.DBAPIError:\n"
        "    op.execute('/* back */ -- and on\\n ; ROLLBACK TO SAVEPOINT mine')\n"
        "op.execute('ALTER TABLE a ADD COLUMN note text')"
    )
    assert locks((await applied(settings(history)))["a1"]) == [("a", "AccessExclusiveLock")]


async def test_a_look_at_the_locks_leaves_the_results_of_its_statement_alone(
    write_history: WriteHistory, settings: MakeSettings, database: Database, driver: str
) -> None:
    database.execute(WITH_ROWS)
    nothing = {"asyncpg": "/* nothing */", "psycopg2": "SET LOCAL seq_page_cost = 2"}[driver]  # which wants something
    history = write_history(
        a1="bind = op.get_bind()\nop.execute('LOCK TABLE a')\n"
        f"time.sleep({SLEPT_S})\n"
        "assert bind.execute(sa.text('UPDATE a SET n = 0 WHERE id <= 3')).rowcount == 3\n"
        f"time.sleep({SLEPT_S})\n"
        "assert bind.execute(sa.text('SELECT 1 AS one; SELECT 2 AS two')).mappings().all() == [{'two': 2}]\n"
        f"time.sleep({SLEPT_S})\n"
        f"assert bind.exec_driver_sql('{nothing}').rowcount == -1\n"
        f"time.sleep({SLEPT_S})\n"
        "assert bind.execute(sa.text('SELECT count(*) FROM a WHERE n = :n'), {'n': 0}).scalar_one() == 3"
    )
    (lock,) = (await applied(settings(history)))["a1"]["locks"]
    assert lock["held_ms"] >= 4 * SLEPT_S * 1000


async def test_the_transactions_of_one_revision_are_told_together(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute(f"{WITH_ROWS}; CREATE TABLE b (id int)")
    history = write_history(
        a1="op.execute('ALTER TABLE a ALTER COLUMN n TYPE bigint')\n"
        "with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY b_id ON b (id)')\n"
        "op.execute('ALTER TABLE b ADD COLUMN n int')",
        b2="op.execute('ALTER TABLE b ADD COLUMN m int')",
    )
    steps = await applied(settings(history))
    assert sorted(locks(steps["a1"])) == [("a", "AccessExclusiveLock"), ("b", "AccessExclusiveLock")]
    assert steps["a1"]["rewrote"] == ["a"]
    assert (locks(steps["b2"]), steps["b2"]["rewrote"]) == ([("b", "AccessExclusiveLock")], [])


async def test_a_temporary_table_of_an_earlier_revision_is_not_told(
    write_history: WriteHistory, settings: MakeSettings
) -> None:
    history = write_history(a1="op.execute('CREATE TEMP TABLE t AS SELECT 1 AS one')", b2="op.execute('TRUNCATE t')")
    step = (await applied(settings(history)))["b2"]
    assert (locks(step), step["rewrote"]) == ([], [])


async def test_a_revision_that_is_tried_again_tells_of_the_try_that_was_committed(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE TABLE a (id int); CREATE TABLE only_first (id int); CREATE SEQUENCE tries")
    history = write_history(
        a1="bind = op.get_bind()\n"
        "if bind.scalar(sa.text(\"SELECT nextval('tries')\")) == 1:\n"
        "    op.execute('LOCK TABLE only_first')\n"
        "    op.execute(\"DO $$ BEGIN RAISE SQLSTATE '55P03'; END $$\")\n"
        "op.execute('LOCK TABLE a')"
    )
    assert locks((await applied(settings(history)))["a1"]) == [("a", "AccessExclusiveLock")]
    assert database.value("SELECT retries FROM migration_endpoint.run") == 1


@pytest.mark.parametrize(
    "body",
    [
        "op.execute('LOCK TABLE a; COMMIT')",
        "op.execute('LOCK TABLE a; COMMIT; BEGIN')",
        "op.get_bind().commit()\nop.execute('LOCK TABLE a')",
        "op.execute('RESET ALL; LOCK TABLE a')",
    ],
)
async def test_what_cannot_be_told_never_fails_a_run(
    body: str, write_history: WriteHistory, settings: MakeSettings, on: Database, database: Database
) -> None:
    database.execute("CREATE TABLE a (id int)")
    pause = f"\ntime.sleep({SLEPT_S})\nop.execute('CREATE TABLE c (id int)')"
    steps = await applied(settings(write_history(a1=body + pause), database_url=on.url))
    assert locks(steps["a1"]) in ([], [("a", "AccessExclusiveLock")])


async def test_without_a_ledger_the_answer_tells_it_all_the_same(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute('CREATE TABLE a (id int); ALTER TABLE a RENAME TO "A"')
    with database.server.role() as (name, password):
        database.execute(f'GRANT CREATE ON SCHEMA public TO {name}; ALTER TABLE "A" OWNER TO {name}')
        history = write_history(a1="op.execute('ALTER TABLE \"A\" ADD COLUMN n int')", b2="pass")
        async with client_of(settings(history, database_url=database.as_role(name, password).url)) as client:
            answer = (await client.post("/migrate", headers=APPLY)).json()
        assert any("not on record" in warning for warning in answer["warnings"]), answer
        assert [locks(step) for step in answer["applied"]] == [[('"A"', "AccessExclusiveLock")], []]
        database.execute(f"DROP OWNED BY {name}")


async def test_of_thousands_of_locks_the_strongest_are_told(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute(
        "CREATE TABLE z (id int); CREATE TABLE p (id int) PARTITION BY LIST (id); "
        "DO $$ BEGIN FOR n IN 1..600 LOOP EXECUTE format('CREATE TABLE p_%s PARTITION OF p FOR VALUES IN (%s)', n, n); "
        "END LOOP; END $$"
    )
    history = write_history(
        a1="op.execute('LOCK TABLE p IN SHARE MODE')\n"
        f"time.sleep({SLEPT_S})\n"
        "op.execute('ALTER TABLE z ADD COLUMN n int')\n"
        "op.execute('LOCK TABLE p IN ROW SHARE MODE')"
    )
    told = (await applied(settings(history)))["a1"]["locks"]
    assert len(told) == 100
    assert (told[0]["relation"], told[1]["mode"]) == ("z", "ShareLock")
    assert told[1]["held_ms"] >= SLEPT_S * 1000


async def test_a_table_of_an_earlier_form_s_step_has_locked_nothing(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    async with client_of(settings(write_history(a1="op.execute('CREATE TABLE a (id int)')"))) as client:
        run_id = (await client.post("/migrate", headers=APPLY)).json()["run_id"]
        database.execute("UPDATE migration_endpoint.step SET locks = NULL, rewrote = NULL")
        (step,) = (await client.get(f"/runs/{run_id}", headers=READ)).json()["steps"]
    assert (step["locks"], step["rewrote"]) == ([], [])


class Counting:
    """Counts the round trips that a revision costs, on its own connection."""

    def __init__(self, write_history: WriteHistory, settings: MakeSettings, database: Database, proxy: Proxy) -> None:
        self._write_history = write_history
        self._settings = settings
        self._database = database
        self._proxy = proxy

    async def of(self, body: str) -> int:
        """More than a revision costs that does nothing."""
        return await self._of_a_run(body) - await self._of_a_run("pass")

    async def _of_a_run(self, body: str) -> int:
        """Not the first of a database, where Alembic makes its table in the same transaction."""
        self._database.execute("DROP TABLE IF EXISTS alembic_version")
        await applied(self._settings(self._write_history(a1="pass")))
        self._proxy.questions.clear()
        await applied(self._settings(self._write_history(a1="pass", b2=body), database_url=self._proxy.database.url))
        return sum(count for name, count in self._proxy.questions.items() if name.startswith("migrate/"))


LOCK = "op.execute('LOCK TABLE a')\n"
PAUSE = f"time.sleep({SLEPT_S})\n"
SELECT = "op.get_bind().execute(sa.text('SELECT n FROM a WHERE id = :id'), {'id': 2})\n"


@pytest.mark.parametrize("driver", ["asyncpg"], indirect=True)
async def test_a_footprint_costs_no_round_trip_and_a_slow_backfill_s_one(
    write_history: WriteHistory, settings: MakeSettings, database: Database, proxy: Proxy
) -> None:
    database.execute(WITH_ROWS)
    counting = Counting(write_history, settings, database, proxy)
    assert await counting.of(LOCK) == 1
    assert await counting.of(LOCK + PAUSE + LOCK + PAUSE + LOCK) == 3
    # One with parameters that a moment has passed before may bring a look; those behind it do without.
    once = await counting.of(SELECT)
    again = 1  # PostgreSQL knows the statement by then
    assert await counting.of(LOCK + PAUSE + (SELECT + PAUSE) * 3) <= 1 + once + 2 * again + 1


class Clock:
    """Goes on by itself only by a tick for each time that somebody looks at it, whatever the machine is busy with."""

    TICK_S = 0.001

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += self.TICK_S
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    from app.database import fenced, footprint  # bring the drivers

    clock = Clock()
    for module in (fenced, footprint):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("driver", ["psycopg2"], indirect=True)
async def test_where_only_the_last_result_is_told_each_look_costs_one(
    write_history: WriteHistory, settings: MakeSettings, database: Database, proxy: Proxy
) -> None:
    database.execute(WITH_ROWS)
    counting = Counting(write_history, settings, database, proxy)
    # A look takes one tick of the clock here, so 20 of them have to pass before the next one.
    moment, longer = (f"footprint.time.sleep({ms / 1000})\n" for ms in (12, 25))
    clocked = "from app.database import footprint\n"
    assert await counting.of(clocked + LOCK + LOCK + LOCK) == 3
    assert await counting.of(clocked + moment + LOCK + LOCK + LOCK) == 3 + 1
    assert await counting.of(clocked + moment + LOCK + moment + LOCK + LOCK) == 3 + 1
    assert await counting.of(clocked + moment + LOCK + longer + LOCK + longer + LOCK) == 3 + 3
