"""What a tool has to be able to do to be measured."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.history import Migration
from tests.servers import Database

_LONGEST_S = 600


@dataclass(frozen=True)
class Command:
    """How a tool is started."""

    arguments: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    """All of it."""

    def start(self) -> "subprocess.Popen[str]":
        """Start it and don't wait; its output is caught. Whoever starts it ends it."""
        return subprocess.Popen(
            self.arguments,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> str:
        """Run it to its end; what it has said. It must succeed."""
        with self.start() as process:
            try:
                said, _ = process.communicate(timeout=_LONGEST_S)
            finally:
                process.kill()
        assert process.returncode == 0, said
        return said


class Peer(Protocol):
    """A tool that brings a database to the newest revision of a history."""

    name: str
    """As the tables show it."""
    is_python: bool

    def missing(self) -> str | None:
        """Why it cannot be measured here; None if it can."""

    def version(self) -> str:
        """Its own, and that of its driver where it has one."""

    def write(self, folder: Path, history: list[Migration]) -> None:
        """Write the history into an empty folder, in the tool's own form, with its configuration."""

    def upgrade(self, folder: Path, database: Database) -> Command:
        """What brings the database to the newest revision in the folder."""
