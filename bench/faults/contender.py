"""Whoever is put to the test: a tool that is started as a command, or this service, which is called."""

import contextlib
import re
import shutil
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import psutil

from bench import ours
from bench.history import Migration
from bench.peers.alembic_cli import write_revisions
from bench.peers.peer import Peer
from tests import servers
from tests.servers import Database, Service

_LONGEST_S = 300
_KILLED_S = 10
"""Until a process that was killed is gone."""

_POSTGRESQL_SAYS = re.compile(
    r'(?P<kind>relation|table|column|schema|type|prepared statement) "[^"]*" (?P<state>already exists|does not exist)'
    r"|duplicate key|deadlock detected|lock timeout|cannot run inside a transaction block"
    r"|unnamed prepared statement does not exist|unsupported startup parameter|current transaction is aborted"
)

_ERROR = re.compile(r"(\w+\.)*\w*(Error|Locked|Timeout): ")
"""How JavaScript and Python begin the line that says why, before or after the lines that say where."""


@dataclass(frozen=True)
class Ending:
    """How an attempt has ended."""

    succeeded: bool
    """Exit code 0, or 200."""
    said: str = ""
    """Of a failure, everything there is."""
    hung: bool = False
    """It had not ended in the time it was given, and was killed."""

    @property
    def reason(self) -> str:
        """Why it failed, without what differs between two failures of one kind."""
        if self.hung:
            return "did not end"
        if found := _POSTGRESQL_SAYS.search(self.said):
            return " ".join(part for part in (found["kind"], found["state"]) if part) or found[0]
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        named = next((line for line in lines if _ERROR.match(line)), lines[-1] if lines else "said nothing")
        plain = re.sub(r"\d+", "…", _ERROR.sub("", named)).replace("|", "/")
        return textwrap.shorten(plain, 60, placeholder=" …")


class Attempt(Protocol):
    """An upgrade that is under way."""

    def is_over(self) -> bool:
        """Whether it has ended."""

    def ending(self, within_s: float) -> Ending:
        """Wait for its end, or kill it after so many seconds."""

    def kill(self) -> None:
        """SIGKILL to everything that works on it."""


type Runner = Callable[[], Attempt]
"""Starts an upgrade, and doesn't wait."""


class Contender(Protocol):
    """A way to bring a database to the newest revision of a history."""

    name: str
    counts_attempts: frozenset[str]
    """Tables that have a row for each attempt, and not one for each revision."""

    def write(self, folder: Path, history: list[Migration]) -> None:
        """Write the history into an empty folder."""

    def runners(self, folder: Path, database: Database, count: int) -> AbstractContextManager[list[Runner]]:
        """So many processes that can each start an upgrade; what still runs in the end is killed."""


class Tool:
    """A peer, which is a process for each attempt."""

    counts_attempts: frozenset[str] = frozenset()

    def __init__(self, peer: Peer) -> None:
        self.name = peer.name
        self._peer = peer

    def write(self, folder: Path, history: list[Migration]) -> None:
        """As the peer writes it."""
        self._peer.write(folder, history)

    @contextmanager
    def runners(self, folder: Path, database: Database, count: int) -> Iterator[list[Runner]]:
        """The same command, again and again."""
        command = self._peer.upgrade(folder, database)
        started: list[_Process] = []

        def start() -> _Process:
            started.append(_Process(command.start()))
            return started[-1]

        try:
            yield [start] * count
        finally:
            for process in started:
                process.end()


class _Process:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def ending(self, within_s: float) -> Ending:
        try:
            said, _ = self._process.communicate(timeout=max(within_s, 1))
        except subprocess.TimeoutExpired:
            self.kill()
            said, _ = self._process.communicate(timeout=_KILLED_S)
            return Ending(succeeded=False, said=said, hung=True)
        return Ending(self._process.returncode == 0, said)

    def kill(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._process.pid)
            # What npm brings is often a wrapper, whose end its child would not notice.
            for each in [parent, *parent.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()

    def end(self) -> None:
        self.kill()
        with self._process:  # waits for it, and closes its output
            pass


class Ours:
    """This service, with the settings that it has by itself: a server process for each runner, which is called."""

    name = ours.NAME
    counts_attempts = frozenset({"migration_endpoint.run"})

    def write(self, folder: Path, history: list[Migration]) -> None:
        """Alembic's files, and this project's env.py."""
        shutil.copy(servers.PROJECT / "migrations" / "env.py", folder)
        write_revisions(folder, history)

    @contextmanager
    def runners(self, folder: Path, database: Database, count: int) -> Iterator[list[Runner]]:
        """Servers that have started."""
        with (
            ThreadPoolExecutor(count) as pool,  # ends after the servers, without which no call goes on
            servers.fleet(database, folder, count, script_location=folder) as services,
        ):
            yield [_runner(pool, service) for service in services]


def _runner(pool: ThreadPoolExecutor, service: Service) -> Runner:
    return lambda: _Call(pool.submit(service.post, timeout=_LONGEST_S), service)


class _Call:
    def __init__(self, call: "Future[httpx.Response]", service: Service) -> None:
        self._call = call
        self._service = service

    def is_over(self) -> bool:
        return self._call.done()

    def ending(self, within_s: float) -> Ending:
        try:
            answer = self._call.result(within_s)
        except TookTooLong:
            self.kill()
            return Ending(succeeded=False, hung=True)
        except httpx.HTTPError as error:
            return Ending(succeeded=False, said=type(error).__name__)
        if answer.status_code == httpx.codes.OK:
            return Ending(succeeded=True, said=answer.text)
        return Ending(succeeded=False, said=f"{answer.status_code} {answer.json()['type'].partition('#')[2]}")

    def kill(self) -> None:
        self._service.signal(signal.SIGKILL)


def seen(condition: Callable[[], object], attempt: Attempt, within_s: float) -> bool:
    """Whether something came true in the database before the attempt was over, or the time was."""
    end = time.monotonic() + within_s
    while not condition():
        if attempt.is_over() or time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
