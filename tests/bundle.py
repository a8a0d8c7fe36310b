"""What a deployment bundles: the rules of Vercel's builder, and what they may let through here."""

import json
import re
import subprocess
import tomllib
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.servers import PROJECT

BY_ITSELF = (
    ".git/**",
    ".gitignore",
    ".vercel/**",
    ".pnpm-store/**",
    "**/node_modules/**",
    "**/.next/**",
    "**/.nuxt/**",
    "**/.venv/**",
    "**/venv/**",
    "**/__pycache__/**",
    "**/.mypy_cache/**",
    "**/.ruff_cache/**",
    "**/public/**",
    "**/pnpm-lock.yaml",
    "**/yarn.lock",
    "**/package-lock.json",
)
"""What the builder leaves out, whatever vercel.json says (`packFunctionBundle` in @vercel/python 25.0.0)."""

ALLOWED = ("api/index.py", "app/**/*.py", "migrations/**", "LICENSE", "pyproject.toml", "vercel.json")
"""What may be bundled. Whoever adds a place to the repository says here, or in vercel.json, where it belongs."""

PLANTED = (
    ".env",
    ".env.production.local",
    ".dev/keys.json",
    ".dev/postgres/PG_VERSION",
    ".hypothesis/examples/1",
    ".import_linter_cache/1.json",
    ".mypy_cache/3.12/app.json",
    ".pytest_cache/README.md",
    ".ruff_cache/1",
    ".venv/bin/python",
    ".vercel/.env.production.local",
    ".vercel-cli/package.json",
    "app/__pycache__/main.cpython-312.pyc",
)
"""What lies about in a folder that somebody works in, and is nobody else's business."""

LARGEST_MB = 50
"""Of 1,000,000 bytes, without bytecode: the project and its dependencies."""


def configuration() -> dict[str, Any]:
    """What vercel.json says."""
    content: dict[str, Any] = json.loads((PROJECT / "vercel.json").read_text())
    return content


def committed() -> list[str]:
    """What is committed here, or would be by `git add .`; skips where git does not know."""
    if not (PROJECT / ".git").exists():
        pytest.skip("this is not a checkout of git, so nobody knows which files belong to it")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout.splitlines()


def bundled(paths: Iterable[str]) -> set[str]:
    """Which files of a project's folder end up in the function."""
    (function,) = configuration()["functions"].values()
    left_out = (*BY_ITSELF, function["excludeFiles"])
    return {path for path in paths if not any(matches(pattern, path) for pattern in left_out)}


def strangers(paths: Iterable[str]) -> set[str]:
    """Which of the bundled files nobody has allowed."""
    return {path for path in paths if not any(matches(pattern, path) for pattern in ALLOWED)}


def matches(pattern: str, path: str) -> bool:
    """Whether the glob takes the path, as node-glob 7 with `dot` does: braces, `**` for folders, `*` within a name."""
    if braces := re.search(r"\{([^{}]*)\}", pattern):
        before, after = pattern[: braces.start()], pattern[braces.end() :]
        return any(matches(before + choice + after, path) for choice in braces[1].split(","))
    assert not set(pattern) & set("{}?[]!()+@\\"), f"{pattern} says more than is understood here"
    *folders, name = pattern.split("/")
    folder = "".join("(?:.+/)?" if each == "**" else f"{_within_a_name(each)}/" for each in folders)
    return re.fullmatch(folder + (".+" if name == "**" else _within_a_name(name)), path) is not None


def _within_a_name(pattern: str) -> str:
    return "[^/]*".join(map(re.escape, pattern.split("*")))


def dependencies() -> dict[str, int]:
    """The distributions that the function brings, and the bytes of each, from what is installed here."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    sizes: dict[str, int] = {}
    wanted = [(Requirement(text), "") for text in project["dependencies"]]
    seen = set()
    while wanted:
        requirement, extra_of_its_parent = wanted.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra_of_its_parent}):
            continue
        name = canonicalize_name(requirement.name)
        distribution = metadata.distribution(name)
        sizes[name] = _bytes(distribution)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                wanted += [(Requirement(text), extra) for text in distribution.requires or ()]
    return sizes


def _bytes(distribution: metadata.Distribution) -> int:
    """What the RECORD of its wheel lists, without bytecode, and without the scripts that go elsewhere."""
    files = distribution.files
    assert files, f"{distribution.name} has no RECORD"
    return sum(file.size or 0 for file in files if file.suffix != ".pyc" and ".." not in file.parts)
