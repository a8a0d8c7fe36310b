"""GET /plan and `python -m app plan`: what a run would do, told without doing it."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.migrator.revisions import rendering
from app.settings import Settings
from tests import gate, servers
from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.servers import APPLY, READ, Database, until
from tests.terminal import terminal
from tests.web.answers import problem

if TYPE_CHECKING:
    import httpx

SHOP = ["0001", "0002", "0003", "0004", "0005", "0006", "0007"]


async def plan_of(configuration: Settings, **parameters: str) -> dict[str, Any]:
    async with client_of(configuration) as client:
        answer = await client.get("/plan", headers=READ, params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == f'"{answer.json()["digest"]}"'
    found: dict[str, Any] = answer.json()
    return found


def ids(plan: dict[str, Any]) -> list[str]:
    return [each["revision"] for each in plan["pending"]]


async def test_the_plan_of_the_sample_history(settings: MakeSettings, database: Database) -> None:
    plan = await plan_of(settings())
    assert (plan["direction"], plan["current"], plan["target"], ids(plan)) == ("upgrade", [], "heads", SHOP)
    for each in plan["pending"]:
        file = servers.PROJECT / each["file"]
        assert each["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert file.read_text().startswith(f'"""{each["message"]}')
    of = {each["revision"]: each for each in plan["pending"]}
    assert [each["transactional"] for each in plan["pending"]] == [True, True, True, False, False, True, True]
    assert [each["revision"] for each in plan["pending"] if each["unrendered"]] == ["0004"]
    assert of["0002"]["sql"] == "ALTER TYPE order_status ADD VALUE IF NOT EXISTS 'refunded';"
    assert of["0003"]["sql"].count("$touch$") == 2
    assert of["0005"]["sql"].split(";\n\n") == [
        "COMMIT",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uq_products_slug ON products (slug)",
        "BEGIN;",
    ]
    assert "alembic_version" not in json.dumps(plan)


async def test_a_plan_reads_only(settings: MakeSettings, write_history: WriteHistory, database: Database) -> None:
    tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace > 16383 OR relname ~ '^(a|alembic)'"
    before = database.value(tables)
    with database.connect() as holder:  # and it waits for no lock of ours
        holder.execute("BEGIN; SELECT pg_advisory_xact_lock(-217043766104697569)")
        assert ids(await plan_of(settings(write_history(a1="op.execute('CREATE TABLE a (id int)')")))) == ["a1"]
    assert database.value(tables) == before


async def test_a_revision_that_asks_the_database_says_so_and_the_others_are_rendered(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')",
        asks="op.execute('SELECT 1')\nfor row in op.get_bind().execute(sa.text('SELECT 2')):\n    pass",
        silent="if op.get_bind().execute(sa.text('SELECT 3')):\n    op.execute('SELECT 4')",
        counts="op.get_bind().execute(sa.text('SELECT 5')).scalar_one()",
        inspects="sa.inspect(op.get_bind()).get_table_names()",
        leaves="raise SystemExit(3)",
        z9="op.execute('CREATE TABLE z (id int)')",
    )
    of = {each["revision"]: each for each in (await plan_of(settings(history)))["pending"]}
    assert (of["a1"]["unrendered"], of["z9"]["unrendered"]) == (None, None)
    assert of["z9"]["sql"] == "CREATE TABLE z (id int);"
    assert of["asks"]["sql"] == "SELECT 1;\n\nSELECT 2;"
    assert of["asks"]["unrendered"] == "asks.py:14: it looks at what a statement returned"
    assert of["silent"]["unrendered"] == "silent.py:13: it looks at what a statement returned"
    assert of["counts"]["unrendered"] == "counts.py:13: it looks at what a statement returned"
    assert of["inspects"]["unrendered"].startswith("inspects.py:13: No inspection system is available")
    assert of["leaves"]["unrendered"] == "leaves.py:13: SystemExit: 3"
    for each in ("asks", "silent", "counts", "inspects", "leaves"):
        assert of[each]["transactional"] is None
        assert "not-rendered" in [finding["rule"] for finding in of[each]["findings"]]


