"""Events of webhooks: what they say in their senders' own forms, and which deployment they are for."""

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import InvalidRequest, WrongDeployment
from app.report import Deployment
from app.web import notices
from app.web.notices import Notice
from tests.fuzzing import examples

COMMIT = "4f1c9a20d7b35e6188c3f0a94d5be27713f6a8c2"
OTHER_COMMIT = "9d5be27713f6a8c24f1c9a20d7b35e6188c3f0a9"

VERCEL: dict[str, Any] = {
    "type": "deployment.ready",
    "id": "uev_7Gk2wZ",
    "createdAt": 1795000000000,
    "region": "fra1",
    "payload": {
        "user": {"id": "usr_1"},
        "team": {"id": None},
        "deployment": {
            "id": "dpl_7Gk2",
            "name": "shop",
            "url": "shop-7gk2.vercel.app",
            "meta": {"githubCommitSha": COMMIT, "githubCommitRef": "main"},
        },
        "links": {"deployment": "https://vercel.com/acme/shop/7Gk2", "project": "https://vercel.com/acme/shop"},
        "target": "production",
        "project": {"id": "prj_1"},
        "plan": "pro",
        "regions": ["fra1"],
    },
}
DEPLOYMENT_STATUS: dict[str, Any] = {
    "action": "created",
    "deployment_status": {"id": 3141592653, "state": "success", "environment": "Production", "target_url": "https://x"},
    "deployment": {"id": 271828, "sha": COMMIT, "ref": COMMIT, "environment": "Production", "task": "deploy"},
    "check_run": None,
    "workflow": None,
    "repository": {"full_name": "acme/shop"},
    "sender": {"login": "vercel[bot]"},
}
REPOSITORY_DISPATCH: dict[str, Any] = {
    "action": "vercel.deployment.ready",
    "branch": "main",
    "client_payload": {
        "environment": "production",
        "git": {"ref": "main", "sha": COMMIT, "shortSha": COMMIT[:7]},
        "id": "dpl_7Gk2",
        "project": {"id": "prj_1", "name": "shop"},
        "state": {"type": "ready"},
        "url": "https://shop-7gk2.vercel.app",
    },
    "repository": {"full_name": "acme/shop"},
    "sender": {"login": "vercel[bot]"},
}
STANDARD: dict[str, Any] = {
    "type": "migrate",
    "timestamp": "2026-11-22T20:47:20Z",
    "data": {
        "deployment_id": "dpl_7Gk2",
        "git_sha": COMMIT,
        "environment": "production",
        "project_id": "prj_1",
        "note": "more than is asked for",
    },
}
MISSING = object()


