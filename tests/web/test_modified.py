"""Revisions that were edited after they were applied: in GET /status and /health, and where they stop a run."""

import asyncio
import hashlib
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.servers import APPLY, READ, Database
from tests.web.answers import problem

TWO = {"a1": "op.execute('CREATE TABLE a (id int)')", "b2": "op.execute('CREATE TABLE b (id int)')"}
THREE = TWO | {"c3": "op.execute('CREATE TABLE c (id int)')"}


def sha256(history: Path, revision: str) -> str:
    return hashlib.sha256((history / "versions" / f"{revision}.py").read_bytes()).hexdigest()


def edited(history: Path, *revisions: str, append: str = "\n# edited\n") -> Path:
    """The next deployment's history: a copy in which some revisions' files have another end."""
    folder = history.with_name(f"{history.name}-edited-{len(list(history.parent.iterdir()))}")
    shutil.copytree(history, folder)
    for revision in revisions:
        with (folder / "versions" / f"{revision}.py").open("a") as file:
            file.write(append)
    return folder


@pytest.fixture
def branching(tmp_path: Path) -> Path:
    """a1 ← b2 and a1 ← c3, merged by d4; e5 stands alone, and f6 after it depends on b2."""
    folder = tmp_path / "branching"
    for revision, before in (("a1", None), ("b2", "a1"), ("c3", "a1"), ("d4", ("b2", "c3")), ("e5", None)):
        write_revision(folder, revision, before, "pass")
    write_revision(folder, "f6", "e5", "pass")
    with (folder / "versions" / "f6.py").open("a") as file:
        file.write("\ndepends_on = 'b2'\n")
    return folder


async def told(client: httpx.AsyncClient) -> tuple[list[str], list[str]]:
    """The revisions that GET /status calls modified, and unrecorded; GET /health must agree."""
    status = (await client.get("/status", headers=READ)).json()
    health = (await client.get("/health", headers=READ)).json()
    modified = [each["revision"] for each in status["modified"]]
    assert health.get("modified", []) == modified
    if status["state"] in ("up_to_date", "database_ahead"):
        assert health["status"] == ("warn" if modified else "pass")
    return modified, status["unrecorded"]


async def migrated(configuration: Any, **body: Any) -> None:
    async with client_of(configuration) as client:
        answer = await client.post("/migrate", headers=APPLY, json=body)
        assert answer.status_code == 200, answer.text


