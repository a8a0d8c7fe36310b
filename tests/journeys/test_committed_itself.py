"""Revisions that commit by themselves: told, never claimed to be rolled back, and fenced again behind them."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database

NOTES = "op.execute(\"INSERT INTO notes VALUES ('kept')\")"
PROCEDURES = (
    "CREATE TABLE notes (what text); CREATE TYPE mood AS ENUM ('ok'); "
    "CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED); "
    "CREATE PROCEDURE keeps() LANGUAGE plpgsql AS $$BEGIN INSERT INTO notes VALUES ('kept'); COMMIT; END$$; "
    "CREATE PROCEDURE keeps_and_fails() LANGUAGE plpgsql AS "
    "$$BEGIN INSERT INTO notes VALUES ('kept'); COMMIT; PERFORM 1/0; END$$"
)
END_THE_GUARD = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE application_name ~ '^migrate/[0-9a-f-]{36} ' AND datname = current_database()"
)
SESSION = "from sqlalchemy.orm import Session\nsession = Session(op.get_bind()"


def in_autocommit(*lines: str) -> str:
    return "with op.get_context().autocommit_block():\n" + "\n".join(f"    {line}" for line in lines)


COMMIT = {
    "commit()": f"{NOTES}\nop.get_bind().commit()",
    "COMMIT": f"{NOTES}\nop.execute('COMMIT')",
    "COMMIT of the driver's": f"{NOTES}\nop.get_bind().exec_driver_sql('COMMIT')",
    "COMMIT; BEGIN": "op.execute(\"INSERT INTO notes VALUES ('kept'); COMMIT; BEGIN\")",
    "COMMIT AND CHAIN": f"{NOTES}\nop.execute('COMMIT AND CHAIN')",
    "END": f"{NOTES}\nop.execute('END; BEGIN')",
    "Session that controls": (
        f"{SESSION}, join_transaction_mode='control_fully')\n"
        "session.execute(sa.text(\"INSERT INTO notes VALUES ('kept')\"))\nsession.commit()"
    ),
    "autocommit block": in_autocommit(NOTES),
    "autocommit block with parameters": in_autocommit(
        "op.get_bind().execute(sa.text('INSERT INTO notes VALUES (:what)'), {'what': 'kept'})"
    ),
    "autocommit block with many rows": in_autocommit(
        "op.get_bind().execute(sa.text('INSERT INTO notes VALUES (:what)'), [{'what': 'kept'}, {'what': 'too'}])"
    ),
    "procedure": in_autocommit("op.execute('CALL keeps()')"),
    "procedure behind a COMMIT": "op.execute('COMMIT')\nop.execute('CALL keeps()')",
    "ROLLBACK and then more": f"op.execute('ROLLBACK')\n{NOTES}",
    "ROLLBACK and more in one string": "op.execute(\"ROLLBACK; INSERT INTO notes VALUES ('kept')\")",
    "ROLLBACK and then parameters": (
        "op.execute('ROLLBACK')\nop.get_bind().execute(sa.text('INSERT INTO notes VALUES (:what)'), {'what': 'kept'})"
    ),
}
"""Each leaves something before its end."""

FAIL_IN_THE_MIDDLE = {
    "COMMIT in the middle": "op.execute(\"INSERT INTO notes VALUES ('kept'); COMMIT; SELECT 1/0\")",
    "COMMIT and BEGIN in the middle": "op.execute(\"INSERT INTO notes VALUES ('kept'); COMMIT; BEGIN; SELECT 1/0\")",
    "procedure that fails": in_autocommit("op.execute('CALL keeps_and_fails()')"),
}

LEAVE_NOTHING = {
    "nothing of its own": NOTES,
    "Session.commit": f"{SESSION})\nsession.execute(sa.text(\"INSERT INTO notes VALUES ('kept')\"))\nsession.commit()",
    "savepoint": f"with op.get_bind().begin_nested():\n    {NOTES}",
    "commit() of nothing": f"op.execute('SELECT 1')\nop.get_bind().commit()\n{NOTES}",
    "commit() that fails": f"{NOTES}\nop.execute('INSERT INTO late VALUES (1), (1)')\nop.get_bind().commit()",
    "rollback()": f"{NOTES}\nop.get_bind().rollback()\n{NOTES}",
    "ROLLBACK": f"{NOTES}\nop.execute('ROLLBACK')",
    "ROLLBACK and BEGIN": f"op.execute('ROLLBACK')\nop.execute('BEGIN')\n{NOTES}",
    "ROLLBACK; BEGIN": f"{NOTES}\nop.execute('ROLLBACK; BEGIN')\n{NOTES}",
    "procedure that may not commit": "op.execute('CALL keeps()')",
    "statement that fails in an autocommit block": in_autocommit("op.execute(\"ALTER TYPE nowhere ADD VALUE 'x'\")"),
    "row that fails behind a ROLLBACK": "op.execute('ROLLBACK')\nop.execute(\"INSERT INTO notes VALUES ('x', 1)\")",
}


@pytest.mark.parametrize("way", [*COMMIT, *FAIL_IN_THE_MIDDLE, *LEAVE_NOTHING])
async def test_a_revision_that_fails_is_called_rolled_back_exactly_if_nothing_of_it_stays(
    way: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    body = (COMMIT | FAIL_IN_THE_MIDDLE | LEAVE_NOTHING)[way]
    history = write_history(a1=f"op.execute({PROCEDURES!r})", b2=f"{body}\nraise RuntimeError('too bad')", c3="pass")
    async with client_of(settings(history)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 500, answer.text
    problem = answer.json()
    stays = bool(database.value("SELECT count(*) FROM notes"))
    assert stays == (way not in LEAVE_NOTHING)
    assert problem["rolled_back"] is not stays, problem
    assert ("is rolled back" in problem["detail"]) is not stays
    assert [step["revision"] for step in problem["applied"]] == ["a1"]
    assert database.value("SELECT version_num FROM alembic_version") == "a1"


def bodies(ways: Iterable[str]) -> dict[str, str]:
    return {f"r{number}": COMMIT[way] for number, way in enumerate(ways)}


async def test_a_revision_that_committed_something_before_its_end_says_so(
    write_history: WriteHistory, settings: MakeSettings, on: Database, database: Database
) -> None:
    harmless = {way: body for way, body in LEAVE_NOTHING.items() if "fail" not in way and "may not" not in way}
    histories = {f"h{number}": body for number, body in enumerate(harmless.values())}
    history = write_history(a1=f"op.execute({PROCEDURES!r})", **bodies(COMMIT), **histories)
    async with client_of(settings(history, database_url=on.url)) as client:
        answer = (await client.post("/migrate", headers=APPLY)).json()
        recorded = (await client.get(f"/runs/{answer['run_id']}", headers=READ)).json()["steps"]
    assert answer["outcome"] == "upgraded", answer
    for steps in (answer["applied"], recorded):
        told = {step["revision"]: step["committed_itself"] for step in steps}
        assert told == {revision: revision.startswith("r") for revision in told}
        assert not any(step["no_effect"] for step in steps if step["committed_itself"])
    # The step goes on record with the version, however its revision treats transactions.
    assert database.value(
        "SELECT s.xmin = v.xmin FROM migration_endpoint.step s, alembic_version v ORDER BY id DESC LIMIT 1"
    )


async def test_the_version_goes_with_the_step_where_the_revision_has_ended_its_transaction(
    write_history: WriteHistory, settings: MakeSettings, on: Database, database: Database
) -> None:
    async with client_of(settings(write_history(a1="pass", b2="op.execute('COMMIT')"), database_url=on.url)) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
    assert database.execute(
        "SELECT s.xmin = v.xmin FROM migration_endpoint.step s JOIN alembic_version v ON v.version_num = s.revision"
    ) == [(True,)]


async def migrate_to_a1(configuration: Any) -> None:
    async with client_of(configuration) as client:
        assert (await client.post("/migrate", headers=APPLY, json={"target": "a1"})).status_code == 200


async def lost(configuration: Any) -> dict[str, Any]:
    async with client_of(configuration) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 503, answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["type"].endswith("#lock-lost")
    return problem


@pytest.mark.usefixtures("nobody_sees_the_lock_go")
@pytest.mark.parametrize("way", COMMIT)
async def test_after_such_a_revision_the_next_one_is_fenced_again(
    way: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1=f"op.execute({PROCEDURES!r})",
        b2=COMMIT[way],
        c3=f'op.execute("CREATE TABLE c (id int)")\nop.execute("{END_THE_GUARD}")',
    )
    problem = await lost(settings(history))
    assert [step["revision"] for step in problem["applied"]] == ["a1", "b2"]
    assert database.value("SELECT to_regclass('c')") is None
    assert database.value("SELECT version_num FROM alembic_version") == "b2"


@pytest.mark.usefixtures("nobody_sees_the_lock_go")
@pytest.mark.parametrize("in_one", [False, True], ids=["each its own", "one transaction"])
@pytest.mark.parametrize("way", COMMIT)
async def test_such_a_revision_is_not_applied_without_the_lock(
    way: str, in_one: bool, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1=f"op.execute({PROCEDURES!r})", b2=f'{COMMIT[way]}\nop.execute("{END_THE_GUARD}")', c3="pass"
    )
    await migrate_to_a1(settings(history))
    problem = await lost(settings(history, transaction_per_run=in_one))
    assert problem["applied"] == []
    assert problem["rolled_back"] is False
    assert "what its revision had committed by itself stays" in problem["detail"]
    assert database.value("SELECT version_num FROM alembic_version") == "a1"
    assert database.execute("SELECT revision FROM migration_endpoint.step") == [("a1",)]


COMMIT_AT_ONCE = {
    "COMMIT": "op.execute('COMMIT')",
    "COMMIT behind a comment": "op.execute('-- all done\\n/* yes */ ; commit work;')",
    "COMMIT AND CHAIN": "op.execute('COMMIT AND CHAIN')",
    "END; BEGIN": "op.execute('END; BEGIN')",
    "PREPARE TRANSACTION": "op.execute(\"PREPARE /* for two */ TRANSACTION 'x'\")",
    "of a cursor's": "op.get_bind().connection.cursor().execute('COMMIT')",
    "as a role": "op.execute('SET ROLE pg_monitor')\nop.execute('COMMIT')",
    "though it was refused": "try:\n    op.execute('COMMIT')\nexcept BaseException:\n    op.execute('COMMIT')",
    "behind a ROLLBACK": (
        f"try:\n    op.execute('COMMIT')\nexcept BaseException:\n    op.execute('ROLLBACK; BEGIN')\n    {NOTES}\n"
        "    op.execute('COMMIT')"
    ),
}


@pytest.mark.usefixtures("nobody_sees_the_lock_go")
@pytest.mark.parametrize("way", COMMIT_AT_ONCE)
async def test_without_the_lock_a_commit_in_its_sql_does_not_commit(
    way: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    ends = f'op.execute("{END_THE_GUARD}")'
    history = write_history(a1=f"op.execute({PROCEDURES!r})", b2=f"{NOTES}\n{ends}\n{COMMIT_AT_ONCE[way]}")
    problem = await lost(settings(history))
    assert ([step["revision"] for step in problem["applied"]], "rolled_back" in problem) == (["a1"], False), problem
    assert database.value("SELECT count(*) FROM notes") == 0
    assert database.value("SELECT count(*) FROM pg_prepared_xacts") == 0


async def test_a_commit_in_its_sql_ends_a_transaction_that_has_failed_as_ever(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    """A check could not be made in it, and nothing of it is committed."""
    fails = "try:\n    op.execute('SELECT 1/0')\nexcept sa.exc.DBAPIError:\n    op.execute('COMMIT; BEGIN')"
    history = write_history(a1=f"op.execute({PROCEDURES!r})", b2=f"{NOTES}\n{fails}\n{NOTES}")
    async with client_of(settings(history)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT count(*) FROM notes") == 1


@pytest.mark.parametrize("way", ["nothing of its own", "commit()", "COMMIT", "autocommit block"])
async def test_a_connection_that_is_lost_behind_it_takes_nothing_back_either(
    way: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    body = (COMMIT | LEAVE_NOTHING)[way]
    ends = "op.execute('SELECT pg_terminate_backend(pg_backend_pid())')"
    history = write_history(a1=f"op.execute({PROCEDURES!r})", b2=f"{body}\n{ends}")
    async with client_of(settings(history)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    problem = answer.json()
    assert (answer.status_code, problem["type"].partition("#")[2]) == (503, "database-unavailable"), problem
    stays = way in COMMIT
    assert database.value("SELECT count(*) FROM notes") == stays
    # Of what was not committed nobody can say so before it is read back, since the answer to a COMMIT may be lost.
    assert ("rolled_back" in problem, problem.get("rolled_back", False)) == (stays, False)
    assert ("what its revision had committed by itself stays" in problem["detail"]) == stays


@pytest.mark.usefixtures("nobody_sees_the_lock_go")
async def test_what_an_env_py_does_behind_a_commit_moves_no_version_without_the_lock(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    history = write_history(
        a1=f"op.execute({PROCEDURES!r})", b2=f"op.execute('COMMIT')\nop.execute(\"{END_THE_GUARD}\")"
    )
    await migrate_to_a1(settings(history))
    env_py = history / "env.py"
    env_py.write_text(
        env_py.read_text().replace(
            "context.configure(",
            "def notes(ctx, **_):\n"
            "        ctx.connection.execute(sa.text(\"INSERT INTO notes VALUES ('applied')\"))\n\n"
            "    context.configure(on_version_apply=notes, ",
        )
    )
    await lost(settings(history))
    assert database.value("SELECT version_num FROM alembic_version") == "a1"
    assert database.value("SELECT count(*) FROM notes") == 0


async def test_what_failed_in_an_autocommit_block_without_a_trace_is_tried_again_after_a_deadlock(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE SEQUENCE tries; CREATE TABLE notes (what text)")
    first_fails = "WITH tried AS (SELECT nextval('tries') AS n) INSERT INTO notes SELECT fails_once(n) FROM tried"
    database.execute(
        "CREATE FUNCTION fails_once(n bigint) RETURNS text LANGUAGE plpgsql AS "
        "$$BEGIN IF n = 1 THEN RAISE SQLSTATE '40P01'; END IF; RETURN 'kept'; END$$"
    )
    history = write_history(a1=in_autocommit(f'op.execute("{first_fails}")'))
    async with client_of(settings(history)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT count(*) FROM notes") == 1
    assert database.value("SELECT retries FROM migration_endpoint.run") == 1


LEAVE_AUTOCOMMIT_ON = {
    "execution options": "op.get_bind().commit()\nop.get_bind().execution_options(isolation_level='AUTOCOMMIT')",
    "the driver's own": "op.get_bind().connection.dbapi_connection.set_isolation_level({level})",
}


@pytest.mark.parametrize("per_run", [False, True], ids=["a transaction each", "one per run"])
@pytest.mark.parametrize("way", LEAVE_AUTOCOMMIT_ON)
async def test_a_revision_that_leaves_autocommit_on_hides_none_that_follows(
    way: str, per_run: bool, write_history: WriteHistory, settings: MakeSettings, database: Database, driver: str
) -> None:
    """No COMMIT comes any more that could carry their steps."""
    leaves = LEAVE_AUTOCOMMIT_ON[way].format(level=0 if driver == "psycopg2" else "'autocommit'")
    takes_its_own_back = per_run and way != "execution options"
    bodies = {
        "b2": f"{leaves}\n{NOTES}",
        "c3": NOTES,
        "d4": "pass",
        "e5": f"{NOTES}\nop.execute('SELECT 1/0')",
        "f6": "pass",
    }
    database.execute("CREATE TABLE notes (what text)")
    if takes_its_own_back:  # and with it what came before in the same transaction
        first = write_history(a1=NOTES)
        async with client_of(settings(first)) as client:
            assert (await client.post("/migrate", headers=APPLY)).status_code == 200
    history = write_history(a1=NOTES, **bodies)
    async with client_of(settings(history, transaction_per_run=per_run)) as client:
        answer = await client.post("/migrate", headers=APPLY)
        problem = answer.json()
        run = (await client.get(f"/runs/{problem['run_id']}", headers=READ)).json()
    assert answer.status_code == 500, problem
    before = [] if takes_its_own_back else ["a1"]
    for steps in (problem["applied"], run["steps"]):
        told = [(step["revision"], step["committed_itself"]) for step in steps]
        assert told == [*((name, False) for name in before), ("b2", True), ("c3", True), ("d4", True)]
    assert [step["revision"] for step in problem["remaining"]] == ["e5", "f6"]
    assert (problem["revision"], problem["rolled_back"]) == ("e5", False)
    assert database.value("SELECT version_num FROM alembic_version") == run["to"][0] == "d4"
    assert database.value("SELECT count(*) FROM notes") == 4
    bodies["e5"] = NOTES
    async with client_of(settings(write_history(a1=NOTES, **bodies), transaction_per_run=per_run)) as client:
        answer = await client.post("/migrate", headers=APPLY)
    assert [step["revision"] for step in answer.json()["applied"]] == ["e5", "f6"], answer.text


@pytest.mark.usefixtures("nobody_sees_the_lock_go")
@pytest.mark.parametrize("per_run", [False, True], ids=["a transaction each", "one per run"])
async def test_what_goes_on_record_behind_it_is_checked_for_the_lock(
    per_run: bool, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    leaves = LEAVE_AUTOCOMMIT_ON["execution options"]
    ends = f'op.execute("{END_THE_GUARD}")'
    history = write_history(a1=f"{leaves}\nop.execute('CREATE TABLE notes (what text)')", b2=ends, c3=NOTES)
    async with client_of(settings(history, transaction_per_run=per_run)) as client:
        problem = (await client.post("/migrate", headers=APPLY)).json()
    assert problem["type"].endswith("#lock-lost"), problem
    assert [step["revision"] for step in problem["applied"]] == ["a1"]
    assert database.execute("SELECT revision FROM migration_endpoint.step") == [("a1",)]
    assert database.value("SELECT count(*) FROM notes") == 0
