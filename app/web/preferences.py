"""What a caller prefers: how the answer is to come (Prefer, RFC 7240), and in which form (Accept, RFC 9110)."""

import re
from dataclasses import dataclass
from typing import Literal

from starlette.datastructures import Headers

Stream = Literal["application/x-ndjson", "text/event-stream"]

STREAMS: tuple[Stream, ...] = ("application/x-ndjson", "text/event-stream")
_JSON = ("application/json", "application/*", "*/*")
_PART = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,])+')
"""What stands between commas, of which those in a quoted string are none."""
_WAIT = re.compile(r"\d{1,9}", re.ASCII)
_LONGEST_WAIT_S = 3600
_LONGEST_HEADER = 1000
"""Characters; what is after them is no preference that anybody here knows."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a caller prefers; what was sent and is not understood is ignored, as RFC 7240 wants it."""

    respond_async: bool = False
    """An answer before the end of the run will do."""
    wait_s: int | None = None
    """How long the caller will wait for an answer, in seconds."""

    @property
    def may_be_early(self) -> bool:
        """Whether the answer may come before the end of the run."""
        return self.respond_async or self.wait_s is not None


def preferences(headers: Headers) -> Preferences:
    """Read the Prefer headers; of a preference that is stated twice the first counts (RFC 7240, section 2)."""
    stated: dict[str, str] = {}
    for part in _parts(headers, "prefer"):
        name, _, value = part.partition(";")[0].partition("=")
        stated.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = stated.get("wait", "")
    return Preferences(
        respond_async="respond-async" in stated,
        wait_s=min(int(wait), _LONGEST_WAIT_S) if _WAIT.fullmatch(wait) else None,
    )


def stream(headers: Headers) -> Stream | None:
    """The kind of event stream that the caller would rather have than JSON, if it would."""
    wanted: Stream | None = None
    best = max((_quality(headers, name) for name in _JSON), default=0.0)
    # Who names a stream wants it: */* at the same quality is only what clients add by themselves.
    for each in STREAMS:
        quality = _quality(headers, each)
        if quality > 0 and (quality > best or (wanted is None and quality == best)):
            wanted, best = each, quality
    return wanted


def _quality(headers: Headers, name: str) -> float:
    for part in _parts(headers, "accept"):
        media_type, *parameters = (each.strip().lower() for each in part.split(";"))
        if media_type == name:
            weights = [each[2:] for each in parameters if each.startswith("q=")]
            return _weight(weights[0]) if weights else 1.0
    return 0.0


def _weight(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text) else 0.0


def _parts(headers: Headers, name: str) -> list[str]:
    """The comma-separated parts of a header, however often it was sent."""
    return [part for value in headers.getlist(name) for part in _PART.findall(value[:_LONGEST_HEADER])]
