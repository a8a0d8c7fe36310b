"""The terminal door: `python -m app dev | migrate | status | environment | keygen`.

Exit codes: 0 at the target, 1 failed, 2 usage or not configured, 3 pending (status --check), 75 try again
(EX_TEMPFAIL of sysexits.h: the lock is held, a table stayed locked, the time was over, the database did not answer).
"""

import argparse
import asyncio
import hashlib
import json
import secrets
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from app import log, settings
from app.errors import InternalError, InvalidRequest, NotConfigured
from app.problem import Problem
from app.report import Emit, Environment, Event, Report, Run, Status
from app.settings import Settings

FAILED, NOT_USABLE, PENDING, TRY_AGAIN = 1, 2, 3, 75
_BUILD_LOCK_WAIT_S = 600


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

    dev = commands.add_parser("dev", help="serve locally, with a database and keys of its own")
    dev.add_argument("--port", type=int, default=8000, help="the port on 127.0.0.1 (8000)")
    dev.add_argument("--data", type=Path, default=Path(".dev"), help="where the database and the keys are kept (.dev)")
    dev.set_defaults(command=_dev)

    migrate = commands.add_parser("migrate", help="upgrade the database, as POST /migrate does")
    migrate.add_argument("--target", default="heads", help="a revision, as Alembic names them (heads)")
    migrate.add_argument("--lock-wait", type=_seconds, help="how long to wait for the lock, in seconds")
    migrate.add_argument("--reason", help="kept in the ledger")
    migrate.add_argument(
        "--on-build", action="store_true", help="as a step of Vercel's build: only if MIGRATION_ON_BUILD says so"
    )
    migrate.set_defaults(command=_migrate)

    status = commands.add_parser("status", help="how database and revisions stand to each other")
    status.add_argument("--check", action="store_true", help="exit with 3 if revisions are pending")
    status.set_defaults(command=_status)

    environment = commands.add_parser("environment", help="which environment the database belongs to")
    environment.set_defaults(command=_environment, name=None)
    actions = environment.add_subparsers(metavar="action")
    bind = actions.add_parser("set", help="bind the database to an environment, whatever it belonged to")
    bind.add_argument("name", type=_environment_name, help="such as production")

    keygen = commands.add_parser("keygen", help="make a key for MIGRATION_API_KEY")
    keygen.set_defaults(command=_keygen)

    for command in (migrate, status, environment, keygen):
        command.add_argument("--json", action="store_true", help="print exactly what HTTP would answer")
    bind.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as above")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 3600:  # noqa: PLR2004 – the bounds of the request's field
        raise argparse.ArgumentTypeError("not between 0 and 3600")
    return seconds


def _environment_name(text: str) -> str:
    if not 0 < len(text.strip()) <= 100:  # noqa: PLR2004 – as the setting
        raise argparse.ArgumentTypeError("not a name of 1 to 100 characters")
    return text.strip()


def _dev(chosen: argparse.Namespace) -> int:
    from app import dev  # needs the dependency group `terminal`

    return dev.serve(port=chosen.port, data=chosen.data)


def _migrate(chosen: argparse.Namespace) -> int:
    if chosen.on_build and (reason := settings.why_not_on_build()):
        _print(f"No migration in this build: {reason}.")
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
        with _progress(quiet=chosen.json) as emit:
            return await run.migrate(call, read, turn=Turn(), emit=emit)

    def tell(answer: Run) -> str:
        if answer.outcome == "up_to_date":
            return f"Up to date at {_names(answer.to)}."
        return f"Upgraded from {_names(answer.from_)} to {_names(answer.to)} in {answer.duration_ms} ms."

    return _answer(work, tell, as_json=chosen.json)


def _status(chosen: argparse.Namespace) -> int:
    async def look(read: Settings, request_id: str) -> Status:
        from app.migrator import status

        return await status.status(read, request_id=request_id)

    def tell(answer: Status) -> str:
        lines = [f"{answer.state}: the database is at {_names(answer.current)}, the head is {_names(answer.heads)}."]
        lines += [f"  pending  {revision.revision}  {revision.message}" for revision in answer.pending]
        if holder := answer.lock.holder:
            run = f"run {holder.run_id} at {holder.progress}" if holder.run_id else "somebody else"
            lines.append(f"  the lock is held by {run}, backend {holder.pid}")
        return "\n".join(lines)

    def code(answer: Status) -> int:
        if not chosen.check:
            return 0
        return {"up_to_date": 0, "database_ahead": 0, "diverged": FAILED}.get(answer.state, PENDING)

    return _answer(look, tell, as_json=chosen.json, code=code)


