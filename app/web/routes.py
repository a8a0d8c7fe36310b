"""The routes that tell, and cancel: GET /status, /runs, /runs/{id}, /runs/{id}/events, POST /runs/{id}/cancel."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from app import log
from app.errors import BrokenHistory, InsufficientScope, InvalidRequest, NotFound, RunEnded
from app.problem import Problem
from app.report import Event, RunInDetail, Runs, Selection, Status
from app.web.house import DATABASE, KEYED, MayApply, MayRead, configured, house
from app.web.preferences import STREAMS, stream
from app.web.problems import HEADERS, documented, reference, request_id
from app.web.stream import EventStream

router = APIRouter()


@router.get("/status", responses=documented(*KEYED, *DATABASE, BrokenHistory, InvalidRequest))
async def status(
    request: Request,
    _: MayRead,
    drift: Annotated[bool, Query(description="Compare the schema with what the last run left.")] = False,  # noqa: FBT002 – a query parameter
) -> Status:
    """How the database and this deployment stand to each other."""
    settings = await configured(request)
    from app.migrator import status

    return await status.status(settings, request_id=request_id(request.scope), with_drift=drift)


@router.get(
    "/runs",
    responses={
        **documented(*KEYED, *DATABASE, InvalidRequest),
        200: {"headers": {**HEADERS, "Link": {"description": '`rel="next"`.', "schema": {"type": "string"}}}},
    },
)
async def runs(request: Request, response: Response, _: MayRead, selection: Annotated[Selection, Query()]) -> Runs:
    """The runs on record, newest first; a page at a time."""
    settings = await configured(request)
    from app.migrator import runs

    found = await runs.runs(settings, selection)
    if found.next is not None:
        response.headers["Link"] = f'<{_next_page(request, found.next)}>; rel="next"'
    return found


def _next_page(request: Request, cursor: str) -> str:
    """The same question for the next page (RFC 8288)."""
    asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f"{reference(request.scope)}?{urlencode([*asked, ('cursor', cursor)])}"


@router.get("/runs/{run_id}", responses=documented(*KEYED, *DATABASE, InvalidRequest, NotFound))
async def run(request: Request, _: MayRead, run_id: UUID) -> RunInDetail:
    """One run, with its steps, and how far it is."""
    settings = await configured(request)
    from app.migrator import runs

    return await runs.run(settings, run_id)


@router.get(
    "/runs/{run_id}/events",
    response_class=Response,
    responses={
        **documented(*KEYED, *DATABASE, BrokenHistory, InvalidRequest, NotFound),
        200: {
            "description": "Events as they happen, and last the `result`.",
            "headers": HEADERS,
            "content": {medium: {"schema": {"type": "string"}} for medium in STREAMS},
        },
    },
)
async def events(request: Request, _: MayRead, run_id: UUID) -> EventStream:
    """What happens in a run, from its beginning to its end, whichever instance it is in."""
    here = house(request)
    settings = await configured(request)
    from app.migrator import runs

    told = runs.events(settings, run_id, until=here.invocation_ends())
    first = await anext(told)  # a run that is not there is a 404

    async def all_of_them() -> AsyncIterator[Event]:
        yield first
        # The status is out. A stream that ends without a `result` tells that it broke off.
        with contextlib.suppress(Problem):
            async for event in told:
                yield event

    return EventStream(stream(request.headers) or "application/x-ndjson", all_of_them())


@router.post(
    "/runs/{run_id}/cancel",
    responses={
        **documented(*KEYED, *DATABASE, InsufficientScope, InvalidRequest, NotFound, RunEnded),
        202: {
            "model": RunInDetail,
            "description": "The run will end at its next transaction.",
            "headers": {**HEADERS, "Location": {"required": True, "schema": {"type": "string"}}},
        },
    },
)
async def cancel(request: Request, response: Response, caller: MayApply, run_id: UUID) -> RunInDetail:
    """End a run, whichever instance it is in: 200 once it has ended, 202 when it is about to."""
    settings = await configured(request)
    from app.migrator import runs

    fields: dict[str, Any] = {"run_id": str(run_id), "request_id": request_id(request.scope)}
    log.event("run.cancel_asked", **fields, key_label=caller.label)
    found = await runs.cancel(settings, run_id)
    if found.state == "running":
        response.status_code = 202
        response.headers["Location"] = f"/runs/{run_id}"
    return found
