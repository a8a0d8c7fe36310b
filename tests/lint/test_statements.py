"""SQL taken apart: nothing is lost, and nothing in quotes is taken for SQL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lint import statements
from tests.fuzzing import examples

QUOTED = st.one_of(
    st.text("a;'\"\\$-/*é\n", max_size=8).map(lambda text: "'" + text.replace("'", "''") + "'"),
    st.text("a;'\\$\n", max_size=8).map(lambda text: "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
    st.text("a;'\n", max_size=8).map(lambda text: "E''\n'" + text.replace("'", "\\'") + "'"),
    st.text("a;'\"é\n", min_size=1, max_size=8).map(lambda text: '"' + text.replace('"', '""') + '"'),
    st.text("a;'\"$\\-*/é\n", max_size=8).filter(lambda text: "$" not in text).map("$${}$$".format),
    st.text("a;'$\n", max_size=8).filter(lambda text: "$t1$" not in text and text[-1:] != "$").map("$t1${}$t1$".format),
    st.text("a;'\"$", max_size=8).map("--{}\n".format),
    st.lists(st.sampled_from(["a", ";", "'", '"', "/* ; */", "$$", "\n"]), max_size=6).map(
        lambda parts: "/*" + " ".join(parts) + "*/"
    ),
    st.lists(st.sampled_from(["a", "1", ";", "b"]), max_size=4).map(lambda parts: "(" + " ".join(parts) + ")"),
)


@examples(400)
@given(
    st.lists(st.sampled_from(list("aE'\"$;-*/\\(\n é1")) | st.sampled_from(["$$", "$a$", "--", "/*", "*/"])).map(
        "".join
    )
)
def test_the_statements_together_are_the_text_whatever_it_is(sql: str) -> None:
    found = statements.split(sql)
    assert "".join(statement.text for statement in found) == sql
    for statement in found:
        for token in statement.tokens:
            assert sql[token.start : token.start + len(token.text)] == token.text
            assert statement.line_of(token) == sql.count("\n", 0, token.start) + 1
        assert not statement.tokens or statement.line == statement.line_of(statement.tokens[0])
        assert statement.code in statement.text


@examples(400)
@given(st.lists(st.lists(QUOTED, max_size=3).map(" x ".join), max_size=5))
def test_a_semicolon_in_quotes_comments_or_parentheses_splits_nothing(parts: list[str]) -> None:
    sql = "".join(f"SELECT {part} x;\n" for part in parts)
    found = [statement for statement in statements.split(sql) if statement.tokens]
    assert [statement.text.strip() for statement in found] == [f"SELECT {part} x;" for part in parts]


@pytest.mark.parametrize(
    ("sql", "codes"),
    [
        ("", []),
        (" -- only a comment;\n", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1; /* ; */ SELECT 2 -- ;", ["SELECT 1", "SELECT 2"]),
        ("SELECT 1;;SELECT 2;;", ["SELECT 1", "SELECT 2"]),
        ("SELECT 'it''s;'; SELECT E'\\';'", ["SELECT 'it''s;'", "SELECT E'\\';'"]),
        # Without the E a backslash is a letter like any other.
        (r"SELECT '\'; SELECT ';'", [r"SELECT '\'", "SELECT ';'"]),
        ("SELECT foo$bar$; SELECT $1", ["SELECT foo$bar$", "SELECT $1"]),
        ("SELECT \u00a0x;", ["SELECT \u00a0x"]),
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3",
            [
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
                "SELECT 3",
            ],
        ),
        (
            "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT a.case, 1 AS case; SELECT 2; END; SELECT 3",
            ["CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT a.case, 1 AS case; SELECT 2; END", "SELECT 3"],
        ),
        (
            "CREATE TABLE t (begin atomic); ROLLBACK; CREATE TABLE x ()",
            ["CREATE TABLE t (begin atomic)", "ROLLBACK", "CREATE TABLE x ()"],
        ),
        (
            "CREATE FUNCTION f(begin atomic) RETURNS int LANGUAGE sql AS 'SELECT 1'; ROLLBACK; SELECT 2",
            ["CREATE FUNCTION f(begin atomic) RETURNS int LANGUAGE sql AS 'SELECT 1'", "ROLLBACK", "SELECT 2"],
        ),
        (
            "CREATE VIEW v AS SELECT begin atomic FROM t; ROLLBACK",
            ["CREATE VIEW v AS SELECT begin atomic FROM t", "ROLLBACK"],
        ),
        (
            "CREATE RULE r AS ON INSERT TO a DO (SELECT 1; SELECT 2); SELECT 3",
            ["CREATE RULE r AS ON INSERT TO a DO (SELECT 1; SELECT 2)", "SELECT 3"],
        ),
        ("DO $do$ BEGIN COMMIT; END $do$; SELECT 1", ["DO $do$ BEGIN COMMIT; END $do$", "SELECT 1"]),
        ("SELECT 'never closed; SELECT 1", ["SELECT 'never closed; SELECT 1"]),
    ],
)
def test_statements_end_where_postgresql_ends_them(sql: str, codes: list[str]) -> None:
    assert [statement.code for statement in statements.split(sql) if statement.tokens] == codes


@pytest.mark.parametrize("string", ["'it''s'\n 'one'", "'it''s' -- not two\n\n'one'", "E'it\\'s'\n 'one'"])
def test_a_string_goes_on_in_another_line(string: str) -> None:
    (statement,) = statements.split(f"SELECT {string} AS a")
    assert [token.text for token in statement.tokens] == ["SELECT", string, "AS", "a"]


@pytest.mark.timeout(20)  # it was to take longer than anybody lives
@pytest.mark.parametrize("string", ["'a'", "E'a'"])
def test_a_line_of_dashes_after_a_string_is_read_once(string: str) -> None:
    sql = f"SELECT {string} {'-' * 20_000}\n, {string} {'-' * 20_000}"
    assert [statement.code for statement in statements.split(sql)] == [sql.rpartition(" ")[0]]


def test_lines_count_from_one_and_are_those_of_the_code() -> None:
    sql = "-- what follows\nSELECT 1;\n\n/* two\nlines */ SELECT\n  2, 'a\nb', 3;\nSELECT 4"
    first, second, third = statements.split(sql)
    assert (first.line, second.line, third.line) == (2, 5, 8)
    assert second.line_of(second.tokens[-1]) == 7


@pytest.mark.parametrize(
    ("written", "name"),
    [("Orders", "orders"), ('"Orders"', "Orders"), ('"a ""b"""', 'a "b"'), ("ÉTÉ", "ÉtÉ"), ('"ab', "ab")],
)
def test_a_name_is_folded_as_postgresql_folds_it(written: str, name: str) -> None:
    (statement,) = statements.split(written)
    assert statement.tokens[0].name == name


