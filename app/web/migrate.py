"""POST /migrate and POST /downgrade."""

import re
import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel

from app.errors import (
    BodyTooLarge,
    BrokenHistory,
    Cancelled,
    DatabaseAhead,
    Diverged,
    DowngradeNotAllowed,
    IdempotencyKeyReused,
    InsufficientScope,
    InvalidRequest,
    LockHeld,
    LockLost,
    LockTimeout,
    MigrationFailed,
    MultipleHeads,
    PlanChanged,
    PlanRequired,
    RevisionModified,
    StatementTimeout,
    StillRunning,
    TimeBudgetExhausted,
    UnknownTarget,
    UnsafePlan,
    UnsuitableEnvPy,
    WrongEnvironment,
    WrongMediaType,
)
from app.migrator.call import Call
from app.report import Accepted, Direction, Run
from app.web import body, conditions, early
from app.web.auth import Caller
from app.web.house import DATABASE, KEYED, MayApply, house
from app.web.preferences import STREAMS, Preferences, preferences, stream
from app.web.problems import HEADERS, documented, reference, request_id

router = APIRouter()

_KEY = re.compile(r'"(?P<quoted>[ !#-\[\]-~]{1,255})"|(?P<bare>[!#-\[\]-~]{1,255})')
"""A string of RFC 8941, as the draft wants it, without escapes; or bare, as most clients send it."""

_EARLY: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            **HEADERS,
            "Preference-Applied": {"description": "RFC 7240, section 3.", "schema": {"type": "string"}},
            "Idempotency-Replayed": {"description": "`true`: the first call's answer.", "schema": {"type": "string"}},
        },
        "content": {medium: {"schema": {"type": "string"}} for medium in STREAMS},
    },
    202: {
        "model": Accepted,
        "description": "The run goes on (`Prefer: respond-async`, or `wait`).",
        "headers": {
            **HEADERS,
            "Location": {"required": True, "schema": {"type": "string"}},
            "Retry-After": {"required": True, "schema": {"type": "integer"}},
            "Preference-Applied": {"required": True, "schema": {"type": "string"}},
        },
    },
}


_STOPPED = (TimeBudgetExhausted, LockTimeout, LockLost, StatementTimeout, Cancelled, MigrationFailed)
_PROBLEMS = (
    *KEYED,
    *DATABASE,
    BrokenHistory,
    UnsuitableEnvPy,
    InsufficientScope,
    InvalidRequest,
    UnknownTarget,
    BodyTooLarge,
    WrongMediaType,
    IdempotencyKeyReused,
    StillRunning,
    LockHeld,
    WrongEnvironment,
    DatabaseAhead,
    Diverged,
    MultipleHeads,
    PlanChanged,
    PlanRequired,
    UnsafePlan,
    RevisionModified,
    *_STOPPED,
)


def _takes(kind: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """The body of a route, for OpenAPI; it is read by hand."""
    schema = {"application/json": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"content": schema} | ({"required": True} if required else {})}


_IdempotencyKey = Annotated[
    str | None,
    Header(
        description="The same key and body get the same answer.",
        json_schema_extra={"pattern": f"^({re.sub('[?]P<[a-z]+>', '', _KEY.pattern)})$"},
    ),
]
_Prefer = Annotated[str | None, Header(description="`respond-async` and `wait=N` (RFC 7240).")]
_IfMatch = Annotated[
    str, Header(description="Run only the plan of this ETag (GET /plan).", json_schema_extra=dict(conditions.SCHEMA))
]


@router.post(
    "/migrate",
    openapi_extra=_takes(body.MigrateRequest, required=False),
    response_model=Run,
    responses={**documented(*_PROBLEMS), **_EARLY},
)
async def migrate(
    request: Request,
    response: Response,
    caller: MayApply,
    idempotency_key: _IdempotencyKey = None,
    prefer: _Prefer = None,  # noqa: ARG001 – for OpenAPI; it may come several times
    if_match: _IfMatch = "",  # noqa: ARG001 – as above
) -> Any:  # noqa: ANN401 – a Run, or an answer that goes out earlier
    """Upgrade the database. 200 means that it is at the target; a run that stops early is never a 2xx.

    With an `Accept` of application/x-ndjson or text/event-stream the events of the run come as they happen, and last
    the `result`. A caller who hangs up does not stop the run.
    """
    began = time.monotonic()
    wanted = await body.read(request, body.MigrateRequest)
    return await _moved(request, response, _call(request, caller, wanted, "upgrade", idempotency_key), began)


