"""The size of the function is the sum of what is told."""

import re
from pathlib import Path

from bench import bundle
from tests.servers import Postgres


def test_the_parts_add_up(postgres: Postgres, tmp_path: Path) -> None:
    found = bundle.measure(postgres, tmp_path)
    *parts, whole = [float(size) for size in re.findall(r"\| ([\d.]+) \|", found.table)]
    assert abs(sum(parts) - whole) < 0.05 * (len(parts) + 1), "each is rounded"
    (goal,) = found.goals
    assert abs(goal.value - whole) < 0.06
    assert goal.is_reached
    assert "| sqlalchemy |" in found.table
