"""Signatures of webhooks: the examples of those who send them, and whatever else may stand in a header."""

import base64
import hashlib
import hmac
import traceback
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.datastructures import Headers

from app.errors import BadSignature, NotConfigured
from app.web import signatures
from app.web.signatures import Secrets
from tests.fuzzing import examples

GITHUB_SECRET = "It's a Secret to Everybody"
"""Of the example in GitHub's documentation, "Validating webhook deliveries"."""
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""Of the example that the libraries of Standard Webhooks test themselves with."""
STANDARD_SIGNED_AT = 1614265330
ANOTHER = "another-secret-of-the-tests"
ANOTHER_STANDARD = "whsec_" + base64.b64encode(ANOTHER.encode()).decode()
BODY = b'{"test": 2432232314}'


def headers(*given: tuple[str, str | bytes]) -> Headers:
    """Headers as a server hands them on: any bytes, each as often as it came."""
    return Headers(
        raw=[(name.encode(), value if isinstance(value, bytes) else value.encode("latin-1")) for name, value in given]
    )


def secrets(*texts: str) -> Secrets:
    return signatures.secrets(SecretStr(",".join(texts)), "MIGRATION_SECRET")


def standard_secrets(*texts: str) -> Secrets:
    return signatures.standard_secrets(SecretStr(",".join(texts)), "MIGRATION_SECRET")


def standard_headers(
    message_id: str = "msg_p5jXN8AQM9LWM0D4loKWxJek",
    timestamp: str = str(STANDARD_SIGNED_AT),
    signature: str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
) -> Headers:
    return headers(("webhook-id", message_id), ("webhook-timestamp", timestamp), ("webhook-signature", signature))


def standard_signature(message_id: str, timestamp: str, body: bytes, secret: str = STANDARD_SECRET) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = message_id.encode() + b"." + timestamp.encode() + b"." + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


# --- the examples


def test_githubs_own_example_holds() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    signatures.verify_github(
        b"Hello, World!", headers(("x-hub-signature-256", signature)), secrets(ANOTHER, GITHUB_SECRET)
    )


def test_the_example_of_standard_webhooks_holds_and_gives_its_id() -> None:
    known = standard_secrets(ANOTHER_STANDARD, STANDARD_SECRET)
    found = signatures.verify_standard(BODY, standard_headers(), known, now=STANDARD_SIGNED_AT)
    assert found == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_vercels_signature_is_the_hmac_sha1_of_rfc_2202() -> None:
    # Vercel's documentation has code and no example of a result, so this is the RFC's.
    signature = headers(("x-vercel-signature", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"))
    signatures.verify_vercel(b"what do ya want for nothing?", signature, Secrets((ANOTHER.encode(), b"Jefe")))


# --- what is refused

Verify = Callable[[bytes, Headers, Secrets], object]


def verify_standard(body: bytes, given: Headers, known: Secrets) -> str:
    return signatures.verify_standard(body, given, known, now=STANDARD_SIGNED_AT)


SENDERS: dict[str, tuple[Verify, str, Callable[[bytes, bytes], str]]] = {
    "vercel": (
        signatures.verify_vercel,
        "x-vercel-signature",
        lambda key, body: hmac.new(key, body, hashlib.sha1).hexdigest(),
    ),
    "github": (
        signatures.verify_github,
        "x-hub-signature-256",
        lambda key, body: f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}",
    ),
}
"""How each is verified, in which header, and how it signs."""


def told(problem: BadSignature | NotConfigured) -> str:
    return f"{problem.document()} {problem!r} {''.join(traceback.format_exception(problem))}"


def refusal(verify: Verify, body: bytes, given: Headers, known: Secrets) -> BadSignature:
    """The refusal, which has a challenge and quotes neither a secret nor what came."""
    with pytest.raises(BadSignature) as refused:
        verify(body, given, known)
    problem = refused.value
    assert problem.status == 401
    assert problem.headers["WWW-Authenticate"]
    assert not any(secret in told(problem) for secret in (GITHUB_SECRET, STANDARD_SECRET[6:], ANOTHER))
    return problem


@pytest.mark.parametrize("sender", SENDERS)
def test_each_listed_secret_holds_and_no_other(sender: str) -> None:
    verify, name, sign = SENDERS[sender]
    for secret in (GITHUB_SECRET, ANOTHER):
        verify(BODY, headers((name, sign(secret.encode(), BODY))), secrets(f" {GITHUB_SECRET} ", "", ANOTHER))
    right = headers((name, sign(GITHUB_SECRET.encode(), BODY)))
    for known in (secrets(ANOTHER), secrets()):
        refusal(verify, BODY, right, known)


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: [],
        lambda _: [b""],
        lambda right: [right, right],
        lambda right: [right, b""],
        lambda right: [right[:-1]],
        lambda right: [right + b"0"],
        lambda right: [right.upper()],
        lambda right: [b" " + right],
        lambda right: [right.replace(b"sha256=", b"") + b"="],
        lambda right: [b"sha1=" + right.removeprefix(b"sha256=")],
        lambda right: [right[:-2] + b"\xff\xfe"],
        lambda right: [right[:-1] + "\N{SUPERSCRIPT TWO}".encode()],
        lambda right: [right + b"0" * 100_000],
        lambda right: [b"\0" * len(right)],
    ],
)
def test_a_header_that_is_not_exactly_the_signature_is_refused(
    sender: str, spoil: Callable[[bytes], list[bytes]]
) -> None:
    verify, name, sign = SENDERS[sender]
    right = sign(GITHUB_SECRET.encode(), BODY).encode()
    refusal(verify, BODY, headers(*((name, value) for value in spoil(right))), secrets(GITHUB_SECRET))


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("body", [b"", BODY + b" ", BODY[:-1], BODY.replace(b" ", b"")])
def test_a_body_that_differs_by_a_byte_is_refused(sender: str, body: bytes) -> None:
    verify, name, sign = SENDERS[sender]
    refusal(verify, body, headers((name, sign(GITHUB_SECRET.encode(), BODY))), secrets(GITHUB_SECRET))


@pytest.mark.parametrize("away_s", [-301, -300, -1, 0, 0.5, 299, 300, 301])
def test_a_standard_webhook_holds_for_five_minutes_either_way(away_s: float) -> None:
    known, now = standard_secrets(STANDARD_SECRET), STANDARD_SIGNED_AT + away_s
    if abs(away_s) <= 300:
        assert signatures.verify_standard(BODY, standard_headers(), known, now=now)
    else:
        with pytest.raises(BadSignature, match="more than 5 minutes away"):
            signatures.verify_standard(BODY, standard_headers(), known, now=now)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4= ", ""),
        ("", " v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="),
        ("v2,x  v1 , v1,\xe9 ", " ,"),
    ],
)
def test_of_several_signatures_of_a_standard_webhook_one_must_hold(before: str, after: str) -> None:
    right = standard_signature("msg_1", str(STANDARD_SIGNED_AT), BODY)
    for signature in (right, standard_signature("msg_1", str(STANDARD_SIGNED_AT), BODY, ANOTHER_STANDARD)):
        given = standard_headers("msg_1", signature=before + signature + after)
        assert verify_standard(BODY, given, standard_secrets(STANDARD_SECRET, ANOTHER_STANDARD)) == "msg_1"
        of_another_version = standard_headers("msg_1", signature=before + signature.replace("v1", "v1a") + after)
        refusal(verify_standard, BODY, of_another_version, standard_secrets(STANDARD_SECRET, ANOTHER_STANDARD))


@pytest.mark.parametrize(
    "changes",
    [
        {"message_id": "msg_2"},
        {"message_id": ""},
        {"message_id": "msg 1"},
        {"message_id": "m" * 201},
        {"message_id": "\xe9"},
        {"timestamp": str(STANDARD_SIGNED_AT + 1)},
        {"timestamp": f"{STANDARD_SIGNED_AT}.0"},
        {"timestamp": "+1614265330"},
        {"timestamp": "\xb2"},  # which is a digit, and no number
        {"timestamp": ""},
        {"timestamp": "1" * 3000},
        {"signature": ""},
        {"signature": "v1,"},
        {"signature": "v1"},
        {"signature": "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
        {"signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE"},
        {"signature": "v1,g0hM9SsE-OTPJTGt_tmIKtSyZlE3uFJELVlNIOLJ1OE="},
        {"signature": "v1,\xff\xfe"},
        {"signature": "v1,x " * 1000 + "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
    ],
)
def test_headers_of_a_standard_webhook_that_do_not_fit_are_refused(changes: dict[str, str]) -> None:
    refusal(verify_standard, BODY, standard_headers(**changes), standard_secrets(STANDARD_SECRET))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_of_a_standard_webhook_must_come_once(name: str) -> None:
    right = standard_headers().items()
    known = standard_secrets(STANDARD_SECRET)
    twice = headers(*right, (name, standard_headers()[name]))
    assert name in refusal(verify_standard, BODY, twice, known).detail
    without = headers(*((key, value) for key, value in right if key != name))
    assert name in refusal(verify_standard, BODY, without, known).detail


def test_a_full_stop_in_the_id_cannot_shift_what_was_signed() -> None:
    now = str(STANDARD_SIGNED_AT)
    signature = standard_signature("msg_1", now, f"{now}.{{}}".encode())
    assert signature == standard_signature(f"msg_1.{now}", now, b"{}"), "the two are signed alike"
    refusal(verify_standard, b"{}", standard_headers(f"msg_1.{now}", now, signature), standard_secrets(STANDARD_SECRET))


# --- whatever else may stand in a header

nearly = st.tuples(st.integers(0, 80), st.sampled_from([b"", b"0", b" ", b",", b"\0", b"\xe9"]))


def altered(right: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.just(right),
        st.binary(max_size=80),
        nearly.map(lambda drawn: right[: drawn[0]] + drawn[1] + right[drawn[0] + 1 :]),
        st.sampled_from([right.upper(), right * 2, right[::-1], right + b"\xff" * 5000]),
    )


@examples(200)
@given(data=st.data(), sender=st.sampled_from(sorted(SENDERS)), body=st.binary(max_size=60))
def test_only_the_one_right_header_is_let_in(data: st.DataObject, sender: str, body: bytes) -> None:
    verify, name, sign = SENDERS[sender]
    right = sign(GITHUB_SECRET.encode(), body).encode()
    values = data.draw(st.lists(altered(right), max_size=2))
    given_headers = headers(*((name, value) for value in values))
    if values == [right]:
        verify(body, given_headers, secrets(ANOTHER, GITHUB_SECRET))
    else:
        refusal(verify, body, given_headers, secrets(ANOTHER, GITHUB_SECRET))


@examples(300)
@given(data=st.data(), body=st.binary(max_size=60))
def test_only_the_right_headers_of_a_standard_webhook_are_let_in(data: st.DataObject, body: bytes) -> None:
    now = str(STANDARD_SIGNED_AT)
    signature = standard_signature("msg_1", now, body).encode()
    drawn = [
        ("webhook-id", data.draw(st.just([b"msg_1"]) | st.lists(altered(b"msg_1"), max_size=2))),
        ("webhook-timestamp", data.draw(st.just([now.encode()]) | st.lists(altered(now.encode()), max_size=2))),
        ("webhook-signature", data.draw(st.just([signature]) | st.lists(altered(signature), max_size=2))),
    ]
    given_headers = headers(*((name, value) for name, values in drawn for value in values))
    ids, times, signed = (values for _, values in drawn)
    right = ids == [b"msg_1"] and times == [now.encode()] and len(signed) == 1
    if right and len(signed[0]) <= 4096 and signature in signed[0].split(b" "):
        assert verify_standard(body, given_headers, standard_secrets(STANDARD_SECRET)) == "msg_1"
    else:
        refusal(verify_standard, body, given_headers, standard_secrets(STANDARD_SECRET))


# --- the secrets


@pytest.mark.parametrize("text", [None, "", " ", ",", " , ,"])
def test_without_a_secret_there_is_none(text: str | None) -> None:
    setting = None if text is None else SecretStr(text)
    assert not signatures.secrets(setting, "MIGRATION_SECRET")
    assert not signatures.standard_secrets(setting, "MIGRATION_SECRET")


@pytest.mark.parametrize("text", ["Sesame", "Sesame-16-chars", f"{GITHUB_SECRET},Sesame", "Sesame-\ud800-of-the-tests"])
def test_a_secret_that_cannot_be_used_is_refused_by_its_variable(text: str) -> None:
    with pytest.raises(NotConfigured) as refused:
        secrets(text)
    assert refused.value.members["variables"] == ["MIGRATION_SECRET"]
    assert "Sesame" not in told(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "Sesame",
        "whsec_",
        "whsec_Sesame",
        STANDARD_SECRET[6:],
        f"v1,{STANDARD_SECRET}",
        f"{STANDARD_SECRET}-",
        f"x{STANDARD_SECRET}",
        "whsec_S\xe9same",
        "whsec_" + base64.b64encode(b"Sesame" * 3 + b"-open").decode(),
    ],
)
def test_a_secret_that_is_none_of_standard_webhooks_is_refused_by_its_variable(text: str) -> None:
    with pytest.raises(NotConfigured) as refused:
        standard_secrets(text)
    assert refused.value.members["variables"] == ["MIGRATION_SECRET"]
    assert not any(part in told(refused.value) for part in ("Sesame", "S\xe9same", STANDARD_SECRET[6:]))


def test_the_repr_of_secrets_shows_none() -> None:
    known = secrets(GITHUB_SECRET)
    assert known
    assert "Secret to" not in repr(known)
