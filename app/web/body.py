"""The bodies of POST /migrate and /rehearse."""

import json

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import BodyTooLarge, WrongMediaType
from app.web.problems import invalid

LARGEST_BODY = 64 * 1024
"""Bytes; a valid body of POST /migrate has well under one thousand."""


class RehearseRequest(BaseModel):
    """What POST /rehearse takes; all of it is optional, and so is the body itself."""

    model_config = ConfigDict(extra="forbid", strict=True)

    target: str = Field("heads", min_length=1, max_length=200, description="A revision, as Alembic names them.")
    lock_wait_s: float | None = Field(
        None, ge=0, le=3600, description="How long to wait for the lock, in seconds; else MIGRATION_LOCK_WAIT."
    )


class MigrateRequest(RehearseRequest):
    """What POST /migrate takes, likewise."""

    reason: str | None = Field(None, max_length=500, description="Kept in the ledger.")

    @property
    def canonical(self) -> str:
        """The same text for all bodies that ask for the same."""
        return json.dumps(self.model_dump(), sort_keys=True)


async def raw(request: Request, *, largest: int = LARGEST_BODY) -> bytes:
    """The bytes of the body.

    Raises:
        BodyTooLarge: There are more of them than `largest`.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > largest:
            raise BodyTooLarge(f"The body is larger than {largest // 1024} KiB.")
    return body


async def migrate_request(request: Request) -> MigrateRequest:
    """The body of POST /migrate.

    Raises:
        BodyTooLarge, WrongMediaType, InvalidRequest: as their names say.
    """
    return await read(request, MigrateRequest)


async def read[Model: BaseModel](request: Request, model: type[Model]) -> Model:
    """Read the body by hand: FastAPI would parse it before it looks at the key.

    Raises:
        BodyTooLarge, WrongMediaType, InvalidRequest: as their names say.
    """
    body = await raw(request)
    if not body.strip():
        return model()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise WrongMediaType(f"The body is declared as {media_type[:100] or 'nothing'}, not as application/json.")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error.errors(include_input=False, include_url=False)) from None
