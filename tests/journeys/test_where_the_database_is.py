"""Every way in which the database and the deployment can stand to each other, and what a call does about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.database import lock, simple_query
from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.servers import APPLY, READ, Database

KEY = lock.key("public.alembic_version")
THREE = {name: f"op.execute('CREATE TABLE {name} (id int)')" for name in ("a1", "b2", "c3")}


async def post(settings: Any, **body: Any) -> Any:
    async with client_of(settings) as client:
        return await client.post("/migrate", headers=APPLY, json=body)


async def get(settings: Any, path: str) -> Any:
    async with client_of(settings) as client:
        return await client.get(path, headers=READ)


def everything_in(database: Database) -> list[tuple[Any, ...]]:
    """Tables and the revision; the ledger's rows of refusals aside."""
    return [
        *database.execute(
            "SELECT schemaname || '.' || relname, n_tup_ins FROM pg_stat_user_tables "
            "WHERE relname NOT IN ('run', 'step') ORDER BY 1"
        ),
        *database.execute("SELECT version_num FROM alembic_version"),
    ]


async def test_from_empty_to_a_target_and_then_to_the_rest(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    chosen = settings(write_history(**THREE))
    assert (await get(chosen, "/status")).json()["state"] == "pending"
    first = (await post(chosen, target="b2", reason="half of it")).json()
    assert (first["outcome"], first["target"], first["from"], first["to"]) == ("upgraded", "b2", [], ["b2"])
    assert [step["revision"] for step in first["applied"]] == ["a1", "b2"]
    assert [step["message"] for step in first["applied"]] == ["Do a1.", "Do b2."]
    assert database.value("SELECT to_regclass('c3')") is None
    status = (await get(chosen, "/status")).json()
    assert (status["state"], status["current"], [each["revision"] for each in status["pending"]]) == (
        "pending",
        ["b2"],
        ["c3"],
    )
    # Already there, and something pending beyond it: the target is what counts.
    assert (await post(chosen, target="b2")).json()["outcome"] == "up_to_date"
    assert (await post(chosen, target="a1")).json()["outcome"] == "up_to_date"
    rest = (await post(chosen)).json()
    assert (rest["outcome"], rest["from"], rest["to"], rest["remaining"]) == ("upgraded", ["b2"], ["c3"], [])
    assert [step["revision"] for step in rest["applied"]] == ["c3"]
    runs = database.execute(
        "SELECT target, from_heads, to_heads, reason FROM migration_endpoint.run ORDER BY started_at"
    )
    assert runs == [("b2", [], ["b2"], "half of it"), ("heads", ["b2"], ["c3"], None)]


@pytest.mark.parametrize("target", ["head", "heads", "b2c4d6e8", "b2c4"])
async def test_targets_mean_what_they_mean_to_alembic(
    target: str, write_history: WriteHistory, settings: MakeSettings
) -> None:
    chosen = settings(write_history(a1=THREE["a1"], b2c4d6e8=THREE["b2"]))
    answer = await post(chosen, target=target)
    assert answer.status_code == 200, answer.text
    assert answer.json()["to"] == ["b2c4d6e8"]


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Count what goes to the database, without standing in its way."""
    seen: list[str] = []
    connect, send = asyncpg.connect, simple_query.send

    async def counting_connect(*args: Any, **options: Any) -> Any:
        seen.append("connect")
        return await connect(*args, **options)

    async def counting_send(connection: Any, sql: str, *rest: Any) -> Any:
        seen.append(sql)
        return await send(connection, sql, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(asyncpg, "connect", counting_connect)
        patch.setattr(simple_query, "send", counting_send)
        yield seen


async def test_a_second_call_is_one_read_without_the_lock_and_without_a_run(
    write_history: WriteHistory, settings: MakeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(write_history(**THREE))
    assert (await post(chosen)).json()["outcome"] == "upgraded"
    with database.connect() as somebody, counted(monkeypatch) as seen:
        somebody.execute(f"SELECT pg_advisory_lock({KEY})".encode())
        again = await post(chosen, lock_wait_s=0)
    assert again.status_code == 200, again.text
    assert again.json()["outcome"] == "up_to_date"
    assert again.json()["run_id"] is None
    assert again.json()["from"] == again.json()["to"] == ["c3"]
    assert again.json()["lock"] == {"waited_ms": 0}
    assert len(seen) == 2, seen
    assert seen[0] == "connect"
    assert database.value("SELECT count(*) FROM migration_endpoint.run") == 1


async def test_a_call_that_finds_work_and_a_held_lock_is_refused_with_its_holder(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    chosen = settings(write_history(**THREE))
    await post(chosen, target="a1")
    with database.connect() as somebody:
        pid = somebody.info.backend_pid
        somebody.execute(f"SELECT pg_advisory_lock({KEY})".encode())
        refused = await post(chosen, lock_wait_s=0.3)
        lock_shown = (await get(chosen, "/status")).json()["lock"]
    assert refused.status_code == 409, refused.text
    problem = refused.json()
    assert problem["type"].endswith("#lock-held")
    assert problem["retryable"] is True
    assert int(refused.headers["retry-after"]) > 0
    assert problem["holder"]["pid"] == pid
    assert 300 <= problem["waited_ms"] < 3000
    assert (lock_shown["held"], lock_shown["key"], lock_shown["holder"]["pid"]) == (True, KEY, pid)
    assert database.execute("SELECT outcome FROM migration_endpoint.run ORDER BY started_at") == [
        ("upgraded",),
        ("refused",),
    ]


@pytest.mark.parametrize(
    "target", ["nowhere", "b", "a1:b2", "-1", "+0", "base", "+9", "a1+9", "b2-9", "h\x00x", "x@head"]
)
async def test_a_target_that_this_history_does_not_have_is_refused(
    target: str, write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    chosen = settings(write_history(**THREE))
    answer = await post(chosen, target=target)
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"].endswith("#unknown-target")
    assert answer.json()["heads"] == ["c3"]
    assert database.value("SELECT to_regclass('alembic_version')") is None


async def test_a_database_that_is_ahead_passes_and_is_left_as_it_is(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    await post(settings(write_history(**THREE)))
    rolled_back = settings(write_history(a1=THREE["a1"], b2=THREE["b2"]))
    before = everything_in(database)
    refused = await post(rolled_back)
    assert refused.status_code == 409, refused.text
    assert refused.json()["type"].endswith("#database-ahead")
    assert refused.json()["retryable"] is False
    assert refused.json()["database_heads"] == ["c3"]
    assert refused.json()["script_heads"] == ["b2"]
    assert (await get(rolled_back, "/status")).json()["state"] == "database_ahead"
    health = await get(rolled_back, "/health?strict=true")
    assert (health.status_code, health.json()["status"]) == (200, "pass")
    assert everything_in(database) == before


async def test_a_database_that_is_ahead_without_a_ledger_is_ahead_too(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    database.execute("INSERT INTO alembic_version VALUES ('unheard_of')")
    refused = await post(settings(write_history(**THREE)))
    assert refused.status_code == 409
    assert refused.json()["type"].endswith("#database-ahead")


async def test_a_database_of_another_branch_has_diverged(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    await post(settings(write_history(a1=THREE["a1"], x9="op.execute('CREATE TABLE x9 (id int)')")))
    ours = settings(write_history(a1=THREE["a1"], b2=THREE["b2"]))
    before = everything_in(database)
    refused = await post(ours)
    assert refused.status_code == 409, refused.text
    assert refused.json()["type"].endswith("#diverged")
    assert refused.json()["database_heads"] == ["x9"]
    assert (await get(ours, "/status")).json()["state"] == "diverged"
    health = await get(ours, "/health")
    assert (health.status_code, health.json()["status"]) == (503, "fail")
    assert everything_in(database) == before


@pytest.fixture
def two_heads(tmp_path: Path) -> Path:
    folder = tmp_path / "two"
    write_revision(folder, "a1", None, THREE["a1"])
    write_revision(folder, "b2", "a1", THREE["b2"])
    write_revision(folder, "c3", "a1", THREE["c3"])
    return folder


async def test_two_heads_are_both_upgraded_to_unless_one_is_asked_for(
    two_heads: Path, settings: MakeSettings, database: Database
) -> None:
    chosen = settings(two_heads)
    status = (await get(chosen, "/status")).json()
    assert (status["state"], status["heads"]) == ("multiple_heads", ["b2", "c3"])
    refused = await post(chosen, target="head")
    assert refused.status_code == 409, refused.text
    assert refused.json()["type"].endswith("#multiple-heads")
    assert refused.json()["heads"] == ["b2", "c3"]
    assert database.value("SELECT to_regclass('a1')") is None
    one = (await post(chosen, target="c3")).json()
    assert one["to"] == ["c3"]
    both = (await post(chosen)).json()
    assert (both["from"], both["to"]) == (["c3"], ["b2", "c3"])
    assert [step["revision"] for step in both["applied"]] == ["b2"]
    assert (await get(chosen, "/status")).json()["state"] == "up_to_date"


async def test_two_heads_are_merged_by_a_revision_that_has_both_as_parents(
    two_heads: Path, settings: MakeSettings, database: Database
) -> None:
    await post(settings(two_heads))
    merged = two_heads.with_name("merged")
    for name, down in (("a1", None), ("b2", "a1"), ("c3", "a1"), ("d4", ("b2", "c3"))):
        write_revision(merged, name, down, THREE.get(name, "pass"))
    answer = (await post(settings(merged))).json()
    assert (answer["from"], answer["to"]) == (["b2", "c3"], ["d4"])
    assert database.execute("SELECT down_revisions FROM migration_endpoint.step WHERE revision = 'd4'") == [
        (["b2", "c3"],)
    ]
    assert (await get(settings(two_heads), "/status")).json()["state"] == "database_ahead"


async def test_an_empty_history_has_nothing_to_do(tmp_path: Path, settings: MakeSettings, database: Database) -> None:
    folder = tmp_path / "empty"
    write_revision(folder, "a1", None, "pass")
    (folder / "versions" / "a1.py").unlink()
    answer = await post(settings(folder))
    assert answer.status_code == 200, answer.text
    assert answer.json()["outcome"] == "up_to_date"


async def test_two_histories_in_two_schemas_do_not_share_a_lock(
    write_history: WriteHistory, settings: MakeSettings, database: Database
) -> None:
    database.execute("CREATE SCHEMA shop")
    database.execute(f'ALTER DATABASE "{database.address.database}" SET search_path = shop, public')
    with database.connect() as somebody:
        somebody.execute(f"SELECT pg_advisory_lock({KEY})".encode())
        answer = await post(settings(write_history(**THREE)), lock_wait_s=0)
    assert answer.status_code == 200, answer.text
    assert database.value("SELECT version_num FROM shop.alembic_version") == "c3"
    key = (await get(settings(write_history(**THREE)), "/status")).json()["lock"]["key"]
    assert key == lock.key("shop.alembic_version")
