"""Measure this project beside what people use: `make bench`, or `python -m bench apply cold` for parts of it."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import (
    apply,
    bundle,
    cold,
    cold_start,
    crowd,
    faults,
    latency,
    memory,
    nothing_pending,
    picture,
    readme,
    responsiveness,
    results,
    round_trips,
    tool,
)
from bench.peers import PEERS
from bench.section import Section
from tests import servers
from tests.servers import Postgres

PARTS: dict[str, Callable[[Postgres, Path], Section]] = {
    "apply": apply.measure,
    "nothing_pending": nothing_pending.measure,
    "cold": cold.measure,
    "latency": latency.measure,
    "round_trips": round_trips.measure,
    "crowd": crowd.measure,
    "memory": memory.measure,
    "responsiveness": responsiveness.measure,
    "cold_start": cold_start.measure,
    "bundle": bundle.measure,
    "faults": faults.measure,
}
"""In the order in which they are measured; each leaves NAME.md and NAME.json in bench/results."""


def main(names: list[str]) -> int:
    """Measure the parts with these names, or all; an exit code."""
    if unknown := [name for name in names if name not in PARTS]:
        print(f"There is no {', '.join(unknown)}; there are {', '.join(PARTS)}.", file=sys.stderr)
        return 2
    for name in names or PARTS:
        print(f"Measuring {name} …", file=sys.stderr)
        began = time.monotonic()
        with servers.postgres(durable=True) as postgres, tempfile.TemporaryDirectory(prefix="bench-") as folder:
            section = PARTS[name](postgres, Path(folder))
            results.keep(section, _versions(postgres))
        print(f"That took {time.monotonic() - began:.0f} s.", file=sys.stderr)
    picture.draw(results.FOLDER)
    readme.write(readme.README, results.FOLDER)
    return 0


def _versions(postgres: Postgres) -> dict[str, str]:
    ((version, fsync),) = postgres.execute("SELECT split_part(version(), ' ', 2), current_setting('fsync')")
    server = f"{version}, fsync {fsync}"
    tools = {peer.name: peer.version() for peer in tool.installed(PEERS)}
    return results.versions("fastapi", "sqlalchemy", "asyncpg", "uvicorn", PostgreSQL=server) | tools


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
