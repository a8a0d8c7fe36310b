"""`stamp`: adopt a database that has the schema and no version."""

import argparse
import sys

from pydantic import SecretStr

from app import settings
from app.cli.answers import FAILED, NOT_USABLE, Commands, answer, names, show
from app.cli.progress import progress
from app.report import Proposal, Report, Run
from app.settings import Settings


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    stamp = commands.add_parser("stamp", help="adopt a database that has the schema and no version")
    stamp.add_argument("target", nargs="?", default="heads", metavar="REVISION", help="as Alembic names them (heads)")
    stamp.add_argument("--yes", action="store_true", help="do not ask")
    stamp.add_argument("--json", action="store_true", help="print the proposal, or with --yes the answer, as JSON")
    stamp.set_defaults(command=_stamp)


def _stamp(chosen: argparse.Namespace) -> int:
    async def work(read: Settings, request_id: str) -> Report:
        from app.migrator import stamp
        from app.migrator.call import Call

        proposed = await stamp.proposal(read, chosen.target)
        if not chosen.json:
            show("Comparing the schema with what the revisions build …", to_stderr=True)
        proposed = await _compared(proposed, read)
        if not chosen.json:
            show(_proposal(proposed))
        if not chosen.yes and (chosen.json or not _agreed()):
            return proposed
        call = Call(request_id=request_id, target=chosen.target, reason=f"stamp by {settings.user()}")
        with progress(quiet=chosen.json) as emit:
            return await stamp.stamp(call, read, emit=emit)

    def tell(told: Report) -> str:
        match told:
            case Run():
                return f"Stamped {names(told.to)}: migrate continues from there."
            case _ if sys.stdin.isatty():
                return "Nothing was changed."
        return "Nothing was changed: this is no terminal to ask on; say --yes."

    def code(told: Report) -> int:
        if isinstance(told, Run) or chosen.json:
            return 0
        return FAILED if sys.stdin.isatty() else NOT_USABLE

    return answer(work, tell, as_json=chosen.json, code=code)


async def _compared(proposed: Proposal, read: Settings) -> Proposal:
    from app import fresh
    from app.migrator import stamp

    try:
        with fresh.database(read, proposed.target) as url:
            elsewhere = {"database_url": SecretStr(url), "version_table_schema": None}
            return await stamp.compared(proposed, read, read.model_copy(update=elsewhere))
    except fresh.NotBuilt as not_built:
        return proposed.model_copy(update={"not_compared": str(not_built)})


def _proposal(proposed: Proposal) -> str:
    revisions = proposed.revisions
    first, last = revisions[0], revisions[-1]
    span = f"{first.revision} ({first.message.rstrip('.')})"
    if len(revisions) == 1:
        said = f"Revision {span} would be taken as applied, without running"
    else:
        span = f"from {span} to {last.revision} ({last.message.rstrip('.')})"
        said = f"{len(revisions)} revisions, {span}, would be taken as applied; none of them runs"
    lines = [f"The database is {proposed.database}, and has no version.", f"{said}."]
    if proposed.differences is None:
        lines.append(f"Not compared with what the revisions build: {proposed.not_compared}.")
    elif not proposed.differences:
        lines.append("Compared with what the revisions build: no difference.")
    else:
        lines.append("Compared with what the revisions build:")
        lines += [f"  {difference.message}" for difference in proposed.differences]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in proposed.warnings)])


def _agreed() -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return input("Stamp? [y/N] ").strip().casefold() in ("y", "yes")
    except EOFError:
        show("")
        return False
