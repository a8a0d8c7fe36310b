"""What is wrong with a history: every fault of its files and of the chain they make, with what to do about it."""

import dataclasses
import importlib.util
import re
import traceback
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from alembic import util
from alembic.script import Script
from alembic.script.revision import LoopDetected, RevisionError
from alembic.util import CommandError

from app.errors import BrokenHistory
from app.migrator.glance import reference
from app.redaction import redacted

_MOST_SHOWN, _MOST_IN_A_CIRCLE, _LONGEST = 100, 20, 300

_ID = re.compile(r"""^revision\b[^=\n]*=\s*["']([^"'\n]+)""", re.MULTILINE)
_LABELS = re.compile(r"^branch_labels\b.*", re.MULTILINE)
_QUOTED = re.compile(r"""["']([^"'\n]+)["']""")
"""What a file says that cannot be imported, as nearly all write it."""

_AT_IMPORT = (
    "What stands outside of upgrade() and downgrade() runs whenever the revisions are loaded, without a database: move "
    "it inside, or give it what it lacks."
)
_PSYCOPG2 = (
    "Take the extra `psycopg2` among the deployment's dependencies, and set MIGRATION_DRIVER=psycopg2 if the revisions "
    "are to run on that driver."
)
_VARIABLES = "`revision` is text; `down_revision`, `depends_on` and `branch_labels` are text, several of them, or None."


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    file: str | None
    """As a plan names it; None where it is not about one file."""
    line: int | None
    message: str
    hint: str
    """What to do about it."""


def broken(faults: list[Fault]) -> BrokenHistory:
    """The problem that lists them."""
    first, more = faults[0], len(faults) - 1
    where = f"{first.file}, line {first.line}: " if first.line else f"{first.file}: " if first.file else ""
    shown = [dataclasses.asdict(fault) for fault in faults[:_MOST_SHOWN]]
    beside = f" There {'is' if more == 1 else 'are'} {more} more, which `faults` lists." if more else ""
    return BrokenHistory(
        f"{where}{redacted(first.message)}{beside}",
        faults=[each | {"message": redacted(each["message"]), "hint": redacted(each["hint"])} for each in shown],
        not_shown=max(len(faults) - _MOST_SHOWN, 0),
    )


def unforeseen(error: BaseException) -> Fault:
    """What Alembic says of a chain in which no fault was found here."""
    return Fault(None, None, f"Alembic refuses the chain: {_said(error)}.", BrokenHistory.hint)


def found(scripts: list[Script], failed: Mapping[Path, BaseException]) -> list[Fault]:
    """Every fault of a history but its circles, which Alembic finds.

    Args:
        scripts: The revisions that could be imported.
        failed: The files that could not, and why.
    """
    texts = [_text(file) for file in failed]
    # What a broken file would have brought is not missing for the others too.
    ids = {script.revision for script in scripts} | {each for text in texts for each in _ID.findall(text)}
    lines = (line for text in texts for line in _LABELS.findall(text))
    labels = {each for script in scripts for each in script.branch_labels} | {
        each for line in lines for each in _QUOTED.findall(line)
    }
    return [
        *(_of_a_file(file, error) for file, error in failed.items()),
        *_twins(scripts),
        *_namesakes(scripts),
        *_gaps(scripts, ids, labels),
    ]


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _of_a_file(file: Path, error: BaseException) -> Fault:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    line = lines[-1] if lines else None
    match error:
        case SyntaxError(filename=name, lineno=number) if name in (None, str(file)):
            return Fault(reference(file), number, f"It is not valid Python: {_said(error)}.", "Correct it.")
        case ModuleNotFoundError(name=str() as name):
            return Fault(reference(file), line, *_missing(name, _through(frames, file)))
        case CommandError() if line is None:  # the only one that Alembic raises of a file
            hint = "Each .py file in this folder is taken for a revision: name one in it, or move it elsewhere."
            return Fault(reference(file), None, "It has no variable `revision`.", hint)
        case AttributeError(name="down_revision") if line is None:
            hint = "Set it to the revision that this one comes after; to None if it is the first."
            return Fault(reference(file), None, "It has no variable `down_revision`.", hint)
        case LoopDetected() if line is None:
            return Fault(
                reference(file), None, "It comes after itself.", "Correct its `down_revision`, or its `depends_on`."
            )
        case RevisionError() if line is None:
            return Fault(reference(file), None, f"Alembic refuses it: {_said(error)}.", "Correct its `revision`.")
        case SystemExit():
            return Fault(reference(file), line, f"It ends the program when imported ({_said(error)}).", _AT_IMPORT)
    if line is None:
        return Fault(reference(file), None, f"Alembic cannot read it: {_said(error)}.", _VARIABLES)
    said = f"It cannot be imported{_through(frames, file)}: {_said(error)}."
    return Fault(reference(file), line, said, _AT_IMPORT)


