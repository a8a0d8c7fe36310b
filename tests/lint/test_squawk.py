"""squawk itself: what it says here, and that no plan fails because of it."""

import asyncio
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.lint import levels, squawk
from tests.lint.scripts import linted, of_squawk, own, rules, script
from tests.servers import PROJECT

PROVOKING = """
ALTER TABLE a ADD COLUMN b uuid DEFAULT gen_random_uuid();
ALTER TABLE a ADD CONSTRAINT fk FOREIGN KEY (b) REFERENCES c (id);
ALTER TABLE a ADD CONSTRAINT ck CHECK (b > 0);
ALTER TABLE a ALTER COLUMN b SET NOT NULL;
ALTER TABLE a ADD COLUMN c int NOT NULL;
ALTER TABLE a ADD CONSTRAINT pk PRIMARY KEY (id);
ALTER TABLE a ADD CONSTRAINT u UNIQUE (b);
ALTER TYPE comp ADD ATTRIBUTE x int;
ALTER TYPE e ADD VALUE 'x';
ALTER DATABASE d SET work_mem = '1MB';
ALTER DOMAIN d ADD CONSTRAINT k CHECK (value > 0);
ALTER EXTENSION e UPDATE;
ALTER FUNCTION f() SECURITY DEFINER;
ALTER TABLE a ALTER COLUMN b SET EXPRESSION AS (c + 1);
ALTER TABLE a ALTER COLUMN b ADD GENERATED ALWAYS AS IDENTITY;
ALTER POLICY p ON a USING (true);
ALTER POLICY p ON a TO r;
ALTER ROLE r NOLOGIN;
ALTER TABLE a ENABLE ROW LEVEL SECURITY;
ALTER SEQUENCE s RESTART WITH 1;
ALTER SYSTEM SET work_mem = '1MB';
ALTER VIEW v SET (security_barrier = true);
CREATE TABLE t (c char(3), v varchar(3), ts timestamp, i int, s smallint, k serial);
CREATE INDEX CONCURRENTLY i1 ON a (b);
CREATE DOMAIN d AS int CHECK (value > 0);
CREATE POLICY p ON a;
ALTER TABLE a NO INHERIT b;
ALTER TABLE a DISABLE TRIGGER x;
ALTER TABLE a DROP COLUMN b;
ALTER TABLE a DROP CONSTRAINT ck;
DROP DATABASE d;
ALTER TABLE a ALTER COLUMN b DROP DEFAULT;
DROP DOMAIN d;
DROP EXTENSION e;
DROP FUNCTION f();
ALTER TABLE a ALTER COLUMN b DROP EXPRESSION;
DROP INDEX i1;
ALTER TABLE a ALTER COLUMN b DROP NOT NULL;
DROP POLICY p ON a;
DROP SCHEMA s;
DROP SEQUENCE s;
DROP TABLE a;
DROP TRIGGER t ON a;
DROP TYPE e;
DROP VIEW v;
UPDATE a SET b = 1, b = 2;
CREATE OR REPLACE VIEW v AS SELECT 1;
ALTER TABLE a REPLICA IDENTITY FULL;
REVOKE SELECT ON a FROM r;
ALTER TABLE a ALTER COLUMN b SET DEFAULT 1;
ALTER TABLE a SET SCHEMA s;
TRUNCATE a CASCADE;
ALTER TABLE a ALTER COLUMN b TYPE bigint;
CREATE TABLE a2345678901234567890123456789012345678901234567890123456789012345678901234567890 (id bigint);
ALTER TABLE a RENAME COLUMN b TO c;
ALTER TABLE a RENAME TO d;
ALTER TYPE e RENAME TO f;
CREATE INDEX i2 ON a (b);
ALTER TABLE a DETACH PARTITION p;
REINDEX TABLE a;
COMMIT;
BEGIN;
BEGIN;
"""
NEVER_PROVOKED = {"ban-concurrent-index-creation-in-transaction", "prefer-repack", "require-timeout-settings"}
"""The first wants --assume-in-transaction, the second a syntax of PostgreSQL 19, the third is the old name of two."""


