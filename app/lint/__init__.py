"""Findings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.report import Direction, Finding


@dataclass(frozen=True, slots=True)
class Script:
    """A revision's SQL."""

    revision: str
    direction: Direction
    sql: str
    transactional: bool | None


async def findings(
    scripts: Sequence[Script], *, server_version: tuple[int, int], folder: Path
) -> tuple[list[Finding], str]:
    """Nothing yet."""
    del scripts, server_version, folder
    return [], "unavailable"
