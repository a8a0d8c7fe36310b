"""The workflows that users switch on: what each does with an event, run against a live server and a real database.

The shell steps are the workflows' own and run under bash, with curl and jq, as GitHub runs them (tests/github.py).
Two programs are stand-ins: `vercel`, since the real one needs a login, which writes down its arguments and prints what
the real one prints; and `sleep`, which writes down for how long and sleeps less. The actions of GitHub and Vercel are
not run; that they are asked for is checked.
"""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.database import lock
from tests import github, servers
from tests.conftest import WriteHistory
from tests.proxy import Proxy
from tests.servers import Database, Service, until
from tests.workflows import AFTER, ALL, DEPLOY, DEPLOYMENT, GATE, Repository, event

CREATE_A = "op.execute('CREATE TABLE a (id int)')"
CREATE_B = "op.execute('CREATE TABLE b (id int)')"


# --- what the files say


@pytest.mark.parametrize("name", ALL)
def test_a_workflow_does_nothing_before_it_is_switched_on(name: str, repository: Repository) -> None:
    assert not repository.run(name, event(name, "https://shop.example")).ran
    for other in {*ALL, "true"} - {name}:
        repository.switch_on(other)
        assert not repository.run(name, event(name, "https://shop.example")).ran


@pytest.mark.parametrize(
    ("name", "change"),
    [(GATE, {"environment": "preview"}), (AFTER, {"environment": "Preview"}), (AFTER, {"state": "in_progress"})],
)
def test_only_a_finished_production_deployment_is_migrated(
    name: str, change: dict[str, str], repository: Repository
) -> None:
    repository.switch_on(name)
    assert not repository.run(name, event(name, "https://shop.example", **change)).ran


@pytest.mark.parametrize(
    ("name", "trigger", "permissions"),
    [
        (
            GATE,
            {"repository_dispatch": {"types": ["vercel.deployment.ready"]}},
            {"actions": "read", "contents": "read", "statuses": "write"},
        ),
        (DEPLOY, {"push": {"branches": ["main"]}}, {"contents": "read"}),
        (AFTER, {"deployment_status": None}, {"contents": "read"}),
    ],
)
def test_a_workflow_has_its_trigger_and_no_permission_that_it_does_not_need(
    name: str, trigger: dict[str, Any], permissions: dict[str, str]
) -> None:
    definition = github.workflow(name)
    assert definition["on"] == trigger
    assert definition["permissions"] == permissions


@pytest.mark.parametrize("name", ALL)
def test_a_workflow_names_at_its_top_all_that_has_to_be_set(name: str) -> None:
    text = (servers.PROJECT / ".github" / "workflows" / f"{name}.yml").read_text()
    head = text.partition("\nname:")[0]
    used = set(re.findall(r"\b(?:vars|secrets)\.(\w+)", text))
    assert {"MIGRATION_WORKFLOW", "MIGRATION_API_KEY"} < used
    assert {word for word in used if word not in head} == set()


@pytest.mark.parametrize("name", ALL)
def test_deployments_wait_for_each_other_and_the_job_outlasts_its_calls(name: str) -> None:
    ((_, job),) = github.workflow(name)["jobs"].items()
    assert job["concurrency"]["group"] == "migrate-production"
    assert "cancel-in-progress" not in job["concurrency"]
    script = github.action("migrate")["runs"]["steps"][0]["run"]
    last_call_begins_s, call_s = (int(found) for found in re.findall(r"(?:most_seconds=|--max-time )(\d+)", script))
    assert job["timeout-minutes"] * 60 > last_call_begins_s + call_s + 300


def test_no_expression_is_put_into_a_script_and_the_actions_of_others_are_pinned() -> None:
    jobs = [job for name in ("check", *ALL) for job in github.workflow(name)["jobs"].values()]
    steps = [step for job in [*jobs, github.action("migrate")["runs"]] for step in job["steps"]]
    assert len(steps) >= 15
    for step in steps:
        assert "${{" not in step.get("run", "")
        assert re.fullmatch(r"\./\.github/actions/migrate|[\w/-]+@v\d+", step.get("uses", "./.github/actions/migrate"))


# --- what they do


@pytest.mark.parametrize("name", [GATE, AFTER])
def test_pending_revisions_are_applied_and_told(
    name: str, repository: Repository, serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(a1=CREATE_A, b2=CREATE_B), vercel_deployment_id=DEPLOYMENT)
    job = repository.deployed(name, service.url)
    assert job.succeeded, job.output
    assert database.value("SELECT version_num FROM alembic_version") == "b2"
    assert '"outcome": "upgraded"' in job.output
    assert job.summary.startswith("### Migration: upgraded\n")
    assert "- `a1` Do a1. (" in job.summary
    assert "- `b2` Do b2. (" in job.summary
    assert (
        database.value("SELECT reason FROM migration_endpoint.run")
        == "https://github.example/example/shop/actions/runs/7"
    )

    again = repository.deployed(name, service.url)
    assert again.succeeded, again.output
    assert again.summary.startswith("### Migration: up_to_date\n")
    assert repository.slept == []


