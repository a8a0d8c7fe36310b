"""psql as the floor: the same statements, each in its own transaction with a row of history, and nothing else.

It keeps no order, no lock and no count of what was applied, so it can only be asked to run everything.
"""

import shutil
import subprocess
from pathlib import Path

from bench.history import Migration
from bench.peers.peer import Command
from tests import servers
from tests.servers import Database

_HISTORY = "CREATE TABLE history (version text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());\n"


class Psql:
    """The floor."""

    name = "psql (floor)"
    is_python = False

    def missing(self) -> str | None:
        """Why it cannot be measured here."""
        return None if shutil.which("psql") else "psql is not installed (Debian: apt-get install postgresql-client)"

    def version(self) -> str:
        """That of psql."""
        command = ["psql", "--version"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[2]

    def write(self, folder: Path, history: list[Migration]) -> None:
        """One file with everything."""
        (folder / "everything.sql").write_text(_HISTORY + "".join(map(_script, history)))

    def upgrade(self, folder: Path, database: Database) -> Command:
        """Run all of it."""
        options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=everything.sql"]
        return Command(["psql", *options, database.url], folder, servers.environment(None))


def _script(migration: Migration) -> str:
    row = f"INSERT INTO history (version) VALUES ('{migration.name}');\n"
    if migration.in_transaction:
        return f"BEGIN;\n{migration.sql};\n{row}COMMIT;\n"
    return f"{migration.sql};\n{row}"
