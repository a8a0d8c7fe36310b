"""Figures for people: a table on the terminal, and the same in bench/results with what they were measured on."""

import os
import platform
import statistics
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from bench.side_by_side import Comparison, Took

FOLDER = Path(__file__).parent / "results"


def table(comparisons: Iterable[Comparison]) -> str:
    """A Markdown table: medians, with the fastest and the slowest beside them, and their ratio."""
    head = "| what | ours | beside it | takes | ratio | of processor time | goal |\n|---|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {each.what} | {_spread(each.ours)} | {each.other} | {_spread(each.others)} "
        f"| {each.ratio:.2f} | {each.cpu_ratio:.2f} | {each.verdict} |\n"
        for each in comparisons
    )


def _spread(took: list[Took]) -> str:
    seconds = [each.wall_s for each in took]
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f}–{max(seconds):.2f})"


def circumstances(*distributions: str, **others: str) -> str:
    """What was measured on: the kind of machine, and versions. No names, and no paths."""
    versions = {
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in distributions},
        **others,
    }
    machine = f"{platform.system()}, {platform.machine()}, {os.cpu_count()} processors ({_processor()})"
    return f"{machine}; " + ", ".join(f"{name} {version}" for name, version in versions.items())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else "unknown"


def show(title: str, *paragraphs: str) -> None:
    """Print the results, and keep them in a file that is named like the title."""
    text = "\n\n".join([f"# {title}", *(paragraph.strip() for paragraph in paragraphs)]) + "\n"
    print(text)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{title.lower().replace(' ', '_')}.md").write_text(text)
