"""`rehearse`: run what is pending and take it back, as POST /rehearse does."""

import argparse

from app.cli.answers import AS_JSON, FAILED, Commands, answer
from app.cli.migrate import seconds
from app.cli.progress import progress
from app.report import Rehearsal, RehearsedStep
from app.settings import Settings


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    rehearse = commands.add_parser("rehearse", help="run what is pending, measure it, and roll it back")
    rehearse.add_argument("--target", default="heads", help="a revision, as Alembic names them (heads)")
    rehearse.add_argument("--lock-wait", type=seconds, help="how long to wait for the lock, in seconds")
    rehearse.add_argument("--json", action="store_true", help=AS_JSON)
    rehearse.set_defaults(command=_rehearse)


def _rehearse(chosen: argparse.Namespace) -> int:
    async def work(read: Settings, request_id: str) -> Rehearsal:
        from app.migrator import rehearsal
        from app.migrator.call import Call
        from app.migrator.turn import Turn

        call = Call(request_id=request_id, target=chosen.target, lock_wait_s=chosen.lock_wait)
        with progress(quiet=chosen.json) as emit:
            return await rehearsal.rehearse(call, read, turn=Turn(), emit=emit)

    def code(answer: Rehearsal) -> int:
        return FAILED if answer.outcome == "incomplete" else 0

    return answer(work, _told, as_json=chosen.json, code=code)


def _told(answer: Rehearsal) -> str:
    lines = [line for step in answer.steps for line in _step(step)]
    if answer.outcome == "incomplete":
        lines.append(f"Stopped before {answer.stopped_at}, which cannot be rehearsed: {answer.stopped_because}")
    elif not answer.steps:
        return "Nothing is pending."
    lines.append(f"Rehearsed {len(answer.steps)} revisions in {answer.duration_ms} ms. Everything is rolled back.")
    return "\n".join(lines)


def _step(step: RehearsedStep) -> list[str]:
    return [
        f"{step.revision}  {step.message}  {step.duration_ms} ms",
        *(f"  locked     {lock.relation}  {lock.mode}  {lock.held_ms} ms" for lock in step.locks),
        *(f"  rewritten  {each.relation}  {each.rows} rows, {each.bytes} bytes" for each in step.rewritten),
        *(
            f"  rows       {each.relation}  {each.inserted} inserted, {each.updated} updated, {each.deleted} deleted"
            for each in step.rows
        ),
    ]
