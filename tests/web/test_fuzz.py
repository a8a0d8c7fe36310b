"""The service against its own /openapi.json, by schemathesis: no 500, and nothing that is not documented."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.engine import Status, StopReason, events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.specs.openapi.schemas import OpenApiSchema

from app.database import lock
from app.errors import (
    AlreadyVersioned,
    BadSignature,
    MethodNotAllowed,
    NotFound,
    RunEnded,
    WrongDeployment,
)
from app.main import create_app
from app.problem import DOCUMENTATION
from app.settings import Settings
from tests.conftest import MakeSettings, WriteHistory
from tests.fuzzing import SCHEMATHESIS
from tests.servers import API_KEY, APPLY, READ, READ_KEY, Database
from tests.test_errors import PROBLEMS
from tests.web.answers import without_database

MIGRATE, REHEARSE, DOWNGRADE = "POST /migrate", "POST /rehearse", "POST /downgrade"
PLAN, STATUS, RUNS, RUN = "GET /plan", "GET /status", "GET /runs", "GET /runs/{run_id}"
EVENTS, CANCEL = "GET /runs/{run_id}/events", "POST /runs/{run_id}/cancel"
OF_A_RUN = (RUN, EVENTS, CANCEL)
KEYED = (MIGRATE, REHEARSE, DOWNGRADE, PLAN, STATUS, RUNS, *OF_A_RUN)
HEALTH, LIVEZ = "GET /health", "GET /livez"
FINE = ["2xx", "3xx", "4xx"]
"""What the check for server errors lets pass by default; every other check is on with its defaults as well."""


def filter_failure(_context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether a failure is one: a schema can say how a name is written, and not which names there are."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    # Nor which keys have come before, with what body.
    unknown = [f"{DOCUMENTATION}{slug}" for slug in ("unknown-target", "idempotency-key-reused", "plan-changed")]
    # Nor that a downgrade has no usual target, and that it is off, or wants a plan.
    unknown += [f"{DOCUMENTATION}{slug}" for slug in ("downgrade-not-allowed", "plan-required")]
    unknowable = response.status_code in (409, 412, 422, 428) and response.json()["type"] in unknown
    if case.operation.label == PLAN and case.query.get("direction") == "downgrade":
        unknowable = unknowable or "target" not in case.query
    # A link: the answer of a run that was not needed has no id, and schemathesis asks for it all the same.
    run_of_nobody = case.operation.label in OF_A_RUN and case.path_parameters.get("run_id") in (None, "null")
    return not (unknowable or run_of_nobody)


def openapi(configuration: Settings, **config: Any) -> OpenApiSchema:
    """The description of an application, as it serves it, bound to that application."""
    chosen = {
        "seed": 7,
        "cache": {"enabled": False},  # it would be kept in the tree
        "analysis": {"constants": {"enabled": False}},  # those of the source: an edit would change the examples
        "continue-on-failure": True,
        "operations": [
            # 503 is what a monitor asks for with ?strict=true.
            {"include-name": HEALTH, "checks": {"not_a_server_error": {"expected-statuses": [*FINE, "503"]}}}
        ],
        "phases": {"stateful": {"max-steps": 3}},
        **config,
    }
    chosen["generation"] = SCHEMATHESIS | config.get("generation", {})
    schema = schemathesis.openapi.from_asgi(
        "/openapi.json", create_app(configuration), config=schemathesis.Config.from_dict(chosen)
    )
    schema.hook(filter_failure)
    return schema


@dataclass
class Findings:
    """What a run of schemathesis met."""

    failures: list[str] = field(default_factory=list)
    answers: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By operation; of other methods on its path under `other`."""
    keys: set[str | None] = field(default_factory=set)
    phases: set[str] = field(default_factory=set)


def fuzz(schema: OpenApiSchema) -> Findings:
    """Run every phase and every check of schemathesis."""
    found = Findings()
    for event in from_schema(schema).execute():
        match event:
            case events.NonFatalError():
                found.failures.append(f"{event.label}: {event.value!r}")
            case events.PhaseFinished(status=Status.SUCCESS):
                found.phases.add(event.phase.name.value)
            case events.ScenarioFinished():
                _record(event, found)
            case events.EngineFinished():
                assert event.stop_reason is StopReason.COMPLETED
    return found


