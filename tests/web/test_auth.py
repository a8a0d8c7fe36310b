"""Who may do what, and what a caller without the right key is told (RFC 6750)."""

import asyncio
import hashlib
import json
from collections.abc import Callable

import httpx
import pytest

from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.servers import API_KEY, APPLY, READ, READ_KEY, Database
from tests.web.answers import assert_tells_no_secret, problem, without_database

NO_TOKEN = 'Bearer realm="migrate"'
INVALID_TOKEN = 'Bearer realm="migrate", error="invalid_token"'
KEYED = ("/status", "/runs", "/runs/0198c1f0-0000-7000-8000-000000000000")
OTHER_KEY = "another-key-for-the-tests-0123456789abcdef"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def ask_status(headers: dict[str, str], **settings: str) -> httpx.Response:
    """GET /status of a service whose database is not there: whoever is let in is told so, with a 503."""
    async with client_of(without_database(**settings)) as client:
        return await client.get("/status", headers=headers)


async def is_let_in(key: str, **settings: str) -> bool:
    answer = await ask_status(bearer(key), **settings)
    if answer.status_code == 401:
        problem(answer, "unauthenticated", 401)
        return False
    problem(answer, "database-unavailable", 503)
    return True


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no-header"),
        pytest.param({"Authorization": ""}, id="empty-header"),
        pytest.param({"Authorization": "Basic dXNlcjpwYXNzd29yZA=="}, id="basic"),
        pytest.param({"Authorization": API_KEY}, id="key-without-scheme"),
        pytest.param({"Authorization": f"Token {API_KEY}"}, id="another-scheme"),
        pytest.param({"Authorization": f"Bearer{API_KEY}"}, id="no-space-after-the-scheme"),
        pytest.param({"Authorization": f'Digest username="{API_KEY}"'}, id="digest"),
        pytest.param({"Authorization": "Bearer"}, id="no-token"),
        pytest.param({"Authorization": "Bearer   "}, id="blank-token"),
        pytest.param({"X-API-Key": API_KEY}, id="another-header"),
        pytest.param({"Cookie": f"Authorization=Bearer {API_KEY}"}, id="cookie"),
    ],
)
async def test_a_request_without_a_token_is_challenged_without_an_error(headers: dict[str, str]) -> None:
    async with client_of(without_database()) as client:
        for answer in (await client.get("/status", headers=headers), await client.post("/migrate", headers=headers)):
            document = problem(answer, "unauthenticated", 401)
            assert answer.headers["www-authenticate"] == NO_TOKEN
            assert "MIGRATION_API_KEY" in document["hint"]


async def test_an_empty_token_is_told_to_look_at_the_variable() -> None:
    answer = await ask_status({"Authorization": "Bearer "})  # curl with "Bearer $MIGRATION_API_KEY", and none set
    assert "empty" in problem(answer, "unauthenticated", 401)["detail"]


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(b"Bearer wrong", id="wrong"),
        pytest.param(f"Bearer {API_KEY[:-1]}".encode(), id="all-but-the-last-character"),
        pytest.param(f"Bearer {API_KEY}x".encode(), id="one-character-more"),
        pytest.param(f"Bearer {API_KEY.upper()}".encode(), id="other-case"),
        pytest.param(f"Bearer {API_KEY} {API_KEY}".encode(), id="two-tokens"),
        pytest.param(f"Bearer {API_KEY},{READ_KEY}".encode(), id="the-list-itself"),
        pytest.param(f'Bearer "{API_KEY}"'.encode(), id="quoted"),
        pytest.param(f"Bearer sha256:{sha256(API_KEY)}".encode(), id="the-digest-instead-of-the-key"),
        pytest.param(b"Bearer \xff\xfe\x80", id="not-utf-8"),
        pytest.param("Bearer Schlüssel-für-die-Prüfung-0123456789".encode(), id="utf-8"),
        pytest.param("Bearer \N{NO-BREAK SPACE}".encode(), id="no-break-space"),
        pytest.param(b"Bearer " + b"x" * 8000, id="long"),
    ],
)
async def test_a_wrong_token_is_challenged_with_invalid_token(authorization: bytes) -> None:
    async with client_of(without_database()) as client:
        for method, path in (("GET", "/status"), ("POST", "/migrate")):
            answer = await client.request(method, path, headers=[(b"Authorization", authorization)])
            problem(answer, "unauthenticated", 401)
            assert answer.headers["www-authenticate"] == INVALID_TOKEN


