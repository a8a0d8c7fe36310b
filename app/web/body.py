"""The bodies of the routes that move the database, or rehearse that."""

import json
from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import BodyTooLarge, WrongMediaType
from app.web.problems import invalid

LARGEST_BODY = 64 * 1024
"""Bytes; a valid body has well under one thousand."""

_Target = Annotated[
    str, Field(min_length=1, max_length=200, description="As Alembic has it: an id, `heads`, `label@head`, `+1`.")
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    lock_wait_s: float | None = Field(
        None, ge=0, le=3600, description="How long to wait for the lock, in seconds; else MIGRATION_LOCK_WAIT."
    )


class RehearseRequest(_Body):
    """What POST /rehearse takes; all of it is optional, and so is the body itself."""

    target: _Target = "heads"


class Wanted(_Body):
    """What every move of the database takes."""

    target: _Target
    reason: str | None = Field(None, max_length=500, description="Kept in the ledger.")
    plan_digest: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="Run only the plan of this digest (GET /plan)."
    )
    accept: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default_factory=list, max_length=100, description="Rules whose findings are let pass; kept in the ledger."
    )

    @property
    def canonical(self) -> str:
        """The same text for all bodies that ask for the same."""
        return json.dumps(self.model_dump(), sort_keys=True)


class MigrateRequest(Wanted):
    """What POST /migrate takes; all of it is optional, and so is the body itself."""

    target: _Target = "heads"


class DowngradeRequest(Wanted):
    """What POST /downgrade takes; the target, which may be `base`, must be named."""


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


async def read[Body: BaseModel](request: Request, kind: type[Body]) -> Body:
    """Read the body by hand: FastAPI would parse it before it looks at the key.

    Raises:
        BodyTooLarge, WrongMediaType, InvalidRequest: as their names say.
    """
    body = await raw(request)
    if body.strip():
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise WrongMediaType(f"The body is declared as {media_type[:100] or 'nothing'}, not as application/json.")
    try:
        return kind.model_validate_json(body if body.strip() else b"{}")
    except ValidationError as error:
        raise invalid(error.errors(include_input=False, include_url=False)) from None
