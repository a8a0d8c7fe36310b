"""squawk, the linter of migrations, run as a program of its own (https://squawkhq.com).

A deployment may well be without it, and a plan never fails because of it: then it is unavailable, and the log says why.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from app import log
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


async def ask(
    scripts: Sequence[Script], whole: Sequence[bool], *, server_version: tuple[int, int], folder: Path
) -> Answer | None:
    """Have squawk lint the scripts, under the `.squawk.toml` that it finds in `folder` or above it; None without it.

    Args:
        scripts: In the order in which the answer has them.
        whole: Of each, whether all of it is in one transaction.
        server_version: Of PostgreSQL.
        folder: The project's root.
    """
    try:
        async with asyncio.timeout(LONGEST_S):
            return await _answer(scripts, whole, server_version, folder)
    except TimeoutError:
        reason = f"squawk was not done after {LONGEST_S:g} s"
    except _Unavailable as error:
        reason = str(error)
    except OSError as error:
        reason = f"squawk cannot be run: {error.strerror or error}"
    except (ValueError, TypeError, KeyError) as error:
        reason = f"squawk's answer cannot be read: {type(error).__name__}: {error}"
    log.event("lint.unavailable", reason=redacted(reason))
    return None


def _program() -> str:
    found = shutil.which("squawk", path=Path(sys.executable).parent) or shutil.which("squawk")
    if found is None:
        raise _Unavailable("the program squawk is neither beside Python nor on the PATH")
    return found


async def _answer(
    scripts: Sequence[Script], whole: Sequence[bool], server_version: tuple[int, int], folder: Path
) -> Answer:
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
        for is_whole, assume, (before, after) in (
            (True, "--assume-in-transaction", _AROUND_WHOLE),
            (False, "--no-assume-in-transaction", _AROUND_PARTS),
        ):
            files = {str(Path(place) / f"{at}.sql"): at for at in range(len(scripts)) if whole[at] is is_whole}
            if not files:
                continue
            await asyncio.to_thread(_write, {path: before + scripts[at].sql + after for path, at in files.items()})
            output = await _output(program, *options, assume, *files, folder=folder)
            said = await asyncio.to_thread(
                _read, output, {path: scripts[at].sql for path, at in files.items()}, before.count("\n")
            )
            for path, of_script in said.items():
                remarks[files[path]] = of_script
    return Answer(version, remarks)


def _write(files: dict[str, str]) -> None:
    for path, content in files.items():
        Path(path).write_bytes(_utf8(content))


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


def _read(output: bytes, scripts: Mapping[str, str], lines_before: int) -> dict[str, list[Remark]]:
    """Its remarks by the path of the file, without those on what is only around a script."""
    by_path: dict[str, list[dict[str, Any]]] = {path: [] for path in scripts}
    for said in json.loads(output):
        by_path[said["file"]].append(said)
    return {path: _remarks(every, scripts[path], lines_before) for path, every in by_path.items()}


def _remarks(every: Sequence[dict[str, Any]], sql: str, lines_before: int) -> list[Remark]:
    lines = sql.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    remarks = []
    for said in every:
        line = said["line"] - lines_before
        if 0 <= line < len(lines):
            characters = len(_utf8(lines[line])[: said["column"]].decode(errors="ignore"))
            remarks.append(
                Remark(
                    rule=said["rule_name"],
                    level=said["level"],
                    line=line + 1,
                    start=starts[line] + characters,
                    message=said["message"],
                    help=said["help"],
                )
            )
    return remarks
