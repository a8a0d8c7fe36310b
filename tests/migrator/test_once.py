"""What is done once per process."""

import asyncio
import gc
import threading

import pytest

from app.migrator import once, status
from tests.conftest import MakeSettings, WriteHistory


async def test_a_result_is_kept_for_its_arguments_and_found_in_a_thread() -> None:
    asked: list[tuple[str, bool]] = []

    @once.InAThread
    def doubled(word: str) -> str:
        asked.append((word, threading.current_thread() is threading.main_thread()))
        return word * 2

    assert [await doubled("a"), await doubled("a"), await doubled("b")] == ["aa", "aa", "bb"]
    assert asked == [("a", False), ("b", False)]
    doubled.forget()
    assert await doubled("a") == "aa"
    assert len(asked) == 3


async def test_an_exception_is_not_kept() -> None:
    tries: list[int] = []

    @once.InAThread
    def found() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise LookupError
        return "found"

    with pytest.raises(LookupError):
        await found()
    assert set(await asyncio.gather(found(), found())) == {"found"}


async def test_the_collector_does_not_walk_over_what_is_loaded(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    await status.history(settings(write_history(a1="pass")))
    assert gc.get_freeze_count() > 10_000
