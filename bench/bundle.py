"""The size of the function: what a deployment has to fetch and unpack before it can answer anything."""

from pathlib import Path

from bench.section import Goal, Section
from tests import bundle
from tests.servers import PROJECT, Postgres

_EXPLANATION = (
    "What Vercel's builder takes of this repository, and what the wheels of the dependencies list, without bytecode; "
    "MB of a million bytes."
)
_SHOWN = 6


def measure(_: Postgres, __: Path) -> Section:
    """Add it up."""
    ours = sum((PROJECT / path).stat().st_size for path in bundle.bundled(bundle.committed()))
    dependencies = sorted(bundle.dependencies().items(), key=lambda found: -found[1])
    whole = ours + sum(size for _, size in dependencies)
    rest = dependencies[_SHOWN:]
    rows = [
        *dependencies[:_SHOWN],
        (f"{len(rest)} more distributions", sum(size for _, size in rest)),
        ("the project itself", ours),
        ("all of it", whole),
    ]
    return Section(
        name="bundle",
        title="Size of the function",
        explanation=_EXPLANATION,
        table="| what | MB |\n|---|---|\n" + "".join(f"| {what} | {size / 1e6:.1f} |\n" for what, size in rows),
        goals=[Goal("size of the function in MB", whole / 1e6, bundle.LARGEST_MB)],
    )
