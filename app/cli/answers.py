"""What a command prints, and its exit code."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

from app import log, settings
from app.errors import BrokenHistory, InternalError, InvalidRequest, NotConfigured
from app.problem import Problem
from app.report import Report
from app.settings import Settings

AS_JSON = "print exactly what HTTP would answer"
"""What the option `--json` of each command says of itself."""

type Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 – argparse has no public name for it
"""What a command's parser is added to."""

FAILED, NOT_USABLE, PENDING, TRY_AGAIN = 1, 2, 3, 75


def answer[Answer: Report](
    work: Callable[[Settings, str], Coroutine[Any, Any, Answer]],
    tell: Callable[[Answer], str],
    *,
    as_json: bool,
    code: Callable[[Answer], int] = lambda _: 0,
) -> int:
    """Print what `work` answers, in words or in JSON, and choose the exit code."""
    request_id = str(uuid4())
    read = settings.from_environment()
    if isinstance(read, NotConfigured):
        return _refuse(read, request_id, as_json=as_json)
    try:
        answer = asyncio.run(work(read, request_id))
    except Problem as problem:
        return _refuse(problem, request_id, as_json=as_json)
    except Exception as error:  # noqa: BLE001 – a traceback could quote secrets, as in web/envelope
        log.to_stderr_if_nobody_listens()
        log.defect(error, request_id)
        defect = InternalError(f"The service met an error that it does not know ({type(error).__name__}).")
        return _refuse(defect, request_id, as_json=as_json)
    show(answer.model_dump_json(by_alias=True) if as_json else tell(answer))
    return code(answer)


def _refuse(problem: Problem, request_id: str, *, as_json: bool) -> int:
    if as_json:
        show(json.dumps(problem.document(request_id=request_id), default=str))
    else:
        show("\n".join([f"{problem.title}: {problem.detail}", *_faults(problem), problem.hint]), to_stderr=True)
    if problem.retryable:
        return TRY_AGAIN
    return NOT_USABLE if isinstance(problem, NotConfigured | BrokenHistory | InvalidRequest) else FAILED


def _faults(problem: Problem) -> list[str]:
    """What is wrong with a broken history, where it is more than the problem's detail says."""
    faults = problem.members["faults"] if isinstance(problem, BrokenHistory) else []
    lines = [f"  {each['file'] or '–'}: {each['message']} {each['hint']}" for each in faults]
    more = problem.members.get("not_shown")
    return [*lines, f"  … and {more} more"] if more else lines


def names(revisions: list[str]) -> str:
    """Revisions in words."""
    return ", ".join(revisions) or "base"


def show(text: str, *, to_stderr: bool = False) -> None:
    """Print a line."""
    print(text, file=sys.stderr if to_stderr else sys.stdout, flush=True)