async def test_an_edited_revision_is_named_with_both_hashes_and_its_file(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    before = write_history(**TWO)
    await migrated(settings(before))
    after = edited(before, "a1")
    async with client_of(settings(after)) as client:
        status = (await client.get("/status", headers=READ)).json()
        assert status["modified"] == [
            {
                "revision": "a1",
                "message": "Do a1.",
                "file": f"{after.name}/versions/a1.py",
                "applied_sha256": sha256(before, "a1"),
                "sha256": sha256(after, "a1"),
            }
        ]
        assert (status["state"], status["unrecorded"]) == ("up_to_date", [])
        assert (await client.get("/health")).json() == {"status": "warn"}
        assert (await client.get("/health?strict=true")).status_code == 503
        assert (await client.get("/health", headers=READ)).json()["modified"] == ["a1"]


async def test_files_as_they_were_applied_are_neither_modified_nor_unrecorded(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    history = write_history(**TWO)
    await migrated(settings(history))
    async with client_of(settings(edited(history))) as client:
        assert await told(client) == ([], [])
        assert "modified" not in (await client.get("/health", headers=READ)).json()


async def test_whitespace_is_an_edit_too(settings: MakeSettings, write_history: WriteHistory) -> None:
    history = write_history(**TWO)
    await migrated(settings(history))
    async with client_of(settings(edited(history, "b2", append="\n"))) as client:
        assert await told(client) == (["b2"], [])


async def test_a_revision_that_is_still_pending_may_be_edited(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    history = write_history(**TWO)
    await migrated(settings(history), target="a1")
    async with client_of(settings(edited(history, "b2"), on_modified="refuse")) as client:
        assert await told(client) == ([], [])
        assert (await client.post("/migrate", headers=APPLY)).json()["to"] == ["b2"]
        assert await told(client) == ([], [])


async def test_branches_their_merge_and_what_is_depended_on_are_compared(
    settings: MakeSettings, branching: Path
) -> None:
    await migrated(settings(branching), target="f6")
    async with client_of(settings(edited(branching, *["a1", "b2", "c3", "d4", "e5", "f6"]))) as client:
        modified, unrecorded = await told(client)
        assert sorted(modified) == ["a1", "b2", "e5", "f6"], "b2 is applied because f6 depends on it"
        assert modified.index("a1") < modified.index("b2") < modified.index("f6")
        assert unrecorded == []
    await migrated(settings(branching))
    async with client_of(settings(edited(branching, *["b2", "c3", "d4"]))) as client:
        modified, _ = await told(client)
        assert sorted(modified) == ["b2", "c3", "d4"]
        assert modified[-1] == "d4"


async def test_after_a_downgrade_and_another_upgrade_the_new_file_counts(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    first = write_history(**TWO)
    await migrated(settings(first))
    second = edited(first, "b2")
    # As the plain `alembic downgrade` records it.
    database.execute(
        "INSERT INTO migration_endpoint.step (run_id, revision, direction, down_revisions, sha256, started_at, "
        "duration_ms) SELECT run_id, revision, 'downgrade', down_revisions, sha256, now(), 1 "
        "FROM migration_endpoint.step WHERE revision = 'b2'"
    )
    database.execute("DROP TABLE b; UPDATE alembic_version SET version_num = 'a1'")
    async with client_of(settings(second)) as client:
        assert await told(client) == ([], []), "it is not applied any more"
    await migrated(settings(second))
    async with client_of(settings(second)) as client:
        assert await told(client) == ([], [])
    async with client_of(settings(edited(first))) as client:
        assert await told(client) == (["b2"], []), "now it is the old file that was not applied last"


async def test_what_was_stamped_is_unrecorded_and_not_wrong(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**THREE)
    await migrated(settings(history), target="a1")
    database.execute("UPDATE alembic_version SET version_num = 'c3'")
    async with client_of(settings(edited(history, "b2"), on_modified="refuse")) as client:
        assert await told(client) == ([], ["b2", "c3"])
        assert (await client.post("/migrate", headers=APPLY)).json()["outcome"] == "up_to_date"


async def test_what_was_stamped_again_after_its_downgrade_is_unrecorded(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**TWO)
    await migrated(settings(history))
    database.execute("UPDATE migration_endpoint.step SET direction = 'downgrade' WHERE revision = 'b2'")
    async with client_of(settings(edited(history, "b2"))) as client:
        assert await told(client) == ([], ["b2"])


async def test_without_a_ledger_everything_applied_is_unrecorded(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**THREE)
    database.execute("CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('b2')")
    async with client_of(settings(history, on_modified="refuse")) as client:
        assert await told(client) == ([], ["a1", "b2"])
        assert (await client.post("/migrate", headers=APPLY)).json()["to"] == ["c3"]
        assert await told(client) == ([], ["a1", "b2"])


async def test_an_empty_database_has_nothing_to_compare(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(**TWO))) as client:
        assert await told(client) == ([], [])


async def test_a_database_that_is_ahead_is_compared_as_far_as_the_revisions_are_known(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**THREE)
    await migrated(settings(history))
    older = edited(history, "a1")
    (older / "versions" / "c3.py").unlink()
    async with client_of(settings(older)) as client:
        assert (await client.get("/status", headers=READ)).json()["state"] == "database_ahead"
        assert await told(client) == (["a1"], [])
        database.execute("UPDATE alembic_version SET version_num = 'zz'")  # of which not even the ledger knows
        assert await told(client) == ([], [])


async def test_names_with_quotes_and_capitals_are_compared(settings: MakeSettings, tmp_path: Path) -> None:
    # No apostrophe: Alembic itself puts the id between two, as it is.
    folder, first, second = tmp_path / "quoted", 'The "First" %s', "Straße"
    write_revision(folder, first, None, "pass")
    write_revision(folder, second, first, "pass")
    await migrated(settings(folder))
    async with client_of(settings(edited(folder, first, second))) as client:
        assert await told(client) == ([first, second], [])


async def test_steps_of_another_version_table_are_not_ours(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**TWO)
    await migrated(settings(history))
    database.execute("UPDATE migration_endpoint.run SET version_table = 'tenant_7.alembic_version'")
    async with client_of(settings(edited(history, "a1"))) as client:
        assert await told(client) == ([], ["a1", "b2"])


# --- MIGRATION_ON_MODIFIED=refuse


async def test_a_run_is_refused_where_the_deployment_wants_that_and_the_refusal_is_on_record(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**THREE)
    await migrated(settings(history), target="b2")
    after = edited(history, "a1", "b2")
    async with client_of(settings(after, on_modified="refuse")) as client:
        document = problem(await client.post("/migrate", headers=APPLY), "revision-modified", 409)
        assert document["modified"] == (await client.get("/status", headers=READ)).json()["modified"]
        assert "a1, b2" in document["detail"]
        newest, _ = (await client.get("/runs", headers=READ)).json()["runs"]
        assert (newest["outcome"], newest["error"]["modified"]) == ("refused", document["modified"])
        at_hand = await client.post("/migrate", headers=APPLY, json={"target": "a1"})
        assert at_hand.json()["outcome"] == "up_to_date", "nothing is pending, so nothing is refused"
    assert database.value("SELECT version_num FROM alembic_version") == "b2"
    async with client_of(settings(after)) as client:
        assert (await client.post("/migrate", headers=APPLY)).json()["to"] == ["c3"], "`warn` runs all the same"
        assert await told(client) == (["a1", "b2"], [])


async def test_a_refusal_does_not_wait_for_the_lock(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(**TWO)
    await migrated(settings(history), target="a1")
    async with client_of(settings(edited(history, "a1"), on_modified="refuse")) as client:
        key = (await client.get("/status", headers=READ)).json()["lock"]["key"]
        with database.connect() as held:
            held.execute(f"SELECT pg_advisory_lock({key})".encode())
            refused = await client.post("/migrate", headers=APPLY, json={"lock_wait_s": 600})
        problem(refused, "revision-modified", 409)


async def test_what_somebody_applied_while_the_lock_was_waited_for_is_looked_at_again(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    theirs = write_history(**THREE)
    ours = edited(theirs, "b2")
    await migrated(settings(theirs), target="a1")
    async with client_of(settings(ours, on_modified="refuse")) as client:
        key = (await client.get("/status", headers=READ)).json()["lock"]["key"]
        with database.connect() as held:
            held.execute(f"SELECT pg_advisory_lock({key})".encode())
            call = asyncio.create_task(client.post("/migrate", json={"lock_wait_s": 60}, headers=APPLY))
            while not await asyncio.to_thread(lambda: database.is_waited_for):
                assert not call.done()
            # What a run of the other deployment leaves behind that applies b2 meanwhile.
            database.execute(
                "INSERT INTO migration_endpoint.step (run_id, revision, direction, down_revisions, sha256, started_at, "
                f"duration_ms) SELECT id, 'b2', 'upgrade', '{{a1}}', '{sha256(theirs, 'b2')}', now(), 1 "
                "FROM migration_endpoint.run; UPDATE alembic_version SET version_num = 'b2'"
            )
        document = problem(await call, "revision-modified", 409)
    assert [each["revision"] for each in document["modified"]] == ["b2"]
    assert database.value("SELECT to_regclass('c') IS NULL")