@pytest.fixture
def program() -> str:
    return squawk._program()


def test_every_rule_of_squawk_has_its_level(tmp_path: Path, program: str) -> None:
    (tmp_path / "1.sql").write_text(PROVOKING)
    (tmp_path / "2.sql").write_text("this is nonsense")
    off_by_default = ",".join(sorted(levels.LEVELS.keys() - {"syntax-error"}))
    command = [program, "--reporter=json", "--pg-version=17.0", f"--include={off_by_default}", "1.sql", "2.sql"]
    ran = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert not ran.stderr, "it takes no name that is not one of its rules"
    reported = {said["rule_name"] for said in json.loads(ran.stdout)}
    assert reported == levels.LEVELS.keys() - NEVER_PROVOKED


def test_a_rule_of_a_later_squawk_has_the_level_that_squawk_gives_it() -> None:
    assert levels.level("ban-everything", "Error") == "danger"
    assert levels.level("ban-everything", "Warning") == "warning"
    assert levels.level("ban-everything", "Catastrophe") == "danger"


def test_the_page_on_findings_has_the_table_of_the_levels() -> None:
    rows = (PROJECT / "docs" / "findings.md").read_text().partition("## Squawk's rules")[2].splitlines()
    told: dict[str, str | None] = {}
    for row in rows:
        _, level, names, *_ = [*(cell.strip() for cell in row.split("|")), "", "", ""]
        if names.startswith("`"):
            told |= {name.strip("` "): None if level == "not told" else level for name in names.split(",")}
    assert told == levels.LEVELS


def test_squawk_s_remarks_come_with_level_line_page_and_the_safe_way() -> None:
    sql = "-- é, 日本\nSELECT '日本';  /* é */ CREATE INDEX\n  ix ON \"T\" (a);\n"
    (found,) = of_squawk(sql)
    assert (found.rule, found.level, found.line) == ("require-concurrent-index-creation", "warning", 2)
    assert found.url == "https://squawkhq.com/docs/require-concurrent-index-creation"
    assert found.message == "During normal index creation, table updates are blocked, but reads are still allowed."
    assert found.safe_way == (
        "with op.get_context().autocommit_block():\n"
        '    op.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS ix ON \\"T\\" (a)")'
    )


@pytest.mark.parametrize(
    ("sql", "rule", "advised"),
    [
        (
            "CREATE UNIQUE INDEX ON t (a)",
            "require-concurrent-index-creation",
            '"CREATE UNIQUE INDEX CONCURRENTLY ON t (a)"',
        ),
        ("DROP INDEX IF EXISTS i", "require-concurrent-index-deletion", '"DROP INDEX CONCURRENTLY IF EXISTS i"'),
        ("REINDEX (VERBOSE) TABLE t", "require-concurrent-reindex", '"REINDEX (VERBOSE) TABLE CONCURRENTLY t"'),
        (
            "ALTER TABLE t DETACH PARTITION p",
            "require-concurrent-partition-detach",
            '"ALTER TABLE t DETACH PARTITION p CONCURRENTLY"',
        ),
        (
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a)",
            "ban-concurrent-index-creation-in-transaction",
            'autocommit_block():\n    op.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a)")',
        ),
        (
            "ALTER TABLE t ALTER a DROP DEFAULT, ALTER COLUMN b SET NOT NULL",
            "adding-not-nullable-field",
            "ADD CONSTRAINT b_not_null CHECK (b IS NOT NULL) NOT VALID",
        ),
        (
            "ALTER TABLE t ADD COLUMN u uuid DEFAULT gen_random_uuid()",
            "adding-field-with-default",
            "ALTER COLUMN u SET DEFAULT",
        ),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", "constraint-missing-not-valid", "CHECK (a > 0) NOT VALID"),
        (
            'ALTER TABLE t ADD CONSTRAINT "F" FOREIGN KEY (a) REFERENCES u (id) ON DELETE CASCADE',
            "adding-foreign-key-constraint",
            'VALIDATE CONSTRAINT \\"F\\"',
        ),
        ("ALTER TABLE t ADD CONSTRAINT c UNIQUE (a, b)", "disallowed-unique-constraint", "c ON t (a, b)"),
        (
            "ALTER TABLE t ADD CONSTRAINT c PRIMARY KEY (a)",
            "adding-serial-primary-key-field",
            "PRIMARY KEY USING INDEX c",
        ),
        ("ALTER TABLE t ADD UNIQUE (a)", "disallowed-unique-constraint", "Create an index `CONCURRENTLY`"),
    ],
)
def test_the_safe_way_has_the_names_of_the_statement(sql: str, rule: str, advised: str) -> None:
    found = [one for one in of_squawk(sql) if one.rule != "ban-drop-default"]
    assert rules(found) == [rule]
    assert advised in (found[0].safe_way or "")


