"""GitHub's runner, as far as the workflows of this repository need it: what a job does with an event.

It runs the shell steps of a job, and those of the repository's own actions, as the runner does: expressions are put in
first, then bash gets the text. Actions of others are named and not run: they come from GitHub.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import servers

Context = dict[str, Any]

PROGRAMS = ("bash", "curl", "jq")
_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
_BASH = {
    None: ["bash", "-e"],
    "bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"],
}
"""What a step's `shell` stands for: docs.github.com, workflow syntax, jobs.<job_id>.steps[*].shell."""


def skip_without_programs() -> None:
    """Skip, and say so, where a program is missing that GitHub's runners have."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: apt-get install {' '.join(missing)})")


def workflow(name: str) -> dict[str, Any]:
    """A workflow of this repository. YAML 1.1 reads the word `on` as true; here it is `on` again."""
    loaded = _load(servers.PROJECT / ".github" / "workflows" / f"{name}.yml")
    return {"on" if key is True else key: value for key, value in loaded.items()}


def action(name: str) -> dict[str, Any]:
    """An action of this repository."""
    return _load(servers.PROJECT / ".github" / "actions" / name / "action.yml")


def _load(file: Path) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(file.read_text())
    return loaded


@dataclass
class Job:
    """How a job went."""

    ran: bool = True
    succeeded: bool = True
    output: str = ""
    summary: str = ""
    used: list[str] = field(default_factory=list)
    """The actions of others, which were not run."""


@dataclass
class Runner:
    """A machine of GitHub's: an empty workspace, and programs that come before the installed ones."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    """Variables of jobs that have another value here, such as the address of a service that GitHub starts."""
    api_url: str = "https://api.github.example"
    approves: Callable[[str], bool] = lambda _: True
    """Whether the reviewers of an environment let a job go on."""

    def __post_init__(self) -> None:
        self.workspace.mkdir(parents=True)
        self.programs.mkdir()

    @property
    def workspace(self) -> Path:
        """Where the steps run."""
        return self.folder / "workspace"

    @property
    def programs(self) -> Path:
        """The first folder of PATH."""
        return self.folder / "programs"

    def stand_in(self, program: str, script: str) -> None:
        """Put a program of the test's in the place of a real one."""
        file = self.programs / program
        file.write_text(f"#!/usr/bin/env bash\n{script}\n")
        file.chmod(0o755)

    def run(self, name: str, event: Context, *, cancelled: bool = False) -> Job:
        """Run the jobs of a workflow with an event, one after the other; `cancelled` before the first step, if so."""
        context: Context = {
            "github": {
                "api_url": self.api_url,
                "event": event,
                "repository": "example/shop",
                "run_id": "7",
                "server_url": "https://github.example",
            },
            "vars": self.variables,
            "secrets": self.secrets,
            "needs": {},
            "cancelled": cancelled,
        }
        outcome = Job(ran=False)
        for identifier, job in workflow(name)["jobs"].items():
            needed = job.get("needs", identifier)
            if (needed != identifier and needed not in context["needs"]) or not outcome.succeeded:
                continue
            if evaluate(job.get("if", "'true'"), context):
                self._job(identifier, job, context | {"steps": {}}, outcome)
        return outcome

    def _job(self, identifier: str, job: dict[str, Any], context: Context, outcome: Job) -> None:
        assert "name" not in job, f"the status action looks for a job with the name {identifier}"
        outcome.ran = True
        outcome.succeeded = not context["cancelled"]
        if "environment" in job and not self.approves(job["environment"]):
            outcome.succeeded = False
            return
        for step in job["steps"]:
            condition = step.get("if", "'true'")
            # Where a condition names no status, the runner puts `success()` before it.
            if (outcome.succeeded or condition == "cancelled()") and evaluate(condition, context):
                self._step(step, job.get("env", {}), context, outcome)
        if outcome.succeeded:
            outputs = {name: filled(text, context) for name, text in job.get("outputs", {}).items()}
            context["needs"][identifier] = {"outputs": outputs}

    def _step(self, step: dict[str, Any], env: dict[str, str], context: Context, outcome: Job) -> None:
        if "run" in step:
            self._bash(step, env | step.get("env", {}), context, outcome)
        elif step["uses"].startswith("./"):
            ours = action(step["uses"].removeprefix("./.github/actions/"))
            given = {name: filled(text, context) for name, text in step["with"].items()}
            assert given.keys() <= ours["inputs"].keys()
            inputs = {name: given.get(name, each.get("default", "")) for name, each in ours["inputs"].items()}
            for inner in ours["runs"]["steps"]:
                if outcome.succeeded:
                    self._bash(inner, env | inner.get("env", {}), context | {"inputs": inputs}, outcome)
        else:
            outcome.used.append(step["uses"])

    def _bash(self, step: dict[str, Any], env: dict[str, str], context: Context, outcome: Job) -> None:
        script, summary, outputs = (self.folder / name for name in ("script.sh", "summary.md", "outputs"))
        script.write_text(filled(step["run"], context))
        summary.write_text("")
        outputs.write_text("")
        process = subprocess.Popen(
            [*_BASH[step.get("shell")], str(script)],
            cwd=self.workspace,
            env={
                "PATH": f"{self.programs}:{os.environ['PATH']}",
                "HOME": str(self.folder),
                "CI": "true",
                "GITHUB_OUTPUT": str(outputs),
                "GITHUB_STEP_SUMMARY": str(summary),
                **self.environment,
                **{name: filled(text, context) for name, text in env.items()},
                **{name: value for name, value in self.elsewhere.items() if name in env},
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=120)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        outcome.output += output
        outcome.summary += summary.read_text()
        outcome.succeeded = process.returncode == 0
        if "id" in step:
            context["steps"][step["id"]] = {"outputs": dict(_outputs(outputs.read_text()))}


def _outputs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, _, value = line.partition("=")
        yield name, value


def filled(text: object, context: Context) -> str:
    """A text of a workflow with its expressions put in."""
    return _EXPRESSION.sub(lambda match: str(evaluate(match[1], context)), str(text))


def evaluate(expression: str, context: Context) -> str | bool:
    """An expression, of those kinds that the workflows use; any other is an error."""
    if "&&" in expression:
        return all(evaluate(part, context) for part in expression.split("&&"))
    if "!=" in expression:
        left, right = (str(evaluate(part, context)) for part in expression.split("!="))
        return left.casefold() != right.casefold()
    if "==" in expression:
        left, right = (str(evaluate(part, context)) for part in expression.split("=="))
        return left.casefold() == right.casefold()
    expression = expression.strip()
    if expression == "cancelled()":
        return bool(context["cancelled"])
    if literal := re.fullmatch(r"'([^']*)'", expression):
        return literal[1]
    assert re.fullmatch(r"[a-z]+(\.\w+)+", expression), f"an expression that this runner does not know: {expression}"
    root, *path = expression.split(".")
    if root in {"vars", "secrets"}:  # what nobody has set is empty; what an event does not have is a mistake
        return str(context[root].get(path[0], ""))
    value: Any = context[root]
    for part in path:
        value = value[part]
    return str(value)
