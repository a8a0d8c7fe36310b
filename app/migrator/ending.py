"""What ended a run before its target, in our words: the problem that its caller gets and the ledger keeps."""

import math
from typing import Any

from app.errors import (
    Cancelled,
    DatabaseUnavailable,
    LockLost,
    LockTimeout,
    MigrationFailed,
    PermissionDenied,
    ReadOnlyDatabase,
    StatementTimeout,
    TimeBudgetExhausted,
)
from app.migrator import advice, cause, glance, passing
from app.migrator.work import Work
from app.problem import Problem
from app.report import Revision

_NO_MORE_TIME_FOR_ALL = (
    "No call gives these revisions more time, and they share a transaction (MIGRATION_TRANSACTION_PER_RUN), so none of "
    "them is applied. Raise MIGRATION_TIME_BUDGET or the function's maxDuration, unset that variable, call with a "
    "nearer `target`, or run them where nothing limits it: python -m app migrate."
)
_STARTS_AGAIN = (
    "Call again: the next run has more time. It starts again with the first revision, since they share a transaction "
    "(MIGRATION_TRANSACTION_PER_RUN) and none of them is applied."
)
_BEGINS_AGAIN = (
    "Correct the revision and deploy again; the next call starts again with the first one, since they share a "
    "transaction (MIGRATION_TRANSACTION_PER_RUN)."
)
_QUERY_CANCELED, _INSUFFICIENT_PRIVILEGE, _READ_ONLY = "57014", "42501", "25006"


def problem(work: Work, error: BaseException) -> Problem:
    """Say what ended a run's work before its target."""
    revision = work.running
    members: dict[str, Any] = {
        "run_id": str(work.run_id),
        "revision": revision.revision if revision else None,
        **so_far(work),
    }
    rolled_back = not work.left_something
    what_stays, left = _what_stays(rolled_back=rolled_back)
    if isinstance(error, LockLost) or work.guard.lost.is_set():
        return LockLost(f"The lock was lost during the run; {what_stays}.", **left, **members)
    if isinstance(error, TimeBudgetExhausted) and work.in_one:
        return _out_of_time(work, error.detail, rolled_back=rolled_back, **members)
    if isinstance(error, Problem):
        error.members = {**members, "rolled_back": rolled_back, **error.members}
        return error
    where = f"Revision {revision.revision}" if revision else "The upgrade"
    words = cause.message(error)
    code = cause.sqlstate(error)
    is_out_of_time = work.deadline.is_over and _was_cut_short(work, error)
    if passing.is_passing(error) or (is_out_of_time and work.is_blocked):
        return LockTimeout(
            f"{where} could not get its locks in {work.tries + 1} attempts ({words}).",
            attempts=work.tries + 1,
            rolled_back=rolled_back,
            blockers=[blocker.model_dump() for blocker in work.blockers],
            sqlstate=code,
            **members,
        )
    if is_out_of_time:
        said = f"{where} was cancelled, since the time of the run was over ({max(work.deadline.given_s, 0):.0f} s)."
        return _out_of_time(work, said, rolled_back=rolled_back, sqlstate=code, **members)
    match code:
        case code if code == _QUERY_CANCELED:
            return StatementTimeout(
                f"{where} was cancelled ({words}).", rolled_back=rolled_back, sqlstate=code, **members
            )
        case code if code == _READ_ONLY:
            return ReadOnlyDatabase(f"{where} could not write: {words}.", sqlstate=code, **members)
        case code if code == _INSUFFICIENT_PRIVILEGE and revision is None:
            return PermissionDenied(f"{words}.", sqlstate=code, **members)
        case _ if _has_lost_its_connection(work, error):
            return DatabaseUnavailable(
                f"{where} lost its connection ({words}); {what_stays}.",
                hint=(
                    "Call again: the next run continues here. If it happens each time, the revision may hold a "
                    "transaction without a statement for longer than MIGRATION_LEASE."
                ),
                **left,
                **members,
            )
        case _:
            place = cause.place(error, *glance.places(work.settings).rooms)
            hint = advice.hint(error, driver=work.settings.driver, is_first=work.is_first)
            return _failure(
                work, where, words, rolled_back=rolled_back, hint=hint, sqlstate=code, where=place, **members
            )


