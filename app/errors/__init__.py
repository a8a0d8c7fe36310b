"""Everything that can go wrong, drawn as a tree.

    Problem
    ├── Unauthenticated, InsufficientScope          the key
    ├── BadSignature                                the webhook's sender
    ├── InvalidRequest                              the request
    │   ├── UnknownTarget
    │   ├── BodyTooLarge, WrongMediaType
    │   └── NotFound, MethodNotAllowed
    ├── StillRunning, IdempotencyKeyReused          what a key of an earlier call stands for
    ├── RunEnded                                    there is nothing left to cancel
    ├── NotConfigured                               the environment of the deployment
    ├── UnsuitableEnvPy                             its env.py
    ├── BrokenHistory                               the deployment's revisions
    ├── WrongDeployment                             the webhook's event is about another one
    ├── WrongEnvironment                            the database is another environment's
    ├── LockHeld                                    somebody else is at work
    ├── HistoryMismatch                             the database and the deployment disagree
    │   └── DatabaseAhead, Diverged, MultipleHeads, AlreadyVersioned
    ├── PlanRefused                                 what would run is not what may run
    │   └── PlanChanged, PlanRequired, UnsafePlan, RevisionModified
    ├── RehearsalNotAllowed, DowngradeNotAllowed    what this deployment does not do
    ├── RehearsalFailed                             a rehearsal has found something
    ├── RunStopped                                  a run began and did not reach its target
    │   ├── TimeBudgetExhausted, LockTimeout, LockLost, StatementTimeout, MigrationFailed
    │   └── Cancelled
    ├── DatabaseUnavailable                         the way to the database
    │   └── TlsFailed, DatabaseAuthFailed, PermissionDenied, ReadOnlyDatabase
    └── InternalError                               a defect of ours

Each class knows its slug, its status, whether the same call may succeed later, and a hint that says what to do
next. `Problem.document` is the answer of RFC 9457. The message is the product: it must help, and it must
never hold a secret, a statement's parameters or a traceback.
"""

from app.errors.caller import (
    BadSignature,
    BodyTooLarge,
    IdempotencyKeyReused,
    InsufficientScope,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RunEnded,
    StillRunning,
    Unauthenticated,
    UnknownTarget,
    WrongMediaType,
)
from app.errors.database import (
    DatabaseAuthFailed,
    DatabaseUnavailable,
    PermissionDenied,
    ReadOnlyDatabase,
    TlsFailed,
)
from app.errors.deployment import (
    BrokenHistory,
    InternalError,
    NotConfigured,
    UnsuitableEnvPy,
    WrongDeployment,
    WrongEnvironment,
)
from app.errors.plan import (
    DowngradeNotAllowed,
    PlanChanged,
    PlanRefused,
    PlanRequired,
    RehearsalFailed,
    RehearsalNotAllowed,
    RevisionModified,
    UnsafePlan,
)
from app.errors.run import (
    AlreadyVersioned,
    Cancelled,
    DatabaseAhead,
    Diverged,
    HistoryMismatch,
    LockHeld,
    LockLost,
    LockTimeout,
    MigrationFailed,
    MultipleHeads,
    RunStopped,
    StatementTimeout,
    TimeBudgetExhausted,
)

__all__ = [
    "AlreadyVersioned",
    "BadSignature",
    "BodyTooLarge",
    "BrokenHistory",
    "Cancelled",
    "DatabaseAhead",
    "DatabaseAuthFailed",
    "DatabaseUnavailable",
    "Diverged",
    "DowngradeNotAllowed",
    "HistoryMismatch",
    "IdempotencyKeyReused",
    "InsufficientScope",
    "InternalError",
    "InvalidRequest",
    "LockHeld",
    "LockLost",
    "LockTimeout",
    "MethodNotAllowed",
    "MigrationFailed",
    "MultipleHeads",
    "NotConfigured",
    "NotFound",
    "PermissionDenied",
    "PlanChanged",
    "PlanRefused",
    "PlanRequired",
    "ReadOnlyDatabase",
    "RehearsalFailed",
    "RehearsalNotAllowed",
    "RevisionModified",
    "RunEnded",
    "RunStopped",
    "StatementTimeout",
    "StillRunning",
    "TimeBudgetExhausted",
    "TlsFailed",
    "Unauthenticated",
    "UnknownTarget",
    "UnsafePlan",
    "UnsuitableEnvPy",
    "WrongDeployment",
    "WrongEnvironment",
    "WrongMediaType",
]
