"""drizzle-orm's own migrator, as an application calls it before it serves."""

import json
import shutil
from pathlib import Path

from bench.history import Migration
from bench.peers import node
from bench.peers.peer import Command
from tests.servers import Database

_PROGRAM = Path(__file__).with_name("drizzle.mjs")


class Drizzle(node.FromNpm):
    """`migrate()` of drizzle-orm/node-postgres.

    It runs all that is pending in one transaction and has no other way, so nothing of it can run outside of one.
    """

    name = "drizzle-orm (one transaction)"
    package = "drizzle-orm"

    def write(self, folder: Path, history: list[Migration]) -> None:
        """The files that `drizzle-kit generate` writes and the migrator reads."""
        node.as_project(folder)
        shutil.copy(_PROGRAM, folder)
        migrations = folder / "drizzle"
        (migrations / "meta").mkdir(parents=True)
        entries = []
        for migration in history:
            (migrations / f"{migration.name}.sql").write_text(f"{migration.sql};\n")
            # It tells by `when`, in milliseconds, what is newer than the last that was applied.
            entries.append(
                {"idx": migration.number, "version": "7", "when": migration.number, "tag": migration.name}
                | {"breakpoints": True}
            )
        journal = {"version": "7", "dialect": "postgresql", "entries": entries}
        (migrations / "meta/_journal.json").write_text(json.dumps(journal))

    def upgrade(self, folder: Path, database: Database) -> Command:
        """A program of four lines."""
        return node.command(folder, database, "node", _PROGRAM.name)
