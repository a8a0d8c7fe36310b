"""The runs on record, read back: a page of those that are asked for, or one with its steps."""

import itertools
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.database import footprint
from app.database.connection import Session
from app.database.literals import identifier, literal
from app.database.simple_query import ResultSet
from app.report import Deployment, RecordedRun, RecordedRunWithSteps, RecordedStep, Runs, Selection, TableLock, cursor

_MOST_RUNS_OF_A_PLAN = 50
"""So often a plan can be continued."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a run has done."""

    from_heads: tuple[str, ...]
    steps: list[tuple[str, str]]
    """Each revision, with the SHA-256 of its file."""


async def page(control: Session, schema: str, version_table: str, selection: Selection) -> Runs:
    """The runs of a version table that are asked for, newest first."""
    ledger = identifier(schema)
    conditions = " AND ".join(_conditions(ledger, version_table, selection))
    rows = await control.execute(
        # Without what their callers got, which may be long and repeats what is here.
        "SELECT coalesce(json_agg((to_jsonb(r) - 'answer') || jsonb_build_object('revisions', ("
        f"SELECT jsonb_agg(s.revision ORDER BY s.id) FROM {ledger}.step s WHERE s.run_id = r.id)) "
        "ORDER BY r.started_at DESC, r.id DESC), '[]')::text FROM ("
        f"SELECT * FROM {ledger}.run r WHERE {conditions} "
        f"ORDER BY r.started_at DESC, r.id DESC LIMIT {selection.limit + 1}) AS r"  # one more: is there another page?
    )
    found = [RecordedRun(**_run(row, row["revisions"] or [])) for row in json.loads(rows[0][0])]
    shown = found[: selection.limit]
    return Runs(runs=shown, next=cursor(shown[-1].started_at, shown[-1].run_id) if len(found) > len(shown) else None)


def _conditions(ledger: str, version_table: str, selection: Selection) -> list[str]:
    """What the runs `r` have to meet."""
    wanted = [f"r.version_table = {literal(version_table)}"]
    if selection.position is not None:
        started_at, run_id = selection.position
        wanted.append(f"(r.started_at, r.id) < ({literal(started_at)}, {literal(run_id)})")
    if selection.outcome:
        wanted.append(f"r.outcome = ANY ({literal(selection.outcome)})")
    if selection.revision is not None:
        steps = f"SELECT FROM {ledger}.step s WHERE s.run_id = r.id AND s.revision = {literal(selection.revision)}"
        wanted.append(f"EXISTS ({steps})")
    if selection.deployment is not None:
        wanted.append(f"r.deployment_id = {literal(selection.deployment)}")
    if selection.git_sha is not None:
        wanted.append(f"starts_with({_lower('r.git_sha')}, {literal(selection.git_sha.lower())})")
    if selection.environment is not None:  # as it is compared before a run: whatever its case
        wanted.append(f"{_lower('r.environment')} = {_lower(literal(selection.environment))}")
    if selection.since is not None:
        wanted.append(f"r.started_at >= {literal(selection.since)}")
    if selection.until is not None:
        wanted.append(f"r.started_at < {literal(selection.until)}")
    return wanted


def _lower(text: str) -> str:
    """In lower case by ASCII's rules alone, which is several times as quick as by a language's."""
    return f'lower(({text}) COLLATE "C")'


async def run(control: Session, schema: str, version_table: str, run_id: UUID) -> RecordedRunWithSteps | None:
    """One run with its steps, or None."""
    ledger = identifier(schema)
    runs, its = await control.results(
        f"SELECT row_to_json(r)::text FROM {ledger}.run r WHERE id = {literal(run_id)} "
        f"AND version_table = {literal(version_table)}; {steps_of(schema, run_id)}"
    )
    if not runs.rows:
        return None
    ((row,),) = runs.rows
    recorded, its_steps = json.loads(row), steps(its)
    return RecordedRunWithSteps(
        **_run(recorded, [step.revision for step in its_steps]), steps=its_steps, answer=recorded.get("answer")
    )


def steps_of(schema: str, run_id: UUID) -> str:
    """The query for the steps of a run, as `steps` reads them."""
    return f"SELECT row_to_json(s)::text FROM {identifier(schema)}.step s WHERE run_id = {literal(run_id)} ORDER BY id"


def steps(told: ResultSet) -> list[RecordedStep]:
    """What `steps_of` has told, in the order in which they were applied."""
    return [_step(json.loads(step)) for (step,) in told.rows]


async def done_for(control: Session, schema: str, version_table: str, plans: Collection[str]) -> list[Done]:
    """What the last runs have done, newest first, as far as each was pinned to one of these plans."""
    ledger = identifier(schema)
    rows = await control.execute(
        "SELECT coalesce(json_agg(json_build_array(pinned, from_heads, steps) ORDER BY started_at DESC, id DESC), '[]')"
        f"::text FROM (SELECT r.*, coalesce(r.plan_digest = ANY ({literal(list(plans))}), false) AS pinned, "
        "(SELECT json_agg(json_build_array(s.revision, s.sha256) ORDER BY s.id) "
        f"FROM {ledger}.step s WHERE s.run_id = r.id) AS steps FROM {ledger}.run r "
        f"WHERE r.version_table = {literal(version_table)} "
        f"AND EXISTS (SELECT FROM {ledger}.step s WHERE s.run_id = r.id) "
        f"ORDER BY r.started_at DESC, r.id DESC LIMIT {_MOST_RUNS_OF_A_PLAN}) AS runs"
    )
    last = itertools.takewhile(lambda row: row[0], json.loads(rows[0][0]))
    return [Done(tuple(heads), [(revision, sha256) for revision, sha256 in steps]) for _, heads, steps in last]


def _run(row: dict[str, Any], revisions: list[str]) -> dict[str, Any]:
    """The members of a RecordedRun, from its row."""
    started, finished = _time(row["started_at"]), row["finished_at"] and _time(row["finished_at"])
    same = ("outcome", "target", "retries", "key_label", "reason", "request_id", "error")
    return {
        **{name: row[name] for name in same},
        "run_id": row["id"],
        **{name: row.get(name) for name in ("waited_ms", "pending")},  # which an earlier form lacks
        "from_": row["from_heads"],
        "to": row["to_heads"],
        "started_at": started,
        "finished_at": finished,
        "duration_ms": round((finished - started).total_seconds() * 1000) if finished else None,
        "deployment": Deployment(id=row["deployment_id"], git_sha=row["git_sha"], environment=row["environment"]),
        "revisions": revisions,
        "accepted": row.get("accepted") or [],
        "plan_digest": row.get("plan_digest"),
    }


def _step(row: dict[str, Any]) -> RecordedStep:
    same = ("revision", "direction", "sha256", "duration_ms")
    return RecordedStep(
        started_at=_time(row["started_at"]),
        **{name: row[name] for name in same},
        locks=[TableLock(**lock) for lock in footprint.told(row.get("locks") or [])],  # which an earlier form lacks
        rewrote=row.get("rewrote") or [],
        **{name: row.get(name) or False for name in ("committed_itself", "no_effect")},  # likewise
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
