"""The answers: what a run, a plan, a status and the ledger look like in JSON and in Python.

Times are RFC 3339 in UTC, durations whole milliseconds.
"""

from app.report.base import Deployment, Direction, Report, Revision
from app.report.drift import Change, Difference, Drift, Fingerprint
from app.report.plan import LEVELS, Finding, Level, ModifiedRevision, Plan, PlannedRevision
from app.report.record import (
    AcceptedFinding,
    IndexBuild,
    Outcome,
    RecordedRun,
    RecordedRunWithSteps,
    RecordedStep,
    RunInDetail,
    Runs,
    RunState,
)
from app.report.rehearsal import Rehearsal, RehearsedStep, Rewritten, RowsChanged
from app.report.run import (
    Accepted,
    Answered,
    Blocker,
    Emit,
    Event,
    Reached,
    Run,
    Step,
    TableLock,
    Waited,
)
from app.report.selection import Selection, cursor
from app.report.stamp import Proposal
from app.report.status import (
    BrokenIndex,
    Database,
    Environment,
    Health,
    Holder,
    Lock,
    PoolMode,
    State,
    Status,
)

__all__ = [
    "LEVELS",
    "Accepted",
    "AcceptedFinding",
    "Answered",
    "Blocker",
    "BrokenIndex",
    "Change",
    "Database",
    "Deployment",
    "Difference",
    "Direction",
    "Drift",
    "Emit",
    "Environment",
    "Event",
    "Finding",
    "Fingerprint",
    "Health",
    "Holder",
    "IndexBuild",
    "Level",
    "Lock",
    "ModifiedRevision",
    "Outcome",
    "Plan",
    "PlannedRevision",
    "PoolMode",
    "Proposal",
    "Reached",
    "RecordedRun",
    "RecordedRunWithSteps",
    "RecordedStep",
    "Rehearsal",
    "RehearsedStep",
    "Report",
    "Revision",
    "Rewritten",
    "RowsChanged",
    "Run",
    "RunInDetail",
    "RunState",
    "Runs",
    "Selection",
    "State",
    "Status",
    "Step",
    "TableLock",
    "Waited",
    "cursor",
]
