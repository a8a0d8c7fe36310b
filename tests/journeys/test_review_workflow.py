"""The workflow that comments on a pull request's migrations, against a real database and a stand-in for GitHub's API.

Its shell steps are run as GitHub runs them (tests/github.py), in a copy of this project beside the base branch's
revisions. `make` is a stand-in, since the dependencies are here already; so is the service's address.
"""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import github, servers
from tests.conftest import write_revision
from tests.github import Job, Runner
from tests.servers import Database

REVIEW = "review-migrations"
MARK = "<!-- review-migrations -->"
TOKEN = "token-of-github-for-the-tests-0123456789"
BOT = {"login": "github-actions[bot]"}


@dataclass
class Comments:
    """The comments of pull request 12, as GitHub's API keeps them."""

    kept: list[dict[str, Any]] = field(default_factory=list)
    called: list[str] = field(default_factory=list)

    def add(self, body: str, user: dict[str, str]) -> dict[str, Any]:
        self.kept.append({"id": 1000 + len(self.kept), "body": body, "user": user})
        return self.kept[-1]

    def answer(self, method: str, path: str, sent: dict[str, Any]) -> tuple[int, Any]:
        of_all = "/repos/example/shop/issues/12/comments"
        if method == "GET" and (found := re.fullmatch(rf"{of_all}\?per_page=100&page=(\d+)", path)):
            first = (int(found[1]) - 1) * 100
            return 200, self.kept[first : first + 100]
        if method == "POST" and path == of_all:
            return 201, self.add(sent["body"], BOT)
        if method == "PATCH" and (found := re.fullmatch(r"/repos/example/shop/issues/comments/(\d+)", path)):
            self.kept[int(found[1]) - 1000]["body"] = sent["body"]
            return 200, self.kept[int(found[1]) - 1000]
        return 404, {}


