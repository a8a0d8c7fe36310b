"""Services that are killed, and started again on their ports."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import servers
from tests.servers import Database, Service, until


@dataclass
class Instance:
    """A service on a port, life after life."""

    service: Service
    name: str
    life: int = 0
    """Odd while it is down; when it died in mid-call, another one than at the call's beginning."""
    hands: threading.Lock = field(default_factory=threading.Lock)
    """Of whoever does something to the process."""


class Fleet:
    """Several services and their parent, which starts each anew when it is told to; see tests/fleet.py."""

    def __init__(self, parent: "subprocess.Popen[bytes]", ports: list[int], log: Path) -> None:
        self._parent = parent
        self._log = log
        self.instances = [Instance(Service(parent, port, log), f"service-{at}") for at, port in enumerate(ports)]
        for instance in self.instances:
            self._wait_for(instance.service)

    def replace(self, instance: Instance, after: threading.Event, down_s: float = 0) -> None:
        """Kill the instance, and start another in its place: in `down_s` seconds, or when `after` is set."""
        instance.life += 1
        instance.service.signal(signal.SIGKILL)
        # Or the next one would find its port taken.
        until(lambda: not servers._listens(instance.service.port), what=f"{instance.name} to be gone")
        after.wait(down_s)
        assert self._parent.stdin is not None
        self._parent.stdin.write(f"{instance.service.port}\n".encode())
        self._parent.stdin.flush()
        self._wait_for(instance.service)
        instance.life += 1

    def logged(self) -> str:
        return self._log.read_text()

    def _wait_for(self, service: Service) -> None:
        def pid() -> int:
            assert self._parent.poll() is None, f"the fleet ended:\n{self.logged()}"
            return servers._forked(self._log).get(service.port, 0)

        until(lambda: pid() != service.pid, seconds=30, what="the fleet to tell a new pid")
        service.pid = pid()
        until(lambda: servers._listens(service.port), seconds=30, what=f"a service to listen on {service.port}")


@contextmanager
def fleet(database: Database, folder: Path, count: int, **settings: object) -> Iterator[Fleet]:
    """Start `count` services, and end them and their parent by their process group."""
    ports = servers.free_ports(count)
    log = folder / f"soak-{ports[0]}.log"
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(_bound(port))
        output = stack.enter_context(log.open("wb"))
        parent = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet", "--on-demand", *map(str, ports)],
            cwd=servers.PROJECT,
            env=servers.environment(database, **settings),
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Fleet(parent, ports, log)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
            parent.communicate()


def _bound(port: int) -> socket.socket:
    """A socket that keeps the port from everybody who does not ask for this one, while its service is down."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", port))
    return kept
