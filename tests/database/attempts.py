"""Attempts to connect: what comes of them, and servers that change while they are made."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest

from app.database import connection, url
from app.database.connection import Session
from app.errors import DatabaseUnavailable
from app.settings import Settings
from tests.restartable import Restartable
from tests.servers import Database

SOON_S = 0.4
"""After the first attempt, and before the third, which is not made earlier than 0.6 s after the first."""
LONG_S = 10
"""For what must not be slow; generous, since the machine may be."""


def place(text: str, **settings: Any) -> url.Database:
    return url.database(Settings(database_url=text, **settings))


@asynccontextmanager
async def session(on: Database | str, *, patient: bool = True, **settings: Any) -> AsyncIterator[Session]:
    text = on if isinstance(on, str) else on.url
    async with connection.session(place(text, **settings), patient=patient) as opened:
        yield opened


async def answers(on: Database | str, *, patient: bool = True, **settings: Any) -> bool:
    async with session(on, patient=patient, **settings) as opened:
        return await opened.execute("SELECT 1") == [(1,)]


async def refusal(on: Database | str, *, patient: bool = True, **settings: Any) -> DatabaseUnavailable:
    with pytest.raises(DatabaseUnavailable) as refused:
        await answers(on, patient=patient, **settings)
    assert patient or "Tried" not in refused.value.detail
    return refused.value


@contextmanager
def soon(change: Callable[[], object]) -> Iterator[None]:
    """Make a change a little later, on the loop that connects: however slow the machine, it comes in good time."""
    made: list[object] = []
    asyncio.get_running_loop().call_later(SOON_S, lambda: made.append(change()))
    yield
    assert made, "it got through before the change"


def said(on: Database) -> str:
    """What the server says to somebody who wants to connect."""
    try:
        on.connect().close()
    except psycopg.OperationalError as error:
        return str(error)
    return ""


@contextmanager
def hot_standby(server: Restartable) -> Iterator[None]:
    """Let the server be a standby that takes connections, and the primary again in the end."""
    server._control("stop", "--mode=fast")
    (server.folder / "standby.signal").touch()
    server._control("start", "--wait", f"--options=-h 127.0.0.1 -p {server.url.port} -k {server.folder} -c fsync=off")
    try:
        yield
    finally:
        server._control("promote", "--wait")
