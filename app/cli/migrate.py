"""`migrate` and `downgrade`: move the database, as POST /migrate and POST /downgrade do."""

import argparse
import re

from app import settings
from app.cli.answers import AS_JSON, Commands, answer, names, show
from app.cli.progress import progress
from app.report import Direction, Run
from app.settings import Settings

_BUILD_LOCK_WAIT_S = 600


def add_to(commands: Commands) -> None:
    """Add the commands to the parser."""
    migrate = commands.add_parser("migrate", help="upgrade the database, as POST /migrate does")
    migrate.add_argument("--target", default="heads", help="a revision, as Alembic names them (heads)")
    migrate.add_argument(
        "--on-build", action="store_true", help="as a step of Vercel's build: only if MIGRATION_ON_BUILD says so"
    )
    migrate.set_defaults(command=_migrate)

    downgrade = commands.add_parser("downgrade", help="downgrade the database by a reviewed plan; off unless allowed")
    downgrade.add_argument("target", help="a revision, `base`, or how many back: -1")
    downgrade.set_defaults(command=_downgrade)

    for command in (migrate, downgrade):
        command.add_argument("--plan", type=_digest, metavar="DIGEST", help="run only the plan of this digest")
        command.add_argument("--accept", action="append", default=[], metavar="RULE", help="a finding to let pass")
        command.add_argument("--lock-wait", type=seconds, help="how long to wait for the lock, in seconds")
        command.add_argument("--reason", help="kept in the ledger")
        command.add_argument("--json", action="store_true", help=AS_JSON)


def _digest(text: str) -> str:
    digest = text.strip().strip('"')  # as an ETag has it
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise argparse.ArgumentTypeError("not the digest of a plan: 64 hex digits")
    return digest


def seconds(text: str) -> float:
    """A number of seconds for `--lock-wait`."""
    seconds = float(text)
    if not 0 <= seconds <= 3600:  # noqa: PLR2004 – the bounds of the request's field
        raise argparse.ArgumentTypeError("not between 0 and 3600")
    return seconds


def _migrate(chosen: argparse.Namespace) -> int:
    if chosen.on_build and (reason := settings.why_not_on_build()):
        show(f"No migration in this build: {reason}.")
        return 0

    # A build has no caller who waits; two at once are to end well, one after the other.
    usual_wait_s = _BUILD_LOCK_WAIT_S if chosen.on_build else None
    return _moved(chosen, "upgrade", usual_wait_s=usual_wait_s, reason="build" if chosen.on_build else None)


def _downgrade(chosen: argparse.Namespace) -> int:
    return _moved(chosen, "downgrade")


def _moved(
    chosen: argparse.Namespace, direction: Direction, *, usual_wait_s: float | None = None, reason: str | None = None
) -> int:
    async def work(read: Settings, request_id: str) -> Run:
        from app.migrator import run
        from app.migrator.call import Call
        from app.migrator.turn import Turn

        call = Call(
            request_id=request_id,
            target=chosen.target,
            direction=direction,
            plans=frozenset([chosen.plan]) if chosen.plan else None,
            accept=tuple(chosen.accept),
            lock_wait_s=usual_wait_s if chosen.lock_wait is None else chosen.lock_wait,
            reason=chosen.reason or reason or f"terminal of {settings.user()}",
        )
        with progress(quiet=chosen.json) as emit:
            return await run.migrate(call, read, turn=Turn(), emit=emit)

    def tell(told: Run) -> str:
        if told.outcome == "up_to_date":
            return f"Up to date at {names(told.to)}."
        moved = told.outcome.capitalize()
        return f"{moved} from {names(told.from_)} to {names(told.to)} in {told.duration_ms} ms."

    return answer(work, tell, as_json=chosen.json)
