"""The real `vercel build`, without a login: what it bundles, that it migrates, and that a build can migrate too.

Off by default, since it downloads Vercel's CLI (360 MB, kept in .vercel-cli) and a project's dependencies.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import bundle, shim
from tests.servers import APPLY, PROJECT, Database, environment, free_port

VERSION = "64.0.2"
CLI = PROJECT / ".vercel-cli"
# It asks for sandbox 4.4.0, which a registry may no longer have.
PACKAGE = {"private": True, "dependencies": {"vercel": VERSION}, "overrides": {"sandbox": "4.5.0"}}

OF_THE_PLATFORM = {"pip", "vercel-runtime"}
"""What the builder adds to the dependencies: its virtual environment is made with pip in it, and is bundled whole."""

pytestmark = pytest.mark.timeout(900)  # downloads


@pytest.fixture(scope="module")
def vercel(request: pytest.FixtureRequest) -> Path:
    """Vercel's CLI, downloaded when it is not there yet."""
    if not request.config.getoption("--vercel-build"):
        pytest.skip("it downloads Vercel's CLI (360 MB): make vercel-build")
    installed = CLI / "node_modules/vercel/package.json"
    if not installed.exists() or json.loads(installed.read_text())["version"] != VERSION:
        shutil.rmtree(CLI, ignore_errors=True)
        CLI.mkdir()
        (CLI / "package.json").write_text(json.dumps(PACKAGE))
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=CLI, check=True, timeout=600)
    return CLI / "node_modules/.bin/vercel"


@pytest.fixture
def project(vercel: Path, tmp_path: Path) -> Path:
    """A copy of the project as it lies about in a folder that somebody works in."""
    folder = tmp_path / "project"
    for path in bundle.committed():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / path, folder / path)
    for path in bundle.PLANTED:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("PLANTED=1\n")
    (folder / ".vercel/project.json").write_text('{"projectId": "prj_x", "orgId": "team_x", "settings": {}}')
    return folder


@pytest.fixture
def build(vercel: Path, project: Path, tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Build the copy: `build(DATABASE_URL="…")`."""
    (tmp_path / "home").mkdir()

    def run(**variables: str) -> "subprocess.CompletedProcess[str]":
        own = {
            "HOME": str(tmp_path / "home"),
            "VERCEL_TELEMETRY_DISABLED": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # for uv
        }
        return subprocess.run(
            [vercel, "build", "--prod", "--standalone"],
            cwd=project,
            env=environment(None) | own | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )

    return run


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_real_build_is_what_the_repository_promises_and_migrates(
    project: Path,
    build: Callable[..., "subprocess.CompletedProcess[str]"],
    database: Database,
    record_property: Callable[[str, object], None],
) -> None:
    source = files(project)
    built = build()
    assert built.returncode == 0, built.stdout
    output = project / ".vercel/output"

    # One function, with the settings of vercel.json; it gets each path as it came, and nothing is a file.
    assert [path.name for path in (output / "functions").iterdir()] == ["fastapi.func"]
    function = output / "functions/fastapi.func"
    config = json.loads((function / ".vc-config.json").read_text())
    assert config["handler"] == "vc__handler__python.vc_handler"
    assert config["maxDuration"] == 300
    assert config["runtime"] == f"python{(PROJECT / '.python-version').read_text().strip()}"
    assert "filePathMap" not in config
    assert not (output / "static").exists()
    last = json.loads((output / "config.json").read_text())["routes"][-1]
    assert (last["src"], last["dest"]) == ("/(.*)", "/fastapi")
    assert last["transforms"] == [{"type": "request.path", "op": "set", "args": "/$1"}]

    # Exactly the files and the dependencies that tests/test_bundle.py computes without the builder.
    contents = files(function) - {shim.HANDLER, ".vc-config.json"}
    vendored = {path for path in contents if path.startswith("_vendor/")}
    assert contents - vendored == bundle.bundled(source)
    assert not bundle.strangers(contents - vendored)
    distributions = {
        re.sub(r"-[^-]+\.dist-info$", "", path.name).replace("_", "-")
        for path in (function / "_vendor").glob("*.dist-info")
    }
    assert distributions == bundle.dependencies().keys() | OF_THE_PLATFORM
    added = {path for path in vendored if path.startswith(("_vendor/pip", "_vendor/vercel_runtime"))}
    whole_mb, added_mb = (sum((function / path).stat().st_size for path in paths) / 1e6 for paths in (contents, added))
    record_property("build", f"{whole_mb:.1f} MB, of which the platform itself adds {added_mb:.1f} MB")
    assert whole_mb - added_mb < bundle.LARGEST_MB

    python = project / ".vercel/python/.venv/bin/python"
    with shim.function(environment(database), function, python=python) as started:
        assert started.post("/migrate").status_code == 401
        answer = started.post("/migrate", headers=APPLY)
        assert answer.status_code == 200, answer.text
        assert answer.json()["outcome"] == "upgraded"
    assert database.value("SELECT version_num FROM alembic_version") == "0007"


def test_a_build_can_migrate_and_a_failed_run_fails_it(
    project: Path, build: Callable[..., "subprocess.CompletedProcess[str]"], database: Database
) -> None:
    configuration = project / "pyproject.toml"
    others = re.sub(r"\[tool\.vercel\.scripts\]\n[^\[]*", "", configuration.read_text())
    configuration.write_text(f'{others}\n[tool.vercel.scripts]\nbuild = "python -m app migrate --json"\n')
    unreachable = build(DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    assert unreachable.returncode != 0
    assert "#database-unavailable" in unreachable.stdout
    assert not (project / ".vercel/output/functions").exists()
    working = build(DATABASE_URL=database.url)
    assert working.returncode == 0, working.stdout
    assert '"outcome":"upgraded"' in working.stdout
    assert (project / ".vercel/output/functions/fastapi.func").is_dir()
    assert database.value("SELECT version_num FROM alembic_version") == "0007"
