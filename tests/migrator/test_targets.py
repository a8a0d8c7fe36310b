"""What a target names: what Alembic says it does, resolved once, or a refusal that says why."""

from pathlib import Path

import pytest

from app.errors import MultipleHeads, UnknownTarget
from app.migrator.call import is_relative
from app.migrator.revisions import History
from app.report import Direction
from tests.shapes import SHAPES, write_shape


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "history"


def history(folder: Path, shape: str) -> History:
    return History(str(write_shape(folder, SHAPES[shape])))


MERGE, BASES, ACROSS = "a merge, and one more head", "several bases with labels", "a dependency across"
CHAIN = "criss-cross merges"

UPGRADES = [
    (MERGE, "", "+1", "a1"),
    (MERGE, "", "base+1", "a1"),
    (MERGE, "b2", "+1", "d4"),
    (MERGE, "a1", "c3+1", "d4"),
    (MERGE, "a1", "d4-2", None),  # two ways lead back from a merge
    (MERGE, "", "e5-1", "a1"),
    (MERGE, "", "b2@+2", "b2"),
    (BASES, "", "shop@+1", "shop1"),
    (BASES, "", "store@+2", "shop2"),
    (BASES, "shop1 till1", "till@+1", "till2"),
    (BASES, "till1", "shop1+1", "shop2"),
    (BASES, "", "till2+0", "till2"),
    (ACROSS, "", "bill@+1", "bill1"),
    (ACROSS, "bill1", "shop@+1", "shop3"),
    (CHAIN, "m4", "l1+1", None),  # two merges follow
]


@pytest.mark.parametrize(("shape", "at", "target", "expected"), UPGRADES)
def test_an_upgrade_counts_as_alembic_does(
    folder: Path, shape: str, at: str, target: str, expected: str | None
) -> None:
    agrees_with_alembic(history(folder, shape), at, target, "upgrade", expected)


DOWNGRADES = [
    (MERGE, "d4 e5", "e5@-1", "e5@a1"),
    (MERGE, "b2", "-1", "b2@a1"),
    (MERGE, "b2", "-2", "b2@base"),
    (MERGE, "d4", "-1", None),  # two ways lead back
    (MERGE, "d4", "c3-1", "a1"),
    (MERGE, "b2 c3", "b2@-1", "b2@a1"),
    (MERGE, "d4", "base+1", "a1"),
    (BASES, "shop2 till2", "shop@-1", "shop@shop1"),
    (BASES, "shop2 till2", "shop@-2", "shop@base"),
    (BASES, "shop2 till2", "till@till2-1", "till@till1"),
    (ACROSS, "bill2 shop3", "bill@-2", "bill@base"),
    (ACROSS, "bill2", "bill2-1", "bill1"),
    (ACROSS, "bill2", "shop@-1", "shop@shop1"),
]


@pytest.mark.parametrize(("shape", "at", "target", "expected"), DOWNGRADES)
def test_a_downgrade_counts_as_alembic_does(
    folder: Path, shape: str, at: str, target: str, expected: str | None
) -> None:
    agrees_with_alembic(history(folder, shape), at, target, "downgrade", expected)


def agrees_with_alembic(known: History, at: str, target: str, direction: Direction, expected: str | None) -> None:
    current = tuple(at.split())
    assert is_relative(target)
    known.resolve(target, direction)  # as far as can be told without a database, there is such a target
    if expected is None:
        with pytest.raises(UnknownTarget, match="More than one revision comes"):
            known.destination(current, target, direction)
        return
    assert known.destination(current, target, direction) == expected
    alembics = known.script._upgrade_revs if direction == "upgrade" else known.script._downgrade_revs
    relative = [step.revision.revision for step in alembics(target, current)]  # type: ignore[arg-type]  # as it is called
    for each in (target, expected):
        assert [revision.revision for revision in known.pending(current, each, direction)] == relative
    assert known.destination((), expected, direction) == expected, "what it came to counts from nowhere"


def test_a_way_back_is_the_same_from_each_step_of_it(folder: Path) -> None:
    """A run that is tried again halfway goes on to where it was going, and takes nothing of another branch."""
    known = history(folder, "criss-cross merges")
    to = known.destination(("l3", "r2"), "l3@-1", "downgrade")
    assert (to, known.destination(("l2", "r2"), to, "downgrade")) == ("l3@l2", "l3@l2")
    assert [each.revision for each in known.pending(("l3", "r2"), to, "downgrade")] == ["l3"]
    assert known.pending(("l2", "r2"), to, "downgrade") == []


