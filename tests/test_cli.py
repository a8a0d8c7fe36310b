"""The terminal door, as real processes."""

import hashlib
import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from app.report import Run
from tests import servers
from tests.conftest import WriteHistory
from tests.servers import Database
from tests.terminal import terminal

TWO = {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": "op.execute('CREATE TABLE b (id int)')"}
KEY = "('x' || left(encode(sha256('migrate:public.alembic_version'), 'hex'), 16))::bit(64)::bigint"


@pytest.mark.parametrize("arguments", [("keygen",), ("keygen", "--json")])
def test_keygen_makes_a_new_key_each_time_and_its_hash(arguments: tuple[str, ...]) -> None:
    made = [terminal(None, *arguments).stdout for _ in range(2)]
    keys = set()
    for output in made:
        if "--json" in arguments:
            found: dict[str, str] = json.loads(output)
        else:
            found = dict(line.split() for line in output.splitlines()[:2])
        assert len(found["key"]) >= 32
        assert found["hashed"] == "sha256:" + hashlib.sha256(found["key"].encode()).hexdigest()
        keys.add(found["key"])
    assert len(keys) == 2


def test_migrate_upgrades_and_says_so_and_status_follows(database: Database, write_history: WriteHistory) -> None:
    history = write_history(**TWO)
    before = terminal(database, "status", "--check", script_location=history)
    assert before.returncode == 3
    assert before.stdout.startswith("pending: the database is at base, the head is b2.")
    assert "a1  Do a1." in before.stdout

    migrated = terminal(database, "migrate", "--reason", "by hand", script_location=history)
    assert migrated.returncode == 0, migrated.stderr
    assert migrated.stdout.startswith("Upgraded from base to b2 in ")
    assert database.execute("SELECT reason, key_label FROM migration_endpoint.run") == [("by hand", None)]

    again = terminal(database, "migrate", script_location=history)
    assert (again.returncode, again.stdout) == (0, "Up to date at b2.\n")
    after = terminal(database, "status", "--check", script_location=history)
    assert (after.returncode, after.stdout) == (0, "up_to_date: the database is at b2, the head is b2.\n")


def test_json_is_exactly_what_http_would_answer(database: Database, write_history: WriteHistory) -> None:
    history = write_history(**TWO)
    migrated = terminal(database, "migrate", "--target", "a1", "--json", script_location=history)
    answer = json.loads(migrated.stdout)
    assert Run.model_validate(answer).model_dump(mode="json", by_alias=True) == answer
    assert (answer["from"], answer["to"]) == ([], ["a1"])
    status = json.loads(terminal(database, "status", "--json", script_location=history).stdout)
    assert (status["state"], status["current"]) == ("pending", ["a1"])
    assert [each["revision"] for each in status["pending"]] == ["b2"]
    refused = terminal(database, "migrate", "--target", "nowhere", "--json", script_location=history)
    assert refused.returncode == 2
    assert json.loads(refused.stdout)["type"].endswith("#unknown-target")


def test_without_a_terminal_each_event_is_a_line_of_json(database: Database, write_history: WriteHistory) -> None:
    lines = terminal(database, "migrate", script_location=write_history(**TWO)).stderr.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events if event["event"] != "revision.started"] == [
        "run.started",
        "revision.applied",
        "revision.applied",
        "run.ended",
    ]
    assert len({event["run_id"] for event in events}) == 1
    assert len({event["request_id"] for event in events}) == 1


def test_what_is_not_configured_ends_with_2_and_the_variables_name(tmp_path: Path) -> None:
    missing = terminal(None, "migrate")
    assert missing.returncode == 2
    assert "DATABASE_URL" in missing.stderr
    bad = terminal(None, "status", lease="soon")
    assert bad.returncode == 2
    assert "MIGRATION_LEASE" in bad.stderr
    assert "soon" not in bad.stderr


def test_an_unusable_word_ends_with_2(database: Database) -> None:
    assert terminal(database, "frobnicate").returncode == 2
    assert terminal(database, "migrate", "--lock-wait", "-1").returncode == 2
    assert terminal(database, "migrate", "--lock-wait", "soon").returncode == 2
    assert terminal(database).returncode == 2


def test_a_revision_that_fails_ends_with_1_and_says_where(database: Database, write_history: WriteHistory) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="op.execute('SELECT 1/0')")
    failed = terminal(database, "migrate", script_location=history)
    assert failed.returncode == 1
    assert "Revision b2 failed: division by zero; it is rolled back." in failed.stderr
    assert database.value("SELECT version_num FROM alembic_version") == "a1"


def test_a_held_lock_ends_with_75_so_that_a_script_can_try_again(
    database: Database, write_history: WriteHistory
) -> None:
    history = write_history(**TWO)
    with database.connect() as holder, holder.transaction():
        holder.execute(f"SELECT pg_advisory_xact_lock({KEY})".encode())
        began = time.monotonic()
        refused = terminal(database, "migrate", "--lock-wait", "0.5", script_location=history)
    assert refused.returncode == 75, refused.stderr
    assert "Another run holds the lock" in refused.stderr
    assert time.monotonic() - began < 20
    assert database.value("SELECT to_regclass('a')") is None


