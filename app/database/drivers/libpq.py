"""The database in libpq's words, for a connection of psycopg2's.

Source: PostgreSQL manual, "Database Connection Control Functions" (parameter key words), "SSL Support".
"""

import math
import os
import ssl
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from app.database.url import Database, pem

_LEAST_TIMEOUT_S = 2
"""libpq takes one second for two."""


def arguments(database: Database, *, application_name: str) -> dict[str, Any]:
    """The arguments of `psycopg2.connect`; what is None libpq finds out itself."""
    found = {
        "host": ",".join(database.host) if isinstance(database.host, tuple) else database.host,
        "port": ",".join(map(str, database.port)) if isinstance(database.port, tuple) else database.port,
        "user": database.user,
        "password": database.password,
        "dbname": database.name,
        "options": database.startup_options,
        "target_session_attrs": None if database.session == "any" else database.session,
        "connect_timeout": max(math.ceil(database.connect_timeout_s), _LEAST_TIMEOUT_S),
        "application_name": application_name,
        # As `connection` has it: ask after ten silent seconds, then every five; three without an answer are the end.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "sslmode": database.ssl_mode,
    }
    if database.ssl_mode in ("verify-ca", "verify-full"):
        found["sslrootcert"] = _root_certificates(database.root_cert)
    return {name: value for name, value in found.items() if value is not None}


def _root_certificates(root_cert: str | None) -> str:
    """A file of root certificates; libpq takes no text, and its `system` is where the wheel's OpenSSL was built."""
    if root_cert is None or root_cert == "system":
        system = ssl.get_default_verify_paths()
        return system.cafile or "system"
    text = pem(root_cert)
    return str(Path(root_cert).expanduser()) if text is None else _written(text)


@cache
def _written(text: str) -> str:
    """The path of a file that holds a text, for as long as the process lives."""
    handle, path = tempfile.mkstemp(prefix="root-certificates-", suffix=".pem")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return path
