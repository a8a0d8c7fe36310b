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
        ("DROP DOMAIN IF EXISTS email CASCADE", "Drops the domain email, and with CASCADE every column", "pg_dump"),
        ("DROP EXTENSION hstore CASCADE", "Drops the extension hstore, and with CASCADE every column", "pg_dump"),
        ("DROP OWNED BY reporter", "Drops all that reporter owns in this database", "pg_dump"),
        ("DROP OWNED BY reporter CASCADE", "and with CASCADE what hangs on it", "pg_dump"),
        (
            "MERGE INTO shop.orders AS o USING old ON o.id = old.id WHEN MATCHED THEN DELETE",
            "Deletes rows of the table shop.orders; ",
            "shop.orders_kept",
        ),
        (
            "WITH old AS (SELECT 1 AS id) MERGE INTO orders o USING old ON o.id = old.id WHEN MATCHED THEN DELETE",
            "Deletes rows of the table orders; ",
            "orders_kept",
        ),
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
    ("sql", "overwritten"),
    [
        ("UPDATE orders SET note = NULL", ["orders.note"]),
        ("UPDATE ONLY shop.orders AS o SET note = f(1, 2), x[1] = 2 FROM a, b", ["shop.orders.note", "shop.orders.x"]),
        ("UPDATE orders SET (a, b) = (SELECT 1, 2), c = 3", ["orders.a", "orders.b", "orders.c"]),
        (
            "WITH o AS (UPDATE orders SET a = 1 RETURNING 1), p AS (UPDATE pages SET b = 1, c = 2) SELECT 1",
            ["orders.a", "pages.b", "pages.c"],
        ),
        ("WITH o AS (SELECT 1) UPDATE orders SET a = 1", ["orders.a"]),
        ("ALTER TABLE orders ADD old int; UPDATE orders SET old = new, new = 0", ["orders.new"]),
    ],
)
def test_what_is_overwritten_is_a_warning_of_each_column(sql: str, overwritten: list[str]) -> None:
    found = found_in(sql)
    assert {(one.rule, one.level) for one in found} == {(RULE, "warning")}
    assert [one.message for one in found] == [
        f"Overwrites values of the column {column}; no upgrade brings them back." for column in overwritten
    ]
    assert all("_kept AS TABLE" in (one.safe_way or "") for one in found)


def test_a_table_that_is_made_has_no_part_in_what_a_role_of_its_name_owns() -> None:
    (found,) = found_in("CREATE TABLE aid (a int); DROP OWNED BY aid")
    assert "aid owns" in found.message
    (found,) = found_in("CREATE TABLE aid (a int); DROP EXTENSION aid CASCADE")
    assert "the extension aid" in found.message


@pytest.mark.parametrize(
    "sql",
    [
        "DROP INDEX i; DROP VIEW v; DROP MATERIALIZED VIEW v; DROP FUNCTION f(); DROP TYPE mood; DROP SCHEMA shop",
        "ALTER TABLE orders DROP CONSTRAINT c, ALTER note DROP NOT NULL, ALTER note SET NOT NULL",
        "ALTER TABLE orders RENAME TO purchases; ALTER TABLE orders RENAME a TO b",
        "CREATE TABLE aid (a int); INSERT INTO aid SELECT 1; DELETE FROM aid; TRUNCATE aid; DROP TABLE aid",
        "ALTER TABLE orders ADD COLUMN a int; ALTER TABLE orders DROP COLUMN a",
        "INSERT INTO orders (status) VALUES ('DELETE FROM orders')",
        "DROP DOMAIN email; DROP EXTENSION hstore; CREATE DOMAIN d AS int; DROP DOMAIN d CASCADE",
        "MERGE INTO orders o USING new n ON o.id = n.id WHEN NOT MATCHED THEN INSERT VALUES (n.id)",
        "CREATE TABLE aid (a int); UPDATE aid SET a = 1; MERGE INTO aid USING b ON true WHEN MATCHED THEN DELETE",
        "ALTER TABLE orders ADD COLUMN a int; UPDATE orders SET a = 1 WHERE b = 2",
        "WITH o AS (SELECT 1 FROM orders FOR UPDATE) INSERT INTO aid VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1",
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
    sql = "TRUNCATE orders; DELETE FROM orders; UPDATE orders SET a = 1; DROP OWNED BY me; DROP EXTENSION e CASCADE"
    assert own(sql) == []