def test_where_both_speak_of_a_statement_they_show_the_same_way() -> None:
    sql = "ALTER TABLE t ADD COLUMN a bigint NOT NULL"
    (of_ours,), (of_theirs,) = own(sql), of_squawk(sql)
    assert (of_ours.rule, of_theirs.rule) == ("breaks-serving-code", "adding-required-field")
    assert (of_ours.line, of_ours.safe_way) == (of_theirs.line, of_theirs.safe_way)
    (alone,) = of_squawk(script(sql, direction="downgrade"))
    assert alone.safe_way


def test_what_a_run_does_by_itself_is_not_asked_for() -> None:
    assert rules(of_squawk("ALTER TABLE t ADD COLUMN a bigint")) == []


def test_a_transaction_spares_a_revision_what_would_make_it_pass_twice() -> None:
    sql = "ALTER TABLE t ADD COLUMN a bigint;"
    assert rules(of_squawk(script(sql, transactional=True))) == []
    assert rules(of_squawk(script(sql, transactional=None))) == []
    parts = f"{sql}\n\nCOMMIT;\n\nCREATE INDEX CONCURRENTLY i ON t (b);\n\nBEGIN;\n\nALTER TABLE t ADD COLUMN c bigint"
    for transactional in (True, False, None):
        found = of_squawk(script(parts, transactional=transactional))
        assert [(one.rule, one.line) for one in found] == [("prefer-robust-stmts", 5)]


def test_many_scripts_keep_their_own_remarks() -> None:
    drops = [script(f"SELECT 1;\nDROP INDEX i{at};", revision=f"r{at}") for at in range(40)]
    drops[7::3] = [
        script(f"\n\nCOMMIT;DROP INDEX i{at};BEGIN;", revision=f"r{at}", transactional=False) for at in range(7, 40, 3)
    ]
    found = of_squawk(*drops)
    lines = {one.revision: one.line for one in found if one.rule == "require-concurrent-index-deletion"}
    assert lines == {one.revision: 2 if one.transactional else 3 for one in drops}
    assert list(dict.fromkeys(one.revision for one in found)) == [one.revision for one in drops]


def test_what_squawk_cannot_read_is_one_warning() -> None:
    (found,) = of_squawk("DROP TABLE t;\nthis is nonsense, and this too;\nDROP TABLE t")
    assert (found.rule, found.level, found.line) == ("syntax-error", "warning", 2)
    assert found.message.endswith("so it has checked nothing of this revision.")
    assert rules(own("DROP TABLE t;\nthis is nonsense;")) == ["breaks-serving-code"]