def test_a_database_that_is_not_there_ends_with_75(tmp_path: Path) -> None:
    refused = terminal(None, "migrate", database_url="postgresql://me:Kater-Karlo@127.0.0.1:1/nowhere")
    assert refused.returncode == 75
    assert "The database cannot be reached" in refused.stderr
    assert "Kater-Karlo" not in refused.stderr


def test_on_a_terminal_migrate_shows_a_line_per_revision(database: Database, write_history: WriteHistory) -> None:
    shown = on_a_terminal(database, "migrate", script_location=write_history(**TWO))
    assert "a1  Do a1." in shown
    assert "b2  Do b2." in shown
    assert "Upgraded from base to b2" in shown
    assert '"event"' not in shown


def on_a_terminal(database: Database, *arguments: str, typed: str = "", code: int = 0, **settings: Any) -> str:
    """What `python -m app …` shows on a pseudo-terminal, on which somebody has `typed` something."""
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        cwd=servers.PROJECT,
        env=servers.environment(database, **settings) | {"TERM": "xterm", "COLUMNS": "120"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # Linux says EIO when the other side is closed
                break
            if not chunk:
                break
            shown += chunk
        assert process.wait(timeout=10) == code, shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return shown.decode()


def test_a_revision_that_does_not_return_does_not_keep_the_command_beyond_its_time(
    database: Database, write_history: WriteHistory
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')\ntime.sleep(60)")
    began = time.monotonic()
    done = terminal(database, "migrate", script_location=history, time_budget=2)
    assert time.monotonic() - began < 40
    assert done.returncode == 1, done.stderr
    assert "MIGRATION_TIME_BUDGET" in done.stderr
    assert database.value("SELECT to_regclass('a') IS NULL")


# --- environment


def test_the_environment_is_shown_and_changed_on_purpose(write_history: WriteHistory, database: Database) -> None:
    history = write_history(**TWO)
    assert "belongs to no environment" in terminal(database, "environment").stdout
    assert terminal(database, "migrate", script_location=history, environment="production").returncode == 0
    assert "belongs to production" in terminal(database, "environment").stdout
    refused = terminal(database, "migrate", script_location=history, environment="staging")
    assert refused.returncode == 1
    assert "python -m app environment set" in refused.stderr
    changed = terminal(database, "environment", "set", "staging", "--json")
    assert (changed.returncode, json.loads(changed.stdout)) == (0, {"environment": "staging", "before": "production"})
    assert json.loads(terminal(database, "environment", "--json").stdout)["environment"] == "staging"
    assert terminal(database, "migrate", script_location=history, environment="staging").returncode == 0


def test_a_database_that_has_no_ledger_yet_can_be_bound(write_history: WriteHistory, database: Database) -> None:
    assert "staging now; before, to none" in terminal(database, "environment", "set", " staging ").stdout
    refused = terminal(database, "migrate", script_location=write_history(**TWO), environment="production")
    assert refused.returncode == 1
    assert "belongs to `staging`" in refused.stderr


@pytest.mark.parametrize("name", ["", "   ", "x" * 101])
def test_a_name_that_is_none_is_refused(database: Database, name: str) -> None:
    assert terminal(database, "environment", "set", name).returncode == 2


def test_a_role_that_may_not_bind_a_database_is_told_so(database: Database) -> None:
    with database.server.role() as (role, password):
        refused = terminal(database.as_role(role, password), "environment", "set", "production")
        assert refused.returncode == 1
        assert "lacks a right" in refused.stderr


def test_the_plain_alembic_command_keeps_to_the_environment_too(
    write_history: WriteHistory, database: Database
) -> None:
    terminal(database, "environment", "set", "production")
    refused = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        check=False,
        cwd=servers.PROJECT,
        env=servers.environment(database, environment="preview"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 1
    assert "belongs to `production`" in refused.stderr
    assert database.value("SELECT to_regclass('alembic_version') IS NULL")


def test_a_rehearsal_is_told_in_words_and_in_json(database: Database, write_history: WriteHistory) -> None:
    database.execute("CREATE TABLE shop (id int); INSERT INTO shop VALUES (1), (2)")
    history = write_history(
        a1="op.execute('ALTER TABLE shop ALTER COLUMN id TYPE bigint'); op.execute('DELETE FROM shop WHERE id = 1')",
        b2="with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY ON shop (id)')",
    )
    passed = terminal(database, "rehearse", "--target", "a1", script_location=history)
    assert passed.returncode == 0, passed.stderr
    assert "rewritten  shop  1 rows" in passed.stdout
    assert "rows       shop  0 inserted, 0 updated, 1 deleted" in passed.stdout
    assert "Everything is rolled back." in passed.stdout
    stopped = terminal(database, "rehearse", script_location=history)
    assert stopped.returncode == 1
    assert "Stopped before b2, which cannot be rehearsed: It has an autocommit block." in stopped.stdout
    told = json.loads(terminal(database, "rehearse", "--json", script_location=history).stdout)
    assert (told["outcome"], [step["revision"] for step in told["steps"]]) == ("incomplete", ["a1"])
    refused = terminal(database, "rehearse", script_location=history, environment="production")
    assert (refused.returncode, "MIGRATION_REHEARSE_IN=production" in refused.stderr) == (1, True)
    assert database.value("SELECT count(*) FROM shop") == 2
