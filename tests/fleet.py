"""Several services at once: imports the application one time, then forks a uvicorn process per port.

`python -m tests.fleet 8001 8002 …` saves the two seconds of CPU that each process would spend on imports.
Each child is a server like any other: its own event loop, its own connections, its own pid.
"""

import os
import sys

import uvicorn

from app.main import app
from app.migrator import run, status  # noqa: F401 – what the first request would import


def main(ports: list[int]) -> None:
    children = []
    for port in ports:
        child = os.fork()
        if child == 0:
            uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
            os._exit(0)
        sys.stdout.write(f"forked {port} {child}\n")
        sys.stdout.flush()  # before the next fork, which would copy what is not yet written
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


main([int(port) for port in sys.argv[1:]])
