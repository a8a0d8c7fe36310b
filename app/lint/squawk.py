"""squawk, the linter of migrations, run as a program of its own (https://squawkhq.com).

A deployment may well be without it, and a plan never fails because of it: then it is unavailable, and the log says why.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import log
from app.lint import statements
from app.lint.script import Script
from app.redaction import redacted

LONGEST_S = 20.0
"""How long it may take with all scripts together; usually it is some hundredths of a second."""

_BEFORE, _AFTER = "BEGIN;\n", "\n;COMMIT;\n"
"""Around a script that is not all of it in one transaction, as Alembic has them around it."""


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
    end: int
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
    whole = {at for at, script in enumerate(scripts) if _is_in_one_transaction(script)}
    remarks: list[list[Remark]] = [[] for _ in scripts]
    with tempfile.TemporaryDirectory(prefix="lint-", ignore_cleanup_errors=True) as place:
        for assume, chosen in (
            ("--assume-in-transaction", sorted(whole)),
            ("--no-assume-in-transaction", sorted(set(range(len(scripts))) - whole)),
        ):
            before, after = ("", "") if chosen and chosen[0] in whole else (_BEFORE, _AFTER)
            paths = {str(Path(place) / f"{at}.sql"): at for at in chosen}
            for path, at in paths.items():
                await asyncio.to_thread(Path(path).write_bytes, _utf8(before + scripts[at].sql + after))
            if not paths:
                continue
            options = ("--reporter=json", f"--pg-version={server_version[0]}.{server_version[1]}", assume)
            output = await _output(program, *options, "--no-error-on-unmatched-pattern", *paths, folder=folder)
            for path, said in _read(output):
                at = paths[path]
                if remark := _remark(said, scripts[at].sql, lines_before=before.count("\n")):
                    remarks[at].append(remark)
    return Answer(version, remarks)


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


def _read(output: bytes) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each of its remarks, behind the path of the file."""
    try:
        return [(said["file"], said) for said in json.loads(output)]
    except (ValueError, TypeError, KeyError) as error:
        raise _Unavailable(f"squawk's answer cannot be read: {type(error).__name__}: {error}") from error


def _remark(said: dict[str, Any], sql: str, *, lines_before: int) -> Remark | None:
    """One of its remarks; None if it is about what is only around the script."""
    lines = sql.split("\n")
    first, last = said["line"] - lines_before, said["line_end"] - lines_before
    if not 0 <= first < len(lines):
        return None
    last = min(last, len(lines) - 1)
    return Remark(
        rule=said["rule_name"],
        level=said["level"],
        line=first + 1,
        start=_characters(lines, first, said["column"]),
        end=_characters(lines, last, said["column_end"]),
        message=said["message"],
        help=said["help"],
    )


def _characters(lines: Sequence[str], line: int, column: int) -> int:
    """The place of a byte of a line, in characters from the start of the text."""
    return sum(len(each) + 1 for each in lines[:line]) + len(_utf8(lines[line])[:column].decode(errors="ignore"))
