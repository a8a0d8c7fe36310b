"""What an env.py says, said by the settings: each of them seen in what it does."""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.migrator import glance
from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.journeys.test_alembic_command import alembic, project  # noqa: F401 – a fixture
from tests.servers import APPLY, READ, Database


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Write a module of an application: `module("shop_models", "…")`."""
    folder = tmp_path / "application"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    written = []

    def write(name: str, code: str) -> None:
        (folder / f"{name}.py").write_text(textwrap.dedent(code))
        written.append(name)

    yield write
    for name in written:
        sys.modules.pop(name, None)


async def post(configuration: Any, path: str = "/migrate", **body: Any) -> Any:
    async with client_of(configuration) as client:
        return await client.post(path, headers=APPLY, json=body)


async def migrated(configuration: Any) -> Any:
    answer = await post(configuration)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def rendered(configuration: Any) -> list[dict[str, Any]]:
    async with client_of(configuration) as client:
        answer = await client.get("/plan", headers=READ)
    assert answer.status_code == 200, answer.text
    pending: list[dict[str, Any]] = answer.json()["pending"]
    return pending


CONVENTION = json.dumps(
    {
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)
UNNAMED = (
    "op.create_table('a', sa.Column('id', sa.Integer, primary_key=True), sa.Column('code', sa.Text, unique=True), "
    "sa.CheckConstraint('id > 0', name='positive'))"
)
NAMES = "SELECT conname FROM pg_constraint WHERE conrelid = 'a'::regclass AND contype <> 'n' ORDER BY 1"
MODELS = """
    import sqlalchemy as sa

    class Base:
        metadata = sa.MetaData(naming_convention={"uq": "uq_by_the_models", "pk": "pk_by_the_models"})

    other = sa.MetaData()
    sa.Table("shelf", Base.metadata, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table("box", other, sa.Column("id", sa.Integer, primary_key=True))
"""


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({}, ["a_code_key", "a_pkey", "positive"]),
        ({"naming_convention": CONVENTION}, ["ck_a_positive", "pk_a", "uq_a_code"]),
        ({"target_metadata": "shop_models:Base.metadata"}, ["pk_by_the_models", "positive", "uq_by_the_models"]),
        (
            {"target_metadata": "shop_models:Base.metadata", "naming_convention": CONVENTION},
            ["ck_a_positive", "pk_a", "uq_a_code"],
        ),
        (
            {"target_metadata": "shop_models:Base.metadata, shop_models:other", "naming_convention": CONVENTION},
            ["ck_a_positive", "pk_a", "uq_a_code"],
        ),
    ],
)
async def test_constraints_without_a_name_are_named_by_the_convention(
    settings: MakeSettings,
    write_history: WriteHistory,
    database: Database,
    module: Any,
    chosen: dict[str, str],
    names: list[str],
) -> None:
    module("shop_models", MODELS)
    configuration = settings(write_history(a1=UNNAMED), **chosen)
    (planned,) = await rendered(configuration)
    assert all(f"CONSTRAINT {name}" in planned["sql"] for name in names if "_a" in name and chosen)
    await migrated(configuration)
    assert [name for (name,) in database.execute(NAMES)] == names


async def test_a_convention_wins_over_that_of_the_metadata_in_env_py_and_leaves_it_as_it_is(
    settings: MakeSettings, write_history: WriteHistory, database: Database, module: Any
) -> None:
    module("shop_models", MODELS)
    as_before = "import shop_models\nassert shop_models.Base.metadata.naming_convention['uq'] == 'uq_by_the_models'"
    history = write_history(a1=UNNAMED, b2=as_before)
    env_py = history / "env.py"
    theirs = "from shop_models import Base\ntarget_metadata = Base.metadata"
    env_py.write_text(env_py.read_text().replace("target_metadata: sa.MetaData | None = None", theirs))
    await migrated(settings(history, naming_convention=CONVENTION))
    assert [name for (name,) in database.execute(NAMES)] == ["ck_a_positive", "pk_a", "uq_a_code"]


async def test_upgrade_gets_the_keyword_arguments_and_the_x_arguments(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    database.execute("CREATE TABLE told (schema text, size int, x text)")
    history = write_history(a1="pass")
    (history / "versions" / "a1.py").write_text(
        "from alembic import context, op\nrevision, down_revision = 'a1', None\n\n"
        "def upgrade(schema='none', size=0):\n"
        "    x = context.get_x_argument(as_dictionary=True)\n"
        "    op.execute(f\"INSERT INTO told VALUES ('{schema}', {size}, '{x['tenant']} {'dry' in x}')\")\n\n"
        "def downgrade(**_):\n    pass\n"
    )
    env_py = history / "env.py"  # theirs gives one of the arguments too, and reads `-x`
    env_py.write_text(
        env_py.read_text()
        .replace("context.run_migrations()", "context.run_migrations(schema='theirs', size=7)")
        .replace(
            "def run_migrations", "assert context.get_x_argument() == ['tenant=acme', 'dry']\n\n\ndef run_migrations"
        )
    )
    chosen = {"upgrade_kwargs": '{"schema": "ours"}', "x": "tenant=acme, dry"}
    configuration = settings(history, **chosen)
    (planned,) = await rendered(configuration)
    assert planned["sql"] == "INSERT INTO told VALUES ('ours', 7, 'acme True');"
    assert (await post(configuration, "/rehearse")).json()["outcome"] == "passed"
    await migrated(configuration)
    assert database.execute("SELECT * FROM told") == [("ours", 7, "acme True")]


async def test_revisions_are_found_in_several_folders_and_below_them(
    settings: MakeSettings, write_history: WriteHistory, database: Database, tmp_path: Path
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="op.execute('SELECT 1/0')")
    (history / "versions" / "2024").mkdir()
    (tmp_path / "more % places").mkdir()
    (history / "versions" / "a1.py").rename(history / "versions" / "2024" / "a1.py")
    (history / "versions" / "b2.py").rename(tmp_path / "more % places" / "b2.py")
    configuration = settings(
        history,
        version_locations=f"{history / 'versions'}, {tmp_path / 'more % places'}",
        recursive_version_locations=True,
    )
    answer = (await post(configuration)).json()
    assert [step["revision"] for step in answer["applied"]] == ["a1"], answer
    assert answer["where"] == "b2.py:13"
    assert (await glance.at(glance.places(configuration))).head == "b2"
    flat = settings(history, version_locations=configuration.version_locations)
    assert (await glance.at(glance.places(flat))).head is None, "b2 alone makes no chain"


async def test_a_custom_operation_is_registered_by_an_import(
    settings: MakeSettings, write_history: WriteHistory, database: Database, module: Any
) -> None:
    module(
        "shop_operations",
        """
        from alembic.operations import MigrateOperation, Operations

        @Operations.register_operation("create_box")
        class CreateBox(MigrateOperation):
            def __init__(self, name):
                self.name = name

            @classmethod
            def create_box(cls, operations, name):
                return operations.invoke(cls(name))

        @Operations.implementation_for(CreateBox)
        def create(operations, operation):
            operations.execute(f"CREATE TABLE {operation.name} (id int)")
        """,
    )
    history = write_history(a1="op.create_box('box')")
    before = history / "versions" / "a1.py"  # it is looked for as the file is read, too
    before.write_text(before.read_text().replace("def upgrade", "create_box = op.create_box\n\n\ndef upgrade"))
    assert (await migrated(settings(history, imports="shop_operations")))["to"] == ["a1"]
    assert database.value("SELECT to_regclass('box')") is not None


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"imports": "json, no_such_module"}, "MIGRATION_IMPORTS names `no_such_module`, which cannot be imported"),
        ({"target_metadata": "no_such_module:metadata"}, "MIGRATION_TARGET_METADATA names `no_such_module`"),
        (
            {"target_metadata": "json:metadata"},
            "MIGRATION_TARGET_METADATA names `json:metadata`, and module 'json' has",
        ),
        ({"target_metadata": "json:dumps"}, "MIGRATION_TARGET_METADATA names `json:dumps`, which is no MetaData"),
    ],
)
async def test_what_is_not_there_is_named_before_the_database_is_touched(
    settings: MakeSettings, write_history: WriteHistory, database: Database, chosen: dict[str, str], words: str
) -> None:
    answer = await post(settings(write_history(a1="pass"), **chosen))
    problem = answer.json()
    assert (answer.status_code, problem["type"].partition("#")[2]) == (503, "not-configured")
    assert problem["detail"].startswith(words), problem
    assert problem["variables"] == [words.split(maxsplit=1)[0]]


def test_the_plain_command_honours_the_same_settings(project: Path, database: Database) -> None:  # noqa: F811 – as above
    history = project / "migrations"
    for file in (history / "versions").glob("*.py"):
        file.unlink()
    another_column = 'sa.Table("a", other, sa.Column("id", sa.Integer, primary_key=True), sa.Column("more", sa.Text))'
    (project / "shop_models.py").write_text(f"{textwrap.dedent(MODELS)}{another_column}\n")
    write_revision(history, "a1", None, UNNAMED)
    write_revision(
        history, "b2", "a1", "from alembic import context\nassert context.get_x_argument() == ['one', 'two']"
    )
    (history / "2024").mkdir()
    (history / "versions" / "a1.py").rename(history / "2024" / "a1.py")
    chosen: dict[str, Any] = {
        "naming_convention": CONVENTION,
        "version_locations": "migrations/versions, migrations/2024",
        "x": "one",
        "upgrade_kwargs": "{}",
    }
    out, _ = alembic(project, None, "-x", "two", "upgrade", "head", "--sql", **chosen)
    assert "CONSTRAINT uq_a_code UNIQUE" in out
    alembic(project, database, "-x", "two", "upgrade", "head", **chosen)
    assert database.value("SELECT version_num FROM alembic_version") == "b2"
    assert ("uq_a_code",) in database.execute(NAMES)
    _, err = alembic(project, database, "revision", "--autogenerate", "-m", "All away", fails=True, **chosen)
    assert "does not provide a MetaData object" in err, "a convention is no metadata of no tables"
    models = {**chosen, "target_metadata": "shop_models:Base.metadata,shop_models:other", "render_as_batch": "true"}
    add = ["revision", "--autogenerate", "-m", "Add", "--rev-id", "c3", "--version-path", "migrations/versions"]
    alembic(project, database, *add, **models)
    (made,) = (history / "versions").glob("c3_*.py")
    assert "create_table('shelf'" in made.read_text()
    assert "create_table('box'" in made.read_text()
    assert "batch_alter_table('a'" in made.read_text()
    _, err = alembic(project, database, "current", fails=True, **{**chosen, "imports": "no_such_module"})
    assert "MIGRATION_IMPORTS names `no_such_module`" in err
    assert "Traceback" not in err
