"""The lock: one run at a time on one database, through any pooler, and never stuck.

A *guard* connection holds a transaction-level advisory lock in an open READ COMMITTED transaction. The
transaction pins its backend, so the lock holds through transaction poolers too; PostgreSQL itself ends the
transaction when the guard has been silent for longer than the lease. From the moment it has the lock the guard
runs only utility statements (SET LOCAL): a SELECT would take a snapshot, and a CREATE INDEX CONCURRENTLY
elsewhere would wait for it for ever.

Sources: PostgreSQL manual, "Explicit Locking / Advisory Locks", "Client Connection Defaults"
(idle_in_transaction_session_timeout), "CREATE INDEX / Building Indexes Concurrently".
"""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from app.database.connection import Session
from app.database.literals import literal
from app.errors import DatabaseUnavailable
from app.report import Holder

_BEATS_PER_LEASE = 3
_PAUSE_BETWEEN_BEATS_S = 0.5
_NAME_LENGTH = 63
"""PostgreSQL cuts application_name at NAMEDATALEN - 1 bytes."""

_GUARD_NAME = re.compile(r"migrate/(?P<run>[0-9a-f-]{36})(?: (?P<revision>\S+))?(?: (?P<progress>\d+/\d+))$")

_BROKEN = (DatabaseUnavailable, asyncpg.PostgresError, TimeoutError)

_DATABASE = "(SELECT oid FROM pg_database WHERE datname = current_database())"

GUARD_LOST = "the guard of this run no longer holds the lock"
CANCELLED = "this run was cancelled"
"""What PostgreSQL says when the fence fails; it comes back inside its message."""


