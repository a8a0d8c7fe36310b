"""Keys and headers that nobody wrote by hand: only the right key is let in, and none is ever told."""

import hashlib
import re
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import InsufficientScope, NotConfigured, Unauthenticated
from app.main import create_app
from app.settings import Settings
from app.web import auth
from app.web.auth import Caller, Keys, Scope
from tests.fuzzing import examples
from tests.servers import API_KEY, READ_KEY
from tests.web.answers import without_database

MAKE_ONE = "python -m app keygen"
CHALLENGE = 'Bearer realm="migrate"'

# --- the variables

characters = st.characters(exclude_characters=",", exclude_categories=["Cs"])
bytes_of_the_environment = st.binary(min_size=32, max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
good_keys = (
    (
        st.text(characters, min_size=32, max_size=40)
        | st.text("ab?", min_size=32, max_size=34)
        | bytes_of_the_environment
    )
    .map(lambda key: key.replace(",", "").strip())
    .filter(lambda key: len(key) >= 32 and not key.lower().startswith("sha256:"))
)
bad_entries = st.one_of(
    st.text(characters, max_size=40).map(str.strip).filter(lambda key: 0 < len(key) < 32),
    st.text("0123456789abcdefg ", max_size=70).map("sha256:{}".format).filter(lambda e: not is_hashed(e.strip())),
    st.just("\ud800" * 32),  # which no byte of an environment becomes
)
blanks = st.text(" \t\r\n", max_size=2)


def is_hashed(entry: str) -> bool:
    return re.fullmatch("sha256:[0-9a-f]{64}", entry) is not None


def raw(key: str) -> bytes:
    """The bytes that a caller sends for a key of the environment."""
    return key.encode("utf-8", "surrogateescape")


@st.composite
def variables(draw: st.DrawFn, keys: list[str], *, spoiled_by: str | None = None) -> str:
    """A variable that lists these keys, some of them hashed, and perhaps an entry that cannot be used."""
    hashes = {key: f"sha256:{hashlib.sha256(raw(key)).hexdigest()}" for key in keys}
    entries = [draw(st.sampled_from([key, hashes[key], hashes[key].upper()])) for key in keys]
    entries += [] if spoiled_by is None else [spoiled_by]
    listed = draw(st.permutations([*entries, *draw(st.lists(st.just(""), max_size=2))]))
    return ",".join(draw(blanks) + entry + draw(blanks) for entry in listed)


def keys_of(api_key: str | None, read_key: str | None) -> Keys | NotConfigured:
    return auth.keys(Settings(api_key=api_key, read_key=read_key))


def told(problem: Exception) -> str:
    document = problem.document() if isinstance(problem, NotConfigured | Unauthenticated | InsufficientScope) else {}
    return f"{document} {problem!r} {problem} {''.join(traceback.format_exception(problem))}"


def caller(keys: Keys, header: str | None, scope: Scope) -> Caller | Unauthenticated | InsufficientScope:
    try:
        return keys.caller(header, scope)
    except (Unauthenticated, InsufficientScope) as refused:
        return refused


@examples(150)
@given(data=st.data(), apply=st.lists(good_keys, min_size=1, max_size=3), read=st.lists(good_keys, max_size=3))
def test_every_listed_key_is_let_in_with_its_scope_however_the_list_is_written(
    data: st.DataObject, apply: list[str], read: list[str]
) -> None:
    keys = keys_of(data.draw(variables(apply)), data.draw(variables(read)))
    assert isinstance(keys, Keys)
    for key in apply + read:
        digest = hashlib.sha256(raw(key)).hexdigest()
        assert not any(secret in repr(keys) for secret in (key, digest, repr(bytes.fromhex(digest))))
        # As a server hands it on: Starlette decodes the bytes as Latin-1.
        header = f"Bearer {raw(key).decode('latin-1')}"
        scope: Scope = "apply" if key in apply else "read"
        assert caller(keys, header, "read") == Caller(label=digest[:8], scope=scope)
        applying = caller(keys, header, "apply")
        assert isinstance(applying, Caller if scope == "apply" else InsufficientScope)
        assert isinstance(applying, Caller) or key not in told(applying)


@examples(150)
@given(data=st.data(), good=st.lists(good_keys, min_size=1, max_size=2), bad=bad_entries, in_read=st.booleans())
def test_an_entry_that_cannot_be_used_is_refused_by_its_variable_and_never_quoted(
    data: st.DataObject, good: list[str], bad: str, in_read: bool
) -> None:
    spoiled = data.draw(variables(good, spoiled_by=bad))
    refused = keys_of(*((API_KEY, spoiled) if in_read else (spoiled, READ_KEY)))
    assert isinstance(refused, NotConfigured)
    assert refused.members["variables"] == ["MIGRATION_READ_KEY" if in_read else "MIGRATION_API_KEY"]
    assert MAKE_ONE in refused.hint
    assert not any(key in told(refused) for key in (*good, API_KEY, READ_KEY))
    assert len(bad) < 12 or bad.strip() not in told(refused)


@examples(150)
@given(api_key=st.none() | st.text(max_size=80), read_key=st.none() | st.text(max_size=80))
def test_any_text_is_a_list_of_keys_or_refused(api_key: str | None, read_key: str | None) -> None:
    found = keys_of(api_key, read_key)
    assert isinstance(found, Keys | NotConfigured)
    assert not isinstance(found, Keys) or found.apply


# --- the header

ODD_KEY = "what-is-your-name?-Zoë-é-0123456789"
KEYS = (API_KEY, ODD_KEY, READ_KEY)
right = st.sampled_from([raw(key) for key in KEYS])
nearly_right = st.tuples(
    right, st.integers(0, 40), st.sampled_from([b"", b"x", b" ", b"\t", b",", b"\0", b"\xa0"])
).map(lambda drawn: drawn[0][: drawn[1]] + drawn[2] + drawn[0][drawn[1] + 1 :])
hashes = right.map(lambda key: b"sha256:" + hashlib.sha256(key).hexdigest().encode())
tokens = st.one_of(
    right, nearly_right, hashes, right.map(bytes.upper), right.map(lambda key: key * 2), st.binary(max_size=40)
)
schemes = st.sampled_from(
    [b"Bearer", b"bearer", b"BEARER", b"Basic", b"Digest", b"", b"Bearer:", b"Bearer\t", b"Token"]
)
spaces = st.sampled_from([b" ", b"  ", b"", b"\t", b"\xa0"])
headers = st.binary(max_size=60) | st.tuples(st.sampled_from([b"", b" "]), schemes, spaces, tokens, spaces).map(
    b"".join
)

RIGHT = re.compile(
    rb" *bearer +(" + b"|".join(re.escape(raw(key)) for key in KEYS) + rb") *", re.IGNORECASE | re.DOTALL
)


def is_right(header: bytes) -> bytes | None:
    """The key in a header, if it is the right one: written a second time, to compare."""
    found = RIGHT.fullmatch(header)
    return found[1] if found and found[1] in map(raw, KEYS) else None


@examples(300)
@given(header=headers, scope=st.sampled_from(["apply", "read"]))
@example(header=b"bEARER  " + raw(ODD_KEY), scope="apply")
@example(header=b" Bearer " + raw(READ_KEY) + b" ", scope="read")
@example(header=b"Bearer " + raw(READ_KEY), scope="apply")
def test_only_the_right_header_is_let_in(header: bytes, scope: Scope) -> None:
    keys = keys_of(f"{API_KEY},{ODD_KEY}", READ_KEY)
    assert isinstance(keys, Keys)
    answer = caller(keys, header.decode("latin-1"), scope)
    key = is_right(header)
    if key is None:
        assert isinstance(answer, Unauthenticated)
    elif scope == "apply" and key == raw(READ_KEY):
        assert isinstance(answer, InsufficientScope)
    else:
        assert isinstance(answer, Caller)
        assert answer.label == hashlib.sha256(key).hexdigest()[:8]
        return
    assert answer.headers["WWW-Authenticate"].startswith(CHALLENGE)
    assert not any(each in told(answer) for each in KEYS)


@examples(150)
@given(header=st.none() | st.text(max_size=60) | st.text(max_size=40).map("Bearer {}".format))
@example(header=f"Bearer {ODD_KEY.replace('?', '\N{SNOWMAN}').encode().decode('latin-1', 'replace')}")
@example(header=f"Bearer {raw(ODD_KEY).decode('latin-1').replace('?', '\N{SNOWMAN}')}")
@example(header="Bearer \ud800")
def test_any_text_instead_of_a_header_is_refused(header: str | None) -> None:
    keys = keys_of(f"{API_KEY},{ODD_KEY}", READ_KEY)
    assert isinstance(keys, Keys)
    assert isinstance(caller(keys, header, "read"), Unauthenticated)


# --- through the door

Asgi = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


async def post(app: Asgi, given_headers: list[tuple[bytes, bytes]]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """POST /migrate with these very bytes, which no client library would send; status, headers and body."""
    messages: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/migrate",
        "raw_path": b"/migrate",
        "query_string": b"",
        "headers": given_headers,
        "server": ("test", 80),
        "client": ("test", 1),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await app(scope, receive, send)
    start, *bodies = messages
    return start["status"], list(start["headers"]), b"".join(body["body"] for body in bodies)


usable_ids = st.from_regex(rb"[A-Za-z0-9._:-]{1,128}", fullmatch=True)
unusable_parts = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"Set-Cookie: a=b", b"<", b"\xff", b"x" * 129]
)
request_ids = st.one_of(
    st.binary(max_size=40),
    usable_ids,
    st.lists(usable_ids.map(lambda i: i[:9]) | unusable_parts, max_size=5).map(b"".join),
)


