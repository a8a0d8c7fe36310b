"""What a verified webhook says: which deployment is ready for its migrations, and whether that is this one."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from app.errors import InvalidRequest, WrongDeployment
from app.report import Deployment

_VERCEL = ("deployment.ready", "deployment.succeeded", "deployment.promoted")
_DISPATCHED = ("vercel.deployment.ready", "vercel.deployment.success", "vercel.deployment.promoted")
_STANDARD = (*_VERCEL, "migrate")
_COMMITS = ("githubCommitSha", "gitlabCommitSha", "bitbucketCommitSha")

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
_NAME = re.compile(r"\w[\w .:/()–-]{0,127}")
_WORDS = {
    _ID: "an id, of up to 128 letters, digits and any of _.:-",
    _COMMIT: "a commit, in 7 to 64 hex digits",
    _NAME: "a name, of up to 128 letters, digits, spaces and any of _.:/()–-",
}
_LARGEST_NUMBER = 2**63


@dataclass(frozen=True, slots=True)
class Notice:
    """That a deployment is ready. What its sender did not say, or not in its proper form, is None."""

    id: str
    """The sender, and an id inside of what is signed: a replay has the same."""
    reason: str
    """A short sentence for the ledger."""
    deployment_id: str | None = None
    git_sha: str | None = None
    environment: str | None = None
    project_id: str | None = None


def from_vercel(body: bytes) -> Notice | None:
    """Read an event of Vercel's (Webhooks API Reference); None if it is not one to migrate after.

    Raises:
        InvalidRequest: The body is no such event.
    """
    event = _object(body)
    kind = _kind(event)
    if kind not in _VERCEL:
        return None
    event_id = _needed(event, "id", shape=_ID)
    deployment_id = _needed(event, "payload", "deployment", "id", shape=_ID)
    commits = [_at(event, "payload", "deployment", "meta", name) for name in _COMMITS]
    return Notice(
        id=f"vercel:{event_id}",
        reason=f"vercel {kind} of {deployment_id}",
        deployment_id=deployment_id,
        # Not needed, and not relied upon: whoever deploys by hand may write anything into `meta`.
        git_sha=next((found for commit in commits if (found := _if_is(commit, _COMMIT))), None),
        environment=_vercel_target(kind, event["payload"]),
        project_id=_if_is(_at(event, "payload", "project", "id"), _ID),
    )


def _vercel_target(kind: str, payload: dict[str, Any]) -> str | None:
    """The environment: null stands for a preview; a promotion is to production, and has no member that says so."""
    if kind == "deployment.promoted":
        return "production"
    if "target" in payload and payload["target"] is None:
        return "preview"
    return _if_is(payload.get("target"), _NAME)


def from_github(body: bytes) -> Notice | None:
    """Read an event of GitHub's, which its shape tells, as the headers are not signed; None if it is not for us.

    `deployment_status`, as Vercel's app for GitHub sets it, or `repository_dispatch`, as Vercel sends it.

    Raises:
        InvalidRequest: The body is no event of GitHub's, or one of these and incomplete.
    """
    event = _object(body)
    if isinstance(event.get("deployment_status"), dict):
        return _deployment_status(event) if _at(event, "deployment_status", "state") == "success" else None
    if event.get("action") in _DISPATCHED and "client_payload" in event:
        return _repository_dispatch(event)
    return None


def _deployment_status(event: dict[str, Any]) -> Notice:
    number = _at(event, "deployment_status", "id")
    if type(number) is not int or not 0 < number < _LARGEST_NUMBER:
        raise _invalid("deployment_status.id", "a positive number")
    commit = _needed(event, "deployment", "sha", shape=_COMMIT)
    environment = _needed(event, "deployment", "environment", shape=_NAME)
    return Notice(
        id=f"github:deployment_status:{number}",
        reason=f"github deployment_status success of {commit} in {environment}",
        git_sha=commit,
        # Where several projects share a repository, Vercel writes `Production – shop`.
        environment=environment.partition(" – ")[0],
    )


def _repository_dispatch(event: dict[str, Any]) -> Notice:
    deployment_id = _needed(event, "client_payload", "id", shape=_ID)
    return Notice(
        id=f"github:{event['action']}:{deployment_id}",
        reason=f"github {event['action']} of {deployment_id}",
        deployment_id=deployment_id,
        git_sha=_if_is(_at(event, "client_payload", "git", "sha"), _COMMIT),
        environment=_if_is(_at(event, "client_payload", "environment"), _NAME),
        project_id=_if_is(_at(event, "client_payload", "project", "id"), _ID),
    )


def from_standard(body: bytes, message_id: str) -> Notice | None:
    """Read an event of a sender of Standard Webhooks; None if it is not for us.

    Args:
        body: `{"type": …, "timestamp": …, "data": {…}}`; data may say which deployment is meant, in the members
            deployment_id, git_sha, environment and project_id.
        message_id: The header webhook-id, which is signed.

    Raises:
        InvalidRequest: The body is no such event.
    """
    event = _object(body)
    kind = _kind(event)
    if kind not in _STANDARD:
        return None
    if not isinstance(event.get("data", {}), dict):
        raise _invalid("data", "an object")
    said = {
        name: _needed(event, "data", name, shape=shape)
        for name, shape in {"deployment_id": _ID, "git_sha": _COMMIT, "environment": _NAME, "project_id": _ID}.items()
        if _at(event, "data", name) is not None
    }
    about = said.get("deployment_id") or said.get("git_sha")
    return Notice(id=f"standard:{message_id}", reason=f"webhook {kind}" + (f" of {about}" if about else ""), **said)


def is_for(notice: Notice, deployment: Deployment, *, project_id: str | None) -> bool:
    """Whether this deployment is meant, as far as both sides know; False if it is another project or environment.

    Raises:
        WrongDeployment: It is another deployment of the same project and environment, by its id or else its commit.
    """
    theirs, ours = notice.deployment_id, deployment.id
    if theirs and theirs == ours:
        return True
    if _differ(notice.project_id, project_id) or _differ(notice.environment, deployment.environment):
        return False
    if theirs and ours:
        raise _wrong(notice, deployment, f"The event is about deployment {theirs}, and this is {ours}.")
    commit, own_commit = (notice.git_sha or "").lower(), (deployment.git_sha or "").lower()
    # Either may be abbreviated.
    if commit and own_commit and not (commit.startswith(own_commit) or own_commit.startswith(commit)):
        raise _wrong(notice, deployment, f"The event is about commit {commit}, and this is {own_commit}.")
    return True


def _differ(one: str | None, other: str | None) -> bool:
    return bool(one and other) and str(one).casefold() != str(other).casefold()


def _wrong(notice: Notice, deployment: Deployment, detail: str) -> WrongDeployment:
    event = {"deployment_id": notice.deployment_id, "git_sha": notice.git_sha}
    return WrongDeployment(detail, event=event, deployment=deployment.model_dump())


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError:  # also for what is nested too deep
        raise _invalid("body", "JSON") from None
    if not isinstance(found, dict):
        raise _invalid("body", "a JSON object")
    return found


def _kind(event: dict[str, Any]) -> str:
    kind = event.get("type")
    if not isinstance(kind, str):
        raise _invalid("type", "a string")
    return kind


def _at(event: dict[str, Any], *path: str) -> object:
    found: object = event
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _if_is(value: object, shape: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and shape.fullmatch(value) else None


def _needed(event: dict[str, Any], *path: str, shape: re.Pattern[str]) -> str:
    value = _if_is(_at(event, *path), shape)
    if value is None:
        raise _invalid(".".join(path), _WORDS[shape])
    return value


def _invalid(field: str, wanted: str) -> InvalidRequest:
    message = f"must be {wanted}"
    return InvalidRequest(
        f"{field}: {message}",
        hint="See that the webhook's sender is the one that this route is for.",
        errors=[{"field": field, "message": message}],
    )
