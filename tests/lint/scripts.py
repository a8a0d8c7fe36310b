"""Scripts, and what is found in them."""

import asyncio
from pathlib import Path

from app.lint import Script, findings
from app.report import Direction, Finding
from tests.servers import PROJECT


def script(
    sql: str, *, revision: str = "a1", direction: Direction = "upgrade", transactional: bool | None = True
) -> Script:
    return Script(revision, direction, sql, transactional)


def linted(
    *scripts: Script | str, version: tuple[int, int] = (17, 2), folder: Path = PROJECT
) -> tuple[list[Finding], str]:
    """The findings of scripts, or of the SQL of upgrades."""
    given = [script(each, revision=f"r{at}") if isinstance(each, str) else each for at, each in enumerate(scripts, 1)]
    return asyncio.run(findings(given, server_version=version, folder=folder))


def own(*scripts: Script | str) -> list[Finding]:
    """Those of our own rules."""
    return [one for one in linted(*scripts)[0] if one.source == "migration-endpoint"]


def of_squawk(*scripts: Script | str, folder: Path = PROJECT, version: tuple[int, int] = (17, 2)) -> list[Finding]:
    """Those of squawk, which has to be there."""
    found, lint = linted(*scripts, folder=folder, version=version)
    assert lint.startswith("squawk ")
    return [one for one in found if one.source == "squawk"]


def rules(found: list[Finding]) -> list[str]:
    return [one.rule for one in found]
