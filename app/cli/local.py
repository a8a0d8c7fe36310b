"""`dev` and `keygen`: what a machine of one's own is good for."""

import argparse
import hashlib
import json
import secrets
from pathlib import Path

from app.cli.answers import AS_JSON, Commands, show


def add_to(commands: Commands) -> None:
    """Add the commands to the parser."""
    dev = commands.add_parser("dev", help="serve locally, with a database and keys of its own")
    dev.add_argument("--port", type=int, default=8000, help="the port on 127.0.0.1 (8000)")
    dev.add_argument("--data", type=Path, default=Path(".dev"), help="where the database and the keys are kept (.dev)")
    dev.set_defaults(command=_dev)

    keygen = commands.add_parser("keygen", help="make a key for MIGRATION_API_KEY")
    keygen.add_argument("--json", action="store_true", help=AS_JSON)
    keygen.set_defaults(command=_keygen)


def _dev(chosen: argparse.Namespace) -> int:
    from app import dev  # needs the dependency group `terminal`

    return dev.serve(port=chosen.port, data=chosen.data)


def _keygen(chosen: argparse.Namespace) -> int:
    key = secrets.token_urlsafe(32)
    hashed = "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    if chosen.json:
        show(json.dumps({"key": key, "hashed": hashed}))
    else:
        show(f"key     {key}\nhashed  {hashed}\n")
        show("Give the key to the caller; set MIGRATION_API_KEY to either of the two.")
    return 0