def _record(event: events.ScenarioFinished, found: Findings) -> None:
    for case_id, exchange in event.recorder.interactions.items():
        operation = event.recorder.cases[case_id].value.operation
        is_other = exchange.request.method.lower() != operation.method.lower()
        assert exchange.response is not None
        found.answers["other" if is_other else operation.label].add(exchange.response.status_code)
        found.keys.add(next(iter(exchange.request.headers.get("Authorization", [])), None))
    for checks in event.recorder.checks.values():
        for check in checks:
            if (info := check.failure_info) is not None:
                found.failures.append(f"{check.name}: {info.failure.title}: {info.failure.message}\n{info.code_sample}")


def assert_nothing_was_found(found: Findings) -> None:
    assert not found.failures, "\n\n".join(found.failures)
    assert found.phases >= {"coverage", "fuzzing", "stateful"}
    assert found.answers["other"] == {405}
    assert found.answers[LIVEZ] == {200}


@pytest.fixture
def shop(settings: MakeSettings, write_history: WriteHistory) -> Callable[..., Settings]:
    """Settings for a small history that nobody has applied."""
    history = write_history(
        a1="op.execute('CREATE TABLE product (id int)')", b2="op.execute('CREATE TABLE customer (id int)')", c3="pass"
    )
    return lambda **changes: settings(history, docs=True, **changes)


# --- who calls


def test_a_caller_with_an_apply_key_meets_nothing_undocumented(
    shop: Callable[..., Settings], database: Database
) -> None:
    found = fuzz(openapi(shop(), headers=APPLY))
    assert_nothing_was_found(found)
    # 401 is what the check for ignored keys provokes; 412 needs a pin that comes before the first call without one.
    assert found.answers[MIGRATE] | {412} == {200, 401, 412, 415, 422}
    assert found.answers[DOWNGRADE] == {401, 409, 415, 422}
    assert found.answers[REHEARSE] == {200, 401, 415, 422}
    assert found.answers[PLAN] == {200, 401, 422}
    assert found.answers[STATUS] == {200, 401, 422}
    assert found.answers[RUNS] == {200, 401, 422}
    # Whether an id is asked for that no run has is left to chance; test_runs.py and test_cancel.py ask for one.
    assert found.answers[RUN] | {404} == found.answers[EVENTS] | {404} == {200, 401, 404, 422}
    assert found.answers[CANCEL] | {404} == {401, 404, 409, 422}
    assert found.answers[HEALTH] >= {200, 422}
    assert database.value("SELECT version_num FROM alembic_version") == "c3"


