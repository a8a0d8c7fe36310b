"""Passwords in SQL that people read, and nothing else, are blanked out."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lint import redacted_sql
from app.lint.statements import tokens
from app.report import Direction
from tests.fuzzing import examples
from tests.lint.scripts import linted, script


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE ROLE me LOGIN PASSWORD 'it''s me' NOINHERIT", "CREATE ROLE me LOGIN PASSWORD '***' NOINHERIT"),
        ("ALTER ROLE me ENCRYPTED PASSWORD E'a\\'b'", "ALTER ROLE me ENCRYPTED PASSWORD '***'"),
        ("OPTIONS (user 'me', password 'hunter2')", "OPTIONS (user 'me', password '***')"),
        ("SELECT dblink('postgresql://me:hunter2@h/d')", "SELECT dblink('postgresql://***@h/d')"),
        ("ALTER TABLE a ADD password text DEFAULT 'x'", "ALTER TABLE a ADD password text DEFAULT 'x'"),
        ("UPDATE a SET token = NULL WHERE password = 'x'", "UPDATE a SET token = NULL WHERE password = 'x'"),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'host=db password=hunter4 user=me' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION 'host=db password=*** user=me' PUBLICATION p",
        ),
        ("SELECT dblink($$host=db password='hunter 4'$$)", "SELECT dblink($$host=db password='***'$$)"),
        ("SELECT dblink('password=''hunter 4''')", "SELECT dblink('password=''***''')"),
        (r"SELECT E'it\'s me; password=hunter4', 1", r"SELECT E'it\'s me; password=***', 1"),
        ("SELECT 'password=hun'\n  'ter4 user=me'", "SELECT 'password=*** user=me'"),
        ("SELECT $a$postgresql://me:p@ss@h/d$a$", "SELECT $a$postgresql://***@h/d$a$"),
        ("SELECT 'postgresql://me:password=p@h'", "SELECT 'postgresql://***'"),
        ("""SELECT '{"password": "hunter2", "a": 1}'""", """SELECT '{"password": "***", "a": 1}'"""),
        ("ALTER ROLE me PASSWORD $$hunter5$$", "ALTER ROLE me PASSWORD $$***$$"),
        ("ALTER ROLE me PASSWORD $a$hunter5$a$;", "ALTER ROLE me PASSWORD $a$***$a$;"),
        ("ALTER ROLE me PASSWORD /* new */ 'hunter6'", "ALTER ROLE me PASSWORD /* new */ '***'"),
        ("ALTER ROLE me PASSWORD -- new\n'hunter6'", "ALTER ROLE me PASSWORD -- new\n'***'"),
        ("ALTER ROLE me PASSWORD U&'hunter8'", "ALTER ROLE me PASSWORD U&'***'"),
        ("ALTER ROLE me PASSWORD'hunter8' LOGIN", "ALTER ROLE me PASSWORD'***' LOGIN"),
        ("ALTER ROLE me PASSWORD 'hun'\n-- it's\n'ter8' LOGIN", "ALTER ROLE me PASSWORD '***' LOGIN"),
        ("ALTER ROLE me PASSWORD 'hunter8", "ALTER ROLE me PASSWORD '***"),
        ("OPTIONS (ADD \"password\" 'x', sslpassword 'y')", "OPTIONS (ADD \"password\" '***', sslpassword '***')"),
        ("EXECUTE 'ALTER ROLE x PASSWORD ''hunter3'''", "EXECUTE 'ALTER ROLE x PASSWORD ''***'''"),
        (
            "EXECUTE 'ALTER ROLE x PASSWORD ''hunter3''; DROP TABLE users'",
            "EXECUTE 'ALTER ROLE x PASSWORD ''***''; DROP TABLE users'",
        ),
        (r"EXECUTE E'ALTER ROLE x PASSWORD \'hunter3\''", r"EXECUTE E'ALTER ROLE x PASSWORD \'***\''"),
        (
            "DO $$ <<a>> BEGIN EXECUTE 'ALTER ROLE x PASSWORD ''hunter3'''; END $$",
            "DO $$ <<a>> BEGIN EXECUTE 'ALTER ROLE x PASSWORD ''***'''; END $$",
        ),
    ],
)
def test_passwords_in_sql_are_blanked_out_and_the_rest_is_still_sql(sql: str, expected: str) -> None:
    assert redacted_sql(sql) == expected
    assert redacted_sql(expected) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO files VALUES ('s3://bucket/a');DROP TABLE users;--@",
        "INSERT INTO pages VALUES ('http://x','me'),('y','b@c')",
        "DO $$ BEGIN INSERT INTO files VALUES ('s3://bucket/a');DROP TABLE users;--@\nEND $$",
        "CREATE FUNCTION f() RETURNS trigger AS $$ BEGIN IF NEW.password=OLD.password THEN RETURN a; END IF; END$$",
        "SELECT password, 'a' FROM users WHERE password='x'",
        "COMMENT ON COLUMN users.password IS 'as bcrypt has it'",
    ],
)
def test_what_is_no_password_stays_byte_for_byte(sql: str) -> None:
    assert redacted_sql(sql) == sql


PIECES = [
    *("'", "''", '"', "$$", "$a$", "E'", "\\", "--", "/*", "*/", "\n", " ", ";", "(", ")", "@", "U&'", "x"),
    *("password", "password=", " PASSWORD ", "s3://", "http://", "BEGIN ", "EXECUTE "),
]


def outside_of_strings(sql: str) -> list[str]:
    """All of a text but its strings."""
    found, at = [], 0
    for token in tokens(sql):
        if token.kind == "string":
            found.append(sql[at : token.start])
            at = token.start + len(token.text)
    return [*found, sql[at:]]


@examples(500)
@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
def test_only_strings_are_changed_whatever_the_text_is(sql: str) -> None:
    told = redacted_sql(sql)
    assert outside_of_strings(told) == outside_of_strings(sql)
    assert redacted_sql(told) == told


@examples(300)
@given(
    st.lists(
        st.sampled_from(
            [
                *("'s3://bucket/a'", "'b@c'", "'it''s'", "password = 'x'", "password", "token=1", "--@ http://\n", ";"),
                *("DROP TABLE users", "/* password 'x' :// @ */", '"http://"', "@", "E'\\'://'", "$$ http:// $$"),
            ]
        )
    ).map(" , ".join)
)
def test_sql_without_passwords_in_strings_comes_back_unchanged(sql: str) -> None:
    assert redacted_sql(sql) == sql


def quoted(sql: str, way: str, depth: int) -> str:
    match way:
        case "plain":
            return "'" + sql.replace("'", "''") + "'"
        case "escaped":
            return "E'" + sql.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return f"$q{depth}${sql}$q{depth}$"


@pytest.mark.parametrize("ways", [*itertools.product(["plain", "escaped", "dollars"], repeat=3)])
def test_a_password_is_found_in_strings_in_strings(ways: tuple[str, str, str]) -> None:
    sql = f"ALTER ROLE me PASSWORD {quoted('hunter2', ways[0], 0)}; SELECT 1"
    for depth, way in enumerate(ways[1:], 1):
        sql = f"EXECUTE {quoted(sql, way, depth)}; SELECT 1"
    told = redacted_sql(sql)
    assert "hunter" not in told
    assert "PASSWORD" in told
    assert told.count("SELECT 1") == 3


def test_strings_in_strings_without_end_are_blanked_out_as_a_whole() -> None:
    sql = "password=hunter2"
    for depth in range(2000):
        sql = f"SELECT $q{depth}${sql}$q{depth}$"
    assert "hunter" not in redacted_sql(sql)


@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
@pytest.mark.parametrize(
    "sql",
    [
        "CREATE ROLE me PASSWORD 'hunter2'",
        "ALTER TABLE a ADD CONSTRAINT k CHECK (b <> 'password=hunter2')",
        "ALTER TABLE a ALTER b TYPE text USING f('postgresql://me:hunter2@h')",
        "ALTER TYPE e RENAME VALUE 'password=hunter2' TO 'secret=hunter2'",
        "CREATE INDEX i ON a (f('password=hunter2'))",
        "DROP TABLE a; CREATE ROLE me PASSWORD 'hunter2' BROKEN 'secret=hunter2",
    ],
)
def test_findings_tell_no_password(sql: str, direction: Direction) -> None:
    found, lint = linted(script(f"{sql};\n\nCOMMIT;\n\nSELECT 1;\n\nBEGIN;\n\n{sql}", direction=direction))
    assert lint.startswith("squawk ")
    assert found
    assert [one for one in found if "hunter" in f"{one.message}{one.safe_way}"] == []


def test_the_line_of_a_finding_is_that_of_the_sql_which_is_shown() -> None:
    sql = "CREATE ROLE me PASSWORD 'of\ntwo lines';\nDROP TABLE a"
    shown = redacted_sql(sql).split("\n")
    found = [one for one in linted(sql)[0] if one.rule in {"breaks-serving-code", "ban-drop-table"}]
    assert [shown[(one.line or 0) - 1] for one in found] == ["DROP TABLE a"] * 2
