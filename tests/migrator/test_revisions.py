"""The revision graph of a deployment."""

from pathlib import Path

import pytest

from app.errors import MultipleHeads, NotConfigured, UnknownTarget
from app.migrator import revisions
from app.migrator.revisions import History
from tests.conftest import WriteHistory, write_revision


@pytest.fixture
def branching(tmp_path: Path) -> Path:
    """a1 ← b2 and a1 ← c3, merged by d4; e5 branches off from a1."""
    folder = tmp_path / "branching"
    for revision, before in (("a1", None), ("b2", "a1"), ("c3", "a1"), ("d4", ("b2", "c3")), ("e5", "a1")):
        write_revision(folder, revision, before, "pass")
    return folder


def pending(history: History, *current: str, target: str = "heads") -> list[str]:
    return [revision.revision for revision in history.pending(current, target)]


def test_what_is_pending_comes_in_alembics_order_with_its_message(write_history: WriteHistory) -> None:
    history = History(str(write_history(a1="pass", b2="pass", c3="pass")))
    assert [revision.model_dump() for revision in history.pending(["a1"], "heads")] == [
        {"revision": "b2", "message": "Do b2."},
        {"revision": "c3", "message": "Do c3."},
    ]
    assert pending(history, target="b2") == ["a1", "b2"]
    assert pending(history, "c3") == []
    assert pending(history, "c3", target="a1") == [], "a database that is past the target contains it"


def test_a_merge_waits_for_both_of_its_branches(branching: Path) -> None:
    history = History(str(branching))
    assert history.heads == ("d4", "e5")
    order = pending(history)
    assert sorted(order) == ["a1", "b2", "c3", "d4", "e5"]
    assert order[0] == "a1"
    assert order.index("d4") > max(order.index("b2"), order.index("c3"))
    assert pending(history, "b2", "e5") == ["c3", "d4"]


def test_one_head_of_several_is_not_guessed(branching: Path) -> None:
    with pytest.raises(MultipleHeads) as refused:
        History(str(branching)).pending([], "head")
    assert refused.value.members["heads"] == ["d4", "e5"]


def test_an_unknown_target_is_named_and_so_are_the_heads(branching: Path) -> None:
    with pytest.raises(UnknownTarget, match="`nowhere`") as refused:
        History(str(branching)).pending([], "nowhere")
    assert refused.value.members == {"target": "nowhere", "heads": ["d4", "e5"]}


def test_a_history_knows_ids_and_not_their_beginnings(branching: Path) -> None:
    history = History(str(branching))
    assert history.knows("a1")
    assert not history.knows("a")
    assert not history.knows("")


def test_an_empty_history_has_no_heads_and_nothing_pending(tmp_path: Path) -> None:
    (tmp_path / "empty" / "versions").mkdir(parents=True)
    history = History(str(tmp_path / "empty"))
    assert history.heads == ()
    assert pending(history) == []


def test_a_folder_that_is_not_there_is_a_setting_to_be_set(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="There are no revisions in") as refused:
        History(str(tmp_path / "nowhere"))
    assert refused.value.members == {"variables": ["MIGRATION_SCRIPT_LOCATION"]}


async def test_a_history_is_loaded_once_per_process(write_history: WriteHistory) -> None:
    folder = str(write_history(a1="pass"))
    assert await revisions.loaded(folder) is await revisions.loaded(folder)
