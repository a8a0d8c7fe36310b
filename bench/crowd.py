"""A crowd: many callers at once over several processes, who want the same revisions applied."""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import deployment, results
from bench.history import Migration, tables
from bench.section import Goal, Section
from tests import servers
from tests.proxy import Proxy, tcp_proxy
from tests.servers import APPLY, Database, Postgres, Service

_EXPLANATION = (
    "{callers} callers at once over {processes} warm processes, {revisions} revisions pending; and one caller alone. "
    "In turn, {times} times each, from empty each time: the time until the last caller has its answer. Connections are "
    "counted in a crowd of their own, at a proxy in front of each process."
)
_BODY = json.dumps({"lock_wait_s": 120}).encode()
_REQUEST = (
    f"POST /migrate HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {APPLY['Authorization']}\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(_BODY)}\r\nConnection: close\r\n\r\n"
).encode() + _BODY
_LONGEST_S = 180
_EMPTY = "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA IF EXISTS migration_endpoint CASCADE"


@dataclass(frozen=True)
class Answered:
    """What a crowd was told, and when."""

    last_s: float
    """Until the last caller had its answer."""
    outcomes: list[str]
    """Of each caller; a problem's type where it got one."""

    @property
    def is_right(self) -> bool:
        """One has applied everything, and the others heard that nothing is left to do."""
        return sorted(self.outcomes) == ["up_to_date"] * (len(self.outcomes) - 1) + ["upgraded"]


def measure(
    postgres: Postgres, folder: Path, *, callers: int = 50, processes: int = 4, revisions: int = 20, times: int = 7
) -> Section:
    """Measure the crowd beside one caller, and count what is applied and how many connections that takes."""
    migrations = tables(revisions)
    history = deployment.write(folder / "crowd", migrations)
    alone: list[float] = []
    crowd: list[float] = []
    wrong = 0
    with postgres.database() as database:
        with servers.fleet(database, folder, processes, script_location=history) as services:
            for number in range(times + 1):  # the first time warms
                for of_how_many, seconds in ((1, alone), (callers, crowd)):
                    # One caller alone goes to another process each time; the crowd goes to all.
                    chosen = [services[(number + each) % processes] for each in range(of_how_many)]
                    answered = _from_empty(database, chosen)
                    wrong += _wrong(database, migrations, answered)
                    if number:
                        seconds.append(answered.last_s)
        with _behind_proxies(database, folder, processes, history) as behind:
            services = [service for _, service in behind]
            answered = _from_empty(database, [services[each % processes] for each in range(callers)])
            wrong += _wrong(database, migrations, answered)
            most = max(proxy.most_at_once for proxy, _ in behind)
            logins = sum(proxy.logins.total() for proxy, _ in behind)
    ratio = statistics.median(crowd) / statistics.median(alone)
    rows = [
        ("one caller", results.spread(alone)),
        (f"the last of {callers} callers", results.spread(crowd)),
        ("times as long", f"{ratio:.2f}"),
        ("connections of one process at the same time, at most", str(most)),
        (f"connections opened for all {callers} callers", str(logins)),
        ("wrong: a revision not applied exactly once, or an answer that is not right", str(wrong)),
    ]
    return Section(
        name="crowd",
        title="Many callers at once",
        explanation=_EXPLANATION.format(callers=callers, processes=processes, revisions=revisions, times=times),
        table="| what | measured |\n|---|---|\n" + "".join(f"| {what} | {found} |\n" for what, found in rows),
        goals=[
            Goal("revisions or answers of a crowd that are wrong", wrong, 0),
            Goal("the last of a crowd, beside one caller alone", ratio, 1.2),
            Goal("connections of one process at the same time", most, 4),
        ],
    )


def _from_empty(database: Database, services: list[Service]) -> Answered:
    database.execute(_EMPTY)
    return asyncio.run(_call(services))


async def _call(services: list[Service]) -> Answered:
    """Call all of these at once, each as often as it is there. Connected before the clock starts: it is not ours."""
    opened = [await asyncio.open_connection("127.0.0.1", service.port) for service in services]
    began = time.perf_counter()
    for _, writer in opened:
        writer.write(_REQUEST)
    async with asyncio.timeout(_LONGEST_S):
        answers = await asyncio.gather(*(reader.read() for reader, _ in opened))
    last_s = time.perf_counter() - began
    for _, writer in opened:
        writer.close()
    bodies: list[dict[str, Any]] = [json.loads(answer.partition(b"\r\n\r\n")[2]) for answer in answers]
    return Answered(last_s, [body.get("outcome") or body["type"] for body in bodies])


def _wrong(database: Database, migrations: list[Migration], answered: Answered) -> int:
    """How much is wrong: revisions that the ledger or the version says otherwise of, and answers."""
    steps = [revision for (revision,) in database.execute("SELECT revision FROM migration_endpoint.step ORDER BY id")]
    names = [migration.name for migration in migrations]
    missing_or_twice = sum(steps.count(name) != 1 for name in names) + sum(step not in names for step in steps)
    version = database.execute("SELECT version_num FROM alembic_version")
    return missing_or_twice + (version != [(names[-1],)]) + (not answered.is_right)


@contextlib.contextmanager
def _behind_proxies(
    database: Database, folder: Path, processes: int, history: Path
) -> Iterator[list[tuple[Proxy, Service]]]:
    """Services that each have a proxy of their own between them and the database."""
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(tcp_proxy(database)) for _ in range(processes)]
        yield [
            (proxy, stack.enter_context(servers.service(proxy.database, folder, script_location=history)))
            for proxy in proxies
        ]
