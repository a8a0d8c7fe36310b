"""The footprint of a revision: which tables it has locked, for how long, and which it has written anew.

PostgreSQL tells both only while the transaction is open, and only of the state that it is in. So each COMMIT looks at
what is locked, in its own message. Which tables are written anew, or gone, shows beside a note of those that there
were: one is made before the first statement that may do that, by its words, in the same message or in that of the
BEGIN, and kept in a setting of the transaction's own. When a lock was taken is seen by looks in between: one goes in
front of a statement without parameters when there was none for 10 ms, in the same message.

Sources: PostgreSQL manual, "pg_locks", "Explicit Locking" (table 13.2), "pg_class" (relfilenode), "SET" (SET LOCAL).
"""

import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from app.database.literals import literal

_EVERY_S, _EVERY_S_PER_LOCK = 0.01, 0.0001
"""How much time is to lie between two looks. More where there are many locks, since each look reads all of them."""
_MOST_TABLES = 10_000
"""So many tables are noted at most, in a few dozen milliseconds. Of the rest nothing is told."""
_MOST_TOLD = 100

_BEFORE, _HELD, _FOOTPRINT = (f"migration_endpoint.{name}" for name in ("before", "held", "footprint"))
"""Settings, set for the length of a transaction: nothing of them is left to whoever gets the backend next."""

_OWN_LOCKS = (
    "FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted AND relation >= 16384 "
    "AND mode <> 'SIReadLock'"
)
"""From 16384 on OIDs are no longer PostgreSQL's own (FirstNormalObjectId). An SIReadLock blocks nobody."""
LOOK = f"SELECT relation, mode {_OWN_LOCKS}"
"""Short, since it stands before the statement in pg_stat_activity too, which cuts its queries."""

_MODES = (
    "(VALUES ('AccessShareLock', 1, 128), ('RowShareLock', 2, 192), ('RowExclusiveLock', 3, 240), "
    "('ShareUpdateExclusiveLock', 4, 248), ('ShareLock', 5, 236), ('ShareRowExclusiveLock', 6, 252), "
    "('ExclusiveLock', 7, 254), ('AccessExclusiveLock', 8, 255)) AS modes(mode, level, keeps_out)"
)
"""From the mildest on, with the set of modes that each keeps out: bit 0 is the first of them."""

LOCKS_ON_RECORD = f"nullif(current_setting('{_FOOTPRINT}', true), '')::jsonb -> 'locks'"
REWROTE_ON_RECORD = (
    f"ARRAY(SELECT jsonb_array_elements_text(nullif(current_setting('{_FOOTPRINT}', true), '')::jsonb -> 'rewrote'))"
)
"""SQL expressions for a step's row, where `at_commit` came before it in the same transaction."""

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
_NOTE = (  # short, as LOOK
    f"SELECT set_config('{_BEFORE}',(SELECT json_object_agg(oid,json_build_array(relfilenode,oid::regclass))FROM("
    f"SELECT oid,relfilenode FROM pg_class c WHERE oid>=16384 AND {_KINDS} AND(age(xmin)>0 OR NOT {_MADE_HERE}) "
    f"LIMIT {_MOST_TABLES})t)::text,true)IS NULL"
)
_NOTED = (
    "(SELECT key::oid AS oid, (value ->> 0)::oid AS relfilenode, value ->> 1 AS name "
    f"FROM json_each(nullif(current_setting('{_BEFORE}', true), '')::json))"
)
"""The tables that there were."""
REWRITTEN = (
    f"SELECT b.name, c.oid::regclass::text, pg_table_size(c.oid) FROM {_NOTED} AS b JOIN pg_class c USING (oid) "
    f"WHERE c.relfilenode <> b.relfilenode ORDER BY 1 LIMIT {_MOST_TOLD}"
)
"""A statement that tells which tables are written anew: their name before and now, and their size in bytes."""
_HOLDS = f"SELECT set_config('{_HELD}', (SELECT json_agg(relation || mode)::text {_OWN_LOCKS}), true) IS NULL"


def _without_a_note(also: Iterable[int]) -> str:
    """Where nothing was noted: those that are locked, or were, and that this transaction has not made."""
    held = f"SELECT relation {_OWN_LOCKS} UNION SELECT unnest('{{{','.join(map(str, also))}}}'::oid[])"
    return (
        f"(SELECT c.oid, relfilenode, c.oid::regclass::text FROM ({held}) AS held(oid) JOIN pg_class c USING (oid) "
        f"WHERE {_KINDS} AND nullif(current_setting('{_BEFORE}', true), '') IS NULL "
        f"AND NOT {_MADE_HERE})"
    )


