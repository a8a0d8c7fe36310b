"""The terminal door, as a real process."""

import subprocess
import sys

from tests import servers
from tests.servers import Database


def terminal(database: Database | None, *arguments: str, **settings: object) -> "subprocess.CompletedProcess[str]":
    """Run `python -m app …` to its end, and see that it tells no secret."""
    ended = subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        check=False,
        cwd=servers.PROJECT,
        env=servers.environment(database, **settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    secrets = [servers.API_KEY, servers.READ_KEY]
    if database is not None:
        secrets += [database.url, *([str(database.address.password)] if database.address.password else [])]
    for secret in secrets:
        assert secret not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended
