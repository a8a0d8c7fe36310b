"""The usual case at a glance: a database that is at the deployment's only head, without loading Alembic to say so.

Loading Alembic and SQLAlchemy, and through Alembic every revision, is most of what the first call of a cold function
would take, and mostly there is nothing to do. The text of the revisions says enough if it is simple: one chain, in
plain assignments. Whatever is not so simple is left to Alembic.

What a revision imports is not looked at, although Alembic could not load one that lacks a module. That nothing is to be
done is true all the same, nothing runs, and whatever would run a revision loads them all first.
"""

import ast
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.alembic_options import AlembicOptions
from app.migrator import once

PROJECT = Path(__file__).parents[2]
"""Where pyproject.toml and the user's migrations are: on Vercel the function's root."""

_LINKS = ("revision", "down_revision")
_NOT_SO_SIMPLE = ("branch_labels", "depends_on")
_ELSEWHERE = ("version_locations", "recursive_version_locations", "sourceless")
"""Settings of Alembic by which revisions may lie elsewhere than in `versions/*.py`."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What the text of the revisions tells."""

    head: str | None
    """The last revision of the chain; None where only Alembic can tell."""

    def answers(self, target: str) -> bool:
        """Whether the head is what the target asks for."""
        return self.head is not None and target in ("head", "heads")


def folder(script_location: str) -> Path:
    """Where the revisions are; a relative `script_location` starts at the project's root."""
    return PROJECT / script_location


@dataclass(frozen=True, slots=True)
class Places:
    """Where the settings say that the revisions are."""

    script_location: str
    version_locations: tuple[str, ...] | None = None
    is_recursive: bool | None = None

    @property
    def folders(self) -> list[Path]:
        """The folders of the revisions."""
        return [folder(each) for each in self.version_locations or (f"{self.script_location}/versions",)]

    @property
    def rooms(self) -> list[Path]:
        """The folders of the user's own code, env.py's among them."""
        return [folder(self.script_location), *self.folders]


def places(settings: AlembicOptions) -> Places:
    """Where the revisions are."""
    return Places(settings.script_location, settings.version_locations, settings.recursive_version_locations)


def reference(file: Path) -> str:
    """A file's path, the same on every machine: from the project's root, or from where the history's folder lies."""
    return str(file.relative_to(PROJECT) if file.is_relative_to(PROJECT) else Path(*file.parts[-3:]))


@once.InAThread  # there may be a thousand
def at(where: Places) -> Glance:
    """Glance at the revisions, once per process."""
    try:
        with (PROJECT / "pyproject.toml").open("rb") as file:
            configured = tomllib.load(file).get("tool", {}).get("alembic", {})
        if any(name in configured for name in _ELSEWHERE):
            return Glance(None)
        files = [path for place in where.folders for path in _files(place, where) if path.suffix == ".py"]
        links = [_link(path) for path in files if not path.name.startswith(("__init__", ".#"))]
    except (OSError, ValueError, SyntaxError, RecursionError):  # Alembic says what is wrong
        return Glance(None)
    return Glance(_end([link for link in links if link]) if all(links) else None)


def _files(place: Path, where: Places) -> Iterable[Path]:
    if not where.is_recursive:
        return place.iterdir()
    return (root / name for root, _, names in place.walk() for name in names)  # as Alembic walks


def _link(path: Path) -> tuple[str, str | None] | None:
    """The revision of a file and the one it comes after; None if the file does not say it simply."""
    tree = ast.parse(path.read_bytes())
    said: dict[str, object] = {}
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value)):
                said[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=value)):
                said[name] = value
    names = {*_LINKS, *_NOT_SO_SIMPLE}
    # Said once, in the open: neither again later, nor by an import, nor in a branch that may not be taken.
    bound = [name for name in map(_binds, ast.walk(tree)) if name in names or name == "*"]
    if len(bound) != len(set(bound)) or not set(bound) <= said.keys():
        return None
    if any(said.get(name) is not None for name in _NOT_SO_SIMPLE):
        return None
    match said.get("revision"), said.get("down_revision", path):
        case str() as revision, (str() | None) as before:
            return revision, before
    return None


def _binds(node: ast.AST) -> str | None:
    """The name that a node gives a value to, as far as it does."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return name
        case ast.alias(name=name, asname=other):
            return other or name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
    return None


def _end(links: list[tuple[str, str | None]]) -> str | None:
    """The end of the chain that the links make; None if they don't make exactly one, of all of them."""
    after = {before: revision for revision, before in links}
    chain: list[str] = []
    at = after.get(None)
    while at is not None and len(chain) < len(links):
        chain.append(at)
        at = after.get(at)
    is_all = at is None and len(set(chain)) == len(links) == len(after)
    return chain[-1] if chain and is_all else None
