"""Vercel's own shim around a function, without Vercel: the platform's side of its protocol.

A deployment starts `vc__handler__python.py`, which `vercel build` writes; it sets `__VC_HANDLER_…` and imports
`vercel_runtime.vc_init`. That connects to the unix socket in VERCEL_IPC_PATH, imports the application, serves it on a
port of 127.0.0.1, and says what happens in JSON messages that end with a NUL. Requests are plain HTTP with a few
headers, which the shim takes off again.
"""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from tests.servers import PROJECT, until

HANDLER = "vc__handler__python.py"


@dataclass(frozen=True)
class Log:
    """One message of the log, and the invocation that it belongs to; `0` is none."""

    invocation: str
    message: str
    stream: str | None
    """`stdout` or `stderr` for what was printed, None for what was logged."""


@dataclass
class Shim:
    """A function that runs under the shim, and everything that the shim has said so far."""

    process: "subprocess.Popen[bytes]"
    messages: list[dict[str, Any]] = field(default_factory=list)
    _invocations: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def port(self) -> int:
        """Where the shim listens, on 127.0.0.1."""
        (started,) = self.said("server-started")
        return int(started["httpPort"])

    def post(self, path: str, *, body: Any = None, **options: Any) -> httpx.Response:
        """POST, with a JSON body if there is one; `options` as in `call`."""
        return self.call("POST", path, **options, **({} if body is None else {"json": body}))

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET; `options` as in `call`."""
        return self.call("GET", path, **options)

    def call(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        invocation: str | None = None,
        deadline: datetime | None = None,
        timeout: float = 60,
        **options: Any,
    ) -> httpx.Response:
        """Invoke the function; returns with the answer, when the invocation need not have ended.

        Args:
            method: Of HTTP.
            path: With its query.
            headers: Of the caller.
            invocation: Its id, to ask `ended` for; without one it gets a number.
            deadline: When the platform would end the invocation.
            timeout: In seconds.
            options: For httpx.
        """
        number = next(self._invocations)
        internal = {
            "x-vercel-internal-invocation-id": invocation or f"invocation-{number}",
            "x-vercel-internal-request-id": str(number),
            **({"x-vercel-internal-deadline": deadline.isoformat()} if deadline else {}),
        }
        return httpx.request(
            method,
            f"http://127.0.0.1:{self.port}{path}",
            headers={**(headers or {}), **internal},
            timeout=timeout,
            **options,
        )

    @contextmanager
    def stream(self, path: str, *, headers: dict[str, str], invocation: str) -> Iterator[httpx.Response]:
        """POST, and read the answer as it comes; leaving hangs up."""
        internal = {
            "x-vercel-internal-invocation-id": invocation,
            "x-vercel-internal-request-id": str(next(self._invocations)),
        }
        url = f"http://127.0.0.1:{self.port}{path}"
        with httpx.stream("POST", url, headers=headers | internal, timeout=60) as answer:
            yield answer

    def ended(self, invocation: str) -> bool:
        """Whether the shim has reported the end of the invocation, after which a function may be frozen."""
        return any(said["context"]["invocationId"] == invocation for said in self.said("end"))

    @property
    def logs(self) -> list[Log]:
        """What was logged and printed so far."""
        return [
            Log(said["context"]["invocationId"], base64.b64decode(said["message"]).decode(), said.get("stream"))
            for said in self.said("log")
        ]

    def said(self, kind: str) -> list[dict[str, Any]]:
        """The payloads of the messages of one type so far."""
        return [message["payload"] for message in list(self.messages) if message["type"] == kind]


@contextmanager
def function(
    environment: dict[str, str],
    folder: Path = PROJECT,
    *,
    entrypoint: str = "api/index.py",
    python: Path = Path(sys.executable),
) -> Iterator[Shim]:
    """Start a function under the shim and end it by its pid, however the test ends.

    Args:
        environment: All of it, such as `servers.environment(database)`.
        folder: The function's root. One that `vercel build` made brings its dependencies and gets no others.
        entrypoint: The file with `app`, where nothing was built.
        python: The interpreter; a function that was built has compiled modules for one version.
    """
    own = Path(tempfile.mkdtemp(prefix="shim-"))  # a test's own folder is too long for a socket's path
    platform = {"VERCEL": "1", "VERCEL_IPC_PATH": str(own / "ipc.sock")}
    command: list[str | Path]
    if (folder / HANDLER).exists():
        # -S: no site-packages but those that the function brings
        command = [python, "-S", HANDLER]
    else:
        command = [python, "-c", "from vercel_runtime.vc_init import vc_handler"]
        platform |= {
            "__VC_HANDLER_MODULE_NAME": entrypoint.removesuffix(".py").replace("/", "."),
            "__VC_HANDLER_ENTRYPOINT": entrypoint,
            "__VC_HANDLER_ENTRYPOINT_ABS": str(folder / entrypoint),
            "__VC_HANDLER_VARIABLE_NAME": "app",
        }
    output = own / "output"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, own)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(platform["VERCEL_IPC_PATH"])
        listener.listen()
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=folder, env=environment | platform, stdout=file, stderr=subprocess.STDOUT
            )
        stack.callback(process.wait)
        stack.callback(process.kill)
        started = Shim(process)
        threading.Thread(target=_collect, args=(listener, started.messages), name="ipc", daemon=True).start()
        until(
            lambda: started.said("server-started") or process.poll() is not None,
            seconds=60,
            every=0.002,  # benchmarks count from here
            what="the shim to start",
        )
        assert started.said("server-started"), f"the function ended at once:\n{output.read_text()}"
        yield started


def _collect(listener: socket.socket, messages: list[dict[str, Any]]) -> None:
    """Collect the messages of one process until it ends."""
    with contextlib.suppress(OSError):  # the listener is closed when nobody has come
        connection, _ = listener.accept()
        rest = b""
        with connection:
            while chunk := connection.recv(1 << 16):
                *whole, rest = (rest + chunk).split(b"\0")
                messages += [json.loads(message) for message in whole]
