"""The routes that need a key: POST /migrate, GET /status, GET /runs and /runs/{id}."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app import log
from app.errors import (
    BodyTooLarge,
    DatabaseAhead,
    DatabaseAuthFailed,
    DatabaseUnavailable,
    Diverged,
    InsufficientScope,
    InvalidRequest,
    LockHeld,
    LockLost,
    LockTimeout,
    MigrationFailed,
    MultipleHeads,
    NotConfigured,
    NotFound,
    PermissionDenied,
    ReadOnlyDatabase,
    StatementTimeout,
    TimeBudgetExhausted,
    TlsFailed,
    Unauthenticated,
    UnknownTarget,
    WrongMediaType,
)
from app.report import RecordedRunWithSteps, Run, Runs, Status
from app.web.house import MayApply, MayRead, house, migrator_imported
from app.web.problems import documented, invalid, request_id

router = APIRouter()

LARGEST_BODY = 64 * 1024
"""Bytes; a valid body has well under one thousand."""

_KEYED = (Unauthenticated, NotConfigured)
_DATABASE = (DatabaseUnavailable, TlsFailed, DatabaseAuthFailed, PermissionDenied, ReadOnlyDatabase)


class MigrateRequest(BaseModel):
    """What POST /migrate takes; all of it is optional, and so is the body itself."""

    model_config = ConfigDict(extra="forbid", strict=True)

    target: str = Field("heads", min_length=1, max_length=200, description="A revision, as Alembic names them.")
    lock_wait_s: float | None = Field(
        None, ge=0, le=3600, description="How long to wait for the lock, in seconds; else MIGRATION_LOCK_WAIT."
    )
    reason: str | None = Field(None, max_length=500, description="Kept in the ledger.")


@router.post(
    "/migrate",
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": MigrateRequest.model_json_schema()}}}},
    responses=documented(
        *_KEYED,
        *_DATABASE,
        InsufficientScope,
        InvalidRequest,
        UnknownTarget,
        BodyTooLarge,
        WrongMediaType,
        LockHeld,
        DatabaseAhead,
        Diverged,
        MultipleHeads,
        TimeBudgetExhausted,
        LockTimeout,
        LockLost,
        StatementTimeout,
        MigrationFailed,
    ),
)
async def migrate(request: Request, caller: MayApply) -> Run:
    """Upgrade the database. 200 means that it is at the target; a run that stops early is never a 2xx."""
    here = house(request)
    wanted = await _body(request)
    settings = here.settings
    await migrator_imported()
    from app.migrator import run
    from app.migrator.call import Call

    call = Call(
        request_id=request_id(request.scope),
        target=wanted.target,
        lock_wait_s=wanted.lock_wait_s,
        reason=wanted.reason,
        key_label=caller.label,
        invocation_ends=here.invocation_ends(),
    )
    return await run.migrate(call, settings, turn=here.turn, emit=log.emit)


@router.get("/status", responses=documented(*_KEYED, *_DATABASE))
async def status(request: Request, _: MayRead) -> Status:
    """How the database and this deployment stand to each other."""
    settings = house(request).settings
    await migrator_imported()
    from app.migrator import status

    return await status.status(settings, request_id=request_id(request.scope))


@router.get("/runs", responses=documented(*_KEYED, *_DATABASE, InvalidRequest))
async def runs(request: Request, _: MayRead, limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Runs:
    """The last runs, newest first."""
    settings = house(request).settings
    await migrator_imported()
    from app.migrator import status

    return await status.runs(settings, limit=limit)


@router.get("/runs/{run_id}", responses=documented(*_KEYED, *_DATABASE, InvalidRequest, NotFound))
async def run(request: Request, _: MayRead, run_id: UUID) -> RecordedRunWithSteps:
    """One run, with its steps."""
    settings = house(request).settings
    await migrator_imported()
    from app.migrator import status

    return await status.run(settings, run_id)


async def _body(request: Request) -> MigrateRequest:
    """Read the body by hand: FastAPI would parse it before it looks at the key.

    Raises:
        BodyTooLarge, WrongMediaType, InvalidRequest: as their names say.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise BodyTooLarge(f"The body is larger than {LARGEST_BODY // 1024} KiB.")
    if not body.strip():
        return MigrateRequest()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise WrongMediaType(f"The body is declared as {media_type[:100] or 'nothing'}, not as application/json.")
    try:
        return MigrateRequest.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error.errors(include_input=False, include_url=False)) from None
