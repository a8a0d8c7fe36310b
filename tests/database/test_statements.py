"""Which statements are prepared, so that their rows have the driver's types: those that are surely one."""

import pytest

from app.database import statements


@pytest.mark.parametrize(
    "operation",
    [
        "SELECT 1",
        "SELECT 1; \n",
        "SELECT 1;;",
        "SELECT ';'",
        "SELECT $a$ ; $b$ ; $a$, interval '1 day'",
        "SELECT 1 /* ; /* ; */ ; */ -- ;\n;",
        "/* first; */ WITH moved AS (DELETE FROM t WHERE name = E'\\';' RETURNING id) SELECT array_agg(id) FROM moved",
        "INSERT INTO t VALUES ('a;b') RETURNING id",
        'SELECT now() AS "a;b"',
    ],
)
def test_one_statement_that_returns_rows_is_known_by_its_text(operation: str) -> None:
    assert statements.wants_types(operation)


@pytest.mark.parametrize(
    "operation",
    [
        "SELECT 1; SELECT 2",
        "SELECT 'a'; DROP TABLE t",
        "SELECT '\\'; DROP TABLE t; --'",
        "INSERT INTO t VALUES ('a') RETURNING id; COMMIT",
        "INSERT INTO t VALUES ('a;b')",
        "DO $$ BEGIN PERFORM 1; END $$",
    ],
)
def test_several_statements_or_one_without_rows_are_sent_as_they_are(operation: str) -> None:
    assert not statements.wants_types(operation)
