"""What the routes share: the configuration, the keys, and the turn that one run at a time takes."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from app.errors import NotConfigured
from app.migrator.deadline import InvocationEnds
from app.migrator.turn import Turn
from app.settings import Settings
from app.web import auth
from app.web.auth import Caller, Keys


@dataclass(slots=True)
class House:
    """One per application. What could not be configured is the problem that says so."""

    configuration: Settings | NotConfigured
    invocation_ends: InvocationEnds
    keys: Keys | NotConfigured = field(init=False)
    turn: Turn = field(default_factory=Turn)

    def __post_init__(self) -> None:
        self.keys = auth.keys(self.configuration)

    @property
    def settings(self) -> Settings:
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


def house(request: Request) -> House:
    """The house that the application of this request lives in."""
    found: House = request.app.state.house
    return found


_documented = Security(HTTPBearer(auto_error=False, description="A key of MIGRATION_API_KEY or MIGRATION_READ_KEY."))


async def _may_apply(request: Request, _: Annotated[object, _documented]) -> Caller:
    return house(request).caller(request, "apply")


async def _may_read(request: Request, _: Annotated[object, _documented]) -> Caller:
    return house(request).caller(request, "read")


MayApply = Annotated[Caller, Depends(_may_apply)]
MayRead = Annotated[Caller, Depends(_may_read)]


async def migrator_imported() -> None:
    """Import the work when it is first needed, off the event loop: /livez and a 401 cost only FastAPI."""

    def load() -> None:
        from app.migrator import run, status  # noqa: F401 – for what importing does: SQLAlchemy, Alembic, asyncpg

    await asyncio.to_thread(load)