def test_locks_on_a_table_of_the_same_plan_harm_nobody() -> None:
    create = "CREATE TABLE n (a bigint); CREATE TABLE IF NOT EXISTS o (a bigint)"
    harmless = (
        "CREATE INDEX i ON n (a); ALTER TABLE n ADD CONSTRAINT c CHECK (a > 0), ALTER a SET NOT NULL, "
        "ADD CONSTRAINT u UNIQUE (a), ALTER a TYPE text; DROP TABLE n"
    )
    assert of_squawk(create, harmless) == []
    assert len(of_squawk(harmless)) > 4
    assert len(of_squawk(create, harmless.replace("ON n", "ON s.n").replace("TABLE n", "TABLE s.n"))) > 4
    assert rules(of_squawk(create, "CREATE INDEX i ON o (a)")) == ["require-concurrent-index-creation"]
    (foreign_key,) = of_squawk(create, "ALTER TABLE n ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES busy (id)")
    assert (foreign_key.rule, foreign_key.level) == ("adding-foreign-key-constraint", "notice")


def test_the_server_s_version_counts() -> None:
    sql = "ALTER TABLE t ADD COLUMN a bigint DEFAULT 1"
    assert rules(of_squawk(sql, version=(10, 4))) == ["adding-field-with-default"]
    assert rules(of_squawk(sql, version=(18, 1))) == []


def test_the_project_s_own_configuration_holds(tmp_path: Path) -> None:
    (tmp_path / ".squawk.toml").write_text(
        'excluded_rules = ["ban-drop-column"]\nincluded_rules = ["require-table-schema"]\n'
        'pg_version = "9.6"\nassume_in_transaction = true\n'
    )
    sql = "ALTER TABLE t DROP COLUMN a, ADD COLUMN b bigint DEFAULT 1"
    assert rules(of_squawk(sql, folder=tmp_path)) == ["require-table-schema"]
    assert rules(of_squawk(sql)) == ["ban-drop-column"]
    partly = script(f"COMMIT;\n{sql};\nBEGIN;", transactional=False)
    assert "prefer-robust-stmts" in rules(of_squawk(partly, folder=tmp_path)), (
        "the script says what is in a transaction"
    )


def test_comments_to_squawk_hold() -> None:
    assert of_squawk("-- squawk-ignore ban-drop-table\nDROP TABLE t") == []
    assert of_squawk(script("-- squawk-ignore-file\nCOMMIT; DROP TABLE t; BEGIN;", transactional=False)) == []


def test_a_plan_without_scripts_names_the_linter_all_the_same() -> None:
    found, lint = linted()
    assert found == []
    assert lint.startswith("squawk 2.")


# --- without it


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the PATH, and where Python seems to be."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(place: Path, text: str) -> None:
    (place / "squawk").write_text(text)
    (place / "squawk").chmod(0o755)


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    events = [json.loads(record.message) for record in caplog.records if record.name == "migration_endpoint"]
    return [event["reason"] for event in events if event["event"] == "lint.unavailable"]


def assert_only_ours_speak() -> None:
    found, lint = linted("DROP TABLE t", script("DROP TABLE t", direction="downgrade"))
    assert lint == "unavailable"
    assert rules(found) == ["breaks-serving-code", "lossy-downgrade"]


def test_without_squawk_our_own_rules_still_speak(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "migration_endpoint")
    assert_only_ours_speak()
    assert reasons(caplog) == ["the program squawk is neither beside Python nor on the PATH"]


