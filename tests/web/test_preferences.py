"""What callers prefer: Prefer and Accept."""

import pytest
from starlette.datastructures import Headers

from app.web.preferences import Preferences, preferences, stream

NDJSON, SSE = "application/x-ndjson", "text/event-stream"


def headers(name: str, *values: str) -> Headers:
    return Headers(raw=[(name.encode(), value.encode("latin-1")) for value in values])


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        ((), Preferences()),
        (("respond-async",), Preferences(respond_async=True)),
        (("Respond-Async",), Preferences(respond_async=True)),
        (("respond-async, wait=10",), Preferences(respond_async=True, wait_s=10)),
        (("wait=10", "respond-async"), Preferences(respond_async=True, wait_s=10)),
        (("wait = 10",), Preferences(wait_s=10)),
        (('wait="10"; foo=bar',), Preferences(wait_s=10)),
        (("wait=0",), Preferences(wait_s=0)),
        (("wait=5, wait=50",), Preferences(wait_s=5)),  # the first counts
        (("wait=99999999",), Preferences(wait_s=3600)),
        (("return=minimal, handling=lenient",), Preferences()),
        (("wait", "wait="), Preferences()),
        (("wait=-1",), Preferences()),
        (("wait=1.5",), Preferences()),
        (("wait=²",), Preferences()),
        (("wait=" + "9" * 5000,), Preferences()),
        ((",,;=,\x80",), Preferences()),
        (('note="a, respond-async, b", wait=3',), Preferences(wait_s=3)),
        (('note="open, respond-async',), Preferences(respond_async=True)),
        (('"' + '\\"' * 20000,), Preferences()),
    ],
)
def test_what_is_understood_is_taken_and_the_rest_ignored(values: tuple[str, ...], meant: Preferences) -> None:
    assert preferences(headers("prefer", *values)) == meant


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        ((), None),
        (("*/*",), None),
        (("application/json",), None),
        ((NDJSON,), NDJSON),
        ((SSE,), SSE),
        (("Text/Event-Stream",), SSE),
        ((f"{SSE}, */*",), SSE),
        ((f"application/json, {NDJSON};q=0.5",), None),
        ((f"application/json;q=0.5, {NDJSON}",), NDJSON),
        (("application/json", f"{SSE};q=1.0"), SSE),
        ((f"{NDJSON};q=0",), None),
        ((f"{NDJSON};q=0.5, {SSE};q=0.9",), SSE),
        ((f"{NDJSON};q=many",), None),
        (("text/html, application/xhtml+xml, */*;q=0.8",), None),
    ],
)
def test_a_stream_is_for_those_who_would_rather_have_it(values: tuple[str, ...], meant: str | None) -> None:
    assert stream(headers("accept", *values)) == meant
