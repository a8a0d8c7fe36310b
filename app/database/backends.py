"""The working backends of runs, as pg_stat_activity shows them: found, watched, cancelled, ended.

A backend works for a run while its application_name says so, which is SET LOCAL in each transaction, or while its
statement begins with the run's mark, where there is no transaction. A session's name would not do: a transaction
pooler leaves it on the backend, and a client without a name of its own then wears it.
"""

from uuid import UUID

from app.database.connection import Session
from app.errors import LockHeld
from app.report import Blocker, Holder, IndexBuild

_END_TIMEOUT_MS = 5000

_RUN_OF_W = (
    "CROSS JOIN LATERAL (SELECT coalesce(substring(w.application_name FROM '^migrate/([0-9a-f-]{36})$'), "
    "substring(w.query FROM '^/[*] migrate/([0-9a-f-]{36}) [*]/'))) AS worked_for(run) "
)
"""Joins the run that a backend `w` works for, or null."""


def working_name(run_id: UUID) -> str:
    """application_name of the transactions that revisions of this run run in."""
    return f"migrate/{run_id}"


def mark(run_id: UUID) -> str:
    """What a statement of this run begins with that runs outside of a transaction."""
    return f"/* {working_name(run_id)} */ "


def _at_work_for(run_id: UUID, pid: int | None = None) -> str:
    """FROM and WHERE: the backends `w` that are not idle and work for the run."""
    is_its_own = f"(worked_for.run = '{run_id}' OR w.pid = {pid})" if pid else f"worked_for.run = '{run_id}'"
    return (
        f"FROM pg_stat_activity w {_RUN_OF_W} "
        f"WHERE w.datname = current_database() AND w.state <> 'idle' AND {is_its_own}"
    )


async def is_at_work(control: Session, run_id: UUID, pid: int | None) -> bool:
    """Whether PostgreSQL is at work on a statement of the run.

    Args:
        control: A session to ask in.
        run_id: The run.
        pid: The backend that its transaction is open on, which a revision may have renamed; None outside of one.
    """
    rows = await control.execute(f"SELECT count(*) {_at_work_for(run_id, pid)} AND w.state = 'active'")
    return bool(rows[0][0])


async def blockers(control: Session, run_id: UUID) -> list[Blocker]:
    """Who the run's working backend waits for at this moment."""
    rows = await control.execute(
        "SELECT DISTINCT b.pid, b.application_name, b.state, "
        "(extract(epoch FROM clock_timestamp() - b.query_start) * 1000)::bigint "
        f"FROM pg_stat_activity b WHERE b.pid IN (SELECT unnest(pg_blocking_pids(w.pid)) {_at_work_for(run_id)})"
    )
    return [
        Blocker(pid=pid, application_name=name or None, state=state, query_age_ms=age) for pid, name, state, age in rows
    ]


async def index_build(control: Session, run_id: UUID) -> IndexBuild | None:
    """The index build that the run's working backend is at, if it is at one.

    PostgreSQL manual, "CREATE INDEX Progress Reporting": what is counted depends on the phase.
    """
    rows = await control.execute(
        "SELECT p.relid::regclass::text, CASE WHEN p.index_relid <> 0 THEN p.index_relid::regclass::text END, p.phase, "
        "round(100.0 * CASE WHEN p.blocks_total > 0 THEN p.blocks_done::numeric / p.blocks_total "
        "WHEN p.tuples_total > 0 THEN p.tuples_done::numeric / p.tuples_total "
        "WHEN p.lockers_total > 0 THEN p.lockers_done::numeric / p.lockers_total END, 1)::float "
        f"FROM pg_stat_progress_create_index p WHERE p.pid IN (SELECT w.pid {_at_work_for(run_id)})"
    )
    if not rows:
        return None
    table, index, phase, percent = rows[0]
    return IndexBuild(table=table, index=index, phase=phase, percent=percent)


async def cancel(control: Session, run_id: UUID) -> None:
    """Cancel the statement that the run's working backend is at."""
    await control.execute(f"SELECT pg_cancel_backend(w.pid) {_at_work_for(run_id)} AND w.state = 'active'")


async def end_work_of(control: Session, run_id: UUID) -> None:
    """End what the run's working backend is still at, so that a look at the database afterwards stays true."""
    await control.execute(f"SELECT pg_terminate_backend(w.pid, {_END_TIMEOUT_MS}) {_at_work_for(run_id)}")


async def end_leftovers(control: Session) -> list[str]:
    """End the working backends of runs whose guard is gone; the sentences that report it.

    Such a backend may still hold table locks, and may commit in the moment before its fence would stop it;
    after this it can do neither. A live run of another history in the same database keeps its guard, and so
    is left alone.

    Raises:
        LockHeld: A backend did not end within five seconds.
    """
    ended = await control.execute(
        f"SELECT w.pid, worked_for.run, pg_terminate_backend(w.pid, {_END_TIMEOUT_MS}) "
        f"FROM pg_stat_activity w {_RUN_OF_W} "
        "WHERE w.datname = current_database() AND w.usename = current_user AND w.state <> 'idle' "
        "AND worked_for.run IS NOT NULL "
        "AND NOT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity g ON g.pid = l.pid "
        "WHERE l.locktype = 'advisory' AND l.granted AND l.database = w.datid "
        "AND starts_with(g.application_name, 'migrate/' || worked_for.run || ' '))"
    )
    for pid, run, gone in ended:
        if not gone:
            raise LockHeld(
                f"Backend {pid} of the earlier run {run} does not end.",
                holder=Holder(pid=pid, run_id=UUID(run)).model_dump(mode="json"),
                waited_ms=_END_TIMEOUT_MS,
            )
    return [f"Ended backend {pid}, left behind by run {run}." for pid, run, _ in ended]
