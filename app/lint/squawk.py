"""squawk, the linter of migrations, run as a program of its own (https://squawkhq.com).

A deployment may well be without it, and a plan never fails because of it: then it is unavailable, and the log says why.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import log
from app.lint import statements
from app.lint.script import Script
from app.redaction import redacted

LONGEST_S = 20.0
"""How long it may take with all scripts together; usually it is some hundredths of a second."""

_AROUND_PARTS = ("BEGIN;\n", "\n;COMMIT;\n")
"""What Alembic has around a script that is not all of it in one transaction."""
_AROUND_WHOLE = ("", "\n;SELECT 1;\n")
"""Of a script that is, squawk is told that it is. The row of the version, which comes after it, is in it too: squawk
lets a CREATE INDEX CONCURRENTLY pass that it sees alone."""


class _Unavailable(Exception):  # noqa: N818 – a fact, as everywhere here
    """It is not there, or of no use; the message says why."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What squawk has to say of one place in a script."""

    rule: str
    level: str
    """Error or Warning."""
    line: int
    """From 1."""
    start: int
    """In characters, from the start of the script's SQL."""
    message: str
    help: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What squawk has answered."""

    version: str
    """Such as `squawk 2.70.0`."""
    remarks: list[list[Remark]]
    """For each of the scripts, in their order."""


async def ask(scripts: Sequence[Script], *, server_version: tuple[int, int], folder: Path) -> Answer | None:
    """Have squawk lint the scripts, under the `.squawk.toml` that it finds in `folder` or above it; None without it."""
    try:
        async with asyncio.timeout(LONGEST_S):
            return await _answer(scripts, server_version, folder)
    except TimeoutError:
        reason = f"squawk was not done after {LONGEST_S:g} s"
    except _Unavailable as error:
        reason = str(error)
    except OSError as error:
        reason = f"squawk cannot be run: {error.strerror or error}"
    log.event("lint.unavailable", reason=redacted(reason))
    return None


def _program() -> str:
    found = shutil.which("squawk", path=Path(sys.executable).parent) or shutil.which("squawk")
    if found is None:
        raise _Unavailable("the program squawk is neither beside Python nor on the PATH")
    return found


async def _answer(scripts: Sequence[Script], server_version: tuple[int, int], folder: Path) -> Answer:
    program = _program()
    version = (await _output(program, "--version", folder=folder)).decode(errors="replace").strip()
    if not version.startswith("squawk "):
        raise _Unavailable(f"squawk calls itself {version[:100]!r}")
    options = (
        "--reporter=json",
        "--no-error-on-unmatched-pattern",
        f"--pg-version={'.'.join(map(str, server_version))}",
    )
    remarks: list[list[Remark]] = [[] for _ in scripts]
    with tempfile.TemporaryDirectory(prefix="lint-", ignore_cleanup_errors=True) as place:
        for whole, assume in ((True, "--assume-in-transaction"), (False, "--no-assume-in-transaction")):
            files = {
                str(Path(place) / f"{at}.sql"): at
                for at, script in enumerate(scripts)
                if _is_in_one_transaction(script) is whole
            }
            before, after = _AROUND_WHOLE if whole else _AROUND_PARTS
            await asyncio.to_thread(_write, {path: before + scripts[at].sql + after for path, at in files.items()})
            output = await _output(program, *options, assume, *files, folder=folder) if files else b"[]"
            try:
                for said in json.loads(output):
                    at = files[said["file"]]
                    remarks[at] += _remark(said, scripts[at].sql, lines_before=before.count("\n"))
            except (ValueError, TypeError, KeyError) as error:
                raise _Unavailable(f"squawk's answer cannot be read: {type(error).__name__}: {error}") from error
    return Answer(version, remarks)


def _write(files: dict[str, str]) -> None:
    for path, content in files.items():
        Path(path).write_bytes(_utf8(content))


def _is_in_one_transaction(script: Script) -> bool:
    return script.transactional is not False and statements.controls_transactions(script.sql) is None


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


async def _output(program: str, *arguments: str, folder: Path) -> bytes:
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        cwd=folder,
        env={},  # ours holds secrets, and squawk says other things where it finds GITHUB_ACTIONS
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # 1 is its code both for having found something and for having failed; only then it complains instead.
    if process.returncode not in {0, 1} or (process.returncode == 1 and not output.strip()):
        said = complaint.decode(errors="replace").strip()[:500]
        raise _Unavailable(f"squawk ended with code {process.returncode}: {said}")
    return output


def _remark(said: dict[str, Any], sql: str, *, lines_before: int) -> list[Remark]:
    """One of its remarks; none if it is about what is only around the script."""
    lines = sql.split("\n")
    first = said["line"] - lines_before
    if not 0 <= first < len(lines):
        return []
    return [
        Remark(
            rule=said["rule_name"],
            level=said["level"],
            line=first + 1,
            start=_characters(lines, first, said["column"]),
            message=said["message"],
            help=said["help"],
        )
    ]


def _characters(lines: Sequence[str], line: int, column: int) -> int:
    """The place of a byte of a line, in characters from the start of the text."""
    return sum(len(each) + 1 for each in lines[:line]) + len(_utf8(lines[line])[:column].decode(errors="ignore"))
