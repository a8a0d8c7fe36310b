"""The route for monitors: GET and HEAD /health, which needs no key."""

import asyncio
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from app.errors import InsufficientScope, InvalidRequest, NotConfigured, Unauthenticated
from app.problem import Problem
from app.report import Health
from app.web.house import House, house, migrator_imported
from app.web.livez import livez
from app.web.problems import HEADERS, documented, request_id

if TYPE_CHECKING:
    from app.settings import Settings

router = APIRouter()


# Its description; livez.py answers it, to GET and HEAD.
router.get("/livez", response_model=Health, responses=documented())(livez)


# Of the pair the lower route answers, so that the Allow header of a 405 names HEAD too; the upper one is its
# description in OpenAPI, where HEAD would need an operation of its own.
@router.get(
    "/health",
    response_model=Health,
    responses={
        **documented(InvalidRequest),
        503: {"model": Health, "description": "`fail`, and with `strict` also `warn`", "headers": HEADERS},
    },
)
@router.api_route("/health", methods=["GET", "HEAD"], include_in_schema=False)
async def health(
    request: Request,
    strict: Annotated[bool, Query(description="Answer 503 for `warn` too.")] = False,  # noqa: FBT002 – a query parameter
) -> JSONResponse:
    """Whether the database is at what this deployment needs: `pass`, `warn` (revisions are pending) or `fail`."""
    may_see = _may_see(request)
    try:
        found = await _looked(house(request), in_detail=may_see)
    except Problem as problem:
        found = Health(status="fail", problem=problem.document(request_id=request_id(request.scope)))
    code = 503 if found.status == "fail" or (found.status == "warn" and strict) else 200
    shown = found.model_dump(mode="json", exclude_none=True) if may_see else {"status": found.status}
    return JSONResponse(shown, status_code=code)


async def _looked(here: House, *, in_detail: bool) -> Health:
    """Look at the database, or wait for a look that is under way and tells as much.

    Raises:
        Problem: what the look ran into.
    """
    tell_as_much = (here.looking.get(detailed) for detailed in (True, False) if detailed >= in_detail)
    look = next((look for look in tell_as_much if look and not look.done()), None)
    if look is None:
        look = here.looking[in_detail] = asyncio.create_task(_look(here.settings, in_detail=in_detail))
    # A caller who hangs up must not end the look of the others.
    return await asyncio.shield(look)


async def _look(settings: "Settings", *, in_detail: bool) -> Health:
    await migrator_imported()
    from app.migrator import status

    return await status.health(settings, in_detail=in_detail)


def _may_see(request: Request) -> bool:
    try:
        house(request).caller(request, "read")
    except (NotConfigured, Unauthenticated, InsufficientScope):
        return False
    return True
