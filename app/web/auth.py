"""Who calls: bearer keys, their scopes, and the answers of RFC 6750. Never depends on the database."""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from app.errors import InsufficientScope, NotConfigured, Unauthenticated

if TYPE_CHECKING:
    from app.settings import Settings

Scope = Literal["apply", "read"]

SHORTEST_KEY = 32
"""Characters; a key of 32 random ones cannot be guessed."""

_HASHED = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)
_NOT_OURS = "The key is not one of this deployment's."
_MAKE_ONE = "Make one with `python -m app keygen` or `openssl rand -base64 32`, and set it in the environment."


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller whose key is known. `label`, the first 8 hex digits of its SHA-256, is what the ledger keeps."""

    label: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys, as SHA-256 digests; scope apply implies read."""

    apply: tuple[bytes, ...] = field(repr=False)
    read: tuple[bytes, ...] = field(repr=False)

    def caller(self, authorization: str | None, scope: Scope) -> Caller:
        """Say who calls, from the Authorization header.

        Raises:
            Unauthenticated: There is no bearer key, or it is not one of ours.
            InsufficientScope: The key may not do this.
        """
        # Spaces only: to `strip()` the last byte of a key that ends in à would be one too.
        scheme, _, token = (authorization or "").strip(" ").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("No bearer key came with the request.", token_came=False)
        if not token:
            raise Unauthenticated("No key follows `Bearer`; is the caller's variable empty?", token_came=False)
        try:
            # Starlette decodes headers as Latin-1, so this gives the bytes that came.
            digest = hashlib.sha256(token.lstrip(" ").encode("latin-1")).digest()
        except UnicodeEncodeError:  # "replace" would turn it into the key of somebody whose key has a question mark
            raise Unauthenticated(_NOT_OURS, token_came=True) from None
        # Every entry is compared, so that time does not tell which one matched.
        may_apply = _is_among(digest, self.apply)
        may_read = _is_among(digest, self.read) or may_apply
        if not may_read:
            raise Unauthenticated(_NOT_OURS, token_came=True)
        if scope == "apply" and not may_apply:
            raise InsufficientScope("The key has the scope `read`; this needs `apply`.")
        return Caller(label=digest.hex()[:8], scope="apply" if may_apply else "read")


def _is_among(digest: bytes, entries: tuple[bytes, ...]) -> bool:
    return sum(hmac.compare_digest(digest, entry) for entry in entries) > 0


def keys(configuration: "Settings | NotConfigured") -> Keys | NotConfigured:
    """The keys of the configuration, or the problem that says which variable to set."""
    if isinstance(configuration, NotConfigured):
        return configuration
    from app.settings import variable  # loaded with the configuration, and not before

    apply, read = configuration.api_key, configuration.read_key
    try:
        found = Keys(
            apply=_digests(apply.get_secret_value() if apply else "", variable("api_key")),
            read=_digests(read.get_secret_value() if read else "", variable("read_key")),
        )
    except NotConfigured as problem:
        return problem
    if not found.apply:
        name = variable("api_key")
        return NotConfigured(f"{name} is not set.", hint=_MAKE_ONE, variables=[name])
    return found


def _digests(text: str, name: str) -> tuple[bytes, ...]:
    """The digests of a comma-separated list of keys, each written out or as `sha256:<hex>`."""
    return tuple(_digest(entry.strip(), name) for entry in text.split(",") if entry.strip())


def _digest(entry: str, name: str) -> bytes:
    if hashed := _HASHED.fullmatch(entry):
        return bytes.fromhex(hashed[1])
    if entry.lower().startswith("sha256:"):
        raise NotConfigured(
            f"An entry of {name} begins with sha256: but 64 hex digits do not follow.", hint=_MAKE_ONE, variables=[name]
        )
    if len(entry) < SHORTEST_KEY:
        raise NotConfigured(
            f"A key in {name} is shorter than {SHORTEST_KEY} characters.", hint=_MAKE_ONE, variables=[name]
        )
    try:
        return hashlib.sha256(entry.encode("utf-8", "surrogateescape")).digest()
    except UnicodeEncodeError:  # half of a surrogate pair, which an environment of UTF-16 may hold
        raise NotConfigured(
            f"A key in {name} has a character that no header can carry.", hint=_MAKE_ONE, variables=[name]
        ) from None
