"""graphile-migrate, which runs committed migrations in production."""

import hashlib
from pathlib import Path

from bench.history import Migration
from bench.peers import node
from bench.peers.peer import Command
from tests.servers import Database


class GraphileMigrate(node.FromNpm):
    """`graphile-migrate migrate`, one transaction a revision; only in development it wants a shadow database."""

    name = "graphile-migrate"
    package = "graphile-migrate"

    def write(self, folder: Path, history: list[Migration]) -> None:
        """The files that `graphile-migrate commit` writes: each names its own hash, and the one before."""
        node.as_project(folder)
        (folder / ".gmrc").write_text("{}\n")
        committed = folder / "migrations/committed"
        committed.mkdir(parents=True)
        before = ""
        for migration in history:
            outside = "" if migration.in_transaction else "--! no-transaction\n"
            body = f"{outside}{migration.sql};\n"
            # Its src/hash.ts: over the hash before and the text, without the white space around both.
            digest = hashlib.sha1(f"{before}\n{body}".strip().encode() + b"\n", usedforsecurity=False).hexdigest()
            own = f"sha1:{digest}"
            (committed / f"{migration.number:06}.sql").write_text(
                f"--! Previous: {before or '-'}\n--! Hash: {own}\n\n{body}"
            )
            before = own

    def upgrade(self, folder: Path, database: Database) -> Command:
        """Its command."""
        return node.run(folder, database, "graphile-migrate", "migrate")
