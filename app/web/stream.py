"""Events as they come: lines of JSON (application/x-ndjson), or Server-Sent Events (text/event-stream)."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.report import Event
from app.web.preferences import Stream

_PING_EVERY_S = 10.0
"""A proxy takes a connection that is silent for longer than some time for dead."""


class EventStream(StreamingResponse):
    """Events to a caller, until there are no more.

    Args:
        medium: The form that the caller wants.
        events: The events.
        until: The invocation lasts until this returns, also when the caller has hung up: a platform that freezes a
            function after its answer would freeze the run that it tells of.
    """

    def __init__(
        self, medium: Stream, events: AsyncIterator[Event], *, until: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        write = _line if medium == "application/x-ndjson" else _server_sent
        # nginx and its like would collect the events otherwise.
        headers = {"X-Accel-Buffering": "no"}
        super().__init__((write(event) async for event in _with_pings(events)), media_type=medium, headers=headers)
        self._until = until

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            with contextlib.suppress(ClientDisconnect):
                await super().__call__(scope, receive, send)
        finally:
            if self._until is not None:
                await self._until()


def _line(event: Event) -> str:
    return _json({"event": event.name, **event.fields}) + "\n"


def _server_sent(event: Event) -> str:
    """WHATWG HTML, "Server-sent events"; JSON has no line break in it."""
    return f"event: {event.name}\ndata: {_json(event.fields)}\n\n"


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


async def _with_pings(events: AsyncIterator[Event], every_s: float | None = None) -> AsyncIterator[Event]:
    """The events, and a `ping` whenever there was none for a while."""
    upcoming: asyncio.Future[Event] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(anext(events))
            await asyncio.wait({upcoming}, timeout=every_s or _PING_EVERY_S)
            if not upcoming.done():
                yield Event("ping")
                continue
            try:
                event = upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = None
            yield event
    finally:
        if upcoming is not None and not upcoming.done():
            upcoming.cancel()
            await asyncio.wait({upcoming})