@pytest.fixture(scope="module")
def app() -> Asgi:
    # With the read key a request ends before the database; with the apply key it would not.
    return create_app(without_database(read_key=f"{READ_KEY},{ODD_KEY}"))


@examples(200)
@given(ids=st.lists(request_ids, max_size=2), header=st.none() | headers)
@example(ids=[b"deploy-7\r\nSet-Cookie: a=b"], header=None)
@example(ids=[b"deploy-7\n"], header=None)
@example(ids=[b"x" * 129], header=None)
@example(ids=[b"x" * 128], header=b"bEARER  " + raw(ODD_KEY))
@example(ids=[], header=b" Bearer " + raw(READ_KEY) + b" ")
async def test_any_bytes_in_the_headers_get_a_problem_with_one_valid_request_id(
    app: Asgi, ids: list[bytes], header: bytes | None
) -> None:
    if header is not None and is_right(header) == raw(API_KEY):
        header = None
    given_headers = [(b"x-request-id", each) for each in ids]
    given_headers += [] if header is None else [(b"authorization", header)]

    status, answered, body = await post(app, given_headers)

    assert status == (403 if header is not None and is_right(header) else 401), body
    (request_id,) = [value for name, value in answered if name.lower() == b"x-request-id"]
    assert re.fullmatch(rb"[A-Za-z0-9._:-]{1,128}", request_id)
    if ids and re.fullmatch(rb"[A-Za-z0-9._:-]{1,128}", ids[0]):
        assert request_id == ids[0]
    else:
        assert request_id not in ids
    assert {name.lower() for name, _ in answered} == {
        *(b"x-request-id", b"cache-control", b"content-length", b"content-type", b"www-authenticate")
    }
    assert not any(separator in name + value for name, value in answered for separator in (b"\r", b"\n", b"\0"))
    assert f'"request_id":"{request_id.decode()}"'.encode() in body
    assert not any(key.encode() in body for key in KEYS)
