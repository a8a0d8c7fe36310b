"""When a run must end, by the settings and by the platform's word."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from vercel_runtime import deadline as shim

from app import main
from app.migrator import deadline


def from_now(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_without_a_budget_and_a_platform_a_run_may_take_its_time() -> None:
    ours = deadline.of_a_run(None, None)
    assert math.isinf(ours.left_to_work_s)
    assert ours.allows_a_start
    assert not ours.is_over


@pytest.mark.parametrize(
    ("budget_s", "platform_s", "given_s"), [(60, 300, 60), (300, 60, 60), (None, 60, 60), (60, None, 60)]
)
def test_the_smaller_of_budget_and_platform_counts(
    budget_s: float | None, platform_s: float | None, given_s: float
) -> None:
    ours = deadline.of_a_run(budget_s, None if platform_s is None else from_now(platform_s))
    assert ours.given_s == pytest.approx(given_s, abs=0.5)
    assert ours.left_to_work_s == pytest.approx(given_s - ours.margin_s, abs=0.5)


@pytest.mark.parametrize(("given_s", "margin_s"), [(300, 5), (50, 5), (10, 1), (2, 0.2)])
def test_a_tenth_of_the_time_and_at_most_five_seconds_are_kept_for_the_end(given_s: float, margin_s: float) -> None:
    assert deadline.of_a_run(given_s, None).margin_s == pytest.approx(margin_s)


def test_a_revision_that_would_have_less_than_the_floor_is_not_started() -> None:
    assert deadline.Deadline(given_s=100, at=deadline.of_a_run(11, None).at).allows_a_start  # 5 kept, 6 left
    assert not deadline.Deadline(given_s=100, at=deadline.of_a_run(9, None).at).allows_a_start  # 5 kept, 4 left


def test_an_invocation_whose_end_has_passed_starts_nothing() -> None:
    ours = deadline.of_a_run(None, from_now(-1))
    assert ours.is_over
    assert not ours.allows_a_start


def test_main_asks_the_platform_s_runtime_within_each_invocation() -> None:
    ends = main.of_the_platform()
    assert ends() is None
    token = shim.set_deadline("2030-01-01T00:00:00Z")
    try:
        assert ends() == datetime(2030, 1, 1, tzinfo=UTC)
    finally:
        shim._deadline.reset(token)


def test_where_there_is_no_such_runtime_nothing_ends_an_invocation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vercel_runtime", None)
    assert main.of_the_platform()() is None
