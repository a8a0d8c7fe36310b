"""Whether a webhook comes from who it claims to: signatures over the raw body, checked before anything is parsed."""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import SecretStr
from starlette.datastructures import Headers

from app.errors import BadSignature, NotConfigured

SHORTEST_SECRET = 16
"""Characters; what senders make up has 20 or more."""
_SHORTEST_STANDARD_SECRET = 24
"""Bytes; as the specification of Standard Webhooks says, under "Signature scheme"."""
_LONGEST_HEADER = 4096
"""Characters; eighty signatures of Standard Webhooks."""
_TOLERANCE_S = 300

# Without a full stop, as the specification wants it: it separates what is signed, and would let parts be shifted.
_MESSAGE_ID = re.compile(r"[!-\-/-~]{1,200}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_MAKE_ONE = "Copy the secret from where the webhook is set up, or make one there with `openssl rand -base64 32`."


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of one sender; false if there is none, and then nothing is let in."""

    keys: tuple[bytes, ...] = field(repr=False)

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self.keys)


def secrets(setting: SecretStr | None, variable: str) -> Secrets:
    """The secrets of a comma-separated list, which Vercel and GitHub take as they are.

    Raises:
        NotConfigured: One of them is too short. The message never quotes it.
    """
    return Secrets(tuple(_plain(entry, variable) for entry in _entries(setting)))


def standard_secrets(setting: SecretStr | None, variable: str) -> Secrets:
    """The secrets of a comma-separated list of `whsec_<base64>`, as Standard Webhooks writes them.

    Raises:
        NotConfigured: One of them is not of that form, or too short. The message never quotes it.
    """
    return Secrets(tuple(_standard(entry, variable) for entry in _entries(setting)))


def verify_vercel(body: bytes, headers: Headers, known: Secrets) -> None:
    """See that Vercel has signed the body: `x-vercel-signature`, its HMAC-SHA1 in hex.

    Raises:
        BadSignature: It has not, or not with one of these secrets.
    """
    given = _the_one(headers, "x-vercel-signature")
    _insist([given], [hmac.digest(key, body, "sha1").hex() for key in known.keys])


def verify_github(body: bytes, headers: Headers, known: Secrets) -> None:
    """See that GitHub has signed the body: `X-Hub-Signature-256`, `sha256=` and its HMAC-SHA256 in hex.

    Raises:
        BadSignature: It has not, or not with one of these secrets.
    """
    given = _the_one(headers, "x-hub-signature-256")
    _insist([given], [f"sha256={hmac.digest(key, body, 'sha256').hex()}" for key in known.keys])


def verify_standard(body: bytes, headers: Headers, known: Secrets, *, now: float) -> str:
    """See that a sender of Standard Webhooks has signed the body, its id and its time, and did so lately.

    Args:
        body: The raw body.
        headers: `webhook-id`, `webhook-timestamp`, and `webhook-signature`, of which those of version 1 count.
        known: The secrets.
        now: The time by this clock, in seconds since 1970.

    Returns:
        The id, which is among what is signed and stays the same when the sender tries again.

    Raises:
        BadSignature: It has not, or not with one of these secrets, or more than five minutes ago or ahead.
    """
    message_id, timestamp = _the_one(headers, "webhook-id"), _the_one(headers, "webhook-timestamp")
    versions = [each.partition(",") for each in _the_one(headers, "webhook-signature").split(" ")]
    if not _MESSAGE_ID.fullmatch(message_id):
        raise BadSignature("The header webhook-id is not one to 200 printable ASCII characters without a full stop.")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise BadSignature("The header webhook-timestamp is not a number of seconds.")
    signed = f"{message_id}.{timestamp}.".encode() + body
    _insist(
        [code for version, _, code in versions if version == "v1"],
        [base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in known.keys],
    )
    if abs(now - int(timestamp)) > _TOLERANCE_S:
        raise BadSignature(f"The webhook-timestamp is more than {_TOLERANCE_S // 60} minutes away from this clock.")
    return message_id


def _the_one(headers: Headers, name: str) -> str:
    values = headers.getlist(name)
    if not values:
        raise BadSignature(f"No header {name} came with the request.")
    if len(values) > 1:
        raise BadSignature(f"The header {name} came {len(values)} times.")
    if len(values[0]) > _LONGEST_HEADER:
        raise BadSignature(f"The header {name} is longer than {_LONGEST_HEADER} characters.")
    return values[0]


def _insist(given: Iterable[str], expected: Iterable[str]) -> None:
    # Headers are Latin-1, which Starlette decodes them as, and which compare_digest takes only as bytes. All are
    # compared, so that time does not tell which one matched.
    pairs = [(one.encode("latin-1"), other.encode()) for one in given for other in expected]
    if not sum(hmac.compare_digest(*pair) for pair in pairs):
        raise BadSignature("The signature is not that of this body with any of this deployment's secrets.")


def _entries(setting: SecretStr | None) -> list[str]:
    text = setting.get_secret_value() if setting else ""
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def _plain(entry: str, variable: str) -> bytes:
    if len(entry) < SHORTEST_SECRET:
        raise _unusable(variable, f"is shorter than {SHORTEST_SECRET} characters")
    try:
        return entry.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, which an environment of UTF-16 may hold
        raise _unusable(variable, "has a character that is none") from None


def _standard(entry: str, variable: str) -> bytes:
    prefix, found, code = entry.partition("whsec_")
    try:
        key = base64.b64decode(code, validate=True)
    except (binascii.Error, ValueError):  # ValueError is what is not ASCII
        key = b""
    if prefix or not found or not key:
        raise _unusable(variable, "is not `whsec_` and Base64 after it")
    if len(key) < _SHORTEST_STANDARD_SECRET:
        raise _unusable(variable, f"has fewer than {_SHORTEST_STANDARD_SECRET} bytes in its Base64")
    return key


def _unusable(variable: str, why: str) -> NotConfigured:
    return NotConfigured(f"A secret in {variable} {why}.", hint=_MAKE_ONE, variables=[variable])
