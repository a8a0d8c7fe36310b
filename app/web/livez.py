"""The route that tells that the process answers: GET and HEAD /livez. All that a cold start has to load for it."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

router = APIRouter()


@router.api_route("/livez", methods=["GET", "HEAD"], include_in_schema=False)
async def livez() -> JSONResponse:
    """The process answers. Never touches the database."""
    return JSONResponse({"status": "pass"})
