"""What the routes share: the configuration, the keys, and the turn that one run at a time takes."""

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from app import log
from app.errors import (
    DatabaseAuthFailed,
    DatabaseUnavailable,
    NotConfigured,
    PermissionDenied,
    ReadOnlyDatabase,
    TlsFailed,
    Unauthenticated,
)
from app.migrator import once
from app.migrator.call import Call
from app.migrator.deadline import InvocationEnds
from app.migrator.turn import Turn
from app.migrator.under_way import UnderWay
from app.report import Emit, Event, Health, Run
from app.web import auth
from app.web.auth import Caller, Keys

if TYPE_CHECKING:
    from app.settings import Settings

KEYED = (Unauthenticated, NotConfigured)
DATABASE = (DatabaseUnavailable, TlsFailed, DatabaseAuthFailed, PermissionDenied, ReadOnlyDatabase)
"""What the routes may answer that need a key, and the database."""


type ReadConfiguration = Callable[[], "Settings | NotConfigured"]
"""Reads the configuration; called once."""


@dataclass
class House:
    """One per application. What could not be configured is the problem that says so."""

    read_configuration: ReadConfiguration
    invocation_ends: InvocationEnds
    turn: Turn = field(default_factory=Turn)
    planning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One plan at a time."""
    looking: dict[bool, asyncio.Task[Health]] = field(default_factory=dict)
    """The last look at the database for a monitor, in detail and not, shared by all who ask while it lasts."""

    @functools.cached_property
    def configuration(self) -> "Settings | NotConfigured":
        """The settings, or what is wrong with them; read when they are first needed."""
        return self.read_configuration()

    @functools.cached_property
    def keys(self) -> Keys | NotConfigured:
        """The keys, or what is wrong with them."""
        return auth.keys(self.configuration)

    @property
    def settings(self) -> "Settings":
        """The settings.

        Raises:
            NotConfigured: The environment has a value that cannot be used.
        """
        if isinstance(self.configuration, NotConfigured):
            # Without its traceback, to which every raise of the same exception would add.
            raise self.configuration.with_traceback(None)
        return self.configuration

    def caller(self, request: Request, scope: auth.Scope) -> Caller:
        """Who calls.

        Raises:
            NotConfigured, Unauthenticated, InsufficientScope: as `auth.Keys.caller` says.
        """
        if isinstance(self.keys, NotConfigured):
            raise self.keys.with_traceback(None)  # as above
        return self.keys.caller(request.headers.get("authorization"), scope)

    async def begins(self, call: Call, *, longest_wait_s: float | None = None, is_followed: bool = False) -> UnderWay:
        """Begin a run; it goes on by itself.

        Args:
            call: What is wanted; when its invocation ends is found out here.
            longest_wait_s: How long the caller waits for an answer, and so for the lock; None where it does not say.
            is_followed: Whether the caller wants to hear what happens.

        Raises:
            NotConfigured: The environment has a value that cannot be used.
        """
        settings = self.settings
        await migrator_imported()
        from app.migrator import run

        wait_s = settings.lock_wait if call.lock_wait_s is None else call.lock_wait_s
        if longest_wait_s is not None:
            wait_s = min(wait_s, longest_wait_s)
        call = dataclasses.replace(call, lock_wait_s=wait_s, invocation_ends=self.invocation_ends())

        def migrate(hear: Emit) -> Coroutine[Any, Any, Run]:
            def emit(event: Event) -> None:
                log.emit(event)
                hear(event)

            return run.migrate(call, settings, turn=self.turn, emit=emit)

        return UnderWay(migrate, is_followed=is_followed)


def house(request: Request) -> House:
    """The house that the application of this request lives in; it is built when the first guest comes."""
    state = request.app.state
    if not hasattr(state, "house"):
        state.house = House(state.read_configuration, state.invocation_ends)
    found: House = state.house
    return found


async def configured(request: Request) -> "Settings":
    """The settings, once the migrator is imported.

    Raises:
        NotConfigured: The environment has a value that cannot be used.
    """
    settings = house(request).settings
    await migrator_imported()
    return settings


_documented = Security(HTTPBearer(auto_error=False, description="A key of MIGRATION_API_KEY or MIGRATION_READ_KEY."))


async def _may_apply(request: Request, _: Annotated[object, _documented]) -> Caller:
    return house(request).caller(request, "apply")


async def _may_read(request: Request, _: Annotated[object, _documented]) -> Caller:
    return house(request).caller(request, "read")


MayApply = Annotated[Caller, Depends(_may_apply)]
MayRead = Annotated[Caller, Depends(_may_read)]


@once.InAThread
def migrator_imported() -> None:
    """Import the work when it is first needed, off the event loop: /livez and a 401 cost only FastAPI."""
    from app.migrator import run, runs, status  # noqa: F401 – for what importing does: SQLAlchemy, Alembic, asyncpg
