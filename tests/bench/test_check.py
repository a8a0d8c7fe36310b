"""What has got worse is told, by its name; what was only measured at a bad moment is not."""

import json
from pathlib import Path

import pytest

from bench import bundle, check
from bench.check import Compared
from bench.section import Goal, Section
from tests.servers import Postgres


def on_record(folder: Path, name: str, **figures: float) -> None:
    goals = [{"what": what, "value": value, "at_most": None} for what, value in figures.items()]
    (folder / f"{name}.json").write_text(json.dumps({"goals": goals, "versions": {}, "machine": ""}))


@pytest.mark.parametrize(
    ("recorded", "now", "goal", "is_worse"),
    [
        (1.0, 1.25, None, False),
        (1.0, 1.26, None, True),
        (1.0, 1.15, 1.2, False),
        (1.0, 1.21, 1.2, True),  # within the tolerance, and beyond the goal
        (1.199, 1.21, 1.2, False),  # the record has only just reached it
        (1.199, 1.23, 1.2, True),
        (1.4, 1.7, 1.2, False),  # the record has missed the goal as well
        (1.4, 1.8, 1.2, True),
        (0, 0, 0, False),
        (0, 1, None, True),
        (None, 1.2, 1.2, False),  # new, and so held to its goal alone
        (None, 1.3, 1.2, True),
        (None, 99, None, False),
        (1.0, None, None, True),  # not measured any more
    ],
)
def test_a_figure_may_be_a_little_worse_and_hardly_beyond_a_goal_that_was_reached(
    recorded: float | None, now: float | None, goal: float | None, is_worse: bool
) -> None:
    assert Compared("part", "what", recorded, now, goal).is_worse is is_worse


def test_what_is_worse_only_once_is_not_told_and_what_stays_so_is(postgres: Postgres, tmp_path: Path) -> None:
    figures = iter([2.0, 1.0, 2.0, 2.0, 1.0])

    def part(*_: object) -> Section:
        return Section("part", "Part", "", "", [Goal("what", next(figures), 1.5)])

    on_record(tmp_path, "part", what=1.0)
    assert check.worse(postgres, "part", part, tmp_path) == []
    assert check.worse(postgres, "part", part, tmp_path) == [Compared("part", "what", 1.0, 2.0, 1.5)]
    assert check.worse(postgres, "part", part, tmp_path) == []
    assert list(figures) == [], "what is as good as on record is measured once"


def test_what_cannot_be_measured_here_is_not_worse_but_said(
    postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on_record(tmp_path, "part", what=1.0)
    skipped = Section("part", "Part", "", "", skipped={"all of it": "no such machine"})
    assert check.worse(postgres, "part", lambda *_: skipped, tmp_path) == []
    assert "part: all of it is skipped: no such machine" in capsys.readouterr().out
    nothing = Section("part", "Part", "", "")
    (gone,) = check.worse(postgres, "part", lambda *_: nothing, tmp_path)
    assert gone.now is None
    (nothing_on_record,) = check.worse(postgres, "other", lambda *_: nothing, tmp_path)
    assert nothing_on_record.part == "other"


def test_the_check_fails_with_a_table_of_what_got_worse(
    postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = "size of the function in MB"
    (goal,) = bundle.measure(postgres, tmp_path).goals
    on_record(tmp_path, "bundle", **{what: goal.value})
    assert check.judge(postgres, ["bundle"], tmp_path) == 0
    on_record(tmp_path, "bundle", **{what: goal.value / 2})
    assert check.judge(postgres, ["bundle"], tmp_path) == 1
    said = capsys.readouterr().out
    assert (
        f"| bundle | {what} | {goal.value / 2:.3g} | {goal.value:.3g} | {goal.value / 2 * 1.25:.3g} | worse |" in said
    )
    assert check.main(["bundel"]) == 2
