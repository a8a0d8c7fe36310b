"""`python -m app dev`: the service on this machine, with a real PostgreSQL and made-up keys.

Everything is kept in one folder, so that data and keys survive a restart. Needs the dependency group `terminal`.
"""

import contextlib
import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from app import embedded
from app.settings import DATABASE_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"
_FAILED, _NOT_USABLE = 1, 2


def serve(*, port: int, data: Path) -> int:
    """Serve until Ctrl-C, SIGTERM or SIGHUP, and leave nothing running; the exit code.

    Args:
        port: On 127.0.0.1.
        data: The folder for the database and the keys; made if it is not there.
    """
    if problem := _cannot_listen(port):
        return _complain(problem)
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = _keys(data / "keys.json")
    except OSError as error:
        return _complain(f"The folder {data} cannot be used: {error.strerror}. Choose another with --data.")
    with embedded.stopping_on_signals(), _database(data) as environment:
        os.environ.update(environment | keys | {"MIGRATION_DOCS": "true"})
        _say(_greeting(port, keys, data, has_own_database=bool(environment)))
        _run_server(port)
    return 0


def _run_server(port: int) -> None:
    import uvicorn

    here = Path(__file__).parents[1]
    # The supervisor ends its worker before it returns.
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(
            "app.main:app",
            host=HOST,
            port=port,
            reload=True,
            reload_dirs=[str(here / each) for each in ("api", "app", "migrations")],
            log_level="warning",
        )


def _cannot_listen(port: int) -> str | None:
    if not 0 < port < 65536:  # noqa: PLR2004 – the ports there are
        return f"There is no port {port}; choose one between 1 and 65535."
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return (
                f"Port {port} on {HOST} cannot be used: {error.strerror}. "
                f"Choose another: make dev PORT={port % 65535 + 1}"
            )
    return None


def _keys(file: Path) -> dict[str, str]:
    """The made-up keys, from the file that keeps them for the next time and for programs."""
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        kept: Mapping[str, str] = json.loads(file.read_text())
        return {name: str(kept[name]) for name in ("MIGRATION_API_KEY", "MIGRATION_READ_KEY")}
    made = {name: secrets.token_urlsafe(32) for name in ("MIGRATION_API_KEY", "MIGRATION_READ_KEY")}
    # Made readable for its owner alone before anything is in it.
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        json.dump(made, opened, indent=2)
    file.chmod(0o600)
    return made


@contextmanager
def _database(data: Path) -> Iterator[dict[str, str]]:
    """The environment that leads to a database: nothing to add if one is set, else an embedded server's."""
    if any(os.environ.get(name) for name in DATABASE_VARIABLES):
        yield {}
        return
    with embedded.server(data / "postgres") as url:
        yield {"DATABASE_URL": url}


def _greeting(port: int, keys: dict[str, str], data: Path, *, has_own_database: bool) -> str:
    address = f"http://{HOST}:{port}"
    header = f'-H "Authorization: Bearer {keys["MIGRATION_API_KEY"]}"'
    database = f"PostgreSQL of its own in {data}/postgres" if has_own_database else "the database of your environment"
    return f"""
Migration Endpoint at {address}, with {database}.
The keys are in {data}/keys.json. Paste a line into another terminal; Ctrl-C ends everything here.

  curl --fail-with-body -X POST {address}/migrate {header}
  curl {address}/status {header}
  curl {address}/health

The routes, to try in a browser: {address}/docs
"""


def _complain(text: str) -> int:
    print(text, file=sys.stderr)  # noqa: T201 – the terminal is what this is for
    return _NOT_USABLE


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 – as above
