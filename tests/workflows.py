"""The workflows that users switch on: the events and secrets that they get in tests, and a repository around them."""

import shlex
import shutil
from pathlib import Path
from typing import Any

from tests import github, servers
from tests.github import Job, Runner

GATE, DEPLOY, AFTER = "migrate-before-promotion", "deploy-and-migrate", "migrate-after-deploy"
ALL = (GATE, DEPLOY, AFTER)

DEPLOYMENT = "dpl_4f1c9a2"
BYPASS = "bypass-for-the-tests-0123456789ab"
SECRETS = {
    "MIGRATION_API_KEY": servers.API_KEY,
    "VERCEL_AUTOMATION_BYPASS_SECRET": BYPASS,
    "VERCEL_TOKEN": "token-for-the-tests-0123456789",
}


def event(name: str, url: str, **changes: str) -> dict[str, Any]:
    """What GitHub hands to a workflow when a production deployment is there; `changes` replace what Vercel says."""
    if name == GATE:
        payload = {
            "environment": "production",
            "git": {"ref": "main", "sha": "4f1c9a2" * 5, "shortSha": "4f1c9a2"},
            "id": DEPLOYMENT,
            "project": {"id": "prj_1", "name": "shop"},
            "state": {"type": "ready"},
            "url": url,
        }
        return {"action": "vercel.deployment.ready", "client_payload": payload | changes}
    if name == AFTER:
        deployment, status = {"environment": "Production"}, {"state": "success", "environment_url": url}
        return {"deployment": deployment | changes, "deployment_status": status | changes}
    return {"ref": "refs/heads/main"}


class Repository:
    """A repository that has its secrets and its variables, and no workflow switched on."""

    def __init__(self, folder: Path) -> None:
        github.skip_without_programs()
        self.runner = Runner(folder, {"VERCEL_ORG_ID": "team_1", "VERCEL_PROJECT_ID": "prj_1"}, dict(SECRETS))
        self._called, self._slept = folder / "called", folder / "slept"
        self.runner.stand_in("npm", f'echo "npm $*" >>{self._called}')
        self.sleeps(f"{shutil.which('sleep')} 0.05")

    def sleeps(self, instead: str) -> None:
        """Have `sleep` write down for how long it should, and do something else instead."""
        self.runner.stand_in("sleep", f'echo "$1" >>{self._slept}; exec {instead}')

    @property
    def slept(self) -> list[int]:
        """For how long each `sleep` should have slept, in seconds."""
        return [int(line) for line in _lines(self._slept)]

    @property
    def called(self) -> list[str]:
        """What was asked of npm and the Vercel CLI."""
        return _lines(self._called)

    def switch_on(self, name: str) -> None:
        """Do what the comment at the workflow's top says."""
        self.runner.variables["MIGRATION_WORKFLOW"] = name

    def deployed(self, name: str, url: str, **changes: str) -> Job:
        """Switch a workflow on, and have a production deployment there at `url`."""
        self.switch_on(name)
        self.deploys(f"printf %s {shlex.quote(url)}")
        job = self.run(name, event(name, url, **changes))
        assert job.ran
        return job

    def run(self, name: str, happened: dict[str, Any], *, cancelled: bool = False) -> Job:
        """Have an event happen, for one workflow. No secret may come out of the job."""
        job = self.runner.run(name, happened, cancelled=cancelled)
        for secret in SECRETS.values():
            assert secret not in job.output + job.summary
        return job

    def deploys(self, how: str) -> None:
        """Have `vercel deploy` do this. Like the real one it writes the URL alone to stdout, and the rest to stderr."""
        self.runner.stand_in(
            "vercel",
            "[[ $VERCEL_TOKEN && $VERCEL_ORG_ID && $VERCEL_PROJECT_ID ]] || exit 1\n"
            f'echo "vercel $*" >>{self._called}\necho "Vercel CLI 64.0.2" >&2\nif [[ $1 == deploy ]]; then {how}; fi',
        )


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
