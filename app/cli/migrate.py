"""`migrate`: upgrade the database, as POST /migrate does."""

import argparse

from app import settings
from app.cli.answers import AS_JSON, Commands, answer, names, show
from app.cli.progress import progress
from app.report import Run
from app.settings import Settings

_BUILD_LOCK_WAIT_S = 600


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    migrate = commands.add_parser("migrate", help="upgrade the database, as POST /migrate does")
    migrate.add_argument("--target", default="heads", help="a revision, as Alembic names them (heads)")
    migrate.add_argument("--lock-wait", type=seconds, help="how long to wait for the lock, in seconds")
    migrate.add_argument("--reason", help="kept in the ledger")
    migrate.add_argument(
        "--on-build", action="store_true", help="as a step of Vercel's build: only if MIGRATION_ON_BUILD says so"
    )
    migrate.add_argument("--json", action="store_true", help=AS_JSON)
    migrate.set_defaults(command=_migrate)


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

    async def work(read: Settings, request_id: str) -> Run:
        from app.migrator import run
        from app.migrator.call import Call
        from app.migrator.turn import Turn

        call = Call(
            request_id=request_id,
            target=chosen.target,
            # A build has no caller who waits; two at once are to end well, one after the other.
            lock_wait_s=_BUILD_LOCK_WAIT_S if chosen.on_build and chosen.lock_wait is None else chosen.lock_wait,
            reason=chosen.reason or ("build" if chosen.on_build else f"terminal of {settings.user()}"),
        )
        with progress(quiet=chosen.json) as emit:
            return await run.migrate(call, read, turn=Turn(), emit=emit)

    def tell(answer: Run) -> str:
        if answer.outcome == "up_to_date":
            return f"Up to date at {names(answer.to)}."
        return f"Upgraded from {names(answer.from_)} to {names(answer.to)} in {answer.duration_ms} ms."

    return answer(work, tell, as_json=chosen.json)
