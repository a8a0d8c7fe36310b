"""breaks-serving-code: what an upgrade takes away from the code that still serves."""

import ast

import pytest

from tests.lint.scripts import own, rules, script

RULE = "breaks-serving-code"


@pytest.mark.parametrize(
    ("sql", "said", "advised"),
    [
        ("ALTER TABLE orders DROP COLUMN note", "Drops the column orders.note.", 'op.drop_column("orders", "note")'),
        ("ALTER TABLE orders DROP note CASCADE", "Drops the column orders.note.", '"nullable=True"'.strip('"')),
        (
            'ALTER TABLE IF EXISTS ONLY shop."Orders" DROP COLUMN IF EXISTS "The ""Note"""',
            'Drops the column shop."Orders"."The ""Note""".',
            'op.drop_column("Orders", "The \\"Note\\"", schema="shop")',
        ),
        ("DROP TABLE orders", "Drops the table orders.", 'op.drop_table("orders")'),
        ("DROP TABLE IF EXISTS shop.orders CASCADE", "Drops the table shop.orders.", 'op.drop_table("orders", schema'),
        ("DROP VIEW v", "Drops the view v.", 'op.execute("DROP VIEW v")'),
        ("DROP MATERIALIZED VIEW v", "Drops the materialized view v.", "DROP MATERIALIZED VIEW v"),
        ("DROP SCHEMA shop CASCADE", "Drops the schema shop with all that is in it.", "DROP SCHEMA shop CASCADE"),
        ("DROP TYPE mood", "Drops the type mood.", 'op.execute("DROP TYPE mood")'),
        (
            "ALTER TABLE orders RENAME note TO remark",
            "The column orders.note becomes remark.",
            'remark = mapped_column("note"',
        ),
        ("ALTER VIEW v RENAME COLUMN a TO b", "The column v.a becomes b.", 'b = mapped_column("a"'),
        ("ALTER TABLE orders RENAME TO purchases", "The table orders becomes purchases.", "CREATE VIEW orders AS"),
        (
            'ALTER TABLE s."A" RENAME TO "B"',
            'The table s."A" becomes s."B".',
            'CREATE VIEW s.\\"A\\" AS SELECT * FROM s.\\"B\\"',
        ),
        ("ALTER TABLE orders SET SCHEMA shop", "The table orders becomes shop.orders.", "SET SCHEMA shop"),
        ("ALTER SCHEMA shop RENAME TO store", "The schema shop becomes store.", '{"store": "shop"}'),
        ("ALTER TYPE mood RENAME TO humour", "The type mood becomes humour.", 'sa.Enum(…, name="mood")'),
        (
            "ALTER TYPE mood RENAME VALUE 'sad' TO 'low'",
            "The value 'sad' of mood becomes 'low'.",
            "ADD VALUE IF NOT EXISTS 'low'",
        ),
        (
            "ALTER TABLE orders ALTER note TYPE varchar(9)",
            "The column orders.note becomes varchar(9).",
            "ADD COLUMN note_new varchar(9)",
        ),
        (
            "ALTER TABLE orders ALTER COLUMN total SET DATA TYPE numeric(9, 2) USING total::numeric",
            "The column orders.total becomes numeric(9, 2).",
            "ADD COLUMN total_new numeric(9, 2)",
        ),
        (
            "ALTER TABLE orders ALTER COLUMN note SET NOT NULL",
            "orders.note takes no NULL any more.",
            "WHERE note IS NULL",
        ),
        (
            "ALTER TABLE orders ADD CONSTRAINT c CHECK (note IS NOT NULL) NOT VALID",
            "orders.note takes no NULL any more.",
            "WHERE note IS NULL",
        ),
        (
            "ALTER TABLE orders ADD CONSTRAINT c NOT NULL note NOT VALID",
            "orders.note takes no NULL",
            "WHERE note IS NULL",
        ),
        ("ALTER TABLE orders ADD COLUMN note text NOT NULL", "The new column orders.note is NOT NULL", "nullable=True"),
        ("ALTER TABLE orders ADD note uuid PRIMARY KEY", "The new column orders.note is NOT NULL", "server_default"),
        (
            "ALTER TABLE orders ADD note text DEFAULT NULL NOT NULL",
            "The new column orders.note is NOT NULL",
            "nullable",
        ),
    ],
)
def test_what_the_code_that_serves_does_not_survive_is_named_with_the_safe_way(
    sql: str, said: str, advised: str
) -> None:
    (found,) = own(f"-- why\nSELECT 1;\n{sql};\n")
    assert (found.rule, found.level, found.line, found.revision) == (RULE, "danger", 3, "r1")
    assert said in found.message
    assert found.safe_way is not None
    assert advised in found.safe_way


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE orders DROP CONSTRAINT c, ALTER note DROP DEFAULT, ALTER note DROP NOT NULL",
        "ALTER TABLE orders RENAME CONSTRAINT a TO b",
        "ALTER TYPE address RENAME ATTRIBUTE a TO b",
        "ALTER TYPE mood ADD VALUE 'glad'",
        "ALTER INDEX a RENAME TO b",
        "DROP INDEX a; DROP FUNCTION f(); DROP TRIGGER t ON orders; DROP SEQUENCE s",
        "DROP SCHEMA shop",
        "ALTER TABLE orders ADD COLUMN note text, ADD n int NOT NULL DEFAULT 1",
        "ALTER TABLE orders ADD COLUMN n bigserial NOT NULL, ADD m bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0), ADD UNIQUE (note), ADD PRIMARY KEY (id)",
        "ALTER TABLE orders ALTER note SET DEFAULT 'x'; ALTER TABLE orders ALTER note SET NOT NULL",
        "ALTER TABLE orders ALTER note SET NOT NULL, ALTER note SET DEFAULT 'x'",
        "ALTER TABLE orders ALTER note SET DEFAULT 'x', ALTER note SET NOT NULL",
        "ALTER TABLE orders VALIDATE CONSTRAINT c; ALTER TABLE orders ALTER note SET NOT NULL",
        "CREATE TABLE n (a int); ALTER TABLE n DROP a, ADD b int NOT NULL; ALTER TABLE n RENAME TO m; DROP TABLE m",
        "CREATE TEMP TABLE n (a int); DROP TABLE n",
        "ALTER TABLE orders ADD COLUMN n int; ALTER TABLE orders RENAME n TO m; ALTER TABLE orders DROP m",
        "ALTER TABLE a RENAME TO b; CREATE VIEW a AS SELECT * FROM b",
        "DROP VIEW v; CREATE VIEW v AS SELECT 1",
        "SELECT 'ALTER TABLE t DROP a'; -- DROP TABLE t;\nCOMMENT ON TABLE t IS $$; DROP TABLE t;$$",
        "DO $$ BEGIN EXECUTE 'DROP TABLE orders'; END $$",
    ],
)
def test_what_it_survives_is_not_mentioned(sql: str) -> None:
    assert own(sql) == []


