"""Monitors ask while a run goes on, and not a moment longer."""

from pathlib import Path

import pytest

from bench import responsiveness
from tests.servers import Postgres


def test_both_paths_are_asked_while_a_run_goes_on(postgres: Postgres, tmp_path: Path) -> None:
    found = responsiveness.measure(postgres, tmp_path, revisions=3, idle_s=0.1)
    assert [goal.what for goal in found.goals] == [
        "p99 of GET /livez during a run, beside without one",
        "p99 of GET /health during a run, beside without one",
    ]
    assert all(goal.value > 0 for goal in found.goals)
    assert found.table.count("p99") == 4


@pytest.mark.parametrize(("values", "p99"), [([7.0], 7), (range(1, 101), 99), (range(1, 201), 198), ([5, 1, 9], 9)])
def test_the_99th_percentile_is_a_value_that_was_measured(values: list[float], p99: float) -> None:
    assert responsiveness.percentile(list(values), 99) == p99
