"""The turn that one run at a time takes in a process."""

import asyncio
import itertools
import time
from uuid import uuid4

import pytest

from app.errors import LockHeld
from app.migrator.turn import Turn
from app.report import Holder


async def test_a_free_turn_is_taken_even_by_a_caller_who_will_not_wait() -> None:
    async with Turn().taken(0) as waited_s:
        assert waited_s < 0.1


async def test_a_caller_who_has_waited_long_enough_is_told_who_holds_the_lock() -> None:
    turn, run_id = Turn(), uuid4()
    async with turn.taken(0):
        turn.holder = lambda: Holder(run_id=run_id, revision="b2", progress="2/7")
        began = time.monotonic()
        with pytest.raises(LockHeld, match=rf"Run {run_id} holds the lock, at b2 \(2/7\); gave up after") as refused:
            async with turn.taken(0.2):
                pytest.fail("the turn was taken twice")
        assert 0.15 < time.monotonic() - began < 2
    assert refused.value.members["holder"]["run_id"] == str(run_id)
    assert 150 < refused.value.members["waited_ms"] < 2000
    assert turn.holder() is None, "a turn that was given back has no holder"


async def test_who_waits_gets_the_turn_when_it_is_given_back_and_knows_how_long_that_took() -> None:
    turn, order = Turn(), []

    async def take(name: str, hold_s: float) -> float:
        async with turn.taken(5) as waited_s:
            order.append(name)
            await asyncio.sleep(hold_s)
            return waited_s

    first, second = await asyncio.gather(take("first", 0.2), take("second", 0))
    assert order == ["first", "second"]
    assert first < 0.1
    assert 0.15 < second < 2


async def test_an_error_gives_the_turn_back() -> None:
    turn = Turn()
    with pytest.raises(ZeroDivisionError):
        async with turn.taken(0):
            _ = 1 / 0
    async with turn.taken(0):
        pass


async def test_a_wait_for_a_run_elsewhere_ends_when_that_gets_further_or_gives_the_lock_back() -> None:
    run = Holder(run_id=uuid4(), revision="b2", progress="2/7")
    for end in (run.model_copy(update={"revision": "c3", "progress": "3/7"}), Holder(run_id=uuid4()), None):
        turn, answers = Turn(), [run, run, run, end]
        asked: list[float] = []

        async def ask(answers: list[Holder | None] = answers, asked: list[float] = asked) -> Holder | None:
            asked.append(time.perf_counter())
            return answers.pop(0)

        await turn.waits_for_the_holder(ask, came_at=time.perf_counter(), wait_s=30)
        assert not answers
        assert turn.holder() == run, "who else is refused here hears of it too"
        assert all(later - earlier > 0.02 for earlier, later in itertools.pairwise(asked))


async def test_a_wait_for_a_run_elsewhere_ends_in_time() -> None:
    run, asked = Holder(run_id=uuid4()), []

    async def ask() -> Holder:
        asked.append(time.perf_counter())
        return run

    came_at = time.perf_counter()
    with pytest.raises(LockHeld) as refused:
        await Turn().waits_for_the_holder(ask, came_at=came_at, wait_s=0.3)
    assert refused.value.members["holder"]["run_id"] == str(run.run_id)
    assert 0.3 <= asked[-1] - came_at < 3
    assert 3 <= len(asked) <= 14
