"""The routes for monitors: GET and HEAD /health and /livez, which need no key."""

import asyncio
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from app.errors import InsufficientScope, InvalidRequest, NotConfigured, Unauthenticated
from app.problem import Problem
from app.report import Health
from app.web.house import house, migrator_imported
from app.web.problems import HEADERS, documented, request_id

if TYPE_CHECKING:
    from app.settings import Settings

router = APIRouter()


class Look:
    """One look at the database at a time, shared by all who ask while it lasts."""

    def __init__(self) -> None:
        self._under_way: asyncio.Task[Health] | None = None

    async def at(self, settings: "Settings") -> Health:
        """Look, or wait for the look that is under way.

        Raises:
            Problem: what the look ran into.
        """
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._look(settings))
        # A caller who hangs up must not end the look of the others.
        return await asyncio.shield(self._under_way)

    async def _look(self, settings: "Settings") -> Health:
        await migrator_imported()
        from app.migrator import status

        return await status.health(settings)


# Of each pair the lower route answers, so that the Allow header of a 405 names HEAD too; the upper one is its
# description in OpenAPI, where HEAD would need an operation of its own.
@router.get("/livez", response_model_exclude_none=True, responses=documented())
@router.api_route("/livez", methods=["GET", "HEAD"], include_in_schema=False, response_model_exclude_none=True)
async def livez() -> Health:
    """The process answers. Never touches the database."""
    return Health(status="pass")


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
    look: Look = request.app.state.look
    try:
        found = await look.at(house(request).settings)
    except Problem as problem:
        found = Health(status="fail", problem=problem.document(request_id=request_id(request.scope)))
    code = 503 if found.status == "fail" or (found.status == "warn" and strict) else 200
    shown = found.model_dump(mode="json", exclude_none=True) if _may_see(request) else {"status": found.status}
    return JSONResponse(shown, status_code=code)


def _may_see(request: Request) -> bool:
    try:
        house(request).caller(request, "read")
    except (NotConfigured, Unauthenticated, InsufficientScope):
        return False
    return True