def _what_stays(*, rolled_back: bool) -> tuple[str, dict[str, Any]]:
    """What is to be said where nobody knows whether a COMMIT was heard, in words and as members: only what stays."""
    if rolled_back:
        return "what was not committed is rolled back", {}
    return "what its revision had committed by itself stays, and the rest is rolled back", {"rolled_back": False}


def on_request(problem: Problem) -> Problem:
    """What a problem is when somebody has asked for the end of the run, however the revision took it.

    One that is to be tried again would bring back what was to end. A lost lock or connection stays what it is.
    """
    if isinstance(problem, Cancelled | LockLost | DatabaseUnavailable):
        return problem
    left = "" if problem.members.get("rolled_back", True) else ", except what its revision had committed by itself"
    words = {"message": problem.detail, **problem.members}
    return Cancelled(f"The run was cancelled; what was not committed is rolled back{left}.", **words)


def so_far(work: Work) -> dict[str, Any]:
    """The members that say how far the run has got."""
    return {
        "applied": [step.model_dump() for step in work.applied],
        "remaining": [revision.model_dump() for revision in work.remaining],
    }


def not_applied(work: Work, missing: list[Revision]) -> Problem:
    """Say that every revision ran without an error, and that the database lacks some nevertheless."""
    names = ", ".join(revision.revision for revision in missing)
    return MigrationFailed(
        f"Every revision ran without an error, but read back, the database lacks {names}.",
        hint="A revision probably ended its transaction by itself; see whether it rolled back.",
        run_id=str(work.run_id),
        revision=missing[0].revision,
        sqlstate=None,
        message=None,
        rolled_back=False,
        applied=[step.model_dump() for step in work.applied],
        remaining=[revision.model_dump() for revision in missing],
    )


def _was_cut_short(work: Work, error: BaseException) -> bool:
    """Whether PostgreSQL or a watcher ended it, rather than something went wrong in it."""
    return (
        cause.sqlstate(error) == _QUERY_CANCELED
        or _has_lost_its_connection(work, error)
        or isinstance(error, TimeoutError)
    )


def _has_lost_its_connection(work: Work, error: BaseException) -> bool:
    """Whether the connection has ended that the revisions run on, rather than one that a revision has opened itself."""
    return not work.is_connected and cause.is_a_lost_connection(error)


def _starts_again(work: Work) -> bool:
    """Whether the next run begins where this one began, since its transaction was the only one."""
    return work.in_one and not (work.applied or work.left_something)


def _out_of_time(work: Work, said: str, **members: Any) -> Problem:  # noqa: ANN401 – members of a problem
    if _starts_again(work):
        if not math.isinf(work.had_s) and work.deadline.is_most(work.had_s):  # endless: not one of them was started
            return StatementTimeout(said, hint=_NO_MORE_TIME_FOR_ALL, **members)
        return TimeBudgetExhausted(said, hint=_STARTS_AGAIN, **members)
    if work.running is None or work.applied or not work.deadline.is_most(work.had_s):
        return TimeBudgetExhausted(said, **members)
    # It had the whole time of a run: to call again would end in the same way.
    return StatementTimeout(
        said,
        hint=(
            "No call gives this revision more time. Raise MIGRATION_TIME_BUDGET or the function's maxDuration, split "
            "the revision into smaller ones, or run it where nothing limits it: python -m app migrate."
        ),
        **members,
    )


def _failure(
    work: Work,
    who: str,
    words: str,
    *,
    rolled_back: bool,
    hint: str | None,
    **members: Any,  # noqa: ANN401 – as above
) -> Problem:
    state = "it is rolled back" if rolled_back else "what it had committed by itself stays"
    if _starts_again(work):
        state, hint = "the whole run is rolled back", hint or _BEGINS_AGAIN
    return MigrationFailed(
        f"{who} failed: {words}; {state}.", hint=hint, message=words, rolled_back=rolled_back, **members
    )
