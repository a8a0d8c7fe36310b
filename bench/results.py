"""Figures on the terminal and in bench/results, for people and for machines, with what they were measured on."""

import json
import os
import platform
import statistics
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from bench.section import Section
from bench.side_by_side import Comparison, Took

FOLDER = Path(__file__).parent / "results"


def table(comparisons: Iterable[Comparison]) -> str:
    """A Markdown table: medians, with the fastest and the slowest beside them, and their ratio."""
    head = "| what | ours | beside it | takes | ratio | of processor time | goal |\n|---|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {each.what} | {_took(each.ours)} | {each.other} | {_took(each.others)} "
        f"| {each.ratio:.2f} | {each.cpu_ratio:.2f} | {each.verdict} |\n"
        for each in comparisons
    )


def _took(took: list[Took]) -> str:
    return spread([each.wall_s for each in took])


def spread(seconds: list[float]) -> str:
    """The median, and in brackets the fastest and the slowest."""
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f}–{max(seconds):.2f})"


def circumstances(versions: dict[str, str]) -> str:
    """What was measured on: the kind of machine, and versions. No names, and no paths."""
    return "; ".join([machine(), *(f"{name} {version}" for name, version in versions.items())])


def versions(*distributions: str, **others: str) -> dict[str, str]:
    """Python's, those of distributions, and others."""
    return {
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in distributions},
        **others,
    }


def machine() -> str:
    """Its kind."""
    return f"{platform.system()}, {platform.machine()}, {os.cpu_count()} processors ({_processor()})"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else "unknown"


def keep(section: Section, versions: dict[str, str], folder: Path = FOLDER) -> None:
    """Print what a part has found, and keep it as NAME.md and NAME.json."""
    skipped = "".join(f"Not measured: {name}: {why}.\n" for name, why in section.skipped.items())
    paragraphs = [f"# {section.title}", section.explanation, section.table, skipped, circumstances(versions)]
    text = "\n\n".join(paragraph.strip() for paragraph in paragraphs if paragraph.strip()) + "\n"
    print(text)
    figures = {
        "goals": [
            {"what": goal.what, "value": _rounded(goal.value), "at_most": goal.at_most, "is_reached": goal.is_reached}
            for goal in section.goals
        ],
        "seconds": {
            what: {name: [_rounded(each) for each in took] for name, took in tools.items()}
            for what, tools in section.seconds.items()
        },
        "skipped": section.skipped,
        "machine": machine(),
        "versions": versions,
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{section.name}.md").write_text(text)
    (folder / f"{section.name}.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


def _rounded(value: float) -> float:
    """To four digits: more are noise."""
    return float(f"{value:.4g}")
