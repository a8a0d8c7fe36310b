"""Applied is not believed, it is checked: a revision whose transaction wrote nothing is told."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.servers import APPLY, READ, Database

THERE = (
    "CREATE TABLE there (id int PRIMARY KEY, n int); INSERT INTO there VALUES (1, 1); CREATE SEQUENCE numbers; "
    "COMMENT ON TABLE there IS 'as it was'; CREATE FUNCTION writes() RETURNS void LANGUAGE sql AS "
    "'INSERT INTO there VALUES (7, 7)'"
)

NOTHING = {
    "empty": "pass",
    "only reads": "op.get_bind().execute(sa.text('SELECT count(*) FROM there')).scalar_one()",
    "only reads with parameters": (
        "op.get_bind().execute(sa.text('SELECT n FROM there WHERE id = :id'), {'id': 1}).all()"
    ),
    "only settings": "op.execute(\"SET LOCAL work_mem = '8MB'; SET search_path = public; RESET search_path\")",
    "an if not taken": (
        "if op.get_bind().scalar(sa.text('SELECT count(*) FROM there')) > 9:\n    op.execute('DROP TABLE there')"
    ),
    "CREATE TABLE IF NOT EXISTS": "op.execute('CREATE TABLE IF NOT EXISTS there (id int)')",
    "DROP TABLE IF EXISTS": "op.execute('DROP TABLE IF EXISTS nowhere; DROP TYPE IF EXISTS nowhere')",
    "UPDATE of no row": "op.execute('UPDATE there SET n = 2 WHERE id = 99')",
    "DELETE of no row with parameters": (
        "op.get_bind().execute(sa.text('DELETE FROM there WHERE id = :id'), {'id': 99})"
    ),
    "commit() of nothing": "op.execute('SELECT 1')\nop.get_bind().commit()",
    "commit() of nothing, and then nothing": "op.get_bind().commit()\nop.execute('SELECT 1')",
}
EFFECT = {
    "row": "op.execute('UPDATE there SET n = n')",
    "row with parameters": "op.get_bind().execute(sa.text('INSERT INTO there VALUES (:id)'), {'id': 2})",
    "row in a function": "op.execute('SELECT writes()')",
    "row in a savepoint": "with op.get_bind().begin_nested():\n    op.execute('INSERT INTO there VALUES (3, 3)')",
    "catalog": "op.execute('ALTER TABLE there ADD COLUMN note text')",
    "made and dropped": "op.execute('CREATE TABLE made (id int); DROP TABLE made')",
    "comment": "op.execute(\"COMMENT ON TABLE there IS 'as it is'\")",
    "grant": "op.execute('GRANT SELECT ON there TO PUBLIC')",
    "sequence made": "op.execute('CREATE SEQUENCE more_numbers')",
    "sequence set": "op.execute(\"SELECT setval('numbers', 40)\")",
    "large object": "op.execute('SELECT lo_create(0)')",
    "temporary table": "op.execute('CREATE TEMP TABLE for_now (id int)')",
    "truncated": "op.execute('TRUNCATE there')",
    "an exclusive lock": "op.execute('LOCK TABLE there')",  # it needs an id for the replicas to hear of it
    "committed by itself": "op.execute('CREATE TABLE kept (id int)')\nop.get_bind().commit()",
    "in an autocommit block": "with op.get_context().autocommit_block():\n    op.execute('SELECT 1')",
}


async def migrate(configuration: Any) -> tuple[dict[str, Any], dict[str, bool]]:
    """The answer, and each revision with whether it had no effect; and see that the record says the same."""
    async with client_of(configuration) as client:
        answer = (await client.post("/migrate", headers=APPLY)).json()
        assert answer.get("outcome") == "upgraded", answer
        recorded = (await client.get(f"/runs/{answer['run_id']}", headers=READ)).json()["steps"]
    told = {step["revision"]: step["no_effect"] for step in answer["applied"]}
    assert {step["revision"]: step["no_effect"] for step in recorded} == told
    return answer, told


def warned(answer: dict[str, Any]) -> str:
    return " ".join(warning for warning in answer["warnings"] if "no effect" in warning)


async def test_a_revision_that_wrote_nothing_is_told(
    write_history: WriteHistory, settings: MakeSettings, on: Database, database: Database
) -> None:
    """With an effect and without one in turn, so that each is told what it has itself."""
    database.execute(THERE)
    ways = {f"n{number}": body for number, body in enumerate(NOTHING.values())}
    ways |= {f"e{number}": body for number, body in enumerate(EFFECT.values())}
    history = write_history(**dict(sorted(ways.items(), key=lambda way: (int(way[0][1:]), way[0]))))
    answer, told = await migrate(settings(history, database_url=on.url))
    names = dict(zip(ways, [*NOTHING, *EFFECT], strict=True))
    assert {names[revision] for revision, no_effect in told.items() if no_effect} == set(NOTHING)
    assert "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 1 more." in warned(answer)


async def test_the_first_revision_of_an_empty_database_is_told_too(
    write_history: WriteHistory, settings: MakeSettings, on: Database
) -> None:
    answer, told = await migrate(
        settings(write_history(a1="pass", b2="op.execute('CREATE TABLE b (id int)')"), database_url=on.url)
    )
    assert told == {"a1": True, "b2": False}
    assert "wrote nothing: a1." in warned(answer)


@pytest.fixture
def branches(tmp_path: Path) -> Path:
    """Two bases, each with a revision, and what merges them."""
    folder = tmp_path / "branches"
    write_revision(folder, "a1", None, "op.execute('CREATE TABLE a (id int)')", downgrade="op.drop_table('a')")
    write_revision(folder, "b1", None, "pass")
    write_revision(folder, "a2", "a1", "pass")
    write_revision(folder, "c3", ("a2", "b1"), "pass")
    write_revision(folder, "d4", "c3", "op.execute('CREATE TABLE d (id int)')", downgrade="op.drop_table('d')")
    return folder


async def test_a_merge_does_nothing_by_design_and_is_not_warned_of(
    branches: Path, settings: MakeSettings, database: Database
) -> None:
    answer, told = await migrate(settings(branches))
    assert told == {"a1": False, "b1": True, "a2": True, "c3": True, "d4": False}
    assert sorted(warned(answer).partition("wrote nothing: ")[2].partition(".")[0].split(", ")) == ["a2", "b1"]
    assert database.execute("SELECT version_num FROM alembic_version") == [("d4",)]


async def test_a_version_that_somebody_changes_is_missed_at_a_merge_too(
    branches: Path, settings: MakeSettings, database: Database
) -> None:
    merges = branches / "versions" / "c3.py"
    merges.write_text(
        merges.read_text().replace(
            "def upgrade():\n", "def upgrade():\n    op.execute('DELETE FROM alembic_version')\n"
        )
    )
    async with client_of(settings(branches)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 500, answer.text
    assert "version table" in answer.json()["detail"]
    assert sorted(database.execute("SELECT version_num FROM alembic_version")) == [("a2",), ("b1",)]


async def test_downgrades_split_a_merge_again_and_reach_the_base(
    branches: Path, settings: MakeSettings, database: Database
) -> None:
    await migrate(settings(branches))
    async with client_of(settings(branches, allow_downgrade=True)) as client:
        for target, left in (("c3", ["c3"]), ("a2", ["a2", "b1"]), ("base", [])):
            wanted = {"direction": "downgrade", "target": target}
            digest = (await client.get("/plan", headers=READ, params=wanted)).json()["digest"]
            answer = await client.post("/downgrade", headers=APPLY, json={"target": target, "plan_digest": digest})
            assert answer.status_code == 200, answer.text
            assert sorted(answer.json()["to"]) == left
            for step in answer.json()["applied"]:
                assert step["no_effect"] == (step["revision"] not in ("a1", "d4"))
    assert database.execute("SELECT to_regclass('a'), to_regclass('d')") == [(None, None)]


async def test_without_a_ledger_the_answer_tells_it_all_the_same(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    with database.server.role() as (name, password):
        database.execute(f"GRANT CREATE ON SCHEMA public TO {name}")
        history = write_history(a1="pass", b2="op.execute('CREATE TABLE b (id int)')", c3="pass")
        async with client_of(settings(history, database_url=database.as_role(name, password).url)) as client:
            answer = (await client.post("/migrate", headers=APPLY)).json()
        assert [step["no_effect"] for step in answer["applied"]] == [True, False, True]
        assert "a1, c3." in warned(answer)
        database.execute(f"DROP OWNED BY {name}")
