"""This project as it is deployed with a history."""

import shutil
from pathlib import Path

from bench.history import Migration
from bench.peers.alembic_cli import write_revisions
from tests.servers import PROJECT


def write(folder: Path, history: list[Migration]) -> Path:
    """Write the history as this project runs it; the folder, to give as `script_location`."""
    write_revisions(folder, history)
    shutil.copy(PROJECT / "migrations" / "env.py", folder)
    return folder
