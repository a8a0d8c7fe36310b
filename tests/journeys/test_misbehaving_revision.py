"""Revisions are other people's code: whatever they do, the answer says what is true of the database."""

from typing import Any

import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database

FIRST, LAST = "op.execute('CREATE TABLE a (id int)')", "op.execute('CREATE TABLE c (id int)')"


async def post(settings: Any) -> Any:
    async with client_of(settings) as client:
        return await client.post("/migrate", headers=APPLY, json={})


def see_that_all_is_applied(answer: Any, database: Database) -> None:
    assert answer.status_code == 200, answer.text
    assert answer.json()["to"] == ["c3"]
    assert database.value("SELECT version_num FROM alembic_version") == "c3"
    assert database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id") == [("a1",), ("b2",), ("c3",)]
    assert database.execute("SELECT to_regclass('b')::text, to_regclass('c')::text") == [("b", "c")]


@pytest.mark.parametrize(
    "body",
    [
        "op.execute('CREATE TABLE b (id int)')\nop.execute('COMMIT')",
        "op.execute('CREATE TABLE b (id int); COMMIT; BEGIN')",
        "op.execute('CREATE TABLE b (id int)')\nop.get_bind().commit()",
        "op.execute('CREATE TABLE b (id int)')\nop.get_bind().exec_driver_sql('COMMIT')",
        (
            "from sqlalchemy.orm import Session\nwith Session(op.get_bind()) as session:\n"
            "    session.execute(sa.text('CREATE TABLE b (id int)'))\n    session.commit()"
        ),
        (
            "from sqlalchemy.orm import Session\nsession = Session(bind=op.get_bind())\n"
            "session.execute(sa.text('CREATE TABLE b (id int)'))\nsession.flush()"
        ),
        "op.execute(\"SET lock_timeout = '7s'; SET search_path = public\")\nop.execute('CREATE TABLE b (id int)')",
        "op.execute('SAVEPOINT mine')\nop.execute('CREATE TABLE b (id int)')\nop.execute('RELEASE SAVEPOINT mine')",
        "with op.get_bind().begin_nested():\n    op.execute('CREATE TABLE b (id int)')",
        (
            "op.get_bind().execute(sa.text('SELECT 1'))\nop.execute('CREATE TABLE b (id int)')\n"
            "result = op.get_bind().execute(sa.text('SELECT 1').execution_options(stream_results=True))"
        ),
        (
            "try:\n    with op.get_bind().begin_nested():\n        op.execute('SELECT 1/0')\n"
            "except Exception:\n    op.execute('CREATE TABLE b (id int)')"
        ),
        (
            "import logging\nlogging.disable(logging.CRITICAL)\nlogging.disable(logging.NOTSET)\n"
            "op.execute('CREATE TABLE b (id int)')"
        ),
        (
            "import asyncio\n\nasync def nothing():\n    pass\n\nfrom threading import Thread\n"
            "thread = Thread(target=lambda: asyncio.run(nothing()))\nthread.start()\nthread.join()\n"
            "op.execute('CREATE TABLE b (id int)')"
        ),
    ],
)
async def test_a_revision_with_habits_of_its_own_is_applied_with_its_version(
    body: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    see_that_all_is_applied(await post(settings(write_history(a1=FIRST, b2=body, c3=LAST))), database)


@pytest.mark.parametrize(
    "body", ["op.execute('CREATE TABLE b (id int)')\nop.execute('ROLLBACK')", "op.get_bind().rollback()"]
)
async def test_a_revision_that_rolls_back_is_never_reported_as_applied_unless_it_is(
    body: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    answer = await post(settings(write_history(a1=FIRST, b2=body, c3=LAST)))
    version = [each for (each,) in database.execute("SELECT version_num FROM alembic_version")]
    steps = [each for (each,) in database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id")]
    assert steps[-1:] == version, (answer.text, steps, version)
    assert (answer.status_code == 200) == (version == ["c3"])


async def test_a_revision_that_swallows_the_loss_of_the_lock_cannot_commit(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    end_the_guard = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name ~ '^migrate/[0-9a-f-]{36} ' AND datname = current_database()"
    )
    history = write_history(
        a1=FIRST,
        b2="op.execute('CREATE TABLE b (id int)')\n"
        f'op.execute("{end_the_guard}")\n'
        "for _ in range(3):\n    try:\n        op.get_bind().commit()\n"
        "        op.execute('CREATE TABLE IF NOT EXISTS b (id int)')\n"
        "    except BaseException:\n        pass",
        c3=LAST,
    )
    answer = await post(settings(history))
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"].endswith("#lock-lost")
    assert [step["revision"] for step in answer.json()["applied"]] == ["a1"]
    assert database.execute("SELECT to_regclass('b'), to_regclass('c')") == [(None, None)]
    assert database.value("SELECT version_num FROM alembic_version") == "a1"


async def test_a_revision_that_swallows_an_error_of_the_database_fails_all_the_same(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1=FIRST,
        b2="try:\n    op.execute('SELECT 1/0')\nexcept Exception:\n    pass\nop.execute('CREATE TABLE b (id int)')",
    )
    answer = await post(settings(history))
    assert answer.status_code == 500, answer.text
    assert answer.json()["sqlstate"] == "25P02"
    assert database.value("SELECT version_num FROM alembic_version") == "a1"


async def test_a_revision_that_changes_the_version_table_behind_alembics_back_is_found_out(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(a1=FIRST, b2="op.execute(\"UPDATE alembic_version SET version_num = 'zz'\")", c3=LAST)
    answer = await post(settings(history))
    assert answer.status_code == 500, answer.text
    problem = answer.json()
    assert (problem["revision"], problem["rolled_back"]) == ("b2", True)
    assert "version table" in problem["detail"]
    assert "GET /plan" in problem["hint"]
    assert database.value("SELECT version_num FROM alembic_version") == "a1"
    async with client_of(settings(history)) as client:
        assert (await client.get("/status", headers=READ)).json()["current"] == ["a1"]


async def test_what_an_env_py_does_as_a_revision_is_applied_finds_its_version_moved(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE seen (version text)')", b2=LAST, c3="pass")
    env_py = history / "env.py"
    env_py.write_text(
        env_py.read_text().replace(
            "context.configure(",
            "def notes(ctx, **_):\n"
            "        ctx.connection.execute(sa.text('INSERT INTO seen SELECT version_num FROM alembic_version'))\n\n"
            "    context.configure(on_version_apply=notes, ",
        )
    )
    answer = await post(settings(history))
    assert answer.status_code == 200, answer.text
    assert database.execute("SELECT version FROM seen") == [("a1",), ("b2",), ("c3",)]
