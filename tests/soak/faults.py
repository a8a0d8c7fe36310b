"""Faults of every kind upon services, their network and their database, drawn from a seed."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from random import Random
from typing import Any

import psycopg

from tests.proxy import Proxy
from tests.servers import Database
from tests.soak.diary import Diary
from tests.soak.services import Fleet, Instance

_CONTROL, _WORKING = "migration-endpoint", "migrate/"
"""How application_name begins when a connection is opened; the guard's is one of the first kind."""
_SHOWN_GUARD, _SHOWN_WORKER = "^migrate/[0-9a-f-]{36} ", "^migrate/[0-9a-f-]{36}$"
"""application_name, as pg_stat_activity shows it of those at work."""

type Fault = Callable[[Random, threading.Event], None]
"""Goes on for as long as it draws, or until peace."""


class Faults:
    """What is done to a fleet that reaches its database through a proxy."""

    def __init__(self, database: Database, proxy: Proxy, fleet: Fleet, diary: Diary, *, lease_s: float) -> None:
        self._database = database
        self._proxy = proxy
        self._fleet = fleet
        self._diary = diary
        self._lease_s = lease_s
        self._dice = Random(str(diary.seed))
        self._network = threading.Lock()
        self._kinds: dict[str, Fault] = {
            "kills": self._kill,
            "freezes": self._freeze,
            "cuts": self._cut,
            "silences": self._silence,
            "backends ended": self._end_a_backend,
            "index builds ended": self._end_an_index_build,
            "locks held": self._hold_a_lock,
            "slow networks": self._slow_down,
            "refusals": self._refuse,
        }
        self._deck: list[Fault] = []

    @property
    def kinds(self) -> list[str]:
        return list(self._kinds)

    def tell_the_silent(self) -> None:
        """Let PostgreSQL know at last that the clients of silent connections are gone: days later, keepalives would."""
        silent = [connection for connection in self._proxy._connections if connection.muted]
        self._proxy._do(self._proxy._end(silent))

    def strike(self, peace: threading.Event) -> None:
        """One fault after the other, some at the same time, until there is peace."""
        under_way: list[Future[None]] = []
        with ThreadPoolExecutor(2 * len(self._kinds)) as pool:
            while not peace.wait(self._dice.uniform(0.2, 1)):
                if not self._deck:  # each kind once before any comes again
                    self._deck = self._dice.sample(list(self._kinds.values()), len(self._kinds))
                # Dice of its own, so that the next fault does not depend on how far this one gets.
                under_way.append(pool.submit(self._deck.pop(), Random(self._dice.random()), peace))
        for ended in under_way:
            ended.result()

    def _kill(self, dice: Random, peace: threading.Event) -> None:
        victim, down_s = self._victim(dice), dice.uniform(0, 1)
        with victim.hands:
            self._diary.count("kills", victim.name)
            self._fleet.replace(victim, peace, down_s)

    def _freeze(self, dice: Random, peace: threading.Event) -> None:
        victim, seconds, dies = self._victim(dice), dice.uniform(1.1, 2) * self._lease_s, dice.random() < 0.2
        with victim.hands:
            self._diary.note(f"{victim.name} freezes for {seconds:.1f} s{', and dies' if dies else ''}")
            victim.service.signal(signal.SIGSTOP)
            is_cut_short = peace.wait(seconds)
            self._diary.counts["freezes"] += seconds > self._lease_s and not is_cut_short
            if dies:  # as platforms do with what nobody calls any more
                self._fleet.replace(victim, peace)
            else:
                victim.service.signal(signal.SIGCONT)

    def _cut(self, dice: Random, peace: threading.Event) -> None:
        self._upon_a_connection("cuts", self._proxy.cut, dice, peace)

    def _silence(self, dice: Random, peace: threading.Event) -> None:
        self._upon_a_connection("silences", self._proxy.mute, dice, peace)

    def _upon_a_connection(
        self, kind: str, strikes: Callable[[str, int], int], dice: Random, peace: threading.Event
    ) -> None:
        whose, which, delay_s = dice.choice([_CONTROL, _WORKING]), dice.randrange(100), dice.uniform(0, 0.5)

        def strike() -> int:
            count = sum(name.startswith(whose) for name in self._proxy.names())
            return strikes(f"^{whose}", which % count) if count else 0

        peace.wait(delay_s)  # or it would always strike a run that has just begun
        if _glimpsed(strike, peace):
            self._diary.count(kind, whose)

    def _end_a_backend(self, dice: Random, peace: threading.Event) -> None:
        whose, delay_s = dice.choice([_SHOWN_GUARD, _SHOWN_WORKER]), dice.uniform(0, 0.5)

        peace.wait(delay_s)
        if _glimpsed(lambda: self._ended(f"application_name ~ '{whose}'"), peace):
            self._diary.count("backends ended", whose)

    def _end_an_index_build(self, dice: Random, peace: threading.Event) -> None:
        delay_s = dice.uniform(0, 0.3)
        with self._database.connect() as older:
            older.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")  # builds wait for who has a snapshot
            building = f"application_name ~ '{_SHOWN_WORKER}' AND query ~ 'CREATE (UNIQUE )?INDEX CONCURRENTLY'"
            if _glimpsed(lambda: self._exists(building), peace, seconds=8):
                peace.wait(delay_s)
                if self._ended(building):
                    self._diary.count("index builds ended")

    def _ended(self, condition: str) -> bool:
        """Whether a backend at work fulfilled the condition, and was ended for it."""
        return bool(self._at_work("pg_terminate_backend(pid)", condition))

    def _exists(self, condition: str) -> bool:
        return bool(self._at_work("pid", condition))

    def _at_work(self, what: str, condition: str) -> list[tuple[Any, ...]]:
        return self._database.execute(
            f"SELECT {what} FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
            f"AND pid <> pg_backend_pid() AND {condition} LIMIT 1"
        )

    def _hold_a_lock(self, dice: Random, peace: threading.Event) -> None:
        mode = dice.choice(["ACCESS SHARE", "ACCESS EXCLUSIVE", "snapshot"])
        which, on_the_journal, seconds = dice.random(), dice.random() < 0.3, dice.uniform(0.2, 3)
        with self._database.connect() as holder:
            tables = holder.execute(
                "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE relkind = 'r' AND nspname IN ('public', 'migration_endpoint') ORDER BY 1"
            ).fetchall()
            if not tables:
                return
            # Every revision writes into the journal, so this one is in the way of whoever is at work.
            (table,) = ("journal",) if on_the_journal else tables[int(which * len(tables))]
            holder.execute("SET lock_timeout = 500")
            try:
                if mode == "snapshot":  # index builds wait for those who have an older one
                    holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
                else:
                    holder.execute(f"BEGIN; LOCK TABLE {table} IN {mode} MODE".encode())
            except (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable):
                return
            self._diary.count("locks held", f"{mode} {table} for {seconds:.1f} s")
            peace.wait(seconds)

    def _slow_down(self, dice: Random, peace: threading.Event) -> None:
        # What is on its way for longer than the lease comes too late, and comes.
        latency_s = dice.choice([0.005, 0.02, 0.05, dice.uniform(0.5, 2) * self._lease_s])
        seconds = dice.uniform(0.5, 2)
        with self._network:
            self._diary.count("slow networks", f"{latency_s:.3f} s for {seconds:.1f} s")
            self._proxy.latency_s = latency_s
            peace.wait(seconds)
            self._proxy.latency_s = 0

    def _refuse(self, dice: Random, peace: threading.Event) -> None:
        seconds = dice.uniform(0.1, 0.6)
        with self._network:
            self._diary.count("refusals", f"for {seconds:.1f} s")
            self._proxy.refuse()
            peace.wait(seconds)
            self._proxy.accept()

    def _victim(self, dice: Random) -> Instance:
        """Mostly the instance that is at work."""
        anybody, aims = dice.choice(self._fleet.instances), dice.random() < 0.7
        with contextlib.suppress(psycopg.errors.UndefinedTable):
            last = self._database.execute(
                "SELECT request_id FROM migration_endpoint.run WHERE outcome = 'running' "
                "ORDER BY started_at DESC LIMIT 1"
            )
            if aims and last:
                return next(each for each in self._fleet.instances if last[0][0].startswith(f"{each.name}:"))
        return anybody


def _glimpsed(look: Callable[[], Any], peace: threading.Event, *, seconds: float = 2) -> Any:
    """What is there for moments only: look for it again and again."""
    end = time.monotonic() + seconds
    while not (seen := look()) and time.monotonic() < end and not peace.wait(0.02):
        pass
    return seen
