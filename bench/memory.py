"""Peak memory of a run over a long history: of the whole process, interpreter and libraries included."""

import dataclasses
import re
import statistics
import sys
from pathlib import Path

from bench import deployment
from bench.history import tables
from bench.peers.alembic_cli import AlembicCli
from bench.section import Goal, Section
from tests import servers
from tests.servers import Postgres

_EXPLANATION = (
    "The peak of the resident set (VmHWM of Linux) over a run of {revisions} revisions from empty; medians of {times} "
    "in turn. Ours is the service under uvicorn, after one POST /migrate; theirs `alembic upgrade head` with asyncpg."
)
_STATUS = Path("/proc/self/status")
_AND_TELL = (
    f"import atexit, runpy; atexit.register(lambda: print(open({str(_STATUS)!r}).read())); "
    "runpy.run_module('alembic', run_name='__main__', alter_sys=True)"
)
"""Runs Alembic, and prints the status of the process in the end. The resources that the kernel tells of a child are no
help: they begin with those of the process that forked it."""


def measure(postgres: Postgres, folder: Path, *, revisions: int = 1000, times: int = 7) -> Section:
    """Measure the peak of both, in turn, from empty each time."""
    title = "Peak memory"
    if not _STATUS.exists():
        return Section("memory", title, "", "", skipped={"all": "only Linux tells a process's peak, in /proc"})
    history = tables(revisions)
    ours_at, alembic_at = deployment.write(folder / "memory-ours", history), folder / "memory-alembic"
    alembic_at.mkdir()
    AlembicCli("asyncpg").write(alembic_at, history)
    pairs = [
        (_ours(postgres, folder, ours_at, revisions), _alembic(postgres, alembic_at, revisions)) for _ in range(times)
    ]
    ours, alembic = ([pair[which] for pair in pairs] for which in (0, 1))
    ratio = statistics.median(ours) / statistics.median(alembic)
    return Section(
        name="memory",
        title=title,
        explanation=_EXPLANATION.format(revisions=revisions, times=times),
        table="| what | peak |\n|---|---|\n"
        f"| the service, POST /migrate | {_spread(ours)} |\n"
        f"| `alembic upgrade head` | {_spread(alembic)} |\n"
        f"| ratio | {ratio:.2f} |\n",
        goals=[Goal("peak memory, beside Alembic", ratio, 1.2)],
    )


def _ours(postgres: Postgres, folder: Path, history: Path, revisions: int) -> float:
    """In MB of a million bytes."""
    with (
        postgres.database() as database,
        servers.service(database, folder, script_location=history) as service,
    ):
        answer = service.post(timeout=600)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["applied"]) == revisions
        return peak_mb(Path(f"/proc/{service.process.pid}/status").read_text())


def _alembic(postgres: Postgres, folder: Path, revisions: int) -> float:
    """Likewise."""
    with postgres.database() as database:
        command = AlembicCli("asyncpg").upgrade(folder, database)
        assert command.arguments[:3] == [sys.executable, "-m", "alembic"]
        arguments = [sys.executable, "-c", _AND_TELL, *command.arguments[3:]]
        said = dataclasses.replace(command, arguments=arguments).run()
        assert database.value("SELECT count(*) FROM pg_tables WHERE tablename LIKE 't#_%' ESCAPE '#'") == revisions
    return peak_mb(said)


def peak_mb(status: str) -> float:
    """The peak that the status of a process tells, in MB of a million bytes."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    assert found, "the status of a process that has ended, or of another system"
    return int(found[1]) * 1024 / 1e6


def _spread(megabytes: list[float]) -> str:
    return f"{statistics.median(megabytes):.0f} MB ({min(megabytes):.0f}–{max(megabytes):.0f})"
