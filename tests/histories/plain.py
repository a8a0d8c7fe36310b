"""Plain Alembic, as it would have run a history without this project: its own command, and its own template's env.py."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import alembic

from tests import servers
from tests.servers import Database

_TEMPLATE = Path(alembic.__file__).parent / "templates" / "generic" / "env.py"
_ASKED_FOR = "connection=connection, target_metadata=target_metadata"
_INI = """
[alembic]
script_location = {folder}
prepend_sys_path = {folder}
sqlalchemy.url = {url}
[loggers]
keys = root
[handlers]
keys =
[formatters]
keys =
[logger_root]
handlers =
"""


def env_py(*, per_migration: bool) -> str:
    """The env.py that `alembic init` writes, and at most one option beyond it.

    Args:
        per_migration: Whether each revision gets a transaction of its own; as it comes, the template has one for all.
    """
    template = _TEMPLATE.read_text()
    assert template.count(_ASKED_FOR) == 1
    return template.replace(_ASKED_FOR, f"{_ASKED_FOR}, transaction_per_migration={per_migration}")


def upgrade(database: Database, folder: Path, *, driver: str, arguments: Sequence[str] = ()) -> None:
    """Bring an empty database to the heads of the history in `folder`, which has its env.py.

    Args:
        database: Where to.
        folder: The history, also the root of what its revisions import.
        driver: `psycopg`, which is psycopg 3, or `psycopg2`.
        arguments: Options of the command `alembic`, such as `-x`.
    """
    url = database.address.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)
    ini = folder / "alembic.ini"
    ini.write_text(_INI.format(folder=folder, url=url.replace("%", "%%")))
    ended = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(ini), *arguments, "upgrade", "heads"],
        cwd=folder,
        env=servers.environment(None) | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert ended.returncode == 0, ended.stderr
