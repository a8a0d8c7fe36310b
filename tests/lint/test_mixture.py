"""mixed-transaction: revisions that are committed in parts."""

import pytest

from tests.lint.scripts import own, rules, script

RULE = "mixed-transaction"
INDEX = "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a);"


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        (f"ALTER TABLE t ADD a int;\nCOMMIT;\n{INDEX}\nBEGIN;", 1),
        ("SELECT 1;\nINSERT INTO t VALUES (1); COMMIT; BEGIN; INSERT INTO t VALUES (2);", 2),
        ("COMMIT;\nCREATE INDEX CONCURRENTLY i ON t (a);\nBEGIN;\nALTER TABLE t ADD b int;", 2),
        (f"CREATE TABLE u (a int);\nCREATE TABLE IF NOT EXISTS v (a int);\nEND;\n{INDEX}", 1),
        ("WITH n AS (INSERT INTO t VALUES (1) RETURNING a) SELECT a FROM n;\nCOMMIT;\nDO $$ $$;\nBEGIN;", 1),
    ],
)
def test_what_would_stumble_over_itself_is_found_where_it_stands(sql: str, line: int) -> None:
    (found,) = own(script(sql, transactional=False))
    assert (found.rule, found.level, found.line) == (RULE, "warning", line)
    assert "the next run starts the revision again from its beginning" in found.message
    assert "IF NOT EXISTS" in (found.safe_way or "")


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE t ADD a int; UPDATE t SET a = 1",
        f"COMMIT;\n{INDEX}\nBEGIN;",
        f"SELECT 1; SET LOCAL lock_timeout = 1; COMMIT; {INDEX} BEGIN; SHOW lock_timeout;",
        "COMMIT; CREATE INDEX CONCURRENTLY i ON t (a); CREATE INDEX CONCURRENTLY j ON t (b); BEGIN;",  # squawk says it
        f"ALTER TABLE t ADD COLUMN IF NOT EXISTS a int; COMMIT; {INDEX} BEGIN;",
        f"CREATE OR REPLACE VIEW v AS SELECT 1; INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING; COMMIT; {INDEX}",
        f"COMMIT; {INDEX} BEGIN; ALTER TABLE t ADD b int; UPDATE t SET b = 1;",
        "SAVEPOINT a; INSERT INTO t VALUES (1); ROLLBACK TO a; INSERT INTO t VALUES (2); RELEASE a",
        "DO $$ BEGIN COMMIT; END $$; INSERT INTO t VALUES (1)",
        "WITH n AS (SELECT 1) SELECT * FROM n; COMMIT; INSERT INTO t VALUES (1);",
        "",
    ],
)
def test_what_passes_a_second_time_is_not_mentioned(sql: str) -> None:
    assert RULE not in rules(own(script(sql, transactional="COMMIT;" not in sql)))


def test_of_a_revision_that_could_not_be_rendered_more_may_come() -> None:
    sql = "ALTER TABLE products ADD COLUMN {}slug TEXT;\n\nCOMMIT;\n\nSELECT id FROM products;\n"
    assert rules(own(script(sql.format(""), transactional=None))) == [RULE]
    assert own(script(sql.format(""), transactional=False)) == []
    assert own(script(sql.format("IF NOT EXISTS "), transactional=None)) == []
    assert own(script("ALTER TABLE products ADD COLUMN slug TEXT; SELECT id FROM products", transactional=None)) == []


def test_a_long_statement_is_cut_short() -> None:
    (found,) = own(script(f"CREATE TABLE t ({', '.join(f'c{n} int' for n in range(99))});\nCOMMIT;\n{INDEX}"))
    assert " …`, that is committed" in found.message
    assert len(found.message) < 300