def test_a_failing_revision_fails_the_job_at_once_and_is_told(
    repository: Repository, serve: Callable[..., Service], write_history: WriteHistory
) -> None:
    service = serve(write_history(a1=CREATE_A, b2="op.execute('CREATE TABL b')"))
    job = repository.deployed(DEPLOY, service.url)
    assert not job.succeeded
    assert '"sqlstate": "42601"' in job.output
    title, _, rest = job.summary.partition("\n\n")
    assert title.startswith("### Not migrated: ")
    assert "b2" in rest
    assert "- `a1` Do a1. (" in rest
    assert service.get("/runs").json()["runs"][0]["error"]["hint"] in rest
    assert repository.slept == []
    assert len(service.get("/runs").json()["runs"]) == 1
    assert repository.called[-1].startswith("vercel deploy"), "what has not been migrated was promoted"


def test_a_held_lock_is_waited_for(
    repository: Repository, serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(a1=CREATE_A), lock_wait=0)
    with database.connect() as somebody, ThreadPoolExecutor(1) as background:
        somebody.execute(f"SELECT pg_advisory_lock({lock.key('public.alembic_version')})".encode())
        call = background.submit(repository.deployed, AFTER, service.url)
        until(lambda: repository.slept or call.done(), seconds=30, what="the first call to be refused")
        somebody.execute(b"SELECT pg_advisory_unlock_all()")
        job = call.result()
    assert job.succeeded, job.output
    assert "#lock-held" in job.output
    assert set(repository.slept) == {5}, "that is not what Retry-After said"
    assert job.summary.startswith("### Migration: upgraded\n")
    assert database.value("SELECT version_num FROM alembic_version") == "a1"


def test_a_database_that_is_away_is_waited_for(
    repository: Repository, serve: Callable[..., Service], write_history: WriteHistory, proxy: Proxy, database: Database
) -> None:
    service = serve(write_history(a1=CREATE_A), on=proxy.database)
    proxy.refuse()
    with ThreadPoolExecutor(1) as background:
        call = background.submit(repository.deployed, AFTER, service.url)
        until(lambda: repository.slept or call.done(), seconds=30, what="the first call to be refused")
        proxy.accept()
        job = call.result()
    assert job.succeeded, job.output
    assert "#database-unavailable" in job.output
    assert set(repository.slept) == {5}


def test_a_wrong_key_fails_at_once(
    repository: Repository, serve: Callable[..., Service], write_history: WriteHistory
) -> None:
    service = serve(write_history(a1=CREATE_A), api_key="another-key-for-the-tests-0123456789abcdef")
    job = repository.deployed(AFTER, service.url)
    assert not job.succeeded
    assert "#unauthenticated" in job.output
    assert job.summary.startswith("### Not migrated: ")
    assert repository.slept == []


def test_the_answer_of_another_deployment_does_not_open_the_gate(
    repository: Repository, serve: Callable[..., Service], write_history: WriteHistory
) -> None:
    service = serve(write_history(a1=CREATE_A), vercel_deployment_id="dpl_before")
    job = repository.deployed(GATE, service.url)
    assert not job.succeeded
    assert "another deployment" in job.summary


def test_the_gate_reports_to_vercel_and_a_cancelled_job_does_not_open_it(repository: Repository) -> None:
    repository.switch_on(GATE)
    job = repository.run(GATE, event(GATE, "https://shop.example"), cancelled=True)
    assert job.ran
    assert not job.succeeded
    steps = github.workflow(GATE)["jobs"]["migrate"]["steps"]
    assert steps[0] == {"uses": "vercel/repository-dispatch/actions/status@v1"}
    assert steps[-1]["if"] == "cancelled()"
    assert steps[-1]["run"] == "exit 1"


# --- deploy, migrate, promote


def test_a_deployment_is_promoted_after_its_migration(
    repository: Repository, serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(a1=CREATE_A))
    job = repository.deployed(DEPLOY, service.url)
    assert job.succeeded, job.output
    assert repository.called == [
        "npm install --global vercel@64.0.2",
        "vercel deploy --prod --skip-domain --yes",
        f"vercel promote {service.url} --timeout=10m",
    ]
    assert database.value("SELECT version_num FROM alembic_version") == "a1"


def test_a_deployment_that_fails_is_neither_migrated_nor_promoted(repository: Repository) -> None:
    repository.switch_on(DEPLOY)
    repository.deploys('echo "Error: the build failed" >&2; exit 1')
    job = repository.run(DEPLOY, event(DEPLOY, ""))
    assert not job.succeeded
    assert [call for call in repository.called if call.startswith("vercel")] == [
        "vercel deploy --prod --skip-domain --yes"
    ]
    assert job.summary == ""
