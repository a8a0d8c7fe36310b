"""The footprint of a revision: which tables it has locked, for how long, and which it has written anew.

PostgreSQL tells both only while the transaction is open, and only of the state that it is in. So each COMMIT looks at
what is locked, in its own message. Which tables are written anew, or gone, shows beside a note of those that there
were: one is made before the first statement that may do that, by its words, in the same message or in that of the
BEGIN, and kept in a setting of the transaction's own. When a lock was taken is seen by looks in between: one goes in
front of a statement without parameters when there was none for 10 ms, in the same message.

Sources: PostgreSQL manual, "pg_locks", "Explicit Locking" (table 13.2), "pg_class" (relfilenode), "SET" (SET LOCAL).
"""

import re
import time
from dataclasses import dataclass, field
from typing import Any

from app.database.literals import identifier, json_literal, literal

_EVERY_S, _EVERY_S_PER_LOCK = 0.01, 0.0001
"""How much time is to lie between two looks. More where there are many locks, since each look reads all of them."""
_EVERY_SHARE = 20
"""And so many times as long as a look by itself took, where each one is: over a driver that tells of a message only the
last result."""
_MOST_TABLES = 10_000
"""So many tables are noted at most, in a few dozen milliseconds. Of the rest nothing is told."""
_MOST_TOLD = 100
_MOST_ON_RECORD = 2 * _MOST_TOLD
"""A lock may be there twice: as it is held now, and since when it was seen."""
_NO_NAMES = "'{}'::text[]"

_BEFORE = "migration_endpoint.before"
"""A setting, set for the length of a transaction: nothing of it is left to whoever gets the backend next."""

_OWN_LOCKS = (
    "FROM pg_lock_status() WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted AND relation >= 16384 "
    "AND mode <> 'SIReadLock'"
)
"""What the view pg_locks is made of, since to expand the view takes as long as to read it. From 16384 on OIDs are no
longer PostgreSQL's own (FirstNormalObjectId). An SIReadLock blocks nobody."""
LOOK = f"SELECT relation, mode {_OWN_LOCKS}"
"""Short, since it stands before the statement in pg_stat_activity too, which cuts its queries."""

_KEEPS_OUT = {
    "AccessShareLock": 128,
    "RowShareLock": 192,
    "RowExclusiveLock": 240,
    "ShareUpdateExclusiveLock": 248,
    "ShareLock": 236,
    "ShareRowExclusiveLock": 252,
    "ExclusiveLock": 254,
    "AccessExclusiveLock": 255,
}
"""The modes from the mildest on, with the set of modes that each keeps out: bit 0 is the first of them."""
_MODES = tuple(_KEEPS_OUT)
_LEVEL = f"array_position('{{{','.join(_MODES)}}}', mode)"

_MAY_REWRITE = re.compile(r"\b(?:alter|drop|truncate|cluster|refresh|do|call|select|execute)\b", re.IGNORECASE)
"""Words of statements that may write tables anew, or drop them. What a function does that a SELECT calls is told only
if the SELECT begins its transaction: later there is no room for a note, in front of one that PostgreSQL prepares."""

_KINDS = "relkind = ANY ('{r,p,m,f,v}') AND relpersistence <> 't'"
_MADE_HERE = (
    "EXISTS(SELECT FROM pg_attribute WHERE attrelid=c.oid AND attnum=CASE relkind WHEN 'v' THEN 1 ELSE -1 END "
    "AND age(xmin)<=0)"
)
"""This transaction has made the table `c`: the row of a system attribute, or of a view's first one, is written once,
and age() is 0 for the transaction itself, and less for its savepoints."""
_TABLES = (  # short, as LOOK
    "(SELECT json_object_agg(oid,json_build_array(relfilenode,oid::regclass))FROM("
    f"SELECT oid,relfilenode FROM pg_class c WHERE oid>=16384 AND {_KINDS} AND(age(xmin)>0 OR NOT {_MADE_HERE}) "
    f"LIMIT {_MOST_TABLES})t)::text"
)
NOTE = f"SELECT set_config('{_BEFORE}',{_TABLES},true)IS NULL"
"""A statement that notes which tables there are."""
_NOTED = (
    "(SELECT key::oid AS oid, (value ->> 0)::oid AS relfilenode, value ->> 1 AS name "
    f"FROM json_each(coalesce(nullif(current_setting('{_BEFORE}', true), ''), {_TABLES})::json))"
)
"""The tables that there were; those that there are, where a savepoint or a RESET has taken the note back."""
REWRITTEN = (
    f"SELECT b.name, c.oid::regclass::text, pg_table_size(c.oid) FROM {_NOTED} AS b JOIN pg_class c USING (oid) "
    f"WHERE c.relfilenode <> b.relfilenode ORDER BY 1 LIMIT {_MOST_TOLD}"
)
"""A statement that tells which tables are written anew: their name before and now, and their size in bytes."""
WROTE_NOTHING = "pg_current_xact_id_if_assigned() IS NULL"
"""An SQL expression: the transaction has changed nothing in the catalog and written no row, as far as PostgreSQL had to
give it an id for that (manual, "Transaction ID and Snapshot Information Functions"). An ACCESS EXCLUSIVE lock has one
given too, by which a replica is told of it; so what is false may have written nothing nevertheless."""
NOTHING = "SELECT NULL::jsonb AS locks, NULL::text[] AS rewrote"
"""In the place of `Footprint.left`, where nobody has looked."""


