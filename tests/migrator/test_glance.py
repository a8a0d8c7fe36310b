"""What the text of the revisions tells without Alembic: what Alembic would say, or nothing."""

import asyncio
from pathlib import Path

import pytest

from app.migrator import glance
from app.migrator.glance import Places
from app.migrator.revisions import History
from tests import servers
from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.servers import APPLY, Database


async def test_the_sample_history_is_simple_enough() -> None:
    assert await glance.at(Places("migrations")) == glance.Glance("0007")
    assert History("migrations").heads == ("0007",)


async def test_the_head_is_the_one_that_alembic_finds(write_history: WriteHistory) -> None:
    folder = write_history(c3="pass", a1="op.execute('SELECT 1')", b2="revision = 'a local name'")
    (folder / "versions/__init__.py").touch()
    (folder / "versions/notes.txt").write_text("not a revision")
    (folder / "versions/b2.py").rename(folder / "versions/0_later.py")
    seen = await glance.at(Places(str(folder)))
    # `revision` is bound twice in b2, if only by a function: that is not read any closer.
    assert seen.head is None
    write_revision(folder, "b2", "a1", "pass")
    (folder / "versions/0_later.py").unlink()
    glance.at.forget()
    assert History(str(folder)).heads == ((await glance.at(Places(str(folder)))).head,) == ("b2",)


@pytest.mark.parametrize(
    "last",
    {
        "a merge": "revision = 'z'\ndown_revision = ('b2', 'a1')",
        "a branch": "revision = 'z'\ndown_revision = 'a1'",
        "a second base": "revision = 'z'\ndown_revision = None",
        "a label": "revision = 'z'\ndown_revision = 'b2'\nbranch_labels = ('shop',)",
        "a dependency": "revision = 'z'\ndown_revision = 'b2'\ndepends_on = 'a1'",
        "a twin": "revision = 'b2'\ndown_revision = 'a1'",
        "a gap": "revision = 'z'\ndown_revision = 'y'",
        "a circle": "revision = 'a1'\ndown_revision = 'b2'",
        "no revision": "down_revision = 'b2'",
        "no predecessor": "revision = 'z'",
        "a computed name": "revision = 'z' + ''\ndown_revision = 'b2'",
        "a number": "revision = 7\ndown_revision = 'b2'",
        "a second thought": "revision = 'z'\ndown_revision = 'b2'\nif True:\n    down_revision = 'a1'",
        "an import": "revision = 'z'\ndown_revision = 'b2'\nfrom somewhere import revision",
        "an import of everything": "revision = 'z'\ndown_revision = 'b2'\nfrom somewhere import *",
        "a function": "revision = 'z'\ndown_revision = 'b2'\ndef depends_on(): ...",
        "a mistake": "revision = 'z'\ndown_revision = 'b2'\ndef upgrade(:",
        "zeros": "revision = 'z'\ndown_revision = 'b2'\n\0",
    }.items(),
    ids=lambda last: last[0],
)
async def test_whatever_is_not_one_simple_chain_is_left_to_alembic(
    last: tuple[str, str], write_history: WriteHistory
) -> None:
    folder = write_history(a1="pass", b2="pass")
    (folder / "versions/last.py").write_text(last[1])
    assert (await glance.at(Places(str(folder)))).head is None


async def test_a_folder_that_is_not_there_or_is_empty_is_left_to_alembic(tmp_path: Path) -> None:
    assert (await glance.at(Places(str(tmp_path)))).head is None
    (tmp_path / "versions").mkdir()
    glance.at.forget()
    assert (await glance.at(Places(str(tmp_path)))).head is None


COLD = """
import asyncio, sys, httpx
from api.index import app
async def call():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url='http://test', timeout=60) as client:
        return await client.post('/migrate', headers={'Authorization': sys.argv[1]}, json={'target': sys.argv[2]})
answer = asyncio.run(call())
print(answer.status_code, answer.json().get('outcome'), *sorted({'sqlalchemy', 'alembic'} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("state", "target", "expected"),
    [
        ("at the head", "heads", "200 up_to_date"),
        ("at the head", "b2", "200 up_to_date alembic sqlalchemy"),
        ("behind", "heads", "200 upgraded alembic sqlalchemy"),
        ("ahead", "heads", "409 None alembic sqlalchemy"),
    ],
)
async def test_a_cold_function_loads_alembic_only_where_there_may_be_something_to_do(
    state: str, target: str, expected: str, settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1="pass", b2="pass")
    async with client_of(settings(history)) as client:
        until = {"at the head": "heads", "behind": "a1", "ahead": "heads"}[state]
        assert (await client.post("/migrate", headers=APPLY, json={"target": until})).status_code == 200
    if state == "ahead":
        database.execute("UPDATE alembic_version SET version_num = 'c3'")
    assert await asyncio.to_thread(servers.said_by, COLD, database, history, APPLY["Authorization"], target) == expected