def note_before(operation: str) -> str:
    """The statement that notes which tables there are, where an operation may write some anew; else nothing."""
    return _NOTE if _MAY_REWRITE.search(operation) else ""


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
    _over: dict[tuple[int, str], float] = field(default_factory=dict)
    """How long one was held that went with a savepoint, in seconds."""

    def starts_afresh(self) -> None:
        """Another revision begins, or the same one once more."""
        self.locks, self.rewrote = [], []
        self._is_whole = self._has_asked = False

    @property
    def at_begin(self) -> str:
        """The statements that note which tables there are, and what this transaction has locked already."""
        return f"{_NOTE}; {_HOLDS}"

    def begins(self, *, is_noted: bool) -> None:
        """A transaction has begun, and a statement follows at once."""
        if self._is_whole:
            self.starts_afresh()
        self._is_first, self._seen_at = True, time.monotonic()
        self._is_noted = is_noted
        self._since, self._over = {}, {}

    def note(self, operation: str) -> str:
        """What is to go before a statement that may write tables anew: nothing, if that was noted already."""
        note = "" if self._is_noted else note_before(operation)
        self._is_noted |= bool(note)
        return note

    def wants_a_look(self, *, alone: bool) -> bool:
        """Whether a look is to go before the statement that is sent now.

        Args:
            alone: It would take a round trip of its own, which is done once in a revision.
        """
        is_first, self._is_first = self._is_first, False
        due_s = _EVERY_S + _EVERY_S_PER_LOCK * len(self._since)
        if is_first or time.monotonic() - self._seen_at < due_s or (alone and self._has_asked):
            return False
        self._has_asked |= alone
        return True

    def sees(self, locks: list[tuple[int, str]], *, at: float) -> None:
        """Take in what a look has seen that was sent at a time, by `time.monotonic`."""
        for gone in self._since.keys() - set(locks):
            self._over[gone] = max(self._over.get(gone, 0.0), at - self._since.pop(gone))
        for lock in locks:
            self._since.setdefault(lock, self._seen_at)
        self._seen_at = at

    def at_commit(self) -> str:
        """The statement that tells the footprint, including that of the revision's earlier transactions."""
        now = time.monotonic()
        known = [(lock, now - since) for lock, since in self._since.items()] + list(self._over.items())
        seen = [f"({oid}::oid, {literal(mode)}, {_ms(held_s)})" for (oid, mode), held_s in known]
        taken = [f"SELECT relation, mode, {_ms(now - self._seen_at)} {_OWN_LOCKS}"]
        if seen:  # not a SELECT for each: thousands of them would be too deep for the parser
            taken.append(f"VALUES {', '.join(seen)}")
        unnoted = _without_a_note({oid for (oid, _), _ in known})
        named = ["SELECT name, mode, ms FROM here"] + [
            f"SELECT {literal(each['relation'])}, {literal(each['mode'])}, {each['held_ms']}" for each in self.locks
        ]
        return (
            f"SELECT set_config('{_FOOTPRINT}', (WITH before AS MATERIALIZED ({_NOTED} UNION ALL {unnoted}), "
            "held AS MATERIALIZED (SELECT value AS lock "
            f"FROM json_array_elements_text(nullif(current_setting('{_HELD}', true), '')::json)), "
            f"taken(oid, mode, ms) AS ({' UNION ALL '.join(taken)}), "
            "here AS (SELECT * FROM taken JOIN before USING (oid) WHERE (oid || mode) NOT IN (SELECT lock FROM held) "
            "AND NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE c.oid = taken.oid AND (nspname = {literal(self.ledger_schema)} "
            f"OR relname = {literal(self.version_table)}))), "
            "locks AS (SELECT relation, mode, max(ms) AS ms, level, keeps_out "
            f"FROM ({' UNION ALL '.join(named)}) AS named(relation, mode, ms) JOIN {_MODES} USING (mode) "
            f"GROUP BY relation, mode, level, keeps_out ORDER BY level DESC, ms DESC, relation LIMIT {_MOST_TOLD}), "
            # One that keeps nobody out whom another on the same table does not keep out as long tells nothing.
            "telling AS (SELECT * FROM locks l WHERE NOT EXISTS (SELECT FROM locks o WHERE o.relation = l.relation "
            "AND o.mode <> l.mode AND o.ms >= l.ms AND o.keeps_out & l.keeps_out = l.keeps_out)), "
            "rewrote(relation) AS (SELECT name FROM here JOIN pg_class c USING (oid) "
            "WHERE c.relfilenode <> here.relfilenode "
            f"UNION SELECT unnest({literal(self.rewrote)}) ORDER BY 1 LIMIT {_MOST_TOLD}) "
            "SELECT json_build_object('locks', (SELECT coalesce(json_agg(json_build_object('relation', relation, "
            "'mode', mode, 'held_ms', ms) ORDER BY level DESC, ms DESC, relation), '[]') FROM telling), "
            "'rewrote', (SELECT coalesce(json_agg(relation ORDER BY relation), '[]') FROM rewrote))::text), true)"
        )

    def commits(self, told: str, *, is_whole: bool) -> None:
        """Keep what `at_commit` has told, now that its transaction is committed.

        Args:
            told: The setting's value that it returned.
            is_whole: The revision's step went on record with it.
        """
        footprint = json.loads(told)
        self.locks, self.rewrote = footprint["locks"], footprint["rewrote"]
        self._is_whole = is_whole


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
