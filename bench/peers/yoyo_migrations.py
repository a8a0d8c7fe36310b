"""yoyo-migrations, with files of SQL."""

import sys
from importlib import metadata
from pathlib import Path

from bench.history import Migration
from bench.peers.peer import Command
from tests import servers
from tests.servers import Database


class YoyoMigrations:
    """`yoyo apply`, over psycopg.

    Each revision runs in a transaction and on a connection of its own; its row of history comes after it, in another.
    """

    name = "yoyo-migrations"
    is_python = True

    def missing(self) -> str | None:
        """Nothing: the lock file brings it."""
        return None

    def version(self) -> str:
        """Its own, and psycopg's."""
        return f"{metadata.version('yoyo-migrations')} with psycopg {metadata.version('psycopg')}"

    def write(self, folder: Path, history: list[Migration]) -> None:
        """One file a revision; they are sorted by their names."""
        for migration in history:
            outside = "" if migration.in_transaction else "-- transactional: false\n"
            (folder / f"{migration.name}.sql").write_text(f"{outside}{migration.sql};\n")

    def upgrade(self, folder: Path, database: Database) -> Command:
        """Without questions, and without a file that would remember the address."""
        url = database.address.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        command = [sys.executable, "-m", "yoyo", "apply", "--batch", "--no-config-file", "--database", url, str(folder)]
        return Command(command, folder, servers.environment(None))
