"""The routes for webhooks: POST /hooks/vercel, /hooks/github, /hooks/standard, each there once its secret is set.

The signature is the key: it is checked over the raw bytes, before anything is parsed. What is accepted is answered
202 while the run goes on, since senders wait for seconds.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import SecretStr
from starlette.datastructures import Headers

from app import log
from app.errors import (
    BadSignature,
    BodyTooLarge,
    BrokenHistory,
    DatabaseAhead,
    Diverged,
    InvalidRequest,
    LockHeld,
    NotConfigured,
    PlanRequired,
    RevisionModified,
    StillRunning,
    UnsafePlan,
    UnsuitableEnvPy,
    WrongDeployment,
    WrongEnvironment,
)
from app.migrator.call import Call
from app.report import Accepted, Run
from app.settings import Settings, is_set, variable
from app.web import body, early, notices, signatures
from app.web.house import DATABASE, house
from app.web.notices import Notice
from app.web.problems import HEADERS, documented, reference, request_id
from app.web.signatures import Secrets

LARGEST_BODY = 1024 * 1024
"""Bytes; an event of GitHub's may list much that is not read here, and has some ten thousand."""
_LONGEST_WAIT_S = 5
"""For the lock: GitHub counts what takes longer than ten seconds as failed."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends webhooks: the setting that turns them on, and how they are read."""

    name: str
    setting: str
    secrets: Callable[[SecretStr | None, str], Secrets]
    read: Callable[[bytes, Headers, Secrets], Notice | None]
    """Verifies, then parses; None for an event that is not one to migrate after."""


def _vercel(raw: bytes, headers: Headers, known: Secrets) -> Notice | None:
    signatures.verify_vercel(raw, headers, known)
    return notices.from_vercel(raw)


def _github(raw: bytes, headers: Headers, known: Secrets) -> Notice | None:
    signatures.verify_github(raw, headers, known)
    return notices.from_github(raw)


def _standard(raw: bytes, headers: Headers, known: Secrets) -> Notice | None:
    return notices.from_standard(raw, signatures.verify_standard(raw, headers, known, now=time.time()))


SENDERS = (
    Sender("vercel", "vercel_webhook_secret", signatures.secrets, _vercel),
    Sender("github", "github_webhook_secret", signatures.secrets, _github),
    Sender("standard", "standard_webhook_secret", signatures.standard_secrets, _standard),
)


def router(configuration: Settings | NotConfigured) -> APIRouter:
    """The routes of the senders whose secret is set; those of the others are not there."""
    found = APIRouter()
    for sender in SENDERS:
        if _is_on(sender, configuration):
            found.post(f"/hooks/{sender.name}", name=f"hook_{sender.name}", response_model=Run, responses=_RESPONSES)(
                _route(sender)
            )
    return found


def _is_on(sender: Sender, configuration: Settings | NotConfigured) -> bool:
    if isinstance(configuration, NotConfigured):
        return is_set(sender.setting)  # to say what is not configured
    return getattr(configuration, sender.setting) is not None


def _route(sender: Sender) -> Callable[[Request], Any]:
    async def hook(request: Request) -> Any:  # noqa: ANN401 – a Run, or an answer that goes out earlier
        """Migrate after an event that says that this deployment is ready."""
        settings = house(request).settings
        known = sender.secrets(getattr(settings, sender.setting), variable(sender.setting))
        notice = sender.read(await body.raw(request, largest=LARGEST_BODY), request.headers, known)
        if notice is None or not notices.is_for(notice, settings.platform, project_id=settings.vercel_project_id):
            log.event("hook.not_for_us", sender=sender.name, request_id=request_id(request.scope))
            return Response(status_code=204)
        return await _carried_out(notice, sender, request)

    return hook


async def _carried_out(notice: Notice, sender: Sender, request: Request) -> Any:  # noqa: ANN401 – as above
    run = await house(request).begins(
        Call(
            request_id=request_id(request.scope),
            reason=notice.reason,
            key_label=sender.name,
            instance=reference(request.scope),
            # By the id alone, which is in the signed bytes: a sender that tries again may write the rest anew.
            idempotency_key=f"hook:{notice.id}",
            replays_failures=False,
        ),
        longest_wait_s=_LONGEST_WAIT_S,
    )
    if await run.begins() and run.is_on_record:
        return early.accepted(run, request.scope)
    try:
        answer = await run.answer()
    except StillRunning as again:
        return _replay_while_it_goes_on(again, request)
    replayed = {"Idempotency-Replayed": "true"} if answer.replayed else {}
    return JSONResponse(answer.model_dump(mode="json", by_alias=True), headers=replayed)


def _replay_while_it_goes_on(again: StillRunning, request: Request) -> JSONResponse:
    """A sender has tried again, and its run goes on: to it that is no error."""
    if "run_id" not in again.members:
        raise again
    location = again.headers["Location"]
    told = Accepted(run_id=again.members["run_id"], location=location, request_id=request_id(request.scope))
    headers = {"Location": location, "Idempotency-Replayed": "true"}
    return JSONResponse(told.model_dump(mode="json"), status_code=202, headers=headers)


_RESPONSES: dict[int | str, dict[str, Any]] = {
    **documented(
        *DATABASE,
        BrokenHistory,
        UnsuitableEnvPy,
        NotConfigured,
        BadSignature,
        InvalidRequest,
        BodyTooLarge,
        WrongDeployment,
        WrongEnvironment,
        LockHeld,
        StillRunning,
        DatabaseAhead,
        Diverged,
        PlanRequired,
        UnsafePlan,
        RevisionModified,
    ),
    202: {
        "model": Accepted,
        "description": "The run goes on.",
        "headers": {**HEADERS, "Location": {"required": True, "schema": {"type": "string"}}},
    },
    204: {"description": "The event is not one to migrate after, or is for another project.", "headers": HEADERS},
}
