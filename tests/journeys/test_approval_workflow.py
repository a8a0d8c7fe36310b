"""The workflow that has a deployment's plan approved, and runs that plan and no other: against a live server."""

import re
import shutil
from collections.abc import Callable

import pytest

from tests import github, servers
from tests.conftest import WriteHistory
from tests.github import Job
from tests.servers import Database, Service
from tests.workflows import AFTER, Repository, event

APPROVED = "migrate-after-review"
CREATE_A = "op.execute('CREATE TABLE a (id int)')"
CREATE_B = "op.execute('CREATE TABLE b (id int)')"


@pytest.fixture
def approving(repository: Repository) -> Repository:
    """A repository that does what the comment at the workflow's top says."""
    repository.switch_on(APPROVED)
    repository.runner.secrets["MIGRATION_READ_KEY"] = servers.READ_KEY
    shutil.copytree(servers.PROJECT / ".github", repository.runner.workspace / ".github")
    return repository


def deployed(repository: Repository, url: str, approves: Callable[[str], bool] = lambda _: True) -> Job:
    repository.runner.approves = approves
    job = repository.run(APPROVED, event(AFTER, url))
    assert job.ran
    assert servers.READ_KEY not in job.output + job.summary
    return job


def test_a_plan_is_shown_approved_and_run(
    approving: Repository, serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(a1=CREATE_A, b2=CREATE_B), require_plan="true")
    asked: list[str] = []

    def approves(environment: str) -> bool:
        asked.append(environment)
        assert database.value("SELECT to_regclass('a') IS NULL"), "it was run before it was approved"
        return True

    digest = service.get("/plan").json()["digest"]
    job = deployed(approving, service.url, approves)
    assert job.succeeded, job.output
    assert asked == ["migrations"]
    plan, _, migrated = job.summary.partition("### Migration: upgraded\n")
    assert "### Migrations: 2 to run, " in plan
    assert "```sql\nCREATE TABLE a (id int)" in plan
    assert f"`{digest}`" in plan
    assert "- `b2` Do b2. (" in migrated
    assert database.value("SELECT version_num FROM alembic_version") == "b2"


def test_what_has_changed_since_the_review_is_not_run(
    approving: Repository, serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(a1=CREATE_A, b2=CREATE_B))

    def approves(_: str) -> bool:
        return service.post({"target": "a1"}).status_code == 200  # somebody migrates while the plan is reviewed

    job = deployed(approving, service.url, approves)
    assert not job.succeeded
    assert '"status": 412' in job.output
    assert "### Not migrated: The plan is not the one that was reviewed" in job.summary
    assert database.value("SELECT version_num FROM alembic_version") == "a1"
    assert approving.slept == []


def test_what_nobody_approves_is_not_run(
    approving: Repository, serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(a1=CREATE_A))
    job = deployed(approving, service.url, lambda _: False)
    assert not job.succeeded
    assert "### Migrations: 1 to run" in job.summary
    assert database.value("SELECT to_regclass('a') IS NULL")


def test_nobody_is_asked_to_approve_nothing(
    approving: Repository, serve: Callable[..., Service], write_history: WriteHistory
) -> None:
    service = serve(write_history(a1=CREATE_A))
    assert service.post().status_code == 200
    asked: list[str] = []

    def approves(environment: str) -> bool:
        asked.append(environment)
        return True

    job = deployed(approving, service.url, approves)
    assert job.succeeded, job.output
    assert "### Migrations: nothing would run" in job.summary
    assert asked == []


def test_a_deployment_that_cannot_plan_says_why(
    approving: Repository, serve: Callable[..., Service], write_history: WriteHistory, database: Database
) -> None:
    service = serve(write_history(a1=CREATE_A))
    database.execute("CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('zz')")
    job = deployed(approving, service.url)
    assert not job.succeeded
    assert "### Migrations: no plan could be made" in job.summary
    assert "The database is ahead of this deployment" in job.summary


def test_without_its_key_or_an_answer_of_ours_nothing_goes_on(approving: Repository) -> None:
    job = deployed(approving, f"http://127.0.0.1:{servers.free_port()}")
    assert "No answer came" in job.summary
    assert not job.succeeded
    for hostile in ("$(touch x)", "https://shop.example/$(touch x)", "\n::error::x"):
        assert "not of the form" in deployed(approving, hostile).summary
    del approving.runner.secrets["MIGRATION_READ_KEY"]
    assert "set the secret MIGRATION_READ_KEY" in deployed(approving, "https://shop.example").summary
    assert not (approving.runner.workspace / "x").exists()


def test_it_is_off_until_its_variable_names_it_and_names_all_that_has_to_be_set(repository: Repository) -> None:
    for other in ("", AFTER, "true"):
        repository.switch_on(other)
        assert not repository.run(APPROVED, event(AFTER, "https://shop.example")).ran
    text = (servers.PROJECT / ".github" / "workflows" / f"{APPROVED}.yml").read_text()
    used = set(re.findall(r"\b(?:vars|secrets)\.(\w+)", text))
    assert {"MIGRATION_WORKFLOW", "MIGRATION_API_KEY", "MIGRATION_READ_KEY"} < used
    assert {word for word in used if word not in text.partition("\nname:")[0]} == set()


def test_the_key_that_migrates_is_only_where_somebody_has_approved() -> None:
    jobs = github.workflow(APPROVED)["jobs"]
    assert github.workflow(APPROVED)["permissions"] == {"contents": "read"}
    assert "MIGRATION_API_KEY" not in str(jobs["plan"])
    assert jobs["migrate"]["environment"] == "migrations"
    assert jobs["migrate"]["concurrency"] == {"group": "migrate-production", "queue": "max"}
    assert all("${{" not in step.get("run", "") for job in jobs.values() for step in job["steps"])
