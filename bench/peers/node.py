"""What the tools from npm have in common."""

import json
import shutil
from pathlib import Path

from bench.peers.peer import Command
from tests import servers
from tests.servers import Database

PACKAGES = Path(__file__).parent / "node_modules"


class FromNpm:
    """A tool that `npm ci` installs beside this file."""

    is_python = False
    package: str
    """As npm knows it."""

    def missing(self) -> str | None:
        """Why it cannot be measured here."""
        if shutil.which("node") is None:
            return "Node.js is not installed"
        if not (PACKAGES / self.package).is_dir():
            return "not installed (npm ci --prefix bench/peers)"
        return None

    def version(self) -> str:
        """Its own, and that of node-postgres."""
        return f"{installed(self.package)} with pg {installed('pg')}"


def installed(package: str) -> str:
    """The version of a package."""
    return str(json.loads((PACKAGES / package / "package.json").read_text())["version"])


def as_project(folder: Path) -> None:
    """Let the folder find the packages, as one does where `npm ci` has run."""
    (folder / "node_modules").symlink_to(PACKAGES)


def run(folder: Path, database: Database, program: str, *arguments: str) -> Command:
    """A program of a package."""
    return command(folder, database, str(folder / "node_modules/.bin" / program), *arguments)


def command(folder: Path, database: Database, *arguments: str) -> Command:
    """A command that finds the database in DATABASE_URL."""
    return Command(list(arguments), folder, servers.environment(None) | {"DATABASE_URL": database.url})
