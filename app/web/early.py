"""Answers that go out before the end of a run: 202, and its events as they come."""

import functools
from collections.abc import AsyncIterator

from starlette.background import BackgroundTask
from starlette.responses import JSONResponse
from starlette.types import Scope

from app import log
from app.errors import InternalError
from app.migrator import story
from app.migrator.under_way import UnderWay
from app.problem import Problem
from app.report import Accepted, Event
from app.web.preferences import Stream
from app.web.problems import reference, request_id
from app.web.stream import EventStream

LOOK_AFTER_S = 2
"""When a caller who was told 202 should look for the first time."""


def accepted(run: UnderWay, scope: Scope) -> JSONResponse:
    """202: the run goes on, and its invocation lasts as long."""
    assert run.started is not None  # noqa: S101 – who answers early has waited for that
    begun = run.started.fields
    location = f"/runs/{begun['run_id']}"
    body = Accepted(
        run_id=begun["run_id"],
        target=begun["target"],
        pending=begun["pending"],
        location=location,
        request_id=request_id(scope),
    )
    return JSONResponse(
        body.model_dump(mode="json"),
        status_code=202,
        headers={"Location": location, "Retry-After": str(LOOK_AFTER_S)},
        # Starlette awaits it in the invocation; a bare task would be frozen with the answer.
        background=BackgroundTask(_to_the_end, run, scope),
    )


def events(run: UnderWay, medium: Stream, scope: Scope) -> EventStream:
    """200: the events of the run, and last what a plain call would have been answered."""

    async def all_of_them() -> AsyncIterator[Event]:
        async for event in run.events():
            yield event
        yield await _result(run, scope)

    return EventStream(medium, all_of_them(), until=functools.partial(_to_the_end, run, scope))


async def _result(run: UnderWay, scope: Scope) -> Event:
    try:
        answer = await run.answer()
    except Problem as met:
        problem = met
    except Exception:  # noqa: BLE001 – logged by `_to_the_end`
        problem = InternalError("The service met an error that it does not know.")
    else:
        return story.result(answer.model_dump(mode="json", by_alias=True), 200)
    return story.result(problem.document(instance=reference(scope), request_id=request_id(scope)), problem.status)


async def _to_the_end(run: UnderWay, scope: Scope) -> None:
    """Wait for the end. The envelope has let the answer pass, so a defect of ours is logged here."""
    try:
        await run.answer()
    except Problem:
        return  # it is on record, and in the log
    except Exception as error:  # noqa: BLE001 – as the envelope
        log.defect(error, request_id(scope))