def _environment(chosen: argparse.Namespace) -> int:
    async def work(read: Settings, _: str) -> Environment:
        from app.migrator import environment

        return await environment.bind(read, chosen.name) if chosen.name else await environment.environment(read)

    def tell(answer: Environment) -> str:
        if chosen.name is None:
            if answer.environment is None:
                return "The database belongs to no environment yet: the first run that has one will bind it."
            return f"The database belongs to {answer.environment}."
        return f"The database belongs to {answer.environment} now; before, to {answer.before or 'none'}."

    return _answer(work, tell, as_json=chosen.json)


def _keygen(chosen: argparse.Namespace) -> int:
    key = secrets.token_urlsafe(32)
    hashed = "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    if chosen.json:
        _print(json.dumps({"key": key, "hashed": hashed}))
    else:
        _print(f"key     {key}\nhashed  {hashed}\n")
        _print("Give the key to the caller; set MIGRATION_API_KEY to either of the two.")
    return 0


def _answer[Answer: Report](
    work: Callable[[Settings, str], Coroutine[Any, Any, Answer]],
    tell: Callable[[Answer], str],
    *,
    as_json: bool,
    code: Callable[[Answer], int] = lambda _: 0,
) -> int:
    """Print what `work` answers, in words or in JSON, and choose the exit code."""
    request_id = str(uuid4())
    read = settings.from_environment()
    if isinstance(read, NotConfigured):
        return _refuse(read, request_id, as_json=as_json)
    try:
        answer = asyncio.run(work(read, request_id))
    except Problem as problem:
        return _refuse(problem, request_id, as_json=as_json)
    except Exception as error:  # noqa: BLE001 – a traceback could quote secrets, as in web/envelope
        log.to_stderr_if_nobody_listens()
        log.defect(error, request_id)
        defect = InternalError(f"The service met an error that it does not know ({type(error).__name__}).")
        return _refuse(defect, request_id, as_json=as_json)
    _print(answer.model_dump_json(by_alias=True) if as_json else tell(answer))
    return code(answer)


def _refuse(problem: Problem, request_id: str, *, as_json: bool) -> int:
    if as_json:
        _print(json.dumps(problem.document(request_id=request_id), default=str))
    else:
        _print(f"{problem.title}: {problem.detail}\n{problem.hint}", to_stderr=True)
    if problem.retryable:
        return TRY_AGAIN
    return NOT_USABLE if isinstance(problem, NotConfigured | InvalidRequest) else FAILED


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Emit]:
    """Where a run's events go: on a terminal to a line per revision, elsewhere to the log."""
    if quiet or not sys.stderr.isatty():
        log.to_stderr_if_nobody_listens()
        yield log.emit
        return
    try:
        from rich.console import Console  # in the dependency group `terminal`, which a deployment does without
    except ImportError:
        yield _plain_line
        return
    console = Console(stderr=True, highlight=False)
    with console.status("looking at the database") as spinner:

        def show(event: Event) -> None:
            if event.name == "revision.started":
                spinner.update(f"{event.fields['progress']}  {event.fields['revision']}  {event.fields['message']}")
            elif line := _line(event):
                console.print(line, markup=False)

        yield show


def _plain_line(event: Event) -> None:
    if line := _line(event):
        _print(line, to_stderr=True)


def _line(event: Event) -> str | None:
    if event.name == "warning":
        return f"warning: {event.fields['message']}"
    if event.name != "revision.applied":
        return None
    return f"{event.fields['revision']}  {event.fields['message']}  {event.fields['duration_ms']} ms"


def _names(revisions: list[str]) -> str:
    return ", ".join(revisions) or "base"


def _print(text: str, *, to_stderr: bool = False) -> None:
    print(text, file=sys.stderr if to_stderr else sys.stdout, flush=True)
