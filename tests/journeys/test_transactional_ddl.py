"""`transactional_ddl=False`, by a setting or by env.py: on PostgreSQL every guarantee holds all the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.servers import APPLY, READ, Database
from tests.terminal import terminal

END_THE_GUARD = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE application_name ~ '^migrate/[0-9a-f-]{36} ' AND datname = current_database()"
)
BLOCK = "with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY a_id ON a (id)')"

type Declined = Callable[[Path], Any]


def decline(history: Path) -> None:
    env_py = history / "env.py"
    env_py.write_text(env_py.read_text().replace("context.configure(", "context.configure(transactional_ddl=False, "))


@pytest.fixture(params=["the setting", "env.py"])
def declined(request: pytest.FixtureRequest, settings: MakeSettings) -> Declined:
    """Settings with transactional DDL declined, in one of two ways."""

    def make(history: Path) -> Any:
        if request.param == "the setting":
            return settings(history, transactional_ddl=False)
        decline(history)
        return settings(history)

    return make


async def test_each_revision_commits_by_itself_with_its_version_and_its_step(
    declined: Declined, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')\nassert op.get_context().impl.transactional_ddl is False",
        b2=BLOCK,
        c3="op.execute('CREATE TABLE c (id int)')\nop.execute('SELECT 1/0')",
    )
    async with client_of(declined(history)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    problem = answer.json()
    assert (problem["revision"], problem["rolled_back"]) == ("c3", True), problem
    assert [(step["revision"], step["committed_itself"]) for step in problem["applied"]] == [
        ("a1", False),
        ("b2", True),
    ]
    assert database.execute("SELECT to_regclass('a')::text, to_regclass('a_id')::text, to_regclass('c')") == [
        ("a", "a_id", None)
    ]
    assert database.execute(
        "SELECT s.revision, s.xmin = v.xmin FROM migration_endpoint.step s, alembic_version v ORDER BY id"
    ) == [("a1", False), ("b2", True)]


@pytest.mark.usefixtures("nobody_sees_the_lock_go")
async def test_it_is_fenced_all_the_same(declined: Declined, write_history: WriteHistory, database: Database) -> None:
    history = write_history(
        a1="op.execute('CREATE TABLE a (id int)')",
        b2=f'op.execute("CREATE TABLE b (id int)")\nop.execute("{END_THE_GUARD}")',
    )
    async with client_of(declined(history)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.json()["type"].endswith("#lock-lost"), answer.text
    assert [step["revision"] for step in answer.json()["applied"]] == ["a1"]
    assert database.value("SELECT to_regclass('b')") is None


async def test_a_plan_sees_what_commits_by_itself_all_the_same(declined: Declined, write_history: WriteHistory) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2=BLOCK)
    async with client_of(declined(history)) as client:
        pending = (await client.get("/plan", headers=READ)).json()["pending"]
    assert [revision["transactional"] for revision in pending] == [True, False]


def test_a_stamp_of_several_heads_is_all_or_nothing(tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "heads"
    write_revision(folder, "a1", None, "pass")
    write_revision(folder, "b1", None, "pass")
    decline(folder)
    database.execute(
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY); "
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF (SELECT count(*) FROM alembic_version) = 2 THEN RAISE 'one is enough'; END IF; RETURN NEW; END$$; "
        "CREATE TRIGGER refuses AFTER INSERT ON alembic_version FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    said = terminal(database, "stamp", "heads", "--yes", script_location=folder)
    assert said.returncode == 1, said
    assert "one is enough" in said.stderr
    assert database.execute("SELECT * FROM alembic_version") == []
