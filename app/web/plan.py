"""GET /plan."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.errors import (
    BrokenHistory,
    DatabaseAhead,
    Diverged,
    InvalidRequest,
    LockHeld,
    MultipleHeads,
    RevisionModified,
    UnknownTarget,
    UnsuitableEnvPy,
    WrongEnvironment,
)
from app.report import Direction, Plan
from app.web import conditions
from app.web.house import DATABASE, KEYED, MayRead, configured, house
from app.web.problems import HEADERS, documented

router = APIRouter()

_ETAG = {"ETag": {"description": "The digest, in quotes.", "required": True, "schema": {"type": "string"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **documented(
        *KEYED,
        *DATABASE,
        BrokenHistory,
        UnsuitableEnvPy,
        InvalidRequest,
        UnknownTarget,
        WrongEnvironment,
        DatabaseAhead,
        Diverged,
        MultipleHeads,
        RevisionModified,
        LockHeld,
    ),
    200: {"headers": HEADERS | _ETAG},
    304: {"description": "The plan of If-None-Match is still the one.", "headers": HEADERS | _ETAG},
}


@router.get("/plan", response_model=Plan, responses=_RESPONSES)
async def plan(
    request: Request,
    response: Response,
    _: MayRead,
    target: Annotated[str | None, Query(min_length=1, max_length=200, description="Else `heads`.")] = None,
    direction: Annotated[Direction, Query(description="A downgrade needs a target.")] = "upgrade",
) -> Any:  # noqa: ANN401 – a Plan, or an answer without a body
    """What a run would do, with its SQL and its findings. Reads only: it takes no lock and runs no revision."""
    if direction == "downgrade" and target is None:
        raise InvalidRequest(
            "A downgrade has no usual target.",
            hint="Name one: GET /plan?direction=downgrade&target=<revision>, or `base`.",
            errors=[{"field": "query.target", "message": "needed for a downgrade"}],
        )
    settings = await configured(request)
    from app.migrator import plan

    here = house(request)
    async with here.planning:  # what a plan costs is bounded, however many ask
        found = await plan.plan(settings, target=target or "heads", direction=direction, holder=here.turn.holder())
    etag = {"ETag": f'"{found.digest}"'}
    if conditions.is_known(request.headers, found.digest):
        return Response(status_code=304, headers=etag)
    response.headers.update(etag)
    return found
