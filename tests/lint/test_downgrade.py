"""lossy-downgrade: what a downgrade destroys."""

import pytest

from app.report import Finding
from tests.lint.scripts import own, script

RULE = "lossy-downgrade"


def found_in(sql: str) -> list[Finding]:
    return own(script(sql, direction="downgrade"))


@pytest.mark.parametrize(
    ("sql", "said", "advised"),
    [
        ("DROP TABLE orders", "Drops the table orders with all its rows; ", "CREATE TABLE orders_kept AS TABLE orders"),
        (
            'DROP TABLE "Orders" CASCADE',
            'Drops the table "Orders" with all its rows, and with CASCADE',
            '\\"Orders_kept\\"',
        ),
        (
            "ALTER TABLE shop.products DROP COLUMN slug",
            "Drops the column shop.products.slug with its values; ",
            "CREATE TABLE shop.products_kept AS TABLE shop.products",
        ),
        ("TRUNCATE orders", "Removes all rows of the table orders; ", "orders_kept"),
        ("TRUNCATE TABLE ONLY orders CASCADE", "every table that refers to it", "orders_kept"),
        ("DELETE FROM orders WHERE id > 7", "Deletes rows of the table orders; ", "orders_kept"),
        ("WITH old AS (DELETE FROM orders RETURNING *) SELECT 1", "Deletes rows of the table orders; ", "orders_kept"),
        ("DROP SCHEMA shop CASCADE", "Drops the schema shop with all its tables", "pg_dump --schema=shop"),
        ("DROP TYPE mood CASCADE", "every column that has it", "pg_dump"),
    ],
)
def test_what_is_destroyed_is_named(sql: str, said: str, advised: str) -> None:
    (found,) = found_in(f"SELECT 1;\n{sql}")
    assert (found.rule, found.level, found.line) == (RULE, "danger", 2)
    assert said in found.message
    assert found.safe_way is not None
    assert advised in found.safe_way


def test_a_changed_type_is_a_warning_since_nobody_knows_whether_it_is_narrower() -> None:
    (found,) = found_in("ALTER TABLE orders ALTER status TYPE mood USING status::text::mood")
    assert (found.rule, found.level) == (RULE, "warning")
    assert "orders.status becomes mood again" in found.message
    assert 'new_column_name="status_kept"' in (found.safe_way or "")


@pytest.mark.parametrize(
    "sql",
    [
        "DROP INDEX i; DROP VIEW v; DROP MATERIALIZED VIEW v; DROP FUNCTION f(); DROP TYPE mood; DROP SCHEMA shop",
        "ALTER TABLE orders DROP CONSTRAINT c, ALTER note DROP NOT NULL, ALTER note SET NOT NULL",
        "ALTER TABLE orders RENAME TO purchases; ALTER TABLE orders RENAME a TO b",
        "CREATE TABLE aid (a int); INSERT INTO aid SELECT 1; DELETE FROM aid; TRUNCATE aid; DROP TABLE aid",
        "ALTER TABLE orders ADD COLUMN a int; ALTER TABLE orders DROP COLUMN a",
        "UPDATE orders SET status = 'DELETE FROM orders'",
    ],
)
def test_what_destroys_nothing_is_not_mentioned(sql: str) -> None:
    assert found_in(sql) == []


def test_a_new_name_does_not_make_rows_worthless() -> None:
    (found,) = found_in("ALTER TABLE orders RENAME TO old; DROP TABLE old")
    assert "Drops the table old" in found.message
    (found,) = found_in("ALTER TABLE orders RENAME a TO b; ALTER TABLE orders DROP b")
    assert "Drops the column orders.b" in found.message


def test_an_upgrade_is_judged_by_the_code_that_serves() -> None:
    assert not [one for one in own("TRUNCATE orders; DELETE FROM orders") if one.rule == RULE]