def test_a_caller_with_a_read_key_meets_nothing_undocumented_and_changes_nothing(
    shop: Callable[..., Settings], database: Database
) -> None:
    found = fuzz(openapi(shop(), headers=READ))
    assert_nothing_was_found(found)
    assert found.answers[MIGRATE] == found.answers[REHEARSE] == found.answers[DOWNGRADE] == {401, 403}
    assert found.answers[PLAN] == {200, 401, 422}
    assert found.answers[STATUS] == {200, 401, 422}
    assert found.answers[RUNS] == {200, 401, 422}
    assert found.answers[RUN] == found.answers[EVENTS] == {401, 404, 422}
    assert found.answers[CANCEL] == {401, 403}
    assert found.answers[HEALTH] == {200, 422, 503}
    assert (
        database.value("SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
        == 0
    )


@pytest.mark.parametrize("makes_keys_up", [False, True])
def test_a_caller_without_a_key_is_challenged_whatever_it_sends(
    shop: Callable[..., Settings], database: Database, makes_keys_up: bool
) -> None:
    found = fuzz(openapi(shop(), generation={"with-security-parameters": makes_keys_up}))
    assert_nothing_was_found(found)
    assert all(found.answers[operation] == {401} for operation in KEYED)
    assert found.answers[HEALTH] == {200, 422, 503}
    assert len(found.keys) > 10 if makes_keys_up else found.keys == {None}
    assert found.keys.isdisjoint({APPLY["Authorization"], READ["Authorization"]})


# --- what is not configured


def test_an_application_without_keys_says_so_to_everybody() -> None:
    found = fuzz(
        openapi(
            Settings(docs=True),
            checks={
                "not_a_server_error": {"expected-statuses": [*FINE, "503"]},
                # Without a key to compare with there is no 401: what is not configured is told to everybody.
                "missing_required_header": {"enabled": False},
            },
        )
    )
    assert_nothing_was_found(found)
    assert all(found.answers[operation] == {503} for operation in KEYED)


def test_an_application_without_a_database_says_so_to_who_has_a_key() -> None:
    found = fuzz(
        openapi(
            Settings(docs=True, api_key=API_KEY, read_key=READ_KEY),
            headers=APPLY,
            checks={"not_a_server_error": {"expected-statuses": [*FINE, "503"]}},
        )
    )
    assert_nothing_was_found(found)
    assert found.answers[MIGRATE] == {401, 415, 422, 503}
    assert found.answers[STATUS] == {401, 422, 503}


# --- what a fuzzer does not run into


def ask(
    schema: OpenApiSchema, method: str, path: str, key: dict[str, str] = APPLY, /, **parts: Any
) -> schemathesis.Response:
    """Send one request, and hold its answer against the description; a documented 5xx is what is asked for here."""
    case = schema[path][method].Case(headers=dict(key), **parts)
    return case.call_and_validate(excluded_checks=[not_a_server_error])


def migrate(schema: OpenApiSchema, **body: Any) -> tuple[int, Any]:
    """POST /migrate; its status, and its outcome or the problem it is."""
    answer = ask(schema, "POST", "/migrate", body=body, media_type="application/json")
    document = answer.json()
    return answer.status_code, document.get("outcome") or document["type"].removeprefix(DOCUMENTATION)


def test_the_description_is_valid_and_names_every_problem() -> None:
    schema = openapi(without_database(docs=True))
    schema.validate()
    assert schema.raw_schema["openapi"].startswith("3.1")
    responses = [
        answer
        for path in ("/migrate", "/rehearse", "/downgrade")
        for answer in schema.raw_schema["paths"][path]["post"]["responses"].values()
    ]
    schemas = [content["schema"] for answer in responses for content in answer["content"].values()]
    types = {each for found in schemas for each in found.get("properties", {}).get("type", {}).get("enum", [])}
    # No operation has a method that its path does not take, and these three name nothing that could be missing or
    # over, and are no webhooks; a stamp is made in a terminal.
    elsewhere = {AlreadyVersioned, MethodNotAllowed, NotFound, RunEnded, BadSignature, WrongDeployment}
    expected = set(PROBLEMS) - elsewhere
    assert types == {f"{DOCUMENTATION}{problem.slug}" for problem in expected}


def test_what_goes_wrong_in_a_run_is_documented(shop: Callable[..., Settings], write_history: WriteHistory) -> None:
    broken = write_history(a1="op.execute('CREATE TABLE product (id int)')", b2="op.execute('SELECT 1 / 0')")
    schema = openapi(shop(script_location=str(broken)))
    assert migrate(schema) == (500, "migration-failed")
    (run,) = ask(schema, "GET", "/runs", READ).json()["runs"]
    recorded = ask(schema, "GET", "/runs/{run_id}", READ, path_parameters={"run_id": run["run_id"]}).json()
    assert (recorded["outcome"], [step["revision"] for step in recorded["steps"]]) == ("failed", ["a1"])
    assert migrate(schema, reason="x" * 70_000) == (413, "body-too-large")


def test_a_lock_that_is_held_is_documented(shop: Callable[..., Settings], database: Database) -> None:
    schema = openapi(shop())
    with database.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [lock.key("public.alembic_version")])
        assert migrate(schema, lock_wait_s=0) == (409, "lock-held")
        assert ask(schema, "GET", "/status", READ).json()["lock"]["held"]


def test_a_database_that_does_not_fit_is_documented(shop: Callable[..., Settings], write_history: WriteHistory) -> None:
    assert migrate(openapi(shop())) == (200, "upgraded")
    for outcome, state, history in (
        ("database-ahead", "database_ahead", write_history(a1="pass", b2="pass")),
        ("diverged", "diverged", write_history(a1="pass", d4="pass")),
    ):
        schema = openapi(shop(script_location=str(history)))
        assert migrate(schema) == (409, outcome)
        assert ask(schema, "GET", "/status", READ).json()["state"] == state


def test_a_database_that_does_not_answer_is_documented() -> None:
    schema = openapi(without_database(docs=True))
    assert migrate(schema) == (503, "database-unavailable")
    for path in ("/status", "/runs", "/health"):
        assert ask(schema, "GET", path, READ).status_code == 503
