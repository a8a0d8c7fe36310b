"""Histories of the shapes that real ones have: branches, merges, labels, dependencies, several bases."""

from pathlib import Path
from typing import NamedTuple

from tests.conftest import write_revision

type _Revisions = str | tuple[str, ...] | None


class Link(NamedTuple):
    """What a revision says of its place."""

    down: _Revisions = None
    needs: _Revisions = None
    labels: _Revisions = None


SHAPES: dict[str, dict[str, Link]] = {
    "two heads": {"a1": Link(), "c3": Link("a1"), "b2": Link("a1"), "b3": Link("b2")},
    "a merge, and one more head": {
        "a1": Link(),
        "b2": Link("a1"),
        "c3": Link("a1"),
        "d4": Link(("c3", "b2")),
        "e5": Link("a1"),
    },
    "criss-cross merges": {
        "a1": Link(),
        "l1": Link("a1"),
        "r1": Link("a1"),
        "l2": Link(("l1", "r1")),
        "r2": Link(("r1", "l1")),
        "l3": Link("l2"),
        "m4": Link(("l3", "r2")),
    },
    "several bases with labels": {
        "till1": Link(labels="till"),
        "shop1": Link(labels=("shop", "store")),
        "shop2": Link("shop1"),
        "till2": Link("till1"),
        "mail1": Link(labels="mail"),
    },
    "a dependency across": {
        "shop1": Link(labels="shop"),
        "shop2": Link("shop1"),
        "shop3": Link("shop2"),
        "bill1": Link(labels="bill", needs="shop2"),
        "bill2": Link("bill1"),
    },
    "dependencies both ways": {
        "a1": Link(labels="a"),
        "b1": Link(labels="b"),
        "a2": Link("a1", needs="b1"),
        "b2": Link("b1", needs="a2"),
        "a3": Link("a2"),
        "b3": Link("b2", needs="a"),
    },
    "a head that another depends on": {"a1": Link(), "a2": Link("a1"), "x1": Link(), "x2": Link("x1", needs="a2")},
    "one that needs several, which have nothing to do with each other": {
        "c1": Link(),
        "a1": Link(),
        "d1": Link(),
        "b1": Link(),
        "z1": Link(needs=("d1", "a1", "c1", "b1")),
    },
    "needs within merges": {
        "m0": Link(),
        "a1": Link(),
        "b1": Link(),
        "l1": Link("m0", needs=("b1", "a1")),
        "r1": Link("m0"),
        "e2": Link(("l1", "r1"), needs=("a1", "b1")),
        "f3": Link("m0", needs=("b1", "a1")),
    },
}


def write_shape(folder: Path, links: dict[str, Link]) -> Path:
    """Write a history of this shape, in which each revision makes a table of its name."""
    for revision, link in links.items():
        body = f"op.execute('CREATE TABLE {revision} (id int)')"
        write_revision(folder, revision, link.down, body, downgrade=f"op.execute('DROP TABLE {revision}')")
        file = folder / "versions" / f"{revision}.py"
        more = f"depends_on = {link.needs!r}\nbranch_labels = {link.labels!r}\n"
        file.write_text(file.read_text().replace("\n\n\ndef upgrade", f"\n{more}\n\ndef upgrade", 1))
    return folder
