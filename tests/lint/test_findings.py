"""What is found in whole plans."""

import re
import subprocess
import sys

import pytest

from app.lint import Script, downgrade, mixture, serving
from app.report import Direction
from tests import servers
from tests.lint.scripts import linted, own, rules, script

AUTOCOMMIT = "COMMIT;\n\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uq_products_slug ON products (slug);\n\nBEGIN;"


def rendered(direction: Direction, steps: str) -> list[Script]:
    """The sample history's SQL, as Alembic's offline mode writes it, less BEGIN, COMMIT and the version's row."""
    command = [sys.executable, "-m", "alembic", direction, steps, "--sql"]
    environment = servers.environment(None)
    sql = subprocess.run(
        command, cwd=servers.PROJECT, env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    sql = re.sub(r"\n(UPDATE|DELETE FROM) alembic_version .*", "", sql.strip().removesuffix("COMMIT;"))
    found = re.split(r"-- Running \w+ (\w*) -> (\w*)\n", sql)[1:]
    return [
        Script(after if direction == "upgrade" else before, direction, body, "CONCURRENTLY" not in body)
        for before, after, body in zip(found[::3], found[1::3], found[2::3], strict=True)
    ]


def test_the_sample_history_goes_forward_as_it_says() -> None:
    scripts = rendered("upgrade", "0001:0003")
    assert [one.revision for one in scripts] == ["0002", "0003"]
    scripts += [
        script(
            "ALTER TABLE products ADD COLUMN IF NOT EXISTS slug TEXT;\n\nCOMMIT;\n\nSELECT 1",
            revision="0004",
            transactional=None,
        ),
        script(AUTOCOMMIT, revision="0005", transactional=False),
        *rendered("upgrade", "0005:0007"),
    ]
    found, lint = linted(*scripts)
    assert lint.startswith("squawk ")
    told = [(one.revision, one.rule, one.level) for one in found]
    assert told == [
        ("0002", "require-enum-value-ordering", "notice"),
        ("0006", "breaks-serving-code", "danger"),  # true of code that serves before 0004: expand, then contract
        ("0007", "ban-drop-constraint", "warning"),
    ]


def test_the_sample_history_says_what_it_loses_on_its_way_back() -> None:
    scripts = rendered("downgrade", "0007:base")
    assert [one.revision for one in scripts] == ["0007", "0006", "0005", "0004", "0003", "0002", "0001"]
    lossy = [(one.revision, one.level, one.message.partition(";")[0]) for one in own(*scripts)]
    assert lossy[0] == ("0004", "danger", "Drops the column products.slug with its values")
    assert lossy[1] == ("0003", "danger", "Drops the column orders.updated_at with its values")
    assert [one[:2] for one in lossy[2:3]] == [("0002", "warning")]
    assert [one[2] for one in lossy[3:]] == [
        f"Drops the table {table} with all its rows" for table in ("order_lines", "orders", "products", "customers")
    ]


def test_findings_come_in_the_order_of_the_scripts_and_their_lines() -> None:
    scripts = [
        script("SELECT 1;\nDROP TABLE t;\nALTER TABLE u\n DROP a;", revision="z"),
        script("DROP INDEX i;", revision="a"),
    ]
    found, _ = linted(*scripts)
    assert [(one.revision, one.line, one.source, one.rule) for one in found] == [
        ("z", 2, "migration-endpoint", "breaks-serving-code"),
        ("z", 2, "squawk", "ban-drop-table"),
        ("z", 4, "migration-endpoint", "breaks-serving-code"),
        ("z", 4, "squawk", "ban-drop-column"),
        ("a", 1, "squawk", "require-concurrent-index-deletion"),
    ]
    assert linted(*scripts)[0] == found


def test_what_cannot_be_rendered_to_its_end_is_judged_as_far_as_it_goes() -> None:
    found, _ = linted(script("DROP TABLE t;\n\nSELECT id FROM u", transactional=None))
    assert rules(found) == ["breaks-serving-code", "ban-drop-table"]


def test_names_are_compared_as_postgresql_compares_them() -> None:
    create = 'CREATE TABLE "Orders" (a int); CREATE TABLE Items (a int)'
    assert own(create, 'DROP TABLE "Orders"; DROP TABLE ITEMS; DROP TABLE IF EXISTS "items"') != []
    assert [one.message.partition(".")[0] for one in own(create, 'DROP TABLE orders; DROP TABLE "Items", items')] == [
        "Drops the table orders",
        'Drops the table "Items"',
    ]


@pytest.mark.parametrize(
    "sql", ["", ";", "-- nothing\n", "\n\n;;\n", "/* never closed", "'", '"', "$$", "ALTER TABLE", "DROP"]
)
def test_the_least_of_scripts_has_no_finding_of_ours(sql: str) -> None:
    for transactional in (True, False, None):
        assert own(script(sql, transactional=transactional)) == []
        assert own(script(sql, direction="downgrade", transactional=transactional)) == []


def test_the_page_on_findings_has_our_rules() -> None:
    page = (servers.PROJECT / "docs" / "findings.md").read_text()
    section = page.partition("## Our own rules")[2].partition("## Squawk's rules")[0]
    ours = {serving.RULE, downgrade.RULE, mixture.RULE, "not-rendered"}  # the last is the plan's, which renders
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == ours
    assert "four rules" in page
