"""Django's migrations, of one app, without any that Django brings itself."""

import sys
from importlib import metadata
from pathlib import Path

from bench.history import Migration
from bench.peers.peer import Command
from tests import servers
from tests.servers import Database

_MANAGE = """import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
execute_from_command_line(sys.argv)
"""
_SETTINGS = """import os

INSTALLED_APPS = ["shop"]
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["DATABASE_HOST"],
        "PORT": os.environ["DATABASE_PORT"],
        "NAME": os.environ["DATABASE_NAME"],
        "USER": os.environ["DATABASE_USER"],
        "PASSWORD": os.environ["DATABASE_PASSWORD"],
    }
}
"""


class Django:
    """`manage.py migrate`, over psycopg; one transaction a revision."""

    name = "Django"
    is_python = True

    def missing(self) -> str | None:
        """Nothing: the lock file brings it."""
        return None

    def version(self) -> str:
        """Its own, and psycopg's."""
        return f"{metadata.version('django')} with psycopg {metadata.version('psycopg')}"

    def write(self, folder: Path, history: list[Migration]) -> None:
        """One file a revision, each a RunSQL."""
        (folder / "manage.py").write_text(_MANAGE)
        (folder / "settings.py").write_text(_SETTINGS)
        migrations = folder / "shop/migrations"
        migrations.mkdir(parents=True)
        (folder / "shop/__init__.py").touch()
        (migrations / "__init__.py").touch()
        before: list[tuple[str, str]] = []
        for migration in history:
            name = f"{migration.number:04}_{migration.name}"
            outside = "" if migration.in_transaction else "    atomic = False\n"
            (migrations / f"{name}.py").write_text(
                f"from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n{outside}"
                f"    dependencies = {before!r}\n    operations = [migrations.RunSQL({migration.sql!r})]\n"
            )
            before = [("shop", name)]

    def upgrade(self, folder: Path, database: Database) -> Command:
        """Its command."""
        address = database.address
        environment = servers.environment(None) | {
            "DATABASE_HOST": address.host or str(address.query.get("host", "")),
            "DATABASE_PORT": str(address.port or ""),
            "DATABASE_NAME": address.database or "",
            "DATABASE_USER": address.username or "",
            "DATABASE_PASSWORD": str(address.password or ""),
        }
        return Command([sys.executable, "manage.py", "migrate", "--no-input"], folder, environment)