def test_a_table_of_an_earlier_revision_of_the_plan_is_nobodys_yet() -> None:
    assert (
        own("CREATE TABLE shop.orders (a int, b int)", "ALTER TABLE shop.orders DROP b", "DROP TABLE shop.orders") == []
    )
    (found,) = own("CREATE TABLE shop.orders (a int)", "DROP TABLE orders")
    assert found.revision == "r2", "another table, in another schema"


def test_a_table_that_may_have_been_there_is_not_taken_for_new() -> None:
    assert rules(own("CREATE TABLE IF NOT EXISTS orders (a int)", "DROP TABLE orders")) == [RULE]
    assert rules(own("CREATE TABLE orders (a int)", "DROP TABLE orders", "DROP TABLE orders")) == [RULE]


def test_a_renamed_table_is_reported_once_however_the_plan_goes_on() -> None:
    (found,) = own("ALTER TABLE orders RENAME TO old", "ALTER TABLE old DROP COLUMN note; DROP TABLE old")
    assert found.message.startswith("The table orders becomes old.")
    assert rules(own("ALTER TABLE orders RENAME TO old; CREATE VIEW another AS SELECT 1")) == [RULE]


def test_an_enum_that_is_made_anew_is_reported_where_its_column_changes() -> None:
    found = own(
        "ALTER TYPE mood RENAME TO mood_old;\nCREATE TYPE mood AS ENUM ('glad');\n"
        "ALTER TABLE t ALTER c TYPE mood USING c::text::mood;\nDROP TYPE mood_old"
    )
    assert [(one.rule, one.line) for one in found] == [(RULE, 3)]


def test_every_action_of_a_statement_is_found_in_its_own_line() -> None:
    found = own("ALTER TABLE t\n  DROP a,\n  ADD c text DEFAULT 'x, y',\n  DROP b;\nDROP TABLE u, v")
    assert [(one.line, one.message.split(".")[0]) for one in found] == [
        (2, "Drops the column t"),
        (4, "Drops the column t"),
        (5, "Drops the table u"),
        (5, "Drops the table v"),
    ]


def test_a_column_that_a_plan_adds_is_still_unknown_to_who_has_to_write_it() -> None:
    (found,) = own("ALTER TABLE t ADD c text", "UPDATE t SET c = ''; ALTER TABLE t ALTER c SET NOT NULL")
    assert found.revision == "r2"


def test_a_downgrade_is_judged_by_what_it_destroys() -> None:
    assert RULE not in rules(own(script("DROP TABLE t; ALTER TABLE u DROP c", direction="downgrade")))


def test_the_safe_way_is_python_where_nothing_is_left_open() -> None:
    (found,) = own('ALTER TABLE "s \' x"."t\\n" DROP COLUMN "c\nd"')
    assert found.safe_way is not None
    calls = [node for node in ast.walk(ast.parse(found.safe_way)) if isinstance(node, ast.Call)]
    assert [call.args[1].value for call in calls if isinstance(call.args[1], ast.Constant)] == ["c\nd", "c\nd"]
