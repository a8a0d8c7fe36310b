"""The fence of a run: what stands around each of its transactions, so that a run without its lock changes nothing.

BEGIN carries our settings and a check that the guard still holds the lock, COMMIT the same check once more; both
travel in the round trip of the BEGIN or COMMIT itself. Limits are SET LOCAL in each transaction, since a session's
SET leaks to strangers through a pooler.
"""

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.database import backends, driver_error, indexes
from app.database.entry import Entry
from app.database.footprint import Footprint
from app.database.literals import literal
from app.database.lock import CANCELLED, GUARD_LOST
from app.database.prepared import Prepared
from app.database.session_settings import AS_LOGIN, AS_ROLE, NONE, ROLE_AGAIN, SessionSettings
from app.database.simple_query import ResultSet
from app.database.wire import LAST, Wire
from app.errors import Cancelled, LockLost, MigrationFailed

_PID = "pg_backend_pid()"
_VERSION_MOVED = "the version table was changed by somebody else"
CONFIRMED = f"SELECT (CASE count(*) WHEN 1 THEN '1' ELSE '{_VERSION_MOVED}' END)::integer FROM moved"
"""A query that fails where a `Move.made` has moved no row, as Alembic would."""
_INVALID_TEXT = "22P02"
"""What PostgreSQL says of a word that is no number, as `CONFIRMED` and the check make it."""
_LONGEST_TIMEOUT_MS = 2**31 - 1
_THROUGH_A_POOLER = (
    "Set MIGRATION_DATABASE_URL to the direct (unpooled) connection string. Or have the server set them at each login "
    "(`ALTER ROLE <login> SET search_path = …`, likewise `role`), and unset them here."
)


@dataclass(frozen=True, slots=True)
class Move:
    """A move of the version, which can wait for the COMMIT: the UPDATE, INSERT or DELETE of one row."""

    sql: str
    """The statement, with `$1` where the new version stands in it, and `$2` for the one before."""
    to: str
    before: str
    """Both as SQL; empty where there is none."""
    earlier: "Move | None" = None
    """What is to be moved before it, as at a merge."""

    @property
    def is_an_update(self) -> bool:
        """It is the only one, and as most are."""
        return bool(self.to and self.before) and self.earlier is None

    def made(self, to: str | None = None, before: str | None = None) -> str:
        """The part of a WITH clause that makes the move, for `CONFIRMED`.

        Args:
            to: What stands for the new version, where it comes otherwise.
            before: Likewise.
        """
        values = {"$1": to or self.to, "$2": before or self.before}
        return f"moved AS ({re.sub(r'[$][12]', lambda found: values[found[0]], self.sql)} RETURNING 1)"

    @property
    def confirmed(self) -> list[str]:
        """The statements that make the move, and fail where it moves no row."""
        return [*(self.earlier.confirmed if self.earlier else []), f"WITH {self.made()} {CONFIRMED}"]


