"""The terminal door: `python -m app` and a command; each has a module of its own here.

Exit codes: 0 at the target, 1 failed, 2 usage or not configured, 3 pending (status --check), 75 try again
(EX_TEMPFAIL of sysexits.h: the lock is held, a table stayed locked, the time was over, the database did not answer).
"""

import argparse
from typing import TYPE_CHECKING

from app.cli import environment, local, migrate, plan, rehearse, runs, stamp, status

if TYPE_CHECKING:
    from collections.abc import Callable


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit code."""
    chosen = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = chosen.command
    try:
        return command(chosen)
    except KeyboardInterrupt:
        return 130  # as a shell reports an interrupted command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description="Migrations by one HTTP request.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for each in (local, plan, rehearse, migrate, status, runs, stamp, environment):
        each.add_to(commands)
    return parser
