"""How soon the service answers a monitor while a run goes on in the same process."""

import http.client
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench import deployment
from bench.history import tables
from bench.section import Goal, Section
from tests import servers
from tests.servers import Postgres, Service

_EXPLANATION = (
    "One caller for each path asks, waits for the answer and pauses for {pause_ms:.0f} ms, over and over, on a "
    "connection that stays open: while nothing goes on, and while the same process runs {revisions} revisions. The "
    "times are those of this machine; what can be compared elsewhere is how many times as long the 99th percentile "
    "takes during a run."
)
_PATHS = ("/livez", "/health")
_GOAL_MS = 50


@dataclass
class Monitor:
    """Asks one path over and over until it is told to stop."""

    service: Service
    path: str
    pause_s: float
    took_ms: list[float] = field(default_factory=list)

    def watch(self, stop: threading.Event) -> None:
        """Ask until the event is set, and once more at least."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=60)
        try:
            while True:
                began = time.perf_counter()
                connection.request("GET", self.path)
                answer = connection.getresponse()
                answer.read()
                self.took_ms.append((time.perf_counter() - began) * 1000)
                assert answer.status == 200, f"{self.path} answered {answer.status}"
                if stop.wait(self.pause_s):
                    return
        finally:
            connection.close()

    @property
    def p99_ms(self) -> float:
        """So soon 99 of 100 answers came."""
        return percentile(self.took_ms, 99)

    @property
    def told(self) -> str:
        """Median and 99th percentile, in words."""
        return f"median {statistics.median(self.took_ms):.1f} ms, p99 {self.p99_ms:.1f} ms of {len(self.took_ms)}"


def measure(
    postgres: Postgres, folder: Path, *, revisions: int = 300, pause_s: float = 0.01, idle_s: float = 5
) -> Section:
    """Measure both paths without and with a run."""
    history = deployment.write(folder / "responsiveness", tables(revisions))
    with (
        postgres.database() as database,
        servers.service(database, folder, script_location=history) as service,
    ):
        for path in ("/health", "/status"):
            assert service.get(path, timeout=60).status_code == 200  # what is imported once is imported

        def run() -> None:
            answer = service.post(timeout=600)
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["applied"]) == revisions

        idle, busy = ([Monitor(service, path, pause_s) for path in _PATHS] for _ in range(2))
        _while(idle, lambda: time.sleep(idle_s))
        _while(busy, run)
    rows = "".join(
        f"| GET {one.path} | {quiet.told} | {one.told} | {'reached' if one.p99_ms < _GOAL_MS else 'missed'} |\n"
        for quiet, one in zip(idle, busy, strict=True)
    )
    return Section(
        name="responsiveness",
        title="Monitors during a run",
        explanation=_EXPLANATION.format(pause_ms=pause_s * 1000, revisions=revisions),
        table=f"| what | while nothing goes on | during a run | under {_GOAL_MS} ms |\n|---|---|---|---|\n{rows}",
        goals=[
            Goal(f"p99 of GET {one.path} during a run, beside without one", one.p99_ms / quiet.p99_ms, None)
            for quiet, one in zip(idle, busy, strict=True)
        ],
    )


def _while(monitors: Iterable[Monitor], do: Callable[[], object]) -> None:
    """Let the monitors ask for as long as something is done."""
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        watching = [pool.submit(monitor.watch, stop) for monitor in monitors]
        try:
            do()
        finally:
            stop.set()
        for each in watching:
            each.result()


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that so many percent of them do not exceed."""
    return sorted(values)[-(-len(values) * percent // 100) - 1]
