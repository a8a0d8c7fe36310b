"""dbmate, a Go program with a driver of its own, the fastest of the peers."""

from pathlib import Path

from bench.history import Migration
from bench.peers import node
from bench.peers.peer import Command
from tests import servers
from tests.servers import Database


class Dbmate(node.FromNpm):
    """`dbmate up`, without Node.js before it, and without writing the schema to a file afterwards.

    On another platform than its package's it is skipped.
    """

    name = "dbmate"
    package = "@dbmate/linux-x64"

    def version(self) -> str:
        """Its own; the driver is compiled in."""
        return node.installed(self.package)

    def write(self, folder: Path, history: list[Migration]) -> None:
        """One file a revision, one transaction a revision."""
        for migration in history:
            option = "" if migration.in_transaction else " transaction:false"
            (folder / f"{migration.number:05}_{migration.name}.sql").write_text(
                f"-- migrate:up{option}\n{migration.sql};\n\n-- migrate:down\n"
            )

    def upgrade(self, folder: Path, database: Database) -> Command:
        """The program itself: npm's `dbmate` starts it from Node.js, which takes longer than its work."""
        program = node.PACKAGES / self.package / "bin/dbmate"
        options = ["--url", _url(database), "--migrations-dir", str(folder), "--no-dump-schema"]
        return Command([str(program), *options, "up"], folder, servers.environment(None))


def _url(database: Database) -> str:
    """For lib/pq, which asks for TLS unless told otherwise, in dbmate's own way to name a socket."""
    address = database.address.set(drivername="postgres").difference_update_query(["host", "sslmode"])
    if host := database.address.query.get("host"):
        address = address.set(host="localhost").update_query_dict({"socket": host})
    return address.update_query_dict({"sslmode": "disable"}).render_as_string(hide_password=False)