@pytest.mark.parametrize("path", KEYED)
async def test_every_route_of_the_ledger_and_the_state_needs_a_key(path: str) -> None:
    async with client_of(without_database()) as client:
        problem(await client.get(path), "unauthenticated", 401)
        problem(await client.get(path, headers=bearer(OTHER_KEY)), "unauthenticated", 401)
        for key in (API_KEY, READ_KEY):
            problem(await client.get(path, headers=bearer(key)), "database-unavailable", 503)


async def test_a_read_key_may_not_migrate() -> None:
    async with client_of(without_database()) as client:
        answer = await client.post("/migrate", headers=READ)
    document = problem(answer, "insufficient-scope", 403)
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="migrate", error="insufficient_scope", scope="apply"'  # RFC 6750, section 3.1
    )
    assert "MIGRATION_API_KEY" in document["hint"]


async def test_a_read_key_reads_and_an_apply_key_reads_too(settings: MakeSettings, write_history: WriteHistory) -> None:
    async with client_of(settings(write_history(a1="pass"))) as client:
        for headers in (READ, APPLY):
            for path in ("/status", "/runs"):
                assert (await client.get(path, headers=headers)).status_code == 200


async def test_a_key_in_both_lists_may_migrate() -> None:
    async with client_of(without_database(read_key=API_KEY)) as client:
        problem(await client.post("/migrate", headers=APPLY), "database-unavailable", 503)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
@pytest.mark.parametrize("space", [" ", "   "])
async def test_the_scheme_has_no_case_and_may_be_followed_by_several_spaces(scheme: str, space: str) -> None:
    answer = await ask_status({"Authorization": f"{scheme}{space}{READ_KEY}"})
    problem(answer, "database-unavailable", 503)


async def test_every_key_of_a_list_is_good_until_it_is_taken_out() -> None:
    old, new = "the-old-key-0123456789-0123456789-0123", "the-new-key-0123456789-0123456789-0123"
    for both in (f"{old},{new}", f" {old} , {new} ", f",,{old},,{new},", f"\n{old}\n,\n{new}\n"):
        let_in = await asyncio.gather(
            is_let_in(old, api_key=both),
            is_let_in(new, api_key=both),
            is_let_in(new, read_key=both),
            is_let_in(both, api_key=both),
            is_let_in("", api_key=both),
        )
        assert list(let_in) == [True, True, True, False, False]
    assert not await is_let_in(old, api_key=new)


@pytest.mark.parametrize("written", [str.lower, str.upper])
async def test_a_hashed_key_lets_in_its_key_and_nobody_else(written: Callable[[str], str]) -> None:
    hashed = f"sha256:{written(sha256(OTHER_KEY))}"
    assert await is_let_in(OTHER_KEY, api_key=hashed)
    assert not await is_let_in(hashed, api_key=hashed)
    assert not await is_let_in(sha256(OTHER_KEY), api_key=hashed)
    assert not await is_let_in(API_KEY, api_key=hashed)
    assert await is_let_in(API_KEY, api_key=f"{hashed}, {API_KEY}")
    assert await is_let_in(OTHER_KEY, read_key=f"{API_KEY},{hashed.replace('sha256', 'SHA256')}")


async def test_a_hashed_key_may_be_short_since_its_length_is_not_known() -> None:
    assert await is_let_in("short", api_key=f"sha256:{sha256('short')}")


async def test_a_key_may_have_characters_beyond_ascii() -> None:
    for key in ("Schlüssel-für-die-Prüfung-\N{KEY}-0123456789", "voilà-" * 6 + "voilà"):  # à ends in the byte A0
        async with client_of(without_database(api_key=key)) as client:
            answer = await client.get("/status", headers=[(b"Authorization", f"Bearer {key}".encode())])
        problem(answer, "database-unavailable", 503)


async def test_a_key_may_have_bytes_that_are_not_utf_8() -> None:
    key = b"\xff\xfe" * 16
    async with client_of(without_database(api_key=key.decode("utf-8", "surrogateescape"))) as client:  # as os.environ
        answer = await client.get("/status", headers=[(b"Authorization", b"Bearer " + key)])
    problem(answer, "database-unavailable", 503)


async def test_an_empty_key_is_not_let_in_even_where_its_hash_is_listed() -> None:
    answer = await ask_status(bearer(""), api_key=f"sha256:{sha256('')}")
    problem(answer, "unauthenticated", 401)


@pytest.mark.parametrize("name", ["key", "api_key", "token", "access_token", "authorization", "MIGRATION_API_KEY"])
async def test_a_key_in_the_query_string_is_never_accepted(name: str) -> None:
    async with client_of(without_database()) as client:
        for value in (API_KEY, f"Bearer {API_KEY}"):
            for answer in (
                await client.get("/status", params={name: value}),
                await client.post("/migrate", params={name: value}),
            ):
                problem(answer, "unauthenticated", 401)
                assert answer.headers["www-authenticate"] == NO_TOKEN


