"""`status`: how database and revisions stand to each other."""

import argparse

from app.cli.answers import AS_JSON, FAILED, PENDING, Commands, answer, names
from app.report import Drift, Fingerprint, Status
from app.settings import Settings


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    status = commands.add_parser("status", help="how database and revisions stand to each other")
    status.add_argument("--check", action="store_true", help="exit with 3 if revisions are pending")
    status.add_argument("--drift", action="store_true", help="compare the schema with what the last run left")
    status.add_argument("--json", action="store_true", help=AS_JSON)
    status.set_defaults(command=_status)


def _status(chosen: argparse.Namespace) -> int:
    async def look(read: Settings, request_id: str) -> Status:
        from app.migrator import status

        return await status.status(read, request_id=request_id, with_drift=chosen.drift)

    def tell(answer: Status) -> str:
        lines = [f"{answer.state}: the database is at {names(answer.current)}, the head is {names(answer.heads)}."]
        lines += [f"  pending  {revision.revision}  {revision.message}" for revision in answer.pending]
        lines += [f"  modified  {revision.revision}  {revision.file}" for revision in answer.modified]
        if holder := answer.lock.holder:
            run = f"run {holder.run_id} at {holder.progress}" if holder.run_id else "somebody else"
            lines.append(f"  the lock is held by {run}, backend {holder.pid}")
        lines += [f"  {line}" for line in (_drift(answer) if chosen.drift else [])]
        return "\n".join(lines)

    def code(answer: Status) -> int:
        if not chosen.check:
            return 0
        return {"up_to_date": 0, "database_ahead": 0, "diverged": FAILED}.get(answer.state, PENDING)

    return answer(look, tell, as_json=chosen.json, code=code)


def _drift(answer: Status) -> list[str]:
    lines = [f"warning: {warning}" for warning in answer.warnings]
    match answer.drift:
        case Drift(recorded=None):
            lines.append("drift is not known: no run has left a fingerprint of the schema yet")
        case Drift(recorded=Fingerprint(run_id=run), differs=False):
            lines.append(f"no drift: the schema is as run {run} left it")
        case Drift(differences=differences):
            lines += [f"drift    {difference.message}" for difference in differences]
    return lines