def note_before(operation: str) -> str:
    """The statement that notes which tables there are, where an operation may write some anew; else nothing."""
    return NOTE if _MAY_REWRITE.search(operation) else ""


@dataclass(slots=True)
class Footprint:
    """The footprint of the revision that runs, as far as its transactions have shown it."""

    ledger_schema: str = ""
    version_table: str = ""
    """Left out, since they are ours and not the revision's."""
    locks: list[dict[str, Any]] = field(default_factory=list)
    """What the transactions that are committed have locked, as `report.TableLock` has it."""
    rewrote: list[str] = field(default_factory=list)
    """The tables that they wrote anew, or emptied."""
    wrote_nothing: bool = False
    """The last of them has changed nothing in the catalog and written no row, as far as that is known."""
    is_last: bool = False
    """The revision has run to its end, so the next COMMIT is that of its last transaction."""

    _is_whole: bool = False
    """The revision's step is on record, so the next transaction belongs to another revision."""
    _has_asked: bool = True
    """The one look of the revision that may take a round trip of its own was had; or there is no revision yet."""
    _is_first: bool = True
    """No statement was sent yet in this transaction."""
    _is_noted: bool = False
    """This transaction has noted which tables there were."""
    _seen_at: float = 0.0
    """When the locks were seen last, or the transaction began."""
    _since: dict[tuple[int, str], float] = field(default_factory=dict)
    """Since when a lock, by its table's OID and its mode, is held at the most."""
    _took_s: float = 0.0
    """How long the last look by itself took."""
    _over: dict[tuple[int, str], float] = field(default_factory=dict)
    """How long one was held that went with a savepoint, in seconds."""
    _held_before: list[tuple[int, str]] = field(default_factory=list)
    """The locks that the transaction held already when the revision began, in a rehearsal."""

    def starts_afresh(self) -> None:
        """Another revision begins, or the same one once more."""
        self.locks, self.rewrote = [], []
        self.is_last = self._is_whole = self._has_asked = False

    def begins(self, *, is_noted: bool, held: list[tuple[int, str]] | None = None) -> None:
        """A transaction has begun, and a statement follows at once.

        Args:
            is_noted: It has noted which tables there are.
            held: What it has locked already, as `LOOK` tells it, where it is a part of a longer one.
        """
        if self._is_whole:
            self.starts_afresh()
        self._is_first, self._seen_at = True, time.monotonic()
        self._is_noted = is_noted
        self._since, self._over = {}, {}
        self._held_before = held or []

    def has_begun(self) -> None:
        """The first statement was sent with the BEGIN."""
        self._is_first = False

    def note(self, operation: str) -> str:
        """What is to go before a statement that may write tables anew: nothing, if that was noted already."""
        note = "" if self._is_noted else note_before(operation)
        self._is_noted |= bool(note)
        return note

    def wants_a_look(self, *, alone: bool, always: bool = False) -> bool:
        """Whether a look is to go before the statement that is sent now.

        Args:
            alone: It would take a round trip of its own, which is done once in a revision,
            always: or, where each look does, as often as that costs little.
        """
        is_first, self._is_first = self._is_first, False
        due_s = max(_EVERY_S + _EVERY_S_PER_LOCK * len(self._since), _EVERY_SHARE * self._took_s if always else 0)
        if is_first or time.monotonic() - self._seen_at < due_s or (alone and self._has_asked and not always):
            return False
        self._has_asked |= alone
        return True

    def sees(self, locks: list[tuple[int, str]], *, at: float) -> None:
        """Take in what a look has seen that was sent at a time, by `time.monotonic`."""
        for gone in self._since.keys() - set(locks):
            self._over[gone] = max(self._over.get(gone, 0.0), at - self._since.pop(gone))
        for lock in locks:
            self._since.setdefault(lock, self._seen_at)
        self._seen_at, self._took_s = at, time.monotonic() - at

    @property
    def is_plain(self) -> bool:
        """Whether nothing was seen before of what this transaction has left."""
        return not (self._since or self._over or self._held_before or self.locks or self.rewrote)

    @property
    def held_ms(self) -> int:
        """How long a lock may have been held that was not there at the last look."""
        return _ms(time.monotonic() - self._seen_at)

    def left(self, held_ms: str | None = None) -> str:
        """The query for what the revision has left so far, including its earlier transactions: one row, of two columns.

        `locks` lists what `told` makes short; `rewrote` lists names. Nothing goes in that is not there to be told, and
        nothing is joined that need not be: to plan that, PostgreSQL would take longer than to make a table.

        Args:
            held_ms: What stands for the number of that name, where it comes otherwise.
        """
        held_ms = held_ms or str(self.held_ms)
        here = self._beside_the_note(held_ms) if self._is_noted else self._of_what_was_there(held_ms)
        strongest = f"SELECT * FROM here ORDER BY {_LEVEL} DESC, ms DESC, relation LIMIT {_MOST_ON_RECORD}"
        locks = "jsonb_agg(jsonb_build_object('relation', relation, 'mode', mode, 'held_ms', ms))"
        anew = f"SELECT DISTINCT relation FROM here WHERE anew ORDER BY 1 LIMIT {_MOST_TOLD}"
        return (
            f"WITH here AS ({here}) "
            f"SELECT coalesce({locks}, '[]') || {json_literal(self.locks)} AS locks, "
            f"{f'ARRAY({anew})' if self._is_noted else _NO_NAMES} || {literal(self.rewrote)} AS rewrote "
            f"FROM ({strongest}) AS strongest"
        )

    def _of_what_was_there(self, held_ms: str) -> str:
        """The locks on tables that this transaction has not made."""
        return (
            f"SELECT oid::regclass::text AS relation, mode, ms FROM ({self._taken(held_ms)}) AS taken WHERE "
            f"(SELECT {_KINDS} AND NOT {_MADE_HERE} AND {self._is_not_ours} FROM pg_class c WHERE c.oid = taken.oid)"
        )

    def _beside_the_note(self, held_ms: str) -> str:
        """The locks on tables that the note has, which alone knows the names of those that are gone."""
        return (
            "SELECT b.name AS relation, mode, ms, c.relfilenode <> b.relfilenode AS anew "
            f"FROM ({self._taken(held_ms)}) AS taken JOIN {_NOTED} AS b USING (oid) LEFT JOIN pg_class c USING (oid) "
            f"WHERE {self._is_not_ours}"
        )

    @property
    def _is_not_ours(self) -> str:
        """The condition for a table `c`; one that is gone is the revision's."""
        return (
            f"c.relname IS DISTINCT FROM {literal(self.version_table)} "
            f"AND c.relnamespace IS DISTINCT FROM to_regnamespace({literal(identifier(self.ledger_schema))})"
        )

    def _taken(self, held_ms: str) -> str:
        """The locks that the transaction has, and those that it has had, by OID."""
        now = time.monotonic()
        since = {lock: now - since for lock, since in self._since.items()}
        since |= {lock: max(held_s, since.get(lock, 0.0)) for lock, held_s in self._over.items()}
        taken = f"SELECT relation AS oid, mode, {held_ms} AS ms {_OWN_LOCKS}"
        if since:  # not a SELECT for each: thousands of them would be too deep for the parser
            seen = ", ".join(f"({oid}::oid, {literal(mode)}, {_ms(held_s)})" for (oid, mode), held_s in since.items())
            taken += f" UNION ALL VALUES {seen}"
        if self._held_before:
            held = ", ".join(f"({oid}::oid, {literal(mode)})" for oid, mode in self._held_before)
            taken = f"SELECT * FROM ({taken}) AS taken WHERE (oid, mode) NOT IN (VALUES {held})"
        return taken

    def look_back(self) -> str:
        """A statement that tells what the revision has left, as `commits` takes it."""
        return f"SELECT locks, to_json(rewrote), {WROTE_NOTHING} FROM ({self.left()}) AS footprint"

    def commits(self, locks: list[dict[str, Any]], rewrote: list[str], wrote_nothing: bool, *, is_whole: bool) -> None:  # noqa: FBT001 – a row's columns
        """Keep what `look_back` or an entry has told, now that its transaction is committed.

        Args:
            locks: Its first column.
            rewrote: Its second one.
            wrote_nothing: Its third one.
            is_whole: The revision has run to its end.
        """
        self.locks, self.rewrote = told(locks), sorted(set(rewrote))[:_MOST_TOLD]
        self.wrote_nothing = wrote_nothing
        self._is_whole, self.is_last = is_whole, False


def told(locks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The locks that tell something, the strongest first, of those that were put on record.

    One that keeps nobody out whom another on the same table does not keep out as long tells nothing.
    """
    longest: dict[tuple[str, str], int] = {}
    for each in locks:
        lock = each["relation"], each["mode"]
        longest[lock] = max(each["held_ms"], longest.get(lock, 0))
    telling = [
        (relation, mode, held_ms)
        for (relation, mode), held_ms in longest.items()
        if not any(
            other == relation
            and stronger != mode
            and longer_ms >= held_ms
            and _KEEPS_OUT[stronger] & _KEEPS_OUT[mode] == _KEEPS_OUT[mode]
            for (other, stronger), longer_ms in longest.items()
        )
    ]
    telling.sort(key=lambda lock: (-_MODES.index(lock[1]), -lock[2], lock[0]))
    return [
        {"relation": relation, "mode": mode, "held_ms": held_ms} for relation, mode, held_ms in telling[:_MOST_TOLD]
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
