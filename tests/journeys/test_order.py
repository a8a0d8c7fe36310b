"""The order in which revisions are planned and run is the one in which plain Alembic, on psycopg, runs them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.migrator.revisions import History
from app.report import Direction
from tests import servers
from tests.conftest import MakeSettings, client_of
from tests.servers import APPLY, READ, Database, Postgres
from tests.shapes import SHAPES, write_shape

PLAIN_ENV = """
import os
from alembic import context
from sqlalchemy import create_engine
def tell(*, step, **_):
    print("ran", step.up_revision_id, flush=True)
with create_engine(os.environ["PLAIN_URL"]).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True, on_version_apply=tell)
    with context.begin_transaction():
        context.run_migrations()
"""

PLAIN = """
import sys
from alembic import command
from alembic.config import Config
config = Config()
config.set_main_option("script_location", sys.argv[1])
for target in sys.argv[2:]:
    command.upgrade(config, target)
"""


def plainly_run(database: Database, history: Path, *targets: str) -> list[str]:
    """The order in which `alembic upgrade` runs a history on psycopg, with an env.py as `alembic init` writes it."""
    (history / "env.py").write_text(PLAIN_ENV)
    url = database.address.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    said = subprocess.run(
        [sys.executable, "-c", PLAIN, str(history), *targets],
        check=True,
        cwd=history,
        env={**os.environ, "PLAIN_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    return [line.removeprefix("ran ") for line in said.splitlines() if line.startswith("ran ")]


@pytest.fixture
def two(postgres: Postgres) -> Iterator[tuple[Database, Database]]:
    """Two fresh databases: for this service, and for plain Alembic."""
    with ExitStack() as stack:
        yield stack.enter_context(postgres.database()), stack.enter_context(postgres.database())


STEPS = {
    "two heads": ["b2", "heads"],
    "a dependency across": ["bill@head", "heads"],
    "dependencies both ways": ["a1", "b2", "heads"],
    "several bases with labels": ["shop@heads", "till", "heads"],
    "criss-cross merges": ["r1", "l2", "heads"],
}
"""By which targets a shape is gone through; else by `heads` alone."""

AMBIGUOUS = ("one that needs several, which have nothing to do with each other", "needs within merges")
"""Where Alembic has one order in one process, and another in the next."""


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_order_is_that_of_plain_alembic(
    two: tuple[Database, Database], settings: MakeSettings, tmp_path: Path, shape: str
) -> None:
    ours, plain = two
    targets = STEPS.get(shape, ["heads"])
    folder = write_shape(tmp_path / "ours", SHAPES[shape])
    planned: list[str] = []
    applied: list[str] = []
    async with client_of(settings(folder, database_url=ours.url)) as client:
        for target in targets:
            plan = (await client.get("/plan", headers=READ, params={"target": target})).json()
            planned += [each["revision"] for each in plan["pending"]]
            run = (await client.post("/migrate", headers=APPLY, json={"target": target})).json()
            applied += [each["revision"] for each in run["applied"]]
    recorded = [name for (name,) in ours.execute("SELECT revision FROM migration_endpoint.step ORDER BY id")]
    alembics = plainly_run(plain, write_shape(tmp_path / "plain", SHAPES[shape]), *targets)
    assert planned == applied == recorded
    assert sorted(alembics) == sorted(applied) == sorted(SHAPES[shape])
    if shape not in AMBIGUOUS:
        assert applied == alembics
    versions = "SELECT version_num FROM alembic_version ORDER BY 1"
    assert ours.execute(versions) == plain.execute(versions)


ORDERS = """
import json, sys
from alembic.config import Config
from alembic.script import ScriptDirectory
from app.migrator.revisions import History
told = []
for folder in sys.argv[1:]:
    config = Config()
    config.set_main_option("script_location", folder)
    plain = ScriptDirectory.from_config(config)
    told.append([
        [each.revision for each in History(folder).pending([], "heads")],
        [step.revision.revision for step in plain._upgrade_revs("heads", ())],
    ])
print(json.dumps(told))
"""


def test_where_alembic_leaves_the_order_open_it_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Else a plan that one instance has shown would be refused by the next."""
    folders = [str(write_shape(tmp_path / str(number), SHAPES[shape])) for number, shape in enumerate(SHAPES)]
    ours, alembics = set(), []
    for seed in range(4):
        said = subprocess.run(
            [sys.executable, "-c", ORDERS, *folders],
            check=True,
            cwd=servers.PROJECT,
            env={**servers.environment(None), "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        told = json.loads(said)
        ours.add(json.dumps([one for one, _ in told]))
        alembics.append({shape: plain for shape, (_, plain) in zip(SHAPES, told, strict=True)})
    assert len(ours) == 1
    mine = dict(zip(SHAPES, json.loads(ours.pop()), strict=True))
    for shape in SHAPES:
        orders = [plain[shape] for plain in alembics]
        if shape in AMBIGUOUS:
            assert len({tuple(order) for order in orders}) > 1, "no longer ambiguous: expect one order"
        else:
            assert orders == [mine[shape]] * len(orders)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_order_runs_a_revision_before_what_it_comes_after(tmp_path: Path, shape: str) -> None:
    known = History(str(write_shape(tmp_path / "history", SHAPES[shape])))
    labelled = {label: revision for revision, link in SHAPES[shape].items() for label in several(link.labels)}

    def order(current: list[str], direction: Direction) -> list[str]:
        target = "heads" if direction == "upgrade" else "base"
        return [each.revision for each in known.pending(current, target, direction)]

    up = order([], "upgrade")
    back = order(list(known.heads), "downgrade")
    assert sorted(up) == sorted(back) == sorted(SHAPES[shape])
    for revision, link in SHAPES[shape].items():
        for before in (*several(link.down), *(labelled.get(name, name) for name in several(link.needs))):
            assert up.index(before) < up.index(revision)
            assert back.index(before) > back.index(revision)


def several(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names or ()
