"""`plan`: what a run would do, as GET /plan tells it."""

import argparse
import textwrap

from app.cli.answers import AS_JSON, FAILED, Commands, answer, names
from app.report import LEVELS, Plan, PlannedRevision
from app.settings import Settings


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    plan = commands.add_parser("plan", help="what a run would do, with its SQL and its findings")
    way = plan.add_mutually_exclusive_group()
    way.add_argument("--target", default="heads", help="a revision, as Alembic names them (heads)")
    way.add_argument("--downgrade", metavar="TARGET", help="plan a downgrade to a revision, or to `base`")
    plan.add_argument("--json", action="store_true", help=AS_JSON)
    plan.set_defaults(command=_plan)


def _plan(chosen: argparse.Namespace) -> int:
    most = None

    async def look(read: Settings, _: str) -> Plan:
        from app.migrator import plan

        nonlocal most
        most = read.max_level
        if chosen.downgrade:
            return await plan.plan(read, target=chosen.downgrade, direction="downgrade")
        return await plan.plan(read, target=chosen.target)

    def code(found: Plan) -> int:
        """1 where MIGRATION_MAX_LEVEL would refuse it, for a pipeline."""
        too_bad = most and found.level and LEVELS.index(found.level) > LEVELS.index(most)
        return FAILED if too_bad else 0

    return answer(look, _in_words, as_json=chosen.json, code=code)


def _in_words(found: Plan) -> str:
    current = names(found.current)
    if not found.pending:
        return f"Nothing would run: the database is at {current}."
    way = "upgrade" if found.direction == "upgrade" else "DOWNGRADE"
    lines = [f"{way} from {current} to {found.target}: {len(found.pending)} to run, in this order."]
    for each in found.pending:
        lines += ["", *_revision(each)]
    lint = (
        "squawk is not installed: only the built-in rules were applied" if found.lint == "unavailable" else found.lint
    )
    return "\n".join([*lines, "", f"worst finding  {found.level or 'none'} ({lint})", f"digest         {found.digest}"])


def _revision(planned: PlannedRevision) -> list[str]:
    kind = {True: "one transaction", False: "NOT in one transaction", None: "unknown whether in one transaction"}
    head = f"{planned.revision}  {planned.message}  ({planned.file}; {kind[planned.transactional]})"
    sql = textwrap.indent(planned.sql or "-- nothing", "    ")
    more = [f"    -- the rest cannot be rendered: {planned.unrendered}"] if planned.unrendered else []
    lines = [head, sql, *more]
    shown: set[str | None] = {None}
    for finding in planned.findings:
        at = f" (line {finding.line})" if finding.line else ""
        lines.append(f"  {finding.level.upper()}  {finding.rule}{at}: {finding.message}")
        if finding.safe_way not in shown:  # squawk's finding and ours may be about the same statement
            lines += ["    the safe way:", textwrap.indent(finding.safe_way or "", "      ")]
            shown.add(finding.safe_way)
    return lines
