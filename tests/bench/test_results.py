"""What is told and kept of the figures, and drawn from them."""

import json
import platform
from pathlib import Path

import pytest

from bench import ours, picture, ranking, readme, results
from bench.peers import FLOOR
from bench.section import Goal, Section
from bench.side_by_side import Took
from tests.servers import PROJECT

TIMES = {
    ours.NAME: [Took(0.010, 0), Took(0.011, 0), Took(0.016, 0)],
    "slow": [Took(2, 0), Took(2.2, 0), Took(3, 0)],
    "quick": [Took(0.010, 0), Took(0.010, 0), Took(0.010, 0)],
}


def test_results_name_neither_the_machine_nor_its_folders() -> None:
    said = results.circumstances(results.versions("fastapi", PostgreSQL="18"))
    assert "fastapi" in said
    assert platform.node() not in said
    assert str(PROJECT) not in said


def test_the_fastest_comes_first_and_each_tool_is_told_what_share_of_its_time_ours_takes() -> None:
    told = ranking.table(TIMES, ours.NAME, {"slow": 1 / 50, "quick": 1})
    assert told.splitlines()[2:] == [
        "| quick | 10.0 ms (10.0–10.0) | 1.1 of it | misses at most 1 |",
        "| **Migration Endpoint** | 11.0 ms (10.0–16.0) | | |",
        "| slow | 2.20 s (2.00–3.00) | 1/200 of it | reaches at most 1/50 |",
    ]


def test_processor_time_is_told_beside() -> None:
    took = {"a": [Took(1, 0.3), Took(1, 0.5)], "b": [Took(2, 0.2)]}
    assert ranking.processor_table(took).splitlines()[2:] == ["| b | 200 ms |", "| a | 400 ms |"]


def test_a_goal_is_a_ratio_of_medians() -> None:
    slow, quick = ranking.goals("a", TIMES, ours.NAME, {"quick": 1})
    assert (slow.what, slow.at_most, slow.is_reached) == ("a, beside slow", None, True)
    assert slow.value == pytest.approx(0.005)
    assert (quick.what, quick.at_most, quick.is_reached) == ("a, beside quick", 1, False)


def test_the_noise_is_how_far_the_median_tool_is_from_itself() -> None:
    assert "1.50 times its fastest" in ranking.noise(TIMES)


def test_figures_are_kept_for_people_and_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = Section(
        "part", "A part", "Measured so.", "| table |", [Goal("a", 1.23456, 1)], {"b": "no b"}, {"d": {"c": [0.5]}}
    )
    results.keep(section, {"tool": "1.2"}, tmp_path)
    text = (tmp_path / "part.md").read_text()
    assert text == capsys.readouterr().out.removesuffix("\n")
    assert text.startswith("# A part\n\nMeasured so.\n\n| table |\n\nNot measured: b: no b.\n\n")
    assert text.endswith("tool 1.2\n")
    kept = json.loads((tmp_path / "part.json").read_text())
    assert kept["goals"] == [{"what": "a", "value": 1.235, "at_most": 1, "is_reached": False}]
    assert kept["seconds"] == {"d": {"c": [0.5]}}
    assert kept["versions"] == {"tool": "1.2"}
    assert platform.node() not in json.dumps(kept)


def keep(folder: Path) -> None:
    times = ranking.seconds(TIMES)
    kept = {
        "apply": {"100 revisions from empty": times | {FLOOR.name: [0.1]}},
        "nothing_pending": {"nothing pending, warm": times},
    }
    for name, seconds in kept.items():
        (folder / f"{name}.json").write_text(json.dumps({"seconds": seconds, "machine": "a machine"}))


def test_the_same_figures_make_the_same_picture(tmp_path: Path) -> None:
    assert picture.draw(tmp_path) == []
    keep(tmp_path)
    drawn = picture.draw(tmp_path)
    assert [path.name for path in drawn] == ["tools.svg", "tools.png"]
    first = [path.read_bytes() for path in drawn]
    assert first[1].startswith(b"\x89PNG")
    assert b"date" not in first[0]
    assert [path.read_bytes() for path in picture.draw(tmp_path)] == first


def test_the_readme_s_table_is_written_between_its_two_comments(tmp_path: Path) -> None:
    keep(tmp_path)
    written = tmp_path / "README.md"
    written.write_text(f"before\n{readme.BEGIN}old\n{readme.END}after\n")
    readme.write(written, tmp_path)
    assert written.read_text().splitlines() == [
        "before",
        readme.BEGIN.strip(),
        "",
        "| medians | 100 revisions from empty | nothing pending, warm |",
        "|---|---:|---:|",
        "| **Migration Endpoint** | 11.0 ms | 11.0 ms |",
        "| psql (floor) | 100 ms | – |",
        "",
        "a machine",
        "",
        readme.END.strip(),
        "after",
    ]


def test_the_readme_tells_the_figures_that_are_kept() -> None:
    said = readme.README.read_text().partition(readme.BEGIN)[2].partition(readme.END)[0]
    assert said == readme.table(results.FOLDER)
