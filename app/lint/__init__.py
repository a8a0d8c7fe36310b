"""Findings: what is to be said against a plan's SQL, by squawk where it is at hand, and by a few rules of our own.

A pure room: it knows neither Alembic nor the database, only text. docs/findings.md tells its rules.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from app.lint import downgrade, mixture, remarks, serving, squawk
from app.lint.changes import changes, table
from app.lint.novelty import Novelty
from app.lint.script import Script
from app.lint.secrets import redacted_sql
from app.lint.statements import Statement, controls, split
from app.report import Finding

__all__ = ["Script", "findings", "redacted_sql"]


async def findings(
    scripts: Sequence[Script], *, server_version: tuple[int, int], folder: Path
) -> tuple[list[Finding], str]:
    """What is to be said against the scripts of a plan, and which linter has said its part.

    Args:
        scripts: In the order in which they would run.
        server_version: Of PostgreSQL, such as (17, 2).
        folder: The project's root; squawk obeys the `.squawk.toml` that it finds from there.

    Returns:
        The findings in the order of the scripts and of their lines; and `squawk` with its version, or `unavailable`.
    """
    # In threads: of a thousand revisions, or of large ones, each takes a moment, and other requests shall not wait.
    scripts, read = await asyncio.to_thread(_read, scripts)
    whole = [
        script.transactional is not False and not any(map(controls, statements))
        for script, statements in zip(scripts, read, strict=True)
    ]
    answer = await squawk.ask(scripts, whole, server_version=server_version, folder=folder)
    said = answer.remarks if answer else [[] for _ in scripts]
    found = await asyncio.to_thread(_judged, scripts, read, said)
    return found, answer.version if answer else "unavailable"


def _read(scripts: Sequence[Script]) -> tuple[list[Script], list[list[Statement]]]:
    """The scripts as people will see them, and their statements: what quotes from them tells no password."""
    shown = [replace(script, sql=redacted_sql(script.sql)) for script in scripts]
    return shown, [split(script.sql) for script in shown]


def _judged(
    scripts: Sequence[Script], read: Sequence[Sequence[Statement]], said: Sequence[Sequence[squawk.Remark]]
) -> list[Finding]:
    novelty = Novelty()
    found: list[Finding] = []
    for script, statements, of_script in zip(scripts, read, said, strict=True):
        found += sorted(
            _of(script, statements, of_script, novelty), key=lambda one: (one.line or 0, one.source, one.rule)
        )
    return found


def _of(
    script: Script, statements: Sequence[Statement], said: Sequence[squawk.Remark], novelty: Novelty
) -> list[Finding]:
    every = [changes(statement) for statement in statements]
    later = [change for of_statement in every for change in of_statement]
    found = [mixture.finding(script, statements)]
    on_new_tables = set()
    seen = 0
    for at, statement in enumerate(statements):
        subject = table(statement)
        if subject and novelty.made(subject):
            on_new_tables.add(at)
        for change in every[at]:
            seen += 1
            if script.direction == "upgrade":
                found.append(serving.finding(script, change, novelty, later[seen:]))
            else:
                found.append(downgrade.finding(script, change, novelty))
            novelty.learn(change)
    own = [one for one in found if one]
    return [*own, *remarks.findings(script, said, statements, on_new_tables, own)]
