"""What is measured in turn, and what is made of it."""

import subprocess
import sys

import pytest

from bench import results
from bench.side_by_side import Comparison, Measure, Took, compare, in_turn


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
    measured = [
        Comparison("a", "b", found.ours, [Took(4, 2)], 0.5),
        Comparison("c", "d", [Took(1, 3)], [Took(1, 1)], 1),
    ]
    told = results.table(measured)
    assert "| a | 2.00 s (1.00–3.00) | b | 4.00 s (4.00–4.00) | 0.50 |" in told
    assert "| c | 1.00 s (1.00–1.00) | d | 1.00 s (1.00–1.00) | 1.00 | 3.00 | reaches at most 1 |" in told


def test_the_processor_s_time_is_that_of_the_process_that_was_measured() -> None:
    def busy() -> float:
        subprocess.run([sys.executable, "-c", "sum(range(5_000_000))"], check=True)
        return 1

    def idle() -> float:
        return 1

    found = compare("busy", busy, "idle", idle, at_most=None, times=1)
    assert found.ours[0].cpu_s > found.others[0].cpu_s


@pytest.mark.parametrize(
    ("at_most", "verdict"), [(None, "no goal"), (0.9, "misses at most 0.9"), (1, "reaches at most 1")]
)
def test_a_goal_that_is_missed_is_told(at_most: float | None, verdict: str) -> None:
    assert Comparison("a", "b", [Took(1, 1)], [Took(1, 1)], at_most).verdict == verdict


def test_any_number_of_ways_take_turns() -> None:
    order: list[str] = []

    def way(name: str) -> Measure:
        def measure() -> float:
            order.append(name)
            return float(len(order))

        return measure

    found = in_turn({name: way(name) for name in "abc"}, times=2)
    assert "".join(order) == "abc" * 3
    assert [each.wall_s for each in found["b"]] == [5, 8]