def key(version_table: str) -> int:
    """The lock's key: the first 8 bytes, signed and big-endian, of the SHA-256 of the qualified version table.

    A DBA computes the same for the table `public.alembic_version` with
    `select ('x' || left(encode(sha256('migrate:public.alembic_version'), 'hex'), 16))::bit(64)::bigint`.
    """
    digest = hashlib.sha256(f"migrate:{version_table}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def _rows_of(lock_key: int, database: int | None = None) -> str:
    """The condition that finds the lock in pg_locks: a 64-bit key is split in two, and objsubid is 1.

    Args:
        lock_key: The lock's.
        database: The OID of the current database, where it is known.
    """
    high, low = (lock_key >> 32) & 0xFFFFFFFF, lock_key & 0xFFFFFFFF
    return (
        f"l.locktype = 'advisory' AND l.granted AND l.classid = {high} AND l.objid = {low} AND l.objsubid = 1 "
        f"AND l.database = {database or _DATABASE}"
    )


class Guard:
    """Holds the lock of one run on a session, and shows the run's progress to whoever looks.

    Once it has the lock the session is the guard's alone. `lost` is set once the lock is gone although the run
    did not give it back.
    """

    def __init__(self, session: Session, *, lock_key: int, run_id: UUID, lease_s: float) -> None:
        self.lost = asyncio.Event()
        self.key = lock_key
        self._session = session
        self._taken_at: datetime | None = None
        self._run_id = run_id
        self._lease_s = lease_s
        self._pid = self._database = 0
        self._revision, self._progress = "", "0/0"
        self._changed = asyncio.Event()
        self._is_told = False
        """The loop will hear that something is to be shown."""
        self._releasing = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._heartbeat: asyncio.Task[None] | None = None

    def fence(self, *, cancelled: str = "false") -> str:
        """A statement that succeeds only while this guard's backend holds the lock, and nobody has cancelled the run.

        The cast fails with GUARD_LOST or CANCELLED in its message; the count keeps the planner from folding it early.

        Args:
            cancelled: An SQL condition that tells whether the run is to end.
        """
        return (
            f"SELECT (CASE WHEN count(*) = 0 THEN '{GUARD_LOST}' WHEN {cancelled} THEN '{CANCELLED}' ELSE '1' END)"
            # What the view pg_locks is made of: this is asked twice in each revision.
            f"::integer FROM pg_lock_status() l WHERE l.pid = {self._pid} AND {_rows_of(self.key, self._database)}"
        )

    @property
    def holder(self) -> Holder:
        """This guard as a refused caller sees it."""
        return Holder(
            pid=self._pid,
            run_id=self._run_id,
            since=self._taken_at,
            revision=self._revision or None,
            progress=self._progress,
        )

    async def try_to_take_the_lock(self) -> bool:
        """One try, in a fresh transaction and one round trip; never blocks on the lock.

        A blocked waiter would deadlock with its holder's CREATE INDEX CONCURRENTLY.

        Raises:
            DatabaseUnavailable: or one of its children.
        """
        results = await self._session.results(
            "BEGIN ISOLATION LEVEL READ COMMITTED; "
            f"SET LOCAL idle_in_transaction_session_timeout = {round(self._lease_s * 1000)}; "
            f"{self._no_transaction_timeout()}"
            f"SELECT pg_try_advisory_xact_lock({self.key}), pg_backend_pid(), {_DATABASE}; "
            # The simple protocol leaves no portal, and so no snapshot, behind; a utility statement comes last
            # all the same, so that this holds with any protocol.
            f"{self._application_name()}",
        )
        taken, pid, database = results[-2].rows[0]
        if not taken:
            await self._session.execute("ROLLBACK")
            return False
        self._pid, self._database = int(pid), int(database)
        self._taken_at = datetime.now(UTC)
        self._session.on_end(self._lose)
        self._heartbeat = asyncio.create_task(self._beat(), name=f"heartbeat of run {self._run_id}")
        return True

    def show(self, revision: str, progress: str) -> None:
        """Show where the run is, from any thread; a heartbeat follows soon."""
        self._revision, self._progress = revision, progress
        if not self._is_told:  # waking the loop's thread costs a quick revision more than its own work does
            self._is_told = True
            self._loop.call_soon_threadsafe(self._changed.set)

    async def confirm(self) -> None:
        """Prove to PostgreSQL that the run is alive, which renews the lease; sets `lost` where it is too late."""
        try:
            await asyncio.wait_for(self._session.execute(self._application_name()), self._lease_s)
        except _BROKEN:
            self._lose()

    async def release(self) -> None:
        """Give the lock back. Never raises: a lock that is lost is free as well."""
        if self._heartbeat is None:
            return
        self._releasing.set()
        self._changed.set()
        await self._heartbeat
        if not self.lost.is_set():
            with contextlib.suppress(*_BROKEN):
                await asyncio.wait_for(self._session.execute("COMMIT"), self._lease_s)

    async def _beat(self) -> None:
        interval = self._lease_s / _BEATS_PER_LEASE
        pause = min(_PAUSE_BETWEEN_BEATS_S, interval)
        while True:
            await _either(self._changed, interval - pause)
            if self._releasing.is_set() or self.lost.is_set():
                return
            self._changed.clear()
            self._is_told = False
            await self.confirm()
            # A hundred quick revisions are not worth a hundred beats.
            await _either(self._releasing, pause)

    def _lose(self) -> None:
        if not self._releasing.is_set():
            self.lost.set()
            self._changed.set()

    def _application_name(self) -> str:
        head, tail = f"migrate/{self._run_id} ", f" {self._progress}"
        # What is not printable ASCII PostgreSQL would show as question marks or escapes.
        revision = re.sub(r"[^!-~]", "?", self._revision)[: max(_NAME_LENGTH - len(head) - len(tail), 0)]
        return f"SET LOCAL application_name = {literal(head + (revision + tail).strip())}"

    def _no_transaction_timeout(self) -> str:
        # PostgreSQL 17 and newer can end long transactions by a role's setting; this one is long by design.
        return "SET LOCAL transaction_timeout = 0; " if self._session.server_version >= (17, 0) else ""


async def _either(event: asyncio.Event, timeout_s: float) -> None:
    """Wait until the event or until the time is over, whichever comes first."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)


@asynccontextmanager
async def guard(session: Session, *, lock_key: int, run_id: UUID, lease_s: float) -> AsyncIterator[Guard]:
    """A guard on `session` that has not taken the lock yet; leaving gives the lock back, if it has."""
    held = Guard(session, lock_key=lock_key, run_id=run_id, lease_s=lease_s)
    try:
        yield held
    finally:
        await held.release()


async def holder(control: Session, lock_key: int) -> Holder | None:
    """Who holds the lock, or None. What the role may not see (another role's run) is null."""
    rows = await control.execute(
        "SELECT l.pid, a.application_name, a.xact_start "
        f"FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE {_rows_of(lock_key)}"
    )
    if not rows:
        return None
    pid, name, since = rows[0]
    shown = _GUARD_NAME.match(name or "")
    return Holder(
        pid=pid,
        since=since.astimezone(UTC) if since else None,
        run_id=UUID(shown["run"]) if shown else None,
        revision=shown["revision"] if shown else None,
        progress=shown["progress"] if shown else None,
    )
