"""POST /rehearse."""

from fastapi import APIRouter, Request

from app import log
from app.errors import (
    BodyTooLarge,
    BrokenHistory,
    DatabaseAhead,
    Diverged,
    InsufficientScope,
    InvalidRequest,
    LockHeld,
    LockLost,
    LockTimeout,
    MultipleHeads,
    RehearsalFailed,
    RehearsalNotAllowed,
    TimeBudgetExhausted,
    UnknownTarget,
    UnsuitableEnvPy,
    WrongEnvironment,
    WrongMediaType,
)
from app.migrator.call import Call
from app.report import Rehearsal
from app.web import body
from app.web.house import DATABASE, KEYED, MayApply, configured, house
from app.web.problems import documented, reference, request_id

router = APIRouter()


@router.post(
    "/rehearse",
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": body.RehearseRequest.model_json_schema()}}}
    },
    responses=documented(
        *KEYED,
        *DATABASE,
        BrokenHistory,
        UnsuitableEnvPy,
        InsufficientScope,
        InvalidRequest,
        UnknownTarget,
        BodyTooLarge,
        WrongMediaType,
        LockHeld,
        WrongEnvironment,
        DatabaseAhead,
        Diverged,
        MultipleHeads,
        RehearsalNotAllowed,
        RehearsalFailed,
        TimeBudgetExhausted,
        LockTimeout,
        LockLost,
    ),
)
async def rehearse(request: Request, caller: MayApply) -> Rehearsal:
    """Run what is pending in one transaction, under the lock, and roll it back.

    200 means that everything that can be rehearsed went through.
    """
    wanted = await body.read(request, body.RehearseRequest)
    settings = await configured(request)
    from app.migrator import rehearsal

    call = Call(
        request_id=request_id(request.scope),
        target=wanted.target,
        lock_wait_s=wanted.lock_wait_s,
        key_label=caller.label,
        instance=reference(request.scope),
        invocation_ends=house(request).invocation_ends(),
    )
    return await rehearsal.rehearse(call, settings, turn=house(request).turn, emit=log.emit)
