"""What a caller makes an answer depend on: If-Match and If-None-Match, lists of ETags (RFC 9110, section 13.1)."""

import re

from starlette.datastructures import Headers

from app.errors import InvalidRequest

_TAG = re.compile(r'(?P<weak>W/)?"(?P<quoted>[!#-~\x80-\xff]*)"|(?P<bare>[0-9a-f]{64})')
"""An entity-tag (RFC 9110, section 8.8.3); or a digest without its quotes, as a shell may leave it."""
SCHEMA = {"pattern": r'^(\*|(W/)?"[!#-+\--~]*"( *, *(W/)?"[!#-+\--~]*")*|[0-9a-f]{64})?$'}
"""The usual of it, for OpenAPI."""
_LONGEST_HEADER = 4096
"""Characters; some sixty digests."""


def matched(headers: Headers) -> frozenset[str] | None:
    """The tags of If-Match, which strong comparison may find equal; None where any will do, or none is named.

    Raises:
        InvalidRequest: It is no list of ETags.
    """
    tags = _tags(headers, "if-match")
    # A weak tag equals none (section 13.1.1).
    return None if tags is None else frozenset(tag for tag, is_weak in tags if not is_weak)


def is_known(headers: Headers, tag: str) -> bool:
    """Whether If-None-Match says that the caller has this one already, so that 304 will do."""
    try:
        tags = _tags(headers, "if-none-match")
    except InvalidRequest:
        return False  # the whole answer is never wrong
    return tags is not None and tag in {each for each, _ in tags}


def _tags(headers: Headers, name: str) -> list[tuple[str, bool]] | None:
    parts = [part.strip() for value in headers.getlist(name) for part in value[:_LONGEST_HEADER].split(",")]
    parts = [part for part in parts if part]
    if not parts or parts == ["*"]:
        return None
    found = [_TAG.fullmatch(part) for part in parts]
    if not all(found):
        raise InvalidRequest(
            f"The header {name.title()} is no list of ETags.",
            hint='Send the ETag of GET /plan as it came, with its quotes: `If-Match: "9b1c…"`.',
            errors=[{"field": f"header.{name}", "message": "not a list of ETags"}],
        )
    return [(each["quoted"] or each["bare"] or "", bool(each["weak"])) for each in found if each]