@pytest.mark.parametrize(
    ("shape", "at", "target", "direction", "words"),
    [
        (MERGE, "d4 e5", "+1", "upgrade", "at d4, e5, and `+1` does not say from which of these to count"),
        (MERGE, "d4 e5", "-1", "downgrade", "at d4, e5, and `-1` does not say from which of these to count"),
        (MERGE, "a1", "+1", "upgrade", "More than one revision comes after a1 on the way of `+1`"),
        (BASES, "", "+1", "upgrade", "More than one revision comes after base on the way of `+1`"),
        (MERGE, "d4", "+1", "upgrade", "The database is at its head, d4: nothing is further on for `+1`."),
        (MERGE, "b2", "+9", "upgrade", "leads nowhere: fewer than 9 revisions come after b2."),
        (MERGE, "b2", "-9", "downgrade", "leads nowhere: fewer than 9 revisions come before b2."),
        (MERGE, "", "-1", "downgrade", "leads nowhere: no revision comes before base."),
        (BASES, "shop2", "shop@+1", "upgrade", "The database is at its head, shop2: nothing is further on"),
        (BASES, "mail1", "shop@-1", "downgrade", "leads nowhere: no revision comes before mail1 in `shop`."),
        (MERGE, "a1", "-1", "upgrade", "An upgrade goes on, and `-1` does not."),
        (MERGE, "a1", "+1", "downgrade", "A downgrade goes back, and `+1` does not."),
        (MERGE, "a1", "+0", "upgrade", "An upgrade goes on, and `+0` does not."),
        (BASES, "", "stox@+1", "upgrade", "has the label `stox`. The labels are mail, shop, store, till."),
        (BASES, "", "stock@head", "upgrade", "has the label `stock`. The labels are mail, shop, store, till."),
        (BASES, "", "stock@base", "downgrade", "has the label `stock`. The labels are mail, shop, store, till."),
        (MERGE, "", "stock@heads", "upgrade", "has the label `stock`. No revision has a label."),
        (BASES, "", "shop@till1", "upgrade", "No revision of this deployment matches the target `shop@till1`."),
        (MERGE, "", "nowhere+1", "upgrade", "No revision of this deployment matches the target `nowhere+1`."),
        (MERGE, "", "+1 and more", "upgrade", "No revision of this deployment matches the target `+1 and more`."),
    ],
)
def test_a_target_that_names_nothing_says_why(
    folder: Path, shape: str, at: str, target: str, direction: Direction, words: str
) -> None:
    with pytest.raises(UnknownTarget) as refused:
        history(folder, shape).pending(at.split(), target, direction)
    assert words in refused.value.detail
    assert refused.value.members["target"] == target


@pytest.mark.parametrize("target", [" 1", "shop@ 1", "shop1 2"])
def test_a_space_that_was_to_be_a_plus_is_explained(folder: Path, target: str) -> None:
    known = history(folder, BASES)
    with pytest.raises(UnknownTarget) as refused:
        known.resolve(target)
    assert "a + is written %2B" in refused.value.hint
    with pytest.raises(UnknownTarget) as refused:
        known.resolve("till 2 x")
    assert "%2B" not in refused.value.hint


@pytest.mark.parametrize(
    ("target", "heads", "words"),
    [
        ("head", ["mail1", "shop2", "till2"], "there are 3: mail1 (mail), shop2 (shop, store), till2 (till)."),
        ("head-1", ["mail1", "shop2", "till2"], "there are 3: "),
    ],
)
def test_several_heads_are_told_with_their_labels(folder: Path, target: str, heads: list[str], words: str) -> None:
    with pytest.raises(MultipleHeads) as refused:
        history(folder, BASES).pending([], target)
    assert words in refused.value.detail
    assert refused.value.members["heads"] == heads
    assert refused.value.members["labels"] == {"mail1": ["mail"], "shop2": ["shop", "store"], "till2": ["till"]}


def test_the_heads_of_one_branch_are_told_without_those_of_others(folder: Path) -> None:
    with pytest.raises(MultipleHeads) as refused:
        history(folder, MERGE).pending([], "a1@head")
    assert refused.value.members["heads"] == ["d4", "e5"]
    assert refused.value.members["labels"] == {"d4": [], "e5": []}


def test_a_head_that_another_depends_on_is_reached_with_that(folder: Path) -> None:
    known = history(folder, "a head that another depends on")
    assert known.heads == ("a2", "x2")
    assert known.pending(["x2"], "heads") == known.pending(["a2", "x2"], "heads") == []
