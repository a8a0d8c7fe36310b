"""A version table that has another name, and a schema of its own."""

import subprocess
import sys

from tests import servers
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database

NAMED = {"version_table": 'My "Versions"', "version_table_schema": "Ops"}


async def test_the_version_is_kept_where_the_settings_say(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute('CREATE SCHEMA "Ops"')
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="op.execute('CREATE TABLE b (id int)')")
    async with client_of(settings(history, **NAMED)) as client:
        for target, outcome in (("a1", "upgraded"), ("heads", "upgraded"), ("heads", "up_to_date")):
            answer = (await client.post("/migrate", headers=APPLY, json={"target": target})).json()
            assert answer["outcome"] == outcome, answer
        status = (await client.get("/status", headers=READ)).json()
    assert (status["state"], status["current"]) == ("up_to_date", ["b2"])
    assert database.execute('SELECT version_num FROM "Ops"."My ""Versions"""') == [("b2",)]
    assert database.execute("SELECT to_regclass('alembic_version')") == [(None,)]


def test_the_plain_alembic_command_keeps_it_there_too(database: Database) -> None:
    environment = servers.environment(database, version_table="versions")

    def alembic(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=servers.PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    alembic("upgrade", "0002")
    assert database.execute("SELECT version_num FROM versions") == [("0002",)]
    assert "0002" in alembic("current")
