"""POST /migrate."""

import re
import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from app.errors import (
    BodyTooLarge,
    Cancelled,
    DatabaseAhead,
    Diverged,
    IdempotencyKeyReused,
    InsufficientScope,
    InvalidRequest,
    LockHeld,
    LockLost,
    LockTimeout,
    MigrationFailed,
    MultipleHeads,
    RevisionModified,
    StatementTimeout,
    StillRunning,
    TimeBudgetExhausted,
    UnknownTarget,
    WrongEnvironment,
    WrongMediaType,
)
from app.migrator.call import Call
from app.report import Accepted, Run
from app.web import body, early
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


@router.post(
    "/migrate",
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": body.MigrateRequest.model_json_schema()}}}
    },
    response_model=Run,
    responses={
        **documented(
            *KEYED,
            *DATABASE,
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
            RevisionModified,
            TimeBudgetExhausted,
            LockTimeout,
            LockLost,
            StatementTimeout,
            Cancelled,
            MigrationFailed,
        ),
        **_EARLY,
    },
)
async def migrate(
    request: Request,
    response: Response,
    caller: MayApply,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="The same key and body get the same answer.",
            json_schema_extra={"pattern": f"^({re.sub('[?]P<[a-z]+>', '', _KEY.pattern)})$"},
        ),
    ] = None,
    prefer: Annotated[str | None, Header(description="`respond-async` and `wait=N` (RFC 7240).")] = None,  # noqa: ARG001 – for OpenAPI; it may come several times
) -> Any:  # noqa: ANN401 – a Run, or an answer that goes out earlier
    """Upgrade the database. 200 means that it is at the target; a run that stops early is never a 2xx.

    With an `Accept` of application/x-ndjson or text/event-stream the events of the run come as they happen, and last
    the `result`. A caller who hangs up does not stop the run.
    """
    began = time.monotonic()
    wanted = await body.migrate_request(request)
    preferred = preferences(request.headers)
    run = await house(request).begins(
        Call(
            request_id=request_id(request.scope),
            target=wanted.target,
            lock_wait_s=wanted.lock_wait_s,
            reason=wanted.reason,
            key_label=caller.label,
            instance=reference(request.scope),
            # Another caller's key of the same name is another key.
            idempotency_key=f"{caller.label}:{_key(idempotency_key)}" if idempotency_key is not None else None,
            body=wanted.canonical,
        ),
        longest_wait_s=preferred.wait_s,
    )
    # Whatever comes before the lock is held is answered plainly, so that its status is real.
    medium = stream(request.headers)
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