@pytest.mark.parametrize(
    "control",
    [
        "BEGIN",
        "begin transaction isolation level serializable",
        "START TRANSACTION",
        "COMMIT",
        "COMMIT AND CHAIN",
        "END",
        "ROLLBACK",
        "ROLLBACK WORK",
        "ABORT",
        "PREPARE TRANSACTION 'a'",
        "COMMIT PREPARED 'a'",
        "ROLLBACK PREPARED 'a'",
    ],
)
def test_what_begins_or_ends_a_transaction_is_found(control: str) -> None:
    assert statements.controls_transactions(f"SELECT 'COMMIT'; /* why */ {control};\nROLLBACK;") == control


@pytest.mark.parametrize(
    "sql",
    [
        "SAVEPOINT a; RELEASE a; RELEASE SAVEPOINT a",
        "ROLLBACK TO a; ROLLBACK TO SAVEPOINT a; ROLLBACK WORK TO a; ROLLBACK TRANSACTION TO SAVEPOINT a",
        "SELECT 1; -- COMMIT;\n/* BEGIN; */",
        "DO $$ BEGIN COMMIT; END $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END;'",
        'SELECT "COMMIT"; "COMMIT"',
        "PREPARE transfer AS SELECT 1",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END",
        "",
    ],
)
def test_what_only_looks_like_it_is_not(sql: str) -> None:
    assert statements.controls_transactions(sql) is None
