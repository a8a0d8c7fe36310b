"""The table in the README, which `make bench` writes anew from the figures in bench/results."""

import json
import statistics
from pathlib import Path

from bench import ours, ranking
from bench.peers import PEERS
from tests.servers import PROJECT

README = PROJECT / "README.md"
BEGIN, END = "<!-- from here, `make bench` writes: -->\n", "<!-- to here -->\n"
_PARTS = ("apply", "nothing_pending", "cold", "latency")


def write(readme: Path, folder: Path) -> None:
    """Put the table between the two comments in the README."""
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{readme.name} has no line {BEGIN}"
    assert end, f"{readme.name} has no line {END}"
    readme.write_text(before + begin + table(folder) + end + after)


def table(folder: Path) -> str:
    """Medians: a row for each tool, a column for each measure in the folder of results; and the machine."""
    kept = [json.loads(path.read_text()) for name in _PARTS if (path := folder / f"{name}.json").exists()]
    columns = {what: seconds for each in kept for what, seconds in each["seconds"].items()}
    names = [ours.NAME, *(peer.name for peer in PEERS if any(peer.name in seconds for seconds in columns.values()))]
    head = f"| medians | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}\n"
    rows = [_row(name, [column.get(name) for column in columns.values()]) for name in names]
    machines = sorted({each["machine"] for each in kept})
    return f"\n{head}{''.join(rows)}\n{'; '.join(machines)}\n\n"


def _row(name: str, columns: list[list[float] | None]) -> str:
    cells = [ranking.told(statistics.median(seconds)) if seconds else "–" for seconds in columns]
    return f"| {f'**{name}**' if name == ours.NAME else name} | {' | '.join(cells)} |\n"