async def test_names_with_quotes_and_capitals_come_out_as_sql_wants_them(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(
        a1="""op.create_table('Say "Hi"', sa.Column('The; Id', sa.Integer, primary_key=True), schema=None)
op.execute("COMMENT ON TABLE \\"Say \\"\\"Hi\\"\\"\\" IS 'it''s; $1 ::not % a parameter'")"""
    )
    (a1,) = (await plan_of(settings(history)))["pending"]
    assert (a1["transactional"], a1["unrendered"]) == (True, None)
    database.execute(a1["sql"])  # it is what PostgreSQL takes
    assert database.value('SELECT obj_description(to_regclass(\'"Say ""Hi"""\'))') == ("it's; $1 ::not % a parameter")


async def test_a_password_in_a_revision_is_told_neither_in_its_sql_nor_in_what_is_said_against_it(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    history = write_history(
        a1="""op.execute("CREATE ROLE reporter PASSWORD 'hunter2hunter2'")
with op.get_context().autocommit_block():
    op.execute("VACUUM")
    op.execute("CREATE ROLE writer")"""
    )
    (a1,) = (await plan_of(settings(history)))["pending"]
    assert a1["sql"].startswith("CREATE ROLE reporter PASSWORD '***';")
    (mixed,) = [each for each in a1["findings"] if each["rule"] == "mixed-transaction"]
    assert "CREATE ROLE reporter PASSWORD '***'" in mixed["message"]
    assert "hunter2" not in json.dumps(a1)


async def test_nor_is_it_in_a_finding_which_quotes_it(settings: MakeSettings, write_history: WriteHistory) -> None:
    body = """
op.execute("CREATE ROLE reporter PASSWORD 'hunter2hunter2'")
with op.get_context().autocommit_block():
    op.execute("CREATE INDEX CONCURRENTLY i ON a (f('password=hunter2'))")
op.execute("ALTER TABLE a ADD CHECK (b <> 'postgresql://me:hunter2@h')")
""".strip()
    plan = await plan_of(settings(write_history(a1=body)))
    assert "mixed-transaction" in [finding["rule"] for finding in plan["pending"][0]["findings"]]
    assert "PASSWORD '***'" in json.dumps(plan["pending"][0]["findings"])
    assert "hunter2" not in json.dumps(plan)


def branching(folder: Path) -> Path:
    """Two bases and a branch with a label; a merge; a dependency across.

    base ─ a1 ─┬─ b1 ─┐
               └─ b2 ─┴─ m1       x1 (label `other`) ─ x2 (depends on b1)
    """
    for revision, down in (("a1", None), ("b1", "a1"), ("b2", "a1"), ("m1", ("b1", "b2")), ("x1", None), ("x2", "x1")):
        write_revision(
            folder,
            revision,
            down,
            f"op.execute('CREATE TABLE {revision} (id int)')",
            downgrade=f"op.execute('DROP TABLE {revision}')",
        )
    for name, line in (("x1", "branch_labels = ('other',)"), ("x2", "depends_on = 'b1'")):
        file = folder / "versions" / f"{name}.py"
        file.write_text(file.read_text().replace("\n\n\ndef upgrade", f"\n{line}\n\n\ndef upgrade", 1))
    return folder


@pytest.mark.parametrize(
    ("at", "target"),
    [(None, "heads"), (None, "m1"), (None, "other@head"), (None, "x2"), (None, "b1"), ("b1", "heads"), ("x1", "heads")],
)
async def test_the_plan_is_what_the_run_then_does(
    settings: MakeSettings, database: Database, tmp_path: Path, at: str | None, target: str
) -> None:
    configuration = settings(branching(tmp_path / "branching"), allow_downgrade=True)
    async with client_of(configuration) as client:
        if at is not None:
            assert (await client.post("/migrate", headers=APPLY, json={"target": at})).status_code == 200
        plan = await plan_of(configuration, target=target)
        answer = await client.post("/migrate", headers=APPLY, json={"target": target, "plan_digest": plan["digest"]})
        assert answer.status_code == 200, answer.text
        assert [step["revision"] for step in answer.json()["applied"]] == ids(plan)
        assert plan["current"] == answer.json()["from"]
        for each in plan["pending"]:
            assert each["sql"] == f"CREATE TABLE {each['revision']} (id int);"
        # And all the way back.
        back = await plan_of(configuration, target="base", direction="downgrade")
        assert all(each["sql"] == f"DROP TABLE {each['revision']};" for each in back["pending"])
        pinned = {"target": "base", "plan_digest": back["digest"]}
        answer = await client.post("/downgrade", headers=APPLY, json=pinned)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["outcome"], answer.json()["to"]) == ("downgraded", [])
    assert [step["revision"] for step in answer.json()["applied"]] == ids(back)
    assert database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1  # alembic_version


async def test_several_heads_are_a_problem_for_head_and_none_for_heads(settings: MakeSettings, tmp_path: Path) -> None:
    configuration = settings(branching(tmp_path / "branching"))
    async with client_of(configuration) as client:
        document = problem(await client.get("/plan?target=head", headers=READ), "multiple-heads", 409)
    assert document["heads"] == ["m1", "x2"]
    assert len((await plan_of(configuration))["pending"]) == 6


async def test_an_empty_history_has_an_empty_plan(settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "empty" / "versions").mkdir(parents=True)
    plan = await plan_of(settings(tmp_path / "empty"))
    assert (plan["pending"], plan["level"], plan["current"]) == ([], None, [])


async def test_what_a_run_would_be_refused_for_so_is_its_plan(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    full, cut = write_history(a1="pass", b2="pass"), write_history(a1="pass")
    broken = write_history(a1="pass", b2="pass")
    (broken / "versions" / "a1.py").unlink()
    async with client_of(settings(full)) as client:
        await client.post("/migrate", headers=APPLY)
        problem(await client.get("/plan?target=nowhere", headers=READ), "unknown-target", 422)
        problem(await client.get("/plan?direction=downgrade", headers=READ), "invalid-request", 422)
        problem(await client.get("/plan?direction=sideways", headers=READ), "invalid-request", 422)
        problem(await client.get("/plan"), "unauthenticated", 401)
    async with client_of(settings(cut)) as client:
        problem(await client.get("/plan", headers=READ), "database-ahead", 409)
    async with client_of(settings(broken)) as client:
        problem(await client.get("/plan", headers=READ), "broken-history", 503)


async def test_a_plan_names_the_revisions_that_were_edited_and_is_refused_where_a_run_would_be(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    applied, edited = write_history(a1="pass", b2="pass"), write_history(a1="pass  # edited", b2="pass")
    async with client_of(settings(applied)) as client:
        await client.post("/migrate", headers=APPLY, json={"target": "a1"})
    assert [each["revision"] for each in (await plan_of(settings(applied)))["modified"]] == []
    assert [each["revision"] for each in (await plan_of(settings(edited)))["modified"]] == ["a1"]
    async with client_of(settings(edited, on_modified="refuse")) as client:
        problem(await client.get("/plan", headers=READ), "revision-modified", 409)
        assert (await client.get("/plan?target=a1", headers=READ)).status_code == 200  # nothing would run


async def test_an_env_py_that_cannot_be_run_offline_is_named(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    history = write_history(a1="pass")
    (history / "env.py").write_text("from alembic import context\n\ncontext.config.attributes['connection'].begin()\n")
    async with client_of(settings(history)) as client:
        document = problem(await client.get("/plan", headers=READ), "unsuitable-env-py", 503)
    assert "env.py cannot be used offline" in document["detail"]
    assert "is_offline_mode" in document["hint"]


async def test_a_run_in_the_same_process_is_named_by_a_plan_that_has_to_wait_for_it(
    settings: MakeSettings, write_history: WriteHistory, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "_PATIENCE_S", 0.2)
    history = write_history(a1=gate.WAITS, b2="pass")
    async with client_of(settings(history)) as client:
        with gate.shut(database):
            run = asyncio.create_task(client.post("/migrate", headers=APPLY))
            await asyncio.to_thread(until, lambda: database.is_locked)
            await asyncio.sleep(0.3)
            document = problem(await client.get("/plan", headers=READ), "lock-held", 409)
        await run
    assert document["holder"]["run_id"] is not None


# --- the digest


async def test_the_digest_stays_the_same_and_so_do_the_bytes(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    configuration = settings(write_history(a1="pass", b2="pass"))
    answers: list[httpx.Response] = []
    for _ in range(2):
        async with client_of(configuration) as client:
            answers.append(await client.get("/plan", headers=READ))
            etag = answers[-1].headers["etag"]
            for known in ([f'W/"x", {etag}'], ['"x"', etag], [f"W/{etag}"]):
                headers = [*READ.items(), *(("If-None-Match", each) for each in known)]
                unchanged = await client.get("/plan", headers=headers)
                assert (unchanged.status_code, unchanged.content) == (304, b""), known
                assert unchanged.headers["etag"] == etag
            for unknown in ('"x"', "no list of ETags"):
                whole = await client.get("/plan", headers=READ | {"If-None-Match": unknown})
                assert whole.content == answers[-1].content
    assert answers[0].content == answers[1].content


async def test_whatever_would_be_run_otherwise_has_another_digest(
    settings: MakeSettings, write_history: WriteHistory, postgres: servers.Postgres, tmp_path: Path
) -> None:
    revisions = {"a1": "pass", "b2": "pass", "c3": "pass"}
    history = write_history(**revisions)
    edited, longer = write_history(**revisions | {"b2": "pass  # edited"}), write_history(**revisions, d4="pass")
    digests = [
        (await plan_of(settings(history)))["digest"],
        (await plan_of(settings(history), target="c3"))["digest"],
        (await plan_of(settings(history), target="b2"))["digest"],
        (await plan_of(settings(edited)))["digest"],
        (await plan_of(settings(longer)))["digest"],
        (await plan_of(settings(longer), target="c3"))["digest"],
        (await plan_of(settings(history, version_table="versions")))["digest"],
    ]
    with postgres.database() as another:
        digests.append((await plan_of(settings(history, database_url=another.url)))["digest"])
    # From elsewhere, though the same is pending.
    branches = settings(branching(tmp_path / "branching"), version_table="branches")
    digests.append((await plan_of(branches, target="x1"))["digest"])
    async with client_of(branches) as client:
        await client.post("/migrate", headers=APPLY, json={"target": "b1"})
    digests.append((await plan_of(branches, target="x1"))["digest"])
    async with client_of(settings(history)) as client:
        await client.post("/migrate", headers=APPLY, json={"target": "a1"})
    # In the other direction, though nothing is pending in either.
    digests.append((await plan_of(settings(history), target="a1"))["digest"])
    digests.append((await plan_of(settings(history), target="a1", direction="downgrade"))["digest"])
    digests.append((await plan_of(settings(history)))["digest"])
    digests.append((await plan_of(settings(history), target="base", direction="downgrade"))["digest"])
    assert len(set(digests)) == len(digests)
    # A copy of the files elsewhere is the same deployment.
    assert (await plan_of(settings(write_history(**revisions))))["digest"] == digests[-2]


# --- the terminal


def test_the_terminal_tells_the_same_plan(settings: MakeSettings, database: Database) -> None:
    told = terminal(database, "plan", "--json")
    assert told.returncode == 0
    plan = json.loads(told.stdout)
    words = terminal(database, "plan").stdout
    assert f"digest         {plan['digest']}" in words
    for each in plan["pending"]:
        assert f"{each['revision']}  {each['message']}" in words
    assert "0004_give_every_product_a_slug.py:48: it looks at what a statement returned" in words
    done = terminal(database, "migrate", "--plan", plan["digest"], "--json")
    assert (done.returncode, json.loads(done.stdout)["outcome"]) == (0, "upgraded")
    assert terminal(database, "plan").stdout == "Nothing would run: the database is at 0007.\n"


def test_the_terminal_refuses_what_is_no_digest(database: Database) -> None:
    told = terminal(database, "migrate", "--plan", "0007")
    assert told.returncode == 2
    assert "not the digest of a plan" in told.stderr
