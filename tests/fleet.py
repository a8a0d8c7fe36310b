"""Several services at once: imports the application one time, then forks a uvicorn process per port.

`python -m tests.fleet 8001 8002 …` saves the two seconds of CPU that each process would spend on imports.
Each child is a server like any other: its own event loop, its own connections, its own pid. With `--on-demand`
first, each further port that comes as a line on stdin gets a child too, and all end when stdin does.
"""

import contextlib
import os
import signal
import sys

import uvicorn

from app.main import app
from app.migrator import run, status, watch  # noqa: F401 – what the first requests would import


def main(ports: list[int], *, on_demand: bool) -> None:
    for port in ports:
        fork(port)
    if on_demand:
        for line in sys.stdin:
            reap(os.WNOHANG)
            fork(int(line))
        os.killpg(0, signal.SIGKILL)  # whoever asked is gone, and must leave nothing running
    reap()


def fork(port: int) -> None:
    child = os.fork()
    if child == 0:
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
        os._exit(0)
    sys.stdout.write(f"forked {port} {child}\n")
    sys.stdout.flush()  # before the next fork, which would copy what is not yet written


def reap(options: int = 0) -> None:
    """Bury the children that ended; without WNOHANG, wait for all to end."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, options) != (0, 0):
            pass


on_demand = sys.argv[1:2] == ["--on-demand"]
main([int(port) for port in sys.argv[1 + on_demand :]], on_demand=on_demand)
