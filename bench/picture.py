"""The picture in the README, from what apply.json and nothing_pending.json tell."""

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench import ours, ranking
from bench.peers import FLOOR

_PANELS = {"apply": "100 revisions from empty", "nothing_pending": "nothing pending, warm"}
_STYLE: dict[Any, Any] = {  # their types name every setting that there is
    "font.size": 11,
    "text.color": "#1f2328",
    "axes.labelcolor": "#1f2328",
    "ytick.color": "#1f2328",
    "svg.hashsalt": "the same file from the same figures",
}
_FOOT = "medians; the lines reach from the fastest to the slowest time"
_OURS, _OTHERS, _FLOOR, _WHISKER = "#0969da", "#afb8c1", "#e4e8ec", "#57606a"


def draw(folder: Path) -> list[Path]:
    """Draw `tools.svg` and `tools.png` into the folder of results; nothing if one of both is not there yet."""
    files = {name: folder / f"{name}.json" for name in _PANELS}
    if not all(file.exists() for file in files.values()):
        return []
    seconds = {_PANELS[name]: json.loads(file.read_text())["seconds"][_PANELS[name]] for name, file in files.items()}
    with mpl.rc_context(_STYLE):
        figure = _figure(seconds)
        drawn = [folder / "tools.svg", folder / "tools.png"]
        # Opaque, so that it can be read on a dark page; without date and version, so that it is told apart by figures.
        figure.savefig(drawn[0], facecolor="white", metadata={"Date": None, "Creator": None})
        figure.savefig(drawn[1], facecolor="white", dpi=200, metadata={"Software": None})
    return drawn


def _figure(seconds: dict[str, dict[str, list[float]]]) -> Figure:
    """One row for each tool, the fastest above, and one column for each measure."""
    first = seconds[_PANELS["apply"]]
    by_time = sorted(first, key=lambda name: statistics.median(first[name]))
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12)
    figure = Figure(figsize=(10, 0.34 * len(by_time) + 0.9), layout=layout)
    columns: Any = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, title in zip(columns, _PANELS.values(), strict=True):
        _panel(axes, title.capitalize(), by_time, seconds[title])
    columns[0].set_yticks(range(len(by_time)), by_time)
    columns[0].set_ylim(len(by_time) - 0.5, -0.6)
    for label in columns[0].get_yticklabels():
        if label.get_text() == ours.NAME:
            label.set_color(_OURS)
            label.set_fontweight("bold")
    figure.supxlabel(_FOOT, x=0.985, ha="right", fontsize=9, color=_WHISKER)
    return figure


def _panel(axes: Axes, title: str, tools: list[str], seconds: dict[str, list[float]]) -> None:
    """Medians as bars, from the fastest to the slowest time as whiskers, and the median in words."""
    longest = max(max(took) for took in seconds.values())
    for row, tool in enumerate(tools):
        if tool not in seconds:
            axes.text(0, row, "keeps no count", va="center_baseline", color=_WHISKER, style="italic")
            continue
        took = seconds[tool]
        median = statistics.median(took)
        color = {ours.NAME: _OURS, FLOOR.name: _FLOOR}.get(tool, _OTHERS)
        axes.barh(row, median, height=0.62, color=color)
        axes.hlines(row, min(took), max(took), color=_WHISKER, linewidth=1.2)
        is_ours = tool == ours.NAME
        axes.text(
            max(took) + longest * 0.015,
            row,
            ranking.told(median),
            va="center_baseline",
            color=_OURS if is_ours else None,
            fontweight="bold" if is_ours else "normal",
        )
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.set_xlim(0, longest * 1.2)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