def test_squawk_is_found_on_the_path(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = place.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("PATH", str(elsewhere))
    with pytest.raises(squawk._Unavailable):
        squawk._program()
    (elsewhere / "squawk").symlink_to(Path(sys.prefix) / "bin" / "squawk")
    assert linted("DROP TABLE t")[1].startswith("squawk 2.")


VERSION = 'if [ "$1" = --version ]; then echo squawk 9.9; exit; fi\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/sh\nexit 1\n", "squawk ended with code 1: "),
        ("#!/bin/sh\necho no luck >&2; exit 3\n", "squawk ended with code 3: no luck"),
        ("#!/bin/sh\nkill -9 $$\n", "squawk ended with code -9: "),
        ("#!/bin/sh\necho a parrot 1.0\n", "squawk calls itself 'a parrot 1.0'"),
        ("not a program\0", "squawk cannot be run: Exec format error"),
        (f"#!/bin/sh\n{VERSION}exit 1\n", "squawk ended with code 1: "),
        (f"#!/bin/sh\n{VERSION}echo panicked >&2; exit 101\n", "squawk ended with code 101: panicked"),
        (f"#!/bin/sh\n{VERSION}echo broken\n", "squawk's answer cannot be read: JSONDecodeError: "),
        (f"#!/bin/sh\n{VERSION}echo '[1]'\n", "squawk's answer cannot be read: TypeError: "),
        (f"#!/bin/sh\n{VERSION}echo '{{\"a\": 1}}'\n", "squawk's answer cannot be read: TypeError: "),
        (f'#!/bin/sh\n{VERSION}echo \'[{{"file": "stranger.sql"}}]\'\n', "squawk's answer cannot be read: KeyError: "),
        (
            f'#!/bin/sh\n{VERSION}for last; do :; done; echo "[{{\\"file\\": \\"$last\\"}}]"\n',
            "squawk's answer cannot be read",
        ),
    ],
)
def test_a_broken_squawk_breaks_no_plan(place: Path, caplog: pytest.LogCaptureFixture, text: str, reason: str) -> None:
    caplog.set_level(logging.INFO, "migration_endpoint")
    put(place, text)
    assert_only_ours_speak()
    (said,) = reasons(caplog)
    assert said.startswith(reason)


def test_a_configuration_that_squawk_refuses_breaks_no_plan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "migration_endpoint")
    (tmp_path / ".squawk.toml").write_text('excluded_rules = ["no-such-rule"]\n')
    assert linted("DROP TABLE t", folder=tmp_path)[1] == "unavailable"
    assert "no-such-rule" in reasons(caplog)[0]


SLEEP = "60.0625"
"""Seconds: how long a hanging program hangs, and how it is told from others."""


def sleeping() -> list[psutil.Process]:
    """The hanging programs that are children of this process, and the shells that are about to become one."""
    return [child for child in psutil.Process().children() if {SLEEP, "/bin/sh"} & set(child.cmdline())]


def of_the_system(name: str) -> str:
    """Where a program is, though the PATH is another in the test."""
    found = shutil.which(name, path="/usr/bin:/bin:/usr/local/bin")
    assert found is not None
    return found


@pytest.mark.parametrize("until", ["", VERSION])
def test_a_hanging_squawk_is_ended(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, until: str
) -> None:
    caplog.set_level(logging.INFO, "migration_endpoint")
    monkeypatch.setattr(squawk, "LONGEST_S", 0.5)
    put(place, f"#!/bin/sh\n{until}exec {of_the_system('sleep')} {SLEEP}\n")
    assert_only_ours_speak()
    assert reasons(caplog) == ["squawk was not done after 0.5 s"]
    assert not sleeping()


async def test_a_caller_who_gives_up_leaves_no_squawk_behind(place: Path) -> None:
    put(place, f"#!/bin/sh\n: > {place}/started\nexec {of_the_system('sleep')} {SLEEP}\n")
    call = asyncio.create_task(squawk.ask([], [], server_version=(17, 2), folder=PROJECT))
    for _ in range(1500):
        if (place / "started").exists():
            break
        await asyncio.sleep(0.02)
    assert len(sleeping()) == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not sleeping()


def test_squawk_learns_nothing_of_our_environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATION_DATABASE_URL", "postgresql://me:made-up-secret@db.example/shop")
    put(place, f"#!/bin/sh\n{of_the_system('env')} > {place}/told\n")
    assert linted("SELECT 1")[1] == "unavailable"
    assert "made-up-secret" not in (place / "told").read_text()
