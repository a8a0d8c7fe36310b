"""What every answer has, whoever wrote it: X-Request-ID, Cache-Control, and no traceback."""

import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import log
from app.errors import InternalError
from app.web.problems import ProblemResponse, request_id

_USABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Envelope:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; what is not HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        scope.setdefault("state", {})["request_id"] = given if _USABLE_ID.fullmatch(given) else str(uuid4())
        started = False

        async def sealed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id(scope)
                headers["Cache-Control"] = "no-store"
            await send(message)

        try:
            await self._app(scope, receive, sealed)
        except ClientDisconnect:
            return  # in mid-request: there is nobody to answer
        except Exception as error:  # noqa: BLE001 – the last place before the server would print a traceback
            log.defect(error, request_id(scope))
            if not started:
                problem = InternalError("The service met an error that it does not know.")
                await ProblemResponse(problem, scope)(scope, receive, sealed)