@dataclass(slots=True)
class Fence:
    """What stands around every transaction of a run, and what was seen of them."""

    check: str
    """A statement that fails once the guard is gone or the run is cancelled: `lock.Guard.fence`."""
    settings: tuple[tuple[str, str], ...]
    """What is set at the start of each transaction, and for its length: names and values."""
    mark: str
    """What a statement begins with that runs outside of a transaction."""
    session_is_ours: bool
    """No pooler stands between, so that what a session sets is not left behind for a stranger."""
    remaining_s: Callable[[], float]
    """How long the run may still go on, in seconds; infinite without a time budget."""
    session_settings: SessionSettings = NONE
    """What is set for the revisions at each BEGIN: their role after all that is ours."""
    knows_roles: bool = field(default=False, init=False)
    """A role may speak: that of the settings, or one that a revision has set, which may last as long as the session."""
    footprint: Footprint = field(default_factory=Footprint)
    """What the revision that runs has locked."""
    builds: indexes.Record | None = None
    """Where concurrent builds of the revision that runs go on record; None where they cannot."""
    dropped: list[str] = field(default_factory=list)
    """The INVALID indexes that were dropped to be built again."""
    at_commit: list[Entry] = field(default_factory=list)
    """The ledger's entries that the next COMMIT carries."""
    move: Move | None = None
    """The move of the version that waits to go with the COMMIT."""
    commits: int = 0
    """How often something was committed, or may have been, before its revision had run to its end."""
    pid: int | None = field(default=None, init=False)
    """The backend that a transaction is open on, whatever name a revision gives it; None between transactions."""
    is_connected: bool = field(default=False, init=False)
    """Whether the connection was there when the work on it ended; what was lost then is not it."""
    asked_at: float | None = field(default=None, init=False)
    """Since when the database owes an answer, by `time.monotonic`; None while it owes none."""

    _all_at_begin: str = field(init=False)
    """What a BEGIN carries in one statement, with the milliseconds that are left in it as `$1`."""

    def __post_init__(self) -> None:
        self.knows_roles = bool(self.session_settings.role)
        ours = [f"set_config({literal(name)}, {literal(value)}, true)" for name, value in self.settings]
        settings = [*self.session_settings.assignments(), *ours]
        timeout = f"CASE WHEN $1 IS NOT NULL THEN {_statement_timeout('$1', local=True)} END"
        self._all_at_begin = f"SELECT {', '.join([_PID, *settings, timeout])}, ({self.check})"

    def at_begin(self, note: str = "", prepared: Prepared | None = None) -> list[str]:
        """The statements that a BEGIN carries, a note of the footprint's among them; the last one tells the pid.

        Args:
            note: The footprint's.
            prepared: What the session keeps ready, where it may.
        """
        # What is ready is read anew where the search path finds other schemas, as it may for a role.
        if prepared and not self.knows_roles and prepared.is_worth(self._all_at_begin):
            begins = prepared.execute(self._all_at_begin, ("text",), (literal(self._left_ms()),))
        else:
            assigned = ", ".join(self.session_settings.assignments())
            settings = [
                f"SELECT {assigned}" if assigned else "",
                *(f"SET LOCAL {name} = {literal(value)}" for name, value in self.settings),
            ]
            begins = [*settings, self._limit(local=True), self.check, f"SELECT {', '.join([_PID, *self._role_again])}"]
        path = self.session_settings.path if note else []  # by which the note names tables, as the COMMIT will
        return [each for each in (*self.as_login, *path, note, *begins) if each]

    @property
    def as_login(self) -> list[str]:
        """The statement after which it is the login that speaks, where a role may do so."""
        return [AS_LOGIN] if self.knows_roles else []

    @property
    def as_role(self) -> list[str]:
        """The statement after which that role speaks again, behind `as_login`."""
        return [AS_ROLE] if self.knows_roles else []

    @property
    def _role_again(self) -> list[str]:
        """The same as an expression, at a BEGIN, where the role of the settings comes first."""
        return self.session_settings.role_assignment() or [ROLE_AGAIN] * self.knows_roles

    @property
    def before_a_statement(self) -> list[str]:
        """The statements that go before one that no transaction of ours will hold back.

        Behind a pooler nothing can be set for it.
        """
        limit = self._limit(local=False) if self.session_is_ours else ""
        return [*filter(None, [limit]), *self.checked]

    @property
    def checked_within(self) -> list[str]:
        """The check within a transaction of a revision's, which goes on as it was."""
        return [*self.as_login, self.check, *self.as_role]

    @property
    def checked(self) -> list[str]:
        """The check where no transaction of ours is open.

        Raises:
            MigrationFailed: What follows would be done to other tables, or as somebody else.
        """
        theirs = self.session_settings
        if not self.session_is_ours and (theirs.role or theirs.search_path):
            raise MigrationFailed(
                f"Behind a pooler {' and '.join(theirs.variables)} cannot hold outside of a transaction, as in an "
                "autocommit block.",
                hint=_THROUGH_A_POOLER,
                sqlstate=None,
                message=None,
            )
        return [*self.as_login, self.check]

    async def send(self, wire: Wire, sql: Sequence[str], wanted: Sequence[int] = LAST) -> list[ResultSet]:
        """Send statements among which is the check; the results of those that are wanted, as `Wire.send` has it.

        Raises:
            LockLost, Cancelled, MigrationFailed: as `explaining` says.
        """
        with self.asking(), self.explaining():
            return await wire.send(sql, wanted)

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Around what is sent with a check in it.

        Raises:
            LockLost: The guard is gone.
            Cancelled: Somebody has asked for the end of the run.
            MigrationFailed: The version was not where the statement that moves it expects it.
        """
        try:
            yield
        except Exception as error:
            said = driver_error.words(error) if driver_error.sqlstate(error) == _INVALID_TEXT else ""
            if GUARD_LOST in said:
                raise LockLost("The lock was lost, so nothing more is committed.") from None
            if CANCELLED in said:
                raise Cancelled("The run was cancelled, so nothing more is committed.") from None
            if _VERSION_MOVED in said:
                raise MigrationFailed(
                    "The version table does not say any more that the database is at the revision before this one.",
                    hint="Somebody has changed it while the run went on. See GET /plan, then call again.",
                    sqlstate=None,
                    message=None,
                ) from None
            raise

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Around what waits for an answer, for a watcher who sees that none will come."""
        before, self.asked_at = self.asked_at, time.monotonic()
        try:
            yield
        finally:
            self.asked_at = before

    def _limit(self, *, local: bool) -> str:
        """The statement that limits how long a statement may take; nothing where nothing does."""
        milliseconds = self._left_ms()
        return f"SELECT {_statement_timeout(literal(milliseconds), local=local)}" if milliseconds else ""

    def _left_ms(self) -> str | None:
        """How long a statement may take; None where nothing limits it."""
        remaining_s = self.remaining_s()
        return None if math.isinf(remaining_s) else str(min(max(round(remaining_s * 1000), 1), _LONGEST_TIMEOUT_MS))


def _statement_timeout(milliseconds: str, *, local: bool) -> str:
    """PostgreSQL gives up before the platform ends the function; a stricter limit of the role's stays."""
    return (
        f"CASE WHEN current_setting('statement_timeout')::interval NOT BETWEEN '1 millisecond' AND "
        f"({milliseconds} || ' milliseconds')::interval "
        f"THEN set_config('statement_timeout', {milliseconds}, {literal(local)}) END"
    )


def around(
    check: str,
    *,
    run_id: UUID,
    lease_s: float,
    lock_timeout_s: float,
    pooler: bool,
    remaining_s: Callable[[], float] = lambda: math.inf,
    footprint: Footprint | None = None,
    session_settings: SessionSettings = NONE,
) -> Fence:
    """The fence around the transactions of a run."""
    lease_ms, lock_timeout_ms = round(lease_s * 1000), round(lock_timeout_s * 1000)
    return Fence(
        check=check,
        settings=(
            ("application_name", backends.working_name(run_id)),
            # A frozen function must not sit on table locks for longer than its run may last.
            ("idle_in_transaction_session_timeout", str(lease_ms)),
            # DDL that waits for a table makes every reader queue behind it.
            ("lock_timeout", str(lock_timeout_ms)),
            # The statement of a client that was killed ends in a second, instead of running to its end.
            ("client_connection_check_interval", "1000"),
        ),
        mark=backends.mark(run_id),
        session_is_ours=not pooler,
        remaining_s=remaining_s,
        session_settings=session_settings,
        footprint=footprint or Footprint(),
    )
