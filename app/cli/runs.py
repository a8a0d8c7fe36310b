"""`runs`: the runs on record, as GET /runs tells them; or one of them, with its steps."""

import argparse
import functools
from collections.abc import Callable
from datetime import datetime
from typing import NoReturn
from uuid import UUID

from pydantic import ValidationError

from app.cli.answers import AS_JSON, Commands, answer, names
from app.report import RecordedRun, RecordedStep, RunInDetail, Runs, Selection
from app.settings import Settings

_LONGEST_REASON = 60
_SHORT_SHA = 7


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    runs = commands.add_parser("runs", help="the runs on record, newest first; or one of them, with its steps")
    runs.add_argument("id", nargs="?", type=UUID, metavar="ID", help="the run to show in detail")
    for name, field in Selection.model_fields.items():
        runs.add_argument(
            f"--{name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            action="append" if name == "outcome" else "store",
            help=f"{field.description} (20)" if name == "limit" else field.description,
        )
    runs.add_argument("--json", action="store_true", help=AS_JSON)
    runs.set_defaults(command=functools.partial(_runs, runs.error))


def _runs(refuse: Callable[[str], NoReturn], chosen: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(chosen).items() if name in Selection.model_fields}
    if chosen.id is not None:
        if given:
            refuse("one run by its ID, or those that meet the options; not both")
        return answer(functools.partial(_look_at_one, chosen.id), _detail, as_json=chosen.json)
    try:
        selection = Selection(**given)
    except ValidationError as error:
        refuse("; ".join(f"--{str(fault['loc'][0]).replace('_', '-')}: {fault['msg']}" for fault in error.errors()))
    return answer(functools.partial(_look, selection), _table, as_json=chosen.json)


async def _look(selection: Selection, read: Settings, _: str) -> Runs:
    from app.migrator import runs  # brings the database's libraries

    return await runs.runs(read, selection)


async def _look_at_one(run_id: UUID, read: Settings, _: str) -> RunInDetail:
    from app.migrator import runs  # as above

    return await runs.run(read, run_id)


def _table(found: Runs) -> str:
    """A line for each run."""
    if not found.runs:
        return "No such run is on record."
    columns = [column for column in zip(*map(_row, found.runs), strict=True) if any(column)]
    aligned = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    lines = ["  ".join(cells).rstrip() for cells in zip(*aligned, strict=True)]
    return "\n".join([*lines, *([f"The next page: --cursor {found.next}"] if found.next else [])])


def _row(run: RecordedRun) -> tuple[str, ...]:
    reason = _printable(run.reason or "")
    if len(reason) > _LONGEST_REASON:
        reason = f"{reason[: _LONGEST_REASON - 1]}…"
    count = len(run.revisions)
    accepted = [f"accepted {_printable(finding.rule)} ({finding.level})" for finding in run.accepted]
    return (
        str(run.run_id),
        _time(run.started_at),
        ": ".join(filter(None, [run.outcome, _slug(run)])),
        _duration(run.duration_ms),
        _way(run),
        f"{count} revision" + "s" * (count != 1),
        _deployment(run),
        ", ".join(filter(None, [_printable(run.key_label or ""), reason, *accepted])),
    )


def _detail(run: RunInDetail) -> str:
    """One run, a fact on each line."""
    facts = {
        "run": str(run.run_id),
        "outcome": run.outcome if run.state == "ended" else f"{run.outcome} ({_progress(run)})",
        "started": _time(run.started_at),
        "took": _duration(run.duration_ms),
        "waited": _duration(run.waited_ms),
        "retries": str(run.retries),
        "target": run.target,
        "from, to": _way(run),
        "deployment": " ".join(filter(None, [run.deployment.id, run.deployment.git_sha, run.deployment.environment])),
        "key": run.key_label,
        "reason": run.reason,
        "request": run.request_id,
    }
    lines = [f"{name:<12}{_printable(value)}" for name, value in facts.items() if value]
    lines += [
        f"{'accepted':<12}{_printable(f'{each.rule} ({each.level}) of {each.revision}')}" for each in run.accepted
    ]
    for step in run.steps:
        lines += _step(step)
    if run.error is not None:
        lines.append(f"{'problem':<12}{_slug(run)}: {_printable(str(run.error.get('detail', '')))}")
        lines.append(f"{'':<12}{_printable(str(run.error.get('hint', '')))}")
    return "\n".join(lines)


def _step(step: RecordedStep) -> list[str]:
    told = [f"{'step':<12}{_printable(step.revision)}  {step.direction}  {_duration(step.duration_ms)}"]
    told += [f"{'':<14}locked {_printable(lock.relation)} in {lock.mode} for {lock.held_ms} ms" for lock in step.locks]
    if step.rewrote:
        told.append(f"{'':<14}rewrote {_printable(', '.join(step.rewrote))}")
    if step.committed_itself:
        told.append(f"{'':<14}committed something before its end")
    if step.no_effect:
        told.append(f"{'':<14}had no effect")
    return told


def _progress(run: RunInDetail) -> str:
    return " ".join(filter(None, [run.state, run.revision, run.progress]))


def _slug(run: RecordedRun) -> str:
    """Of the problem that ended it."""
    return _printable(str((run.error or {}).get("type", "")).rpartition("#")[2])


def _way(run: RecordedRun) -> str:
    ends = [names(heads) for heads in (run.from_, run.to) if heads is not None]
    return _printable(" → ".join(ends))


def _deployment(run: RecordedRun) -> str:
    sha = (run.deployment.git_sha or "")[:_SHORT_SHA]
    return _printable(" ".join(filter(None, [sha or run.deployment.id, run.deployment.environment])))


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def _duration(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "–"
    if milliseconds < 1000:  # noqa: PLR2004 – a second
        return f"{milliseconds} ms"
    minutes, seconds = divmod(milliseconds / 1000, 60)
    return f"{int(minutes)} min {int(seconds)} s" if minutes else f"{seconds:.1f} s"


def _printable(text: str) -> str:
    """On one line, and without what a terminal would obey: callers write the reason, and revisions the detail."""
    return "".join(each if each.isprintable() else "�" for each in " ".join(text.split()))
