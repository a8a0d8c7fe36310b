"""Peaks of memory are those of the process that is measured."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import memory
from tests.servers import Postgres

if not Path("/proc/self/status").exists():
    pytest.skip("only Linux tells a process's peak, in /proc", allow_module_level=True)


def test_both_peaks_are_measured(postgres: Postgres, tmp_path: Path) -> None:
    found = memory.measure(postgres, tmp_path, revisions=2, times=1)
    (ratio,) = found.goals
    assert 1 < ratio.value < 3, "a server and Alembic in one process, beside Alembic"
    assert found.table.count(" MB (") == 2


def test_what_was_freed_again_belongs_to_the_peak() -> None:
    def peak_mb(size: int) -> float:
        code = (
            f"x = bytearray({size}); x[::4096] = b'1' * len(x[::4096]); del x; print(open('/proc/self/status').read())"
        )
        return memory.peak_mb(subprocess.check_output([sys.executable, "-c", code], text=True))

    assert 90 < peak_mb(100_000_000) - peak_mb(1) < 110
