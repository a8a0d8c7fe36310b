"""node-pg-migrate, with one transaction for each revision, as everybody else has it here."""

import json
from pathlib import Path

from bench.history import Migration
from bench.peers import node
from bench.peers.peer import Command
from tests.servers import Database


class NodePgMigrate(node.FromNpm):
    """`node-pg-migrate up --no-single-transaction`; its default is one transaction for all that is pending."""

    name = "node-pg-migrate"
    package = "node-pg-migrate"

    def write(self, folder: Path, history: list[Migration]) -> None:
        """One file a revision, in JavaScript, as `node-pg-migrate create` writes them."""
        node.as_project(folder)
        migrations = folder / "migrations"
        migrations.mkdir()
        for migration in history:
            outside = "" if migration.in_transaction else "  pgm.noTransaction();\n"
            (migrations / f"{migration.number:017}_{migration.name}.js").write_text(
                f"exports.up = (pgm) => {{\n{outside}  pgm.sql({json.dumps(migration.sql)});\n}};\n\n"
                "exports.down = () => {};\n"
            )

    def upgrade(self, folder: Path, database: Database) -> Command:
        """Its command."""
        return node.run(folder, database, "node-pg-migrate", "up", "--no-single-transaction")