@pytest.fixture
def comments() -> Iterator[tuple[str, Comments]]:
    """A stand-in for GitHub's API: its URL, and what it keeps."""
    comments = Comments()

    class Api(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            sent = json.loads(self.rfile.read(length)) if length else {}
            comments.called.append(self.command)
            known = self.headers["Authorization"] == f"Bearer {TOKEN}"
            status, answer = comments.answer(self.command, self.path, sent) if known else (401, {})
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PATCH(self) -> None:
            self._answer()

        def log_message(self, *_: Any) -> None:
            """Nothing: `called` has it."""

    with HTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", comments
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def runner(tmp_path: Path, database: Database, comments: tuple[str, Comments]) -> Runner:
    """A machine of GitHub's, with both checkouts, whose service is the fresh database."""
    github.skip_without_programs()
    runner = Runner(
        tmp_path / "github",
        variables={"MIGRATION_REVIEW": "true"},
        secrets={"GITHUB_TOKEN": TOKEN},
        elsewhere={"DATABASE_URL": database.url},
        api_url=comments[0],
    )
    runner.stand_in("make", "true")
    for name in ("app", "migrations", ".github"):
        shutil.copytree(servers.PROJECT / name, runner.workspace / name)
    shutil.copy(servers.PROJECT / "pyproject.toml", runner.workspace)
    shutil.copytree(servers.PROJECT / "migrations", runner.workspace / "base" / "migrations")
    (runner.workspace / ".venv").symlink_to(Path(sys.executable).parents[1])
    return runner


def base_has_only(runner: Runner, *kept: str) -> None:
    for file in (runner.workspace / "base" / "migrations" / "versions").glob("*.py"):
        if file.name[:4] not in kept:
            file.unlink()


def pull_request(runner: Runner, repository: str = "example/shop") -> Job:
    job = runner.run(
        REVIEW,
        {"pull_request": {"number": 12, "base": {"sha": "4f1c9a2" * 5}, "head": {"repo": {"full_name": repository}}}},
    )
    assert TOKEN not in job.output + job.summary
    return job


def test_a_pull_request_gets_one_comment_which_later_pushes_bring_up_to_date(
    runner: Runner, comments: tuple[str, Comments], database: Database
) -> None:
    base_has_only(runner, "0001", "0002", "0003", "0004", "0005")
    kept = comments[1]
    strangers = f"{MARK} I am the review"
    for number in range(100):
        kept.add(strangers if number == 7 else "Nice.", {"login": "somebody"})
    job = pull_request(runner)
    assert job.succeeded, job.output
    body = kept.kept[100]["body"]
    assert body.startswith(f"{MARK}\n\n### Migrations: 2 to run, ")
    assert "#### `0006` Require a slug of new products." in body
    assert "`migrations/versions/0007_require_a_slug_of_every_product.py`, one transaction" in body
    assert "- locks `products` in `AccessExclusiveLock`" in body
    assert "```sql\nALTER TABLE products" in body
    assert "squawk" in body
    assert job.summary == body
    assert database.value("SELECT version_num FROM alembic_version") == "0007"

    # The next push takes 0007 out; GitHub starts a new database, which is here the same one, emptied.
    database.execute("DROP SCHEMA public CASCADE; DROP SCHEMA migration_endpoint CASCADE; CREATE SCHEMA public")
    next((runner.workspace / "migrations" / "versions").glob("0007*")).unlink()
    kept.called.clear()
    again = pull_request(runner)
    assert again.succeeded, again.output
    assert len(kept.kept) == 101
    assert kept.kept[100]["body"].startswith(f"{MARK}\n\n### Migrations: 1 to run, ")
    assert kept.kept[7]["body"] == strangers
    assert kept.called == ["GET", "GET", "PATCH"]


def test_a_revision_that_does_not_run_is_told_and_fails_the_job(runner: Runner, comments: tuple[str, Comments]) -> None:
    write_revision(runner.workspace / "migrations", "0008", "0007", "op.execute('ALTER TABLE no_such_table ADD x int')")
    job = pull_request(runner)
    assert not job.succeeded
    (comment,) = comments[1].kept
    assert "**They do not run**" in comment["body"]
    assert 'relation "no\\_such\\_table" does not exist' in comment["body"]
    assert "ALTER TABLE no_such_table ADD x int" in comment["body"]


def test_revisions_that_cannot_be_loaded_are_told_and_fail_the_job(
    runner: Runner, comments: tuple[str, Comments]
) -> None:
    (runner.workspace / "migrations" / "versions" / "0008.py").write_text("revision = '0008'\ndown_revision = 'gone'\n")
    job = pull_request(runner)
    assert not job.succeeded
    (comment,) = comments[1].kept
    assert comment["body"].startswith(f"{MARK}\n\n### Migrations: no plan could be made\n")


def test_a_pull_request_without_new_revisions_says_so(runner: Runner, comments: tuple[str, Comments]) -> None:
    job = pull_request(runner)
    assert job.succeeded, job.output
    assert [each["body"] for each in comments[1].kept] == [f"{MARK}\n\n### Migrations: nothing would run\n"]


def test_a_forks_pull_request_has_its_summary_and_no_comment(runner: Runner, comments: tuple[str, Comments]) -> None:
    base_has_only(runner, "0001")
    job = pull_request(runner, repository="somebody/shop")
    assert job.succeeded, job.output
    assert "### Migrations: 6 to run" in job.summary
    assert comments[1].called == []


def test_it_is_off_until_its_variable_says_so(runner: Runner) -> None:
    for value in ("", "false", "migrate-after-deploy"):
        runner.variables["MIGRATION_REVIEW"] = value
        assert not pull_request(runner).ran


def test_it_may_comment_and_nothing_else_and_runs_no_expression_as_a_script() -> None:
    definition = github.workflow(REVIEW)
    assert definition["on"] == {"pull_request": {"paths": ["migrations/**"]}}, "not pull_request_target"
    assert definition["permissions"] == {"contents": "read", "pull-requests": "write"}
    steps = definition["jobs"]["review"]["steps"]
    assert len(steps) == 8
    assert all("${{" not in step.get("run", "") for step in steps)
    assert all(step["with"]["persist-credentials"] is False for step in steps if "checkout" in step.get("uses", ""))
    assert [step["name"] for step in steps if "TOKEN" in step.get("env", {})] == ["Comment"], "no other step has it"


# --- the comment


def comment(tmp_path: Path, plan: dict[str, Any], run: dict[str, Any]) -> str:
    for name, document in (("plan", plan), ("run", run)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    script = servers.PROJECT / ".github" / "review.py"
    return subprocess.run(
        [sys.executable, str(script), "plan.json", "run.json"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


def planned(**changes: Any) -> dict[str, Any]:
    revision = {
        "revision": "a1",
        "message": "Do a1.",
        "file": "migrations/versions/a1.py",
        "transactional": True,
        "sql": "SELECT 1;",
        "unrendered": None,
        "findings": [],
    }
    return {"digest": "x", "pending": [revision | changes], "modified": [], "level": None, "lint": "squawk 2.70"}


def test_what_a_revision_says_stays_text(tmp_path: Path) -> None:
    hostile = "</details>\n# x `a` ``` <b> [l](u) | **x**"
    finding = {"rule": "a`b", "level": "danger", "line": 3, "message": hostile, "safe_way": "```\nx", "url": None}
    text = comment(
        tmp_path,
        planned(revision="a`1", message=hostile, sql="```\nSELECT '````'", findings=[finding]),
        {"outcome": "upgraded", "applied": [{"revision": "a`1", "locks": [], "rewrote": ['"Or`ders"']}]},
    )
    assert "#### ``a`1`` \\</details\\> \\# x \\`a\\` \\`\\`\\` \\<b\\> \\[l\\](u) \\| \\*\\*x\\*\\*\n" in text
    assert "\n`````sql\n```\nSELECT '````'\n`````\n" in text
    assert "- **danger** ``a`b``, line 3: \\</details\\>" in text
    assert "\n  ````python\n  ```\n  x\n  ````\n" in text
    assert '- writes every row of ``"Or`ders"`` anew' in text
    assert text.count("</details>") == 1


def test_an_edited_revision_is_named_even_where_nothing_would_run(tmp_path: Path) -> None:
    plan = planned() | {"pending": [], "modified": [{"revision": "0003"}]}
    text = comment(tmp_path, plan, {"outcome": "up_to_date", "applied": []})
    assert "### Migrations: 0 to run, no findings" in text
    assert "**Edited after it was applied**: `0003`." in text


def test_a_comment_is_never_longer_than_github_takes(tmp_path: Path) -> None:
    ran = {"outcome": "upgraded", "applied": []}
    without = comment(tmp_path, planned(sql="SELECT 1;\n" * 10_000), ran)
    assert "The SQL is too long to be shown here" in without
    assert "#### `a1` Do a1." in without
    assert len(comment(tmp_path, planned(message="x" * 100_000), ran)) == 65_000
