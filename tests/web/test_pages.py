"""GET /runs in pages, and by filters."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from app.database import tables
from app.database.ledger import new_run_id
from app.report import Selection
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import APPLY, READ, Database
from tests.web.answers import problem, without_database

SHA = "4f1c9a2b" * 5


@pytest.fixture
def ledger(database: Database) -> Database:
    """The fresh database, with an empty ledger."""
    database.execute(tables.statements("migration_endpoint"))
    return database


@pytest.fixture
async def client(settings: MakeSettings, ledger: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(settings()) as client:
        yield client


def put_on_record(ledger: Database, **values: Any) -> str:
    """A run on record, as if it had been one; its id."""
    run_id, steps = str(new_run_id()), values.pop("steps", ())
    row = {"id": run_id, "version_table": "public.alembic_version", "outcome": "upgraded"} | values
    with ledger.connect() as connection:
        connection.execute(
            f"INSERT INTO migration_endpoint.run ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})".encode(),
            list(row.values()),
        )
        for revision in steps:
            connection.execute(
                "INSERT INTO migration_endpoint.step (run_id, revision, direction, down_revisions, sha256, started_at, "
                "duration_ms) VALUES (%s, %s, 'upgrade', '{}', 'x', now(), 1)",
                [run_id, revision],
            )
    return run_id


async def page(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/runs", params=query, headers=READ)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def ids(client: httpx.AsyncClient, **query: Any) -> list[str]:
    return [run["run_id"] for run in (await page(client, **query))["runs"]]


# --- pages


@pytest.mark.parametrize("at", ["clock_timestamp()", "'2026-11-22T20:47:20.741262Z'"])
async def test_every_run_comes_once_while_new_ones_arrive(client: httpx.AsyncClient, ledger: Database, at: str) -> None:
    started_at = ledger.value(f"SELECT {at}::timestamptz")  # the same for all, so that the id decides
    before = {put_on_record(ledger, started_at=started_at) for _ in range(23)}
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(10):
        found = await page(client, limit=5, **cursor)
        seen += [run["run_id"] for run in found["runs"]]
        put_on_record(ledger)  # newer than all of them
        if found["next"] is None:
            break
        cursor = {"cursor": found["next"]}
    assert len(seen) == len(set(seen)) == 23
    assert set(seen) == before
    assert seen == sorted(seen, reverse=True), "ids sort by time"
    assert len(await ids(client, limit=200)) == 28


async def test_a_page_that_ends_with_the_last_run_has_no_next(client: httpx.AsyncClient, ledger: Database) -> None:
    assert await page(client) == {"runs": [], "next": None}
    for _ in range(4):
        put_on_record(ledger)
    first = await page(client, limit=2)
    answer = await client.get("/runs", params={"limit": 2, "cursor": first["next"]}, headers=READ)
    assert (len(answer.json()["runs"]), answer.json()["next"]) == (2, None)
    assert "link" not in answer.headers


async def test_the_link_leads_to_the_next_page_of_the_same_question(
    client: httpx.AsyncClient, ledger: Database
) -> None:
    for number in range(5):
        put_on_record(ledger, outcome="failed" if number % 2 else "refused", environment="pre & view")
    put_on_record(ledger)
    url, seen = "/runs?limit=2&outcome=failed&outcome=refused&environment=pre%20%26%20view&unknown=%3E", []
    for _ in range(3):
        answer = await client.get(url, headers=READ)
        seen += [run["run_id"] for run in answer.json()["runs"]]
        if "next" not in answer.links:
            break
        url = answer.links["next"]["url"]
        assert url.startswith("/runs?limit=2&outcome=failed&outcome=refused&")
        assert url.count("cursor=") == 1
    assert len(seen) == len(set(seen)) == 5


async def test_a_cursor_holds_although_its_run_is_gone(client: httpx.AsyncClient, ledger: Database) -> None:
    for _ in range(3):
        put_on_record(ledger)
    first = await page(client, limit=2)
    everything = await ids(client)
    ledger.execute(f"DELETE FROM migration_endpoint.run WHERE id = '{first['runs'][-1]['run_id']}'")
    assert await ids(client, cursor=first["next"]) == everything[2:]


# --- what a run in the list tells


async def test_each_run_tells_its_revisions_in_order_and_what_its_caller_accepted(
    client: httpx.AsyncClient, ledger: Database
) -> None:
    accepted = [{"revision": "z1", "rule": "ban-drop-column", "level": "danger"}]
    told = put_on_record(ledger, steps=["z1", "a2", "Ü \"3'"], accepted=json.dumps(accepted))
    plain = put_on_record(ledger)
    newest, oldest = (await page(client))["runs"]
    assert (oldest["run_id"], oldest["revisions"], oldest["accepted"]) == (told, ["z1", "a2", "Ü \"3'"], accepted)
    assert (newest["run_id"], newest["revisions"], newest["accepted"]) == (plain, [], [])
    one = (await client.get(f"/runs/{told}", headers=READ)).json()
    assert (one["revisions"], one["accepted"]) == (oldest["revisions"], accepted)
    assert [step["revision"] for step in one["steps"]] == oldest["revisions"]


async def test_a_ledger_of_the_first_form_is_read_too(client: httpx.AsyncClient, ledger: Database) -> None:
    ledger.execute(
        "ALTER TABLE migration_endpoint.run DROP COLUMN accepted, DROP COLUMN waited_ms, DROP COLUMN pending, "
        "DROP COLUMN answer; ALTER TABLE migration_endpoint.step DROP COLUMN locks, DROP COLUMN rewrote"
    )
    run_id = put_on_record(ledger, steps=["a1"])
    (run,) = (await page(client))["runs"]
    assert (run["revisions"], run["accepted"], run["waited_ms"]) == (["a1"], [], None)
    (step,) = (await client.get(f"/runs/{run_id}", headers=READ)).json()["steps"]
    assert (step["locks"], step["rewrote"]) == ([], [])


# --- filters


@pytest.fixture
def five(ledger: Database) -> list[str]:
    """Five runs, the oldest first: two hours apart, and different in all that can be asked for."""
    rows: list[dict[str, Any]] = [
        {"outcome": "upgraded", "deployment_id": "dpl_1", "git_sha": SHA, "environment": "production"},
        {"outcome": "failed", "deployment_id": "dpl_1", "git_sha": SHA, "environment": "production"},
        {"outcome": "refused", "deployment_id": "dpl_2", "git_sha": "4F1C" + "0" * 36, "environment": "Preview"},
        {"outcome": "upgraded", "deployment_id": "dpl_12", "git_sha": None, "environment": None},
        {"outcome": "abandoned", "deployment_id": None, "git_sha": "beef", "environment": "preview"},
    ]
    steps = [["a1", "a10"], ["b2"], [], ["a1"], []]
    return [
        put_on_record(ledger, **row, steps=each, started_at=f"2026-11-22T{10 + 2 * number}:00:00Z")
        for number, (row, each) in enumerate(zip(rows, steps, strict=True))
    ]


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [4, 3, 2, 1, 0]),
    ({"outcome": "upgraded"}, [3, 0]),
    ({"outcome": ["failed", "refused"]}, [2, 1]),
    ({"outcome": "cancelled"}, []),
    ({"revision": "a1"}, [3, 0]),
    ({"revision": "a"}, []),
    ({"revision": "A1"}, []),
    ({"deployment": "dpl_1"}, [1, 0]),
    ({"git_sha": "4f1c"}, [2, 1, 0]),
    ({"git_sha": SHA.upper()}, [1, 0]),
    ({"git_sha": "beef0"}, []),
    ({"environment": "preview"}, [4, 2]),
    ({"environment": "PRODUCTION"}, [1, 0]),
    ({"since": "2026-11-22T14:00:00Z"}, [4, 3, 2]),
    ({"since": "2026-11-22t15:00:00.000001+01:00"}, [4, 3]),
    ({"until": "2026-11-22 14:00:00z"}, [1, 0]),
    ({"since": "2026-11-22T12:00:00Z", "until": "2026-11-22T16:00:00-00:00"}, [2, 1]),
    ({"since": "2026-11-22T16:00:00Z", "until": "2026-11-22T12:00:00Z"}, []),
    ({"since": "2026-11-23T13:00:00+23:00"}, [4, 3, 2]),
    ({"outcome": "upgraded", "revision": "a1", "until": "2026-11-22T11:00:00Z"}, [0]),
    (
        {"outcome": ["failed", "upgraded"], "deployment": "dpl_1", "environment": "production", "git_sha": SHA[:7]},
        [1, 0],
    ),
    ({"outcome": "failed", "revision": "a1"}, []),
]


async def test_the_runs_are_those_that_meet_every_filter(client: httpx.AsyncClient, five: list[str]) -> None:
    for query, which in FILTERS:
        wanted = [five[number] for number in which]
        assert await ids(client, **query) == wanted, query
        paged: list[str] = []
        cursor: dict[str, str] = {}
        for _ in range(len(five)):
            found = await page(client, limit=1, **query, **cursor)
            paged += [run["run_id"] for run in found["runs"]]
            if found["next"] is None:
                break
            cursor = {"cursor": found["next"]}
        assert paged == wanted, query


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"outcome": "exploded"}, "'upgraded'"),
        ({"cursor": "x"}, "`next`"),
        ({"cursor": "B" + "A" * 31}, "`next`"),
        ({"cursor": "A" * 33}, "`next`"),
        ({"cursor": ""}, "`next`"),
        ({"git_sha": "4f1"}, "four or more hex digits"),
        ({"git_sha": "zzzz"}, "four or more hex digits"),
        ({"git_sha": "4f1c%"}, "four or more hex digits"),
        ({"since": "yesterday"}, "2026-11-22T20:47:20Z"),
        ({"since": "2026-11-22"}, "2026-11-22T20:47:20Z"),
        ({"since": "2026-11-22T20:47:20"}, "2026-11-22T20:47:20Z"),
        ({"since": "2026-11-22T20:47:20 01:00"}, "%2B"),
        ({"until": "2026-02-30T00:00:00Z"}, "RFC 3339"),
        ({"until": "1763844440"}, "RFC 3339"),
        ({"until": "0001-01-01T00:00:00+23:59"}, "RFC 3339"),
        ({"until": "٢٠٢٦-11-22T20:47:20Z"}, "RFC 3339"),
        ({"revision": ""}, "at least 1 character"),
        ({"deployment": "x" * 201}, "at most 200 characters"),
        ({"environment": ""}, "at least 1 character"),
        ({"limit": "0"}, "greater than or equal to 1"),
    ],
    ids=str,
)
async def test_a_filter_that_cannot_be_understood_is_named(query: dict[str, str], says: str) -> None:
    async with client_of(without_database()) as client:
        document = problem(await client.get("/runs", params=query, headers=READ), "invalid-request", 422)
    ((field, message),) = [(each["field"], each["message"]) for each in document["errors"]]
    assert field.startswith(f"query.{next(iter(query))}")
    assert says in message
    assert "parameters" in document["hint"]


HOSTILE = (
    "' OR '1'='1",
    "\\' OR 1=1 --",
    "'; DROP TABLE migration_endpoint.run; --",
    "x'); DROP SCHEMA migration_endpoint CASCADE; --",
    '{"a": "b"}\'::jsonb',
    "\0' OR ''='",
    "$$ OR true $$",
    "%",
    "_",
)


@pytest.mark.parametrize("name", Selection.model_fields)
async def test_no_filter_reaches_the_database_as_sql(
    client: httpx.AsyncClient, ledger: Database, five: list[str], name: str
) -> None:
    for hostile in HOSTILE:
        answer = await client.get(f"/runs?{name}={quote(hostile)}", headers=READ)
        if name in ("revision", "deployment", "environment"):
            assert (answer.status_code, answer.json()) == (200, {"runs": [], "next": None}), hostile
        else:
            problem(answer, "invalid-request", 422)
    assert ledger.value("SELECT count(*) FROM migration_endpoint.run") == len(five)


async def test_a_filter_finds_the_quotes_that_are_there(client: httpx.AsyncClient, ledger: Database) -> None:
    odd = 'it\'s \\ "odd" $$ %s {} ü'
    run_id = put_on_record(ledger, deployment_id=odd, environment=odd, steps=[odd])
    put_on_record(ledger, deployment_id="it", environment="it", steps=["it"])
    for name in ("deployment", "environment", "revision"):
        assert await ids(client, **{name: odd}) == [run_id]


async def test_the_runs_of_a_real_history_are_found_by_their_revisions(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    history = write_history(a1="op.execute('CREATE TABLE a (id int)')", b2="pass", c3="pass")
    async with client_of(settings(history, vercel_git_commit_sha=SHA)) as client:
        for target in ("b2", "c3"):
            assert (await client.post("/migrate", headers=APPLY, json={"target": target})).status_code == 200
        newest, oldest = (await page(client))["runs"]
        assert (newest["revisions"], oldest["revisions"]) == (["c3"], ["a1", "b2"])
        assert await ids(client, revision="b2") == [oldest["run_id"]]
        assert await ids(client, git_sha=SHA[:7], limit=1) == [newest["run_id"]]
        assert UUID(newest["run_id"]) > UUID(oldest["run_id"])