@router.post(
    "/downgrade",
    openapi_extra=_takes(body.DowngradeRequest, required=True),
    response_model=Run,
    responses={**documented(*_PROBLEMS, DowngradeNotAllowed), **_EARLY},
)
async def downgrade(
    request: Request,
    response: Response,
    caller: MayApply,
    idempotency_key: _IdempotencyKey = None,
    prefer: _Prefer = None,  # noqa: ARG001 – as above
    if_match: _IfMatch = "",  # noqa: ARG001 – as above
) -> Any:  # noqa: ANN401 – as above
    """Downgrade the database to a target, by a plan that was reviewed; off unless MIGRATION_ALLOW_DOWNGRADE is set."""
    began = time.monotonic()
    wanted = await body.read(request, body.DowngradeRequest)
    return await _moved(request, response, _call(request, caller, wanted, "downgrade", idempotency_key), began)


def _call(
    request: Request, caller: Caller, wanted: body.Wanted, direction: Direction, idempotency_key: str | None
) -> Call:
    pinned = [conditions.matched(request.headers), frozenset([wanted.plan_digest]) if wanted.plan_digest else None]
    plans = [digests for digests in pinned if digests is not None]
    plan = frozenset.intersection(*plans) if plans else None
    return Call(
        request_id=request_id(request.scope),
        target=wanted.target,
        direction=direction,
        plans=plan,
        accept=tuple(wanted.accept),
        lock_wait_s=wanted.lock_wait_s,
        reason=wanted.reason,
        key_label=caller.label,
        instance=reference(request.scope),
        # Another caller's key of the same name is another key.
        idempotency_key=f"{caller.label}:{_key(idempotency_key)}" if idempotency_key is not None else None,
        body=f"{direction} {'any plan' if plan is None else sorted(plan)} {wanted.canonical}",
    )


async def _moved(request: Request, response: Response, call: Call, began: float) -> Any:  # noqa: ANN401 – as above
    """Begin a run, and answer when the caller wants an answer."""
    preferred = preferences(request.headers)
    medium = stream(request.headers)
    run = await house(request).begins(call, longest_wait_s=preferred.wait_s, is_followed=medium is not None)
    # Whatever comes before the lock is held is answered plainly, so that its status is real.
    if medium is not None and await run.begins():
        return early.events(run, medium, request.scope)
    if preferred.may_be_early and await run.goes_on(_left(preferred, began)) and run.is_on_record:
        early_answer = early.accepted(run, request.scope)
        early_answer.headers["Preference-Applied"] = _applied(preferred, early=True)
        return early_answer
    answer = await run.answer()
    if answer.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    if applied := _applied(preferred, early=False):
        response.headers["Preference-Applied"] = applied
    return answer


def _left(preferred: Preferences, began: float) -> float:
    return 0 if preferred.wait_s is None else preferred.wait_s - (time.monotonic() - began)


def _applied(preferred: Preferences, *, early: bool) -> str:
    """What Preference-Applied says (RFC 7240, section 3)."""
    waited = f"wait={preferred.wait_s}" if preferred.wait_s is not None else ""
    return ", ".join(filter(None, ["respond-async" if early and preferred.respond_async else "", waited]))


def _key(sent: str) -> str:
    found = _KEY.fullmatch(sent.strip())
    if found is None:
        raise InvalidRequest(
            "The Idempotency-Key is not a string of 1 to 255 printable ASCII characters.",
            hint='Send a new UUID for each request: `Idempotency-Key: "8e03978e-40d5-43dd-bc93-6894a57f9324"`.',
            errors=[{"field": "header.idempotency-key", "message": "not a string of printable ASCII characters"}],
        )
    return found["quoted"] or found["bare"]
