"""knex, whose migrations are functions of JavaScript."""

import json
from pathlib import Path

from bench.history import Migration
from bench.peers import node
from bench.peers.peer import Command
from tests.servers import Database

_KNEXFILE = 'module.exports = { client: "pg", connection: { connectionString: process.env.DATABASE_URL } };\n'


class Knex(node.FromNpm):
    """`knex migrate:latest`.

    It runs all that is pending in one transaction. Where a revision asks for none, each runs by itself, and its row of
    history comes after its transaction.
    """

    name = "knex (one transaction)"
    package = "knex"

    def write(self, folder: Path, history: list[Migration]) -> None:
        """One file a revision, in JavaScript, as `knex migrate:make` writes them."""
        node.as_project(folder)
        (folder / "knexfile.js").write_text(_KNEXFILE)
        migrations = folder / "migrations"
        migrations.mkdir()
        for migration in history:
            outside = "" if migration.in_transaction else "exports.config = { transaction: false };\n"
            (migrations / f"{migration.number:014}_{migration.name}.js").write_text(
                f"exports.up = (knex) => knex.raw({json.dumps(migration.sql)});\n\n"
                f"exports.down = () => Promise.resolve();\n{outside}"
            )

    def upgrade(self, folder: Path, database: Database) -> Command:
        """Its command."""
        return node.run(folder, database, "knex", "migrate:latest")
