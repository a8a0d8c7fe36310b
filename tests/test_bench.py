"""The benchmarks' parts: that they measure what they say. How fast anything is, `make bench` tells."""

from pathlib import Path

import pytest

from bench import cold_start, results
from bench.side_by_side import Comparison, compare
from tests import servers
from tests.servers import PROJECT, Database


def test_both_sides_are_measured_in_turn_and_the_first_time_does_not_count() -> None:
    order: list[str] = []

    def side(name: str, seconds: list[float]) -> float:
        order.append(name)
        return seconds.pop(0)

    a, b = [9.0, 1.0, 2.0, 3.0], [9.0, 4.0, 4.0, 5.0]
    found = compare("a", lambda: side("a", a), "b", lambda: side("b", b), at_most=0.5, times=3)
    assert order == ["a", "b"] * 4
    assert found.ratio == 0.5
    assert found.verdict == "reaches at most 0.5"
    assert "| a | 2.00 s (1.00–3.00) | b | 4.00 s (4.00–5.00) | 0.50 | reaches at most 0.5 |" in results.table([found])


@pytest.mark.parametrize(
    ("at_most", "verdict"), [(None, "no goal"), (0.9, "misses at most 0.9"), (1, "reaches at most 1")]
)
def test_a_goal_that_is_missed_is_told(at_most: float | None, verdict: str) -> None:
    assert Comparison("a", "b", [1.0], [1.0], at_most).verdict == verdict


def test_results_name_neither_the_machine_nor_its_folders() -> None:
    import platform

    said = results.circumstances("fastapi", PostgreSQL="18")
    assert "fastapi" in said
    assert platform.node() not in said
    assert str(PROJECT) not in said


def test_every_side_does_what_it_is_measured_for(database: Database, tmp_path: Path) -> None:
    history, plain, bare = cold_start.write_histories(tmp_path, database, 2)
    environment = servers.environment(database, script_location=history)
    with pytest.raises(AssertionError, match="stdout=''"):  # it would be faster with nothing applied
        cold_start.current(environment, plain)()
    assert cold_start.first_answer(environment, PROJECT, "api/index.py", "POST", "/migrate")() > 0
    assert database.value("SELECT version_num FROM alembic_version") == "r0001"
    assert cold_start.current(environment, plain)() > 0
    assert cold_start.first_answer(environment, bare, "index.py", "GET", "/livez")() > 0