async def test_a_key_in_the_body_is_never_accepted() -> None:
    async with client_of(without_database()) as client:
        answer = await client.post("/migrate", data={"access_token": API_KEY})  # RFC 6750, section 2.2
    problem(answer, "unauthenticated", 401)


@pytest.mark.parametrize("value", [None, "", " ", ",", " , ,"])
async def test_without_an_api_key_the_answer_names_the_variable_and_how_to_make_one(value: str | None) -> None:
    async with client_of(without_database(api_key=value)) as client:
        for headers in ({}, READ, APPLY, bearer("")):
            for answer in (
                await client.post("/migrate", headers=headers),
                await client.get("/status", headers=headers),
            ):
                document = problem(answer, "not-configured", 503)
                assert document["variables"] == ["MIGRATION_API_KEY"]
                assert "MIGRATION_API_KEY" in document["detail"]
                assert "python -m app keygen" in document["hint"]


@pytest.mark.parametrize("field", ["api_key", "read_key"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("hunter2", id="short"),
        pytest.param("hunter2" + "x" * 24, id="31-characters"),
        pytest.param(f"{OTHER_KEY},hunter2", id="one-of-two-is-short"),
        pytest.param("sha256:hunter2", id="no-digest"),
        pytest.param("sha256:" + "a1" * 31, id="digest-too-short"),
        pytest.param("sha256:" + "a1" * 33, id="digest-too-long"),
        pytest.param("sha256:" + "zz" * 32, id="digest-is-not-hex"),
        pytest.param("SHA256:" + "hunter2" * 9, id="upper-case-and-no-digest"),
    ],
)
async def test_a_key_that_cannot_be_used_is_named_by_its_variable_and_never_quoted(field: str, value: str) -> None:
    variable = f"MIGRATION_{field.upper()}"
    async with client_of(without_database(**{field: value})) as client:
        answer = await client.post("/migrate", headers=APPLY)
        document = problem(answer, "not-configured", 503)
        assert document["variables"] == [variable]
        assert variable in document["detail"]
        assert "python -m app keygen" in document["hint"]
        assert_tells_no_secret(answer.text, "hunter2", value, OTHER_KEY)
        assert (await client.get("/livez")).status_code == 200


async def test_a_key_of_32_characters_is_long_enough() -> None:
    assert await is_let_in("0123456789abcdef0123456789abcdef", api_key="0123456789abcdef0123456789abcdef")


async def test_the_key_is_looked_at_before_the_body() -> None:
    bodies = [b"{", b"\xff", json.dumps({"unknown": 1}).encode(), b"x" * 1_000_000]
    async with client_of(without_database()) as client:
        for body in bodies:
            for media_type in ("application/json", "text/plain"):
                answer = await client.post("/migrate", content=body, headers={"Content-Type": media_type})
                problem(answer, "unauthenticated", 401)
                answer = await client.post("/migrate", content=body, headers={**READ, "Content-Type": media_type})
                problem(answer, "insufficient-scope", 403)


async def test_the_key_is_looked_at_before_the_path_and_the_query() -> None:
    async with client_of(without_database()) as client:
        problem(await client.get("/runs/not-a-uuid"), "unauthenticated", 401)
        problem(await client.get("/runs?limit=many"), "unauthenticated", 401)


async def test_the_ledger_keeps_the_label_of_the_key_and_never_the_key(
    settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    history = write_history(a1="pass", b2="pass", c3="raise RuntimeError")
    hashed = f"{API_KEY}, sha256:{sha256(OTHER_KEY)}"
    async with client_of(settings(history, api_key=hashed)) as client:
        for target, key in (("a1", API_KEY), ("b2", OTHER_KEY)):
            answer = await client.post("/migrate", json={"target": target}, headers=bearer(key))
            assert answer.status_code == 200, answer.text
        problem(await client.post("/migrate", headers=bearer(OTHER_KEY)), "migration-failed", 500)
        recorded = await client.get("/runs", headers=READ)
    labels = [run["key_label"] for run in recorded.json()["runs"]]
    assert labels == [sha256(OTHER_KEY)[:8], sha256(OTHER_KEY)[:8], sha256(API_KEY)[:8]]
    rows = database.execute("SELECT run::text FROM migration_endpoint.run")
    assert_tells_no_secret(str(rows) + recorded.text, OTHER_KEY, sha256(OTHER_KEY), sha256(API_KEY))
