"""What happens in a soak: counted for the summary, written down for whoever looks into a failure."""

import time
from collections import Counter


class Diary:
    """Of one soak; every method may be called from any thread."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.longest_answer_s = 0.0
        self._began = time.monotonic()
        self._lines: list[str] = []

    def note(self, what: str) -> None:
        self._lines.append(f"{time.monotonic() - self._began:7.2f} {what}")

    def count(self, kind: str, what: str = "") -> None:
        """Count one of a kind, and note what it was."""
        self.counts[kind] += 1
        self.note(f"{kind}: {what}" if what else kind)

    def summary(self) -> str:
        counts = ", ".join(f"{number} {kind}" for kind, number in sorted(self.counts.items()))
        return f"--soak-seed {self.seed}: {counts}, longest answer {self.longest_answer_s:.1f} s"

    def __str__(self) -> str:
        return "\n".join([*self._lines, self.summary()])
