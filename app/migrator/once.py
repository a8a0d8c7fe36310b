"""What takes a while, and is the same for as long as the process lives: done in a thread, and kept.

A thread keeps the event loop free the first time. From then on it would only cost: going to a thread and back is as
much work as reading what a database has said.
"""

import asyncio
import functools
import gc
from collections.abc import Callable


class InAThread[*Arguments, Result]:
    """A function whose results are kept; an exception is not, and whoever calls next tries again."""

    def __init__(self, work: Callable[[*Arguments], Result]) -> None:
        self._work = work
        self._kept: dict[tuple[*Arguments], Result] = {}

    async def __call__(self, *arguments: *Arguments) -> Result:
        """The result, at once where there is one already."""
        if arguments not in self._kept:
            self._kept[arguments] = await asyncio.to_thread(self._work, *arguments)
        return self._kept[arguments]

    def forget(self) -> None:
        """Keep nothing that was found so far."""
        self._kept.clear()


@functools.cache
def settled() -> None:
    """What is loaded by now stays, so Python's collector need not walk over it ever again; once per process.

    It is most of what there is: to walk over it takes 0.1 s, in the midst of a run, and nothing else goes on meanwhile.
    Source: Python's documentation of `gc.freeze`.
    """
    gc.freeze()
