"""A database freshly built by the revisions, to compare another one with: on an embedded server, by `migrate` itself.

In a process of its own, whose environment leads nowhere but to that server: a revision is somebody's code, and may
look up a connection string by itself.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from app import embedded
from app.migrator.glance import PROJECT
from app.settings import Settings, variable

_LONGEST_S = 600
_CONNECTION_STRING = re.compile(r"\s*postgres(ql)?(\+\w+)?://")


class NotBuilt(Exception):  # noqa: N818 – a fact, as the problems are
    """There is no such database; the message says why, in a clause."""


@contextmanager
def database(settings: Settings, target: str) -> Iterator[str]:
    """A database that the revisions up to `target` have built; its connection string. It is gone afterwards.

    Raises:
        NotBuilt: It could not be built.
    """
    with ExitStack() as stack:
        try:
            url = stack.enter_context(embedded.temporary())
        except ImportError:
            raise NotBuilt("the embedded PostgreSQL is not installed (dependency group `terminal`)") from None
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise NotBuilt(f"the embedded PostgreSQL does not start ({type(error).__name__})") from None
        _migrate(settings, target, url)
        yield url


def _migrate(settings: Settings, target: str, url: str) -> None:
    try:
        ended = subprocess.run(  # noqa: S603 – this very program
            [sys.executable, "-m", "app", "migrate", "--json", "--target", target],
            cwd=PROJECT,
            env=_environment(settings, url),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired:
        raise NotBuilt(f"the revisions take longer than {_LONGEST_S} s on an empty database") from None
    if ended.returncode != 0:
        raise NotBuilt(f"the revisions do not run on an empty database ({_why(ended.stdout)})")


def _environment(settings: Settings, url: str) -> dict[str, str]:
    """This process's environment with another database in it, wherever it names one, and no rules of a deployment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MIGRATION_", "PG", "VERCEL"))}
    elsewhere = {name: url for name, value in kept.items() if _CONNECTION_STRING.match(value)}
    # A schema of the version table's own would have to be made first, so there it is where it usually is.
    ours = {
        variable(each): str(getattr(settings, each)) for each in ("script_location", "ledger_schema", "version_table")
    }
    return kept | elsewhere | ours | {variable("database_url"): url}


def _why(output: str) -> str:
    """What a problem says, which is the last line of the output."""
    try:
        return str(json.loads(output.splitlines()[-1])["detail"]).rstrip(".")
    except (ValueError, LookupError, TypeError):
        return "it ended without an answer"
