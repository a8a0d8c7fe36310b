"""Alembic's own command, with the env.py that `alembic init` writes."""

import shutil
import sys
from importlib import metadata
from pathlib import Path

import alembic

from bench.history import Migration
from bench.peers.peer import Command
from tests import servers
from tests.servers import Database

_TEMPLATES = {"asyncpg": "async", "psycopg": "generic"}
_QUIET = "[loggers]\nkeys = root\n[handlers]\nkeys =\n[formatters]\nkeys =\n[logger_root]\nhandlers =\n"


class AlembicCli:
    """`alembic upgrade head`, with one of the two drivers."""

    is_python = True

    def __init__(self, driver: str) -> None:
        self.name = f"Alembic, {driver}"
        self._driver = driver

    def missing(self) -> str | None:
        """Nothing: the lock file brings it."""
        return None

    def version(self) -> str:
        """Alembic's, and the driver's."""
        return f"{metadata.version('alembic')} with {self._driver} {metadata.version(self._driver)}"

    def write(self, folder: Path, history: list[Migration]) -> None:
        """One revision a file, one transaction a revision."""
        template = Path(alembic.__file__).parent / "templates" / _TEMPLATES[self._driver]
        env_py = (template / "env.py").read_text()
        # One transaction for each revision, as everybody else has it here; Alembic's default is one for all.
        changed = env_py.replace("target_metadata=target_metadata", "transaction_per_migration=True", 2)
        assert changed != env_py
        (folder / "env.py").write_text(changed)
        shutil.copy(template / "script.py.mako", folder)
        write_revisions(folder, history)

    def upgrade(self, folder: Path, database: Database) -> Command:
        """`alembic upgrade head`."""
        return self._command(folder, database, "upgrade", "head")

    def current(self, folder: Path, database: Database) -> Command:
        """`alembic current`, which only looks."""
        return self._command(folder, database, "current")

    def _command(self, folder: Path, database: Database, *arguments: str) -> Command:
        address = database.address.set(drivername=f"postgresql+{self._driver}")
        if self._driver == "asyncpg" and (mode := address.query.get("sslmode")):
            # the word of libpq's that asyncpg does not know
            address = address.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
        url = address.render_as_string(hide_password=False).replace("%", "%%")
        ini = folder / "alembic.ini"
        ini.write_text(f"[alembic]\nscript_location = {folder}\nsqlalchemy.url = {url}\n{_QUIET}")
        command = [sys.executable, "-m", "alembic", "--config", str(ini), *arguments]
        return Command(command, folder, servers.environment(None))


def write_revisions(folder: Path, history: list[Migration]) -> None:
    """Alembic's files, which this project runs as well."""
    versions = folder / "versions"
    versions.mkdir(parents=True)
    before: str | None = None
    for migration in history:
        body = f"    op.execute({migration.sql!r})"
        if not migration.in_transaction:
            body = f"    with op.get_context().autocommit_block():\n    {body}"
        (versions / f"{migration.name}.py").write_text(
            f'"""Do {migration.name}."""\n\nfrom alembic import op\n\n'
            f"revision = {migration.name!r}\ndown_revision = {before!r}\n\n\n"
            f"def upgrade():\n{body}\n\n\ndef downgrade():\n    pass\n"
        )
        before = migration.name