def _through(frames: traceback.StackSummary, file: Path) -> str:
    """Through which other file it failed, if through one."""
    last = [frame.filename for frame in frames if not frame.filename.startswith("<frozen")][-1:]
    return f" (through {reference(Path(last[0]))})" if last and last[0] != str(file) else ""


def _missing(module: str, through: str) -> tuple[str, str]:
    """What to say of a module that is not there, and what to do."""
    package = module.partition(".")[0]
    if module != package and _is_there(package):
        hint = "If it was moved or deleted, correct the import; if it is only left out of the deployment, include it."
        return f"It imports `{module}`{through}, and `{package}` has no such module here.", hint
    what_brings_it = f"What brings `{package}` must be among the deployment's dependencies (pyproject.toml)."
    hint = _PSYCOPG2 if package == "psycopg2" else what_brings_it
    return f"It imports `{module}`{through}, which is not installed here.", hint


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _twins(scripts: list[Script]) -> Iterator[Fault]:
    files: dict[str, str] = {}
    for script in scripts:
        other = files.setdefault(script.revision, script.path)
        if other != script.path:
            said = f"Its revision `{script.revision}` is also that of {reference(Path(other))}."
            yield _of(script, said, "Give one of the two an id of its own, or delete it.")


def _namesakes(scripts: list[Script]) -> Iterator[Fault]:
    ids = {script.revision for script in scripts}
    claimed: dict[str, Script] = {}
    for script in scripts:
        for label in script._orig_branch_labels:  # noqa: SLF001 – as written; Alembic hands labels on to a whole branch
            other = claimed.setdefault(label, script)
            if label in ids:
                said = f"Its branch label `{label}` is the id of a revision."
            elif other is not script:
                said = f"Its branch label `{label}` is also that of {reference(Path(other.path))}."
            else:
                continue
            yield _of(script, said, "A label stands for one branch, and stands in one revision of it: rename one.")


def _gaps(scripts: list[Script], ids: set[str], labels: set[str]) -> Iterator[Fault]:
    for script in scripts:
        for name in _several(script.down_revision):
            if name not in ids:
                said = f"It comes after `{name}` (down_revision), and no file has that revision."
                yield _of(script, said, f"Deploy the file of `{name}` too, or correct `down_revision`.")
        for name in _several(script.dependencies):
            if name not in ids | labels:
                said = f"It depends on `{name}` (depends_on), and there is no such revision or branch label."
                yield _of(script, said, f"Deploy the file of `{name}` too, or correct `depends_on`.")


def circles(scripts: list[Script]) -> Iterator[Fault]:
    """The revisions that come after themselves, by whatever way; circles that have revisions in common count as one."""
    files = {script.revision: script for script in scripts}
    labelled = {label: script.revision for script in reversed(scripts) for label in script._orig_branch_labels}  # noqa: SLF001 – as above
    needed = labelled | {revision: revision for revision in files}
    before = {
        revision: {name for name in _several(script.down_revision) if name in files}
        | {needed[name] for name in _several(script.dependencies) if name in needed}
        for revision, script in files.items()
    }
    left = _in_or_after_circles(before)
    while left:
        path: dict[str, None] = {}
        at = min(left)
        while at not in path:
            path[at] = None
            at = min(left[at] & left.keys())
        every = list(path)
        circle = every[every.index(at) :]
        shown = " → ".join([*circle[:_MOST_IN_A_CIRCLE], *["…"][: len(circle) > _MOST_IN_A_CIRCLE], at])
        said = f"It comes after itself: {shown}, each after the next."
        yield _of(files[at], said, "Correct `down_revision` or `depends_on` of one of them.")
        left = _in_or_after_circles({each: left[each] for each in left if each not in circle})


def _in_or_after_circles(before: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """What is left when, again and again, all is taken away that has nothing before it."""
    after: dict[str, list[str]] = defaultdict(list)
    waits_for: dict[str, int] = {}
    for revision, names in before.items():
        known = names & before.keys()
        waits_for[revision] = len(known)
        for name in known:
            after[name].append(revision)
    ready = [revision for revision, count in waits_for.items() if not count]
    while ready:
        done = ready.pop()
        del waits_for[done]
        for revision in after[done]:
            waits_for[revision] -= 1
            if not waits_for[revision]:
                ready.append(revision)
    return {revision: before[revision] for revision in waits_for}


def _of(script: Script, message: str, hint: str) -> Fault:
    return Fault(reference(Path(script.path)), None, message, hint)


def _several(names: str | Iterable[str] | None) -> tuple[str, ...]:
    several: tuple[str, ...] = util.to_tuple(names, default=())
    return several


def _said(error: BaseException) -> str:
    """The first line of an error, without credentials."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, ImportError):
        text = text.replace(f" ({error.path})", "")  # where it lies on this machine
    kind = "" if isinstance(error, RevisionError) else f"{type(error).__name__}: "
    return redacted(f"{kind}{next(iter(text.strip().splitlines()), '')}")[:_LONGEST].rstrip(": .")