def changed(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An event with something else in it: `changed(VERCEL, payload__target=None)`."""
    made = copy.deepcopy(event)
    for path, value in changes.items():
        *above, name = path.split("__")
        place = made
        for each in above:
            place = place[each]
        if value is MISSING:
            del place[name]
        else:
            place[name] = value
    return made


def body(event: object) -> bytes:
    return json.dumps(event).encode()


def from_standard(text: bytes) -> Notice | None:
    return notices.from_standard(text, "msg_1")


READERS: dict[str, tuple[Callable[[bytes], Notice | None], dict[str, Any]]] = {
    "vercel": (notices.from_vercel, VERCEL),
    "deployment_status": (notices.from_github, DEPLOYMENT_STATUS),
    "repository_dispatch": (notices.from_github, REPOSITORY_DISPATCH),
    "standard": (from_standard, STANDARD),
}


def read(sender: str, **changes: Any) -> Notice | None:
    reader, event = READERS[sender]
    return reader(body(changed(event, **changes)))


# --- what an event says

ALL = {"deployment_id": "dpl_7Gk2", "git_sha": COMMIT, "environment": "production", "project_id": "prj_1"}


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("vercel", Notice("vercel:uev_7Gk2wZ", "vercel deployment.ready of dpl_7Gk2", **ALL)),
        (
            "deployment_status",
            Notice(
                "github:deployment_status:3141592653",
                f"github deployment_status success of {COMMIT} in Production",
                git_sha=COMMIT,
                environment="Production",
            ),
        ),
        (
            "repository_dispatch",
            Notice("github:vercel.deployment.ready:dpl_7Gk2", "github vercel.deployment.ready of dpl_7Gk2", **ALL),
        ),
        ("standard", Notice("standard:msg_1", "webhook migrate of dpl_7Gk2", **ALL)),
    ],
)
def test_an_event_says_what_is_ready(sender: str, expected: Notice) -> None:
    assert read(sender) == expected


@pytest.mark.parametrize("kind", ["deployment.ready", "deployment.succeeded", "deployment.promoted"])
def test_vercel_and_standard_webhooks_say_it_in_three_ways(kind: str) -> None:
    for sender in ("vercel", "standard"):
        found = read(sender, type=kind)
        assert found is not None
        assert kind in found.reason


@pytest.mark.parametrize("word", ["ready", "success", "promoted"])
def test_vercel_dispatches_three_events(word: str) -> None:
    found = read("repository_dispatch", action=f"vercel.deployment.{word}")
    assert found is not None
    assert found.id == f"github:vercel.deployment.{word}:dpl_7Gk2"


@pytest.mark.parametrize(
    ("changes", "environment"),
    [
        ({"payload__target": "production"}, "production"),
        ({"payload__target": "staging"}, "staging"),
        ({"payload__target": None}, "preview"),
        ({"payload__target": MISSING}, None),
        ({"payload__target": 7}, None),
        ({"payload__target": "\n"}, None),
        ({"type": "deployment.promoted", "payload__target": MISSING}, "production"),  # as its documentation has it
    ],
)
def test_vercels_target_is_the_environment(changes: dict[str, Any], environment: str | None) -> None:
    found = read("vercel", **changes)
    assert found is not None
    assert found.environment == environment


@pytest.mark.parametrize(
    ("meta", "commit"),
    [
        ({"gitlabCommitSha": COMMIT}, COMMIT),
        ({"bitbucketCommitSha": COMMIT}, COMMIT),
        ({"githubCommitSha": "", "gitlabCommitSha": COMMIT}, COMMIT),
        ({"githubCommitSha": "main"}, None),
        ({"githubCommitSha": 7}, None),
        ({}, None),
        (None, None),
        ([COMMIT], None),
    ],
)
def test_a_commit_that_vercels_meta_does_not_have_is_absent(meta: object, commit: str | None) -> None:
    found = read("vercel", payload__deployment__meta=meta)
    assert found is not None
    assert (found.git_sha, found.deployment_id) == (commit, "dpl_7Gk2")


def test_githubs_environment_is_what_stands_before_the_projects_name() -> None:
    found = read("deployment_status", deployment__environment="Preview – shop")
    assert found is not None
    assert found.environment == "Preview"
    assert "Preview – shop" in found.reason


@pytest.mark.parametrize("data", [MISSING, {}, {"deployment_id": None, "git_sha": None}])
def test_a_standard_webhook_need_not_say_which_deployment(data: object) -> None:
    assert read("standard", data=data) == Notice("standard:msg_1", "webhook migrate")


@pytest.mark.parametrize(
    ("sender", "changes"),
    [
        ("vercel", {"type": "deployment.created"}),
        ("vercel", {"type": "project.created", "payload": MISSING}),
        ("deployment_status", {"deployment_status__state": "pending"}),
        ("deployment_status", {"deployment_status__state": MISSING, "deployment": None}),
        ("deployment_status", {"deployment_status": MISSING}),  # the event `deployment`
        ("deployment_status", {"deployment_status": None}),
        ("repository_dispatch", {"action": "vercel.deployment.error"}),
        ("repository_dispatch", {"action": "deploy"}),
        ("repository_dispatch", {"action": ["vercel.deployment.ready"]}),
        ("repository_dispatch", {"client_payload": MISSING}),
        ("standard", {"type": "user.created", "data": "anything"}),
    ],
)
def test_an_event_that_is_not_for_us_is_none(sender: str, changes: dict[str, Any]) -> None:
    assert read(sender, **changes) is None


@pytest.mark.parametrize("event", [{"zen": "Keep it logically awesome.", "hook_id": 1}, {"ref": "refs/heads/main"}, {}])
def test_githubs_other_events_are_not_for_us(event: dict[str, Any]) -> None:
    assert notices.from_github(body(event)) is None


@pytest.mark.parametrize(
    ("sender", "changes", "field"),
    [
        ("vercel", {"type": MISSING}, "type"),
        ("vercel", {"type": 7}, "type"),
        ("vercel", {"id": MISSING}, "id"),
        ("vercel", {"id": "a b"}, "id"),
        ("vercel", {"id": "a" * 129}, "id"),
        ("vercel", {"payload": []}, "payload.deployment.id"),
        ("vercel", {"payload__deployment": None}, "payload.deployment.id"),
        ("vercel", {"payload__deployment__id": "dpl_\n"}, "payload.deployment.id"),
        ("deployment_status", {"deployment_status__id": "7"}, "deployment_status.id"),
        ("deployment_status", {"deployment_status__id": True}, "deployment_status.id"),
        ("deployment_status", {"deployment_status__id": 0}, "deployment_status.id"),
        ("deployment_status", {"deployment_status__id": 2**63}, "deployment_status.id"),
        ("deployment_status", {"deployment__sha": "main"}, "deployment.sha"),
        ("deployment_status", {"deployment": None}, "deployment.sha"),
        ("deployment_status", {"deployment__environment": ""}, "deployment.environment"),
        ("deployment_status", {"deployment__environment": "p" * 129}, "deployment.environment"),
        ("repository_dispatch", {"client_payload": "dpl_7Gk2"}, "client_payload.id"),
        ("repository_dispatch", {"client_payload__id": 7}, "client_payload.id"),
        ("standard", {"type": None}, "type"),
        ("standard", {"data": None}, "data"),
        ("standard", {"data": [1]}, "data"),
        ("standard", {"data__deployment_id": 7}, "data.deployment_id"),
        ("standard", {"data__git_sha": "main"}, "data.git_sha"),
        ("standard", {"data__environment": "\0"}, "data.environment"),
        ("standard", {"data__project_id": {}}, "data.project_id"),
    ],
)
def test_an_event_that_lacks_what_it_must_have_is_refused_by_the_member(
    sender: str, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(sender, **changes)
    assert refused.value.status == 422
    assert [error["field"] for error in refused.value.members["errors"]] == [field]


@pytest.mark.parametrize("sender", READERS)
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"deployment.ready",
        b"[]",
        b"null",
        b'"deployment.ready"',
        b"{",
        b"{} {}",
        b'{"type": NaN}',
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"type": "\\ud800"}',
        b'{"type": ' + b"[" * 100_000,
        b'{"type": ' + b"9" * 100_000 + b"}",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(sender: str, text: bytes) -> None:
    reader, _ = READERS[sender]
    with pytest.raises(InvalidRequest, match=r"^body: must be (JSON|a JSON object)$"):
        reader(text)


# --- whatever else may stand in a body

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=150),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


def paths(event: dict[str, Any], *above: str) -> list[str]:
    found = []
    for name, value in event.items():
        found.append("__".join((*above, name)))
        if isinstance(value, dict):
            found += paths(value, *above, name)
    return found


def outcome(reader: Callable[[bytes], Notice | None], text: bytes) -> Notice | InvalidRequest | None:
    try:
        return reader(text)
    except InvalidRequest as refused:
        return refused


def is_bounded(found: Notice | InvalidRequest) -> bool:
    """Whether all that gets into an answer, or into the ledger, is short and can be shown."""
    values = (found.detail,) if isinstance(found, InvalidRequest) else dataclasses.astuple(found)
    return all(value is None or (0 < len(value) <= 500 and value.isprintable()) for value in values)


@examples(300)
@given(data=st.data(), sender=st.sampled_from(sorted(READERS)), value=json_values)
@example(data=None, sender="vercel", value="\ud800")
def test_an_event_with_anything_in_it_is_read_passed_over_or_refused(
    data: st.DataObject | None, sender: str, value: Any
) -> None:
    reader, event = READERS[sender]
    path = data.draw(st.sampled_from(paths(event))) if data else "payload__target"
    found = outcome(reader, body(changed(event, **{path: value})))
    assert found is None or is_bounded(found)


@examples(200)
@given(sender=st.sampled_from(sorted(READERS)), text=st.binary(max_size=60) | json_values.map(body))
def test_any_body_is_passed_over_or_refused(sender: str, text: bytes) -> None:
    reader, _ = READERS[sender]
    found = outcome(reader, text)
    assert found is None or (isinstance(found, InvalidRequest) and is_bounded(found))


# --- which deployment it is for

HERE = Deployment(id="dpl_7Gk2", git_sha=COMMIT, environment="production")


def about(**said: str | None) -> Notice:
    return Notice("standard:msg_1", "webhook migrate", **said)


@pytest.mark.parametrize(
    ("notice", "deployment"),
    [
        (about(**ALL), HERE),
        (about(), HERE),
        (about(**ALL), Deployment()),
        (about(deployment_id="dpl_7Gk2", git_sha=OTHER_COMMIT), HERE),
        # The id decides: Vercel may call a custom environment `staging` in one place and `preview` in another.
        (about(deployment_id="dpl_7Gk2", environment="staging"), HERE),
        (about(git_sha=COMMIT, environment="Production"), HERE),
        (about(git_sha=COMMIT[:7]), HERE),
        (about(git_sha=COMMIT.upper()), HERE),
        (about(git_sha=COMMIT), Deployment(git_sha=COMMIT[:7])),
        (about(deployment_id="dpl_other"), Deployment(git_sha=COMMIT)),
        (about(deployment_id="dpl_other", git_sha=COMMIT), Deployment(git_sha=COMMIT)),
        (about(git_sha=OTHER_COMMIT), Deployment(id="dpl_7Gk2")),
    ],
)
def test_what_does_not_differ_is_for_this_deployment(notice: Notice, deployment: Deployment) -> None:
    assert notices.is_for(notice, deployment, project_id="prj_1")
    assert notices.is_for(notice, deployment, project_id=None)


@pytest.mark.parametrize(
    "notice",
    [
        about(project_id="prj_2"),
        about(project_id="prj_2", git_sha=COMMIT),
        about(deployment_id="dpl_other", project_id="prj_2"),
        about(environment="preview"),
        about(environment="Preview", git_sha=OTHER_COMMIT),
        about(deployment_id="dpl_other", environment="staging"),
    ],
)
def test_an_event_of_another_project_or_environment_is_not_for_this_deployment(notice: Notice) -> None:
    assert not notices.is_for(notice, HERE, project_id="prj_1")


@pytest.mark.parametrize(
    ("notice", "deployment"),
    [
        (about(**ALL | {"deployment_id": "dpl_other"}), HERE),
        (about(deployment_id="dpl_other", git_sha=COMMIT), HERE),
        (about(git_sha=OTHER_COMMIT), HERE),
        (about(git_sha=OTHER_COMMIT[:7], environment="PRODUCTION"), HERE),
        (about(deployment_id="dpl_other", git_sha=OTHER_COMMIT), Deployment(git_sha=COMMIT)),
    ],
)
def test_another_deployment_of_the_same_project_and_environment_is_a_conflict(
    notice: Notice, deployment: Deployment
) -> None:
    with pytest.raises(WrongDeployment) as refused:
        notices.is_for(notice, deployment, project_id="prj_1")
    problem = refused.value
    assert (problem.status, problem.retryable) == (409, False)
    assert problem.members["event"] == {"deployment_id": notice.deployment_id, "git_sha": notice.git_sha}
    assert problem.members["deployment"] == deployment.model_dump()
