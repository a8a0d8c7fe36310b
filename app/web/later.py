"""Routes that are made when they are first asked for: to make them all is a seventh of a cold start."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import APIRouter
from starlette.routing import BaseRoute, Match
from starlette.types import Scope


def _health() -> APIRouter:
    from app.web import health

    return health.router


def _migrate() -> APIRouter:
    from app.web import migrate

    return migrate.router


def _plan() -> APIRouter:
    from app.web import plan

    return plan.router


def _rehearse() -> APIRouter:
    from app.web import rehearse

    return rehearse.router


def _routes() -> APIRouter:
    from app.web import routes

    return routes.router


_MADE_BY: dict[tuple[str, ...], Callable[[], APIRouter]] = {
    ("/health",): _health,
    ("/migrate", "/downgrade"): _migrate,
    ("/plan",): _plan,
    ("/rehearse",): _rehearse,
    ("/status", "/runs"): _routes,
}
"""What a path begins with, and who makes the routes for it."""


class Later(BaseRoute):
    """Stands among the routes of an application for some that it puts behind itself once they are asked for.

    It matches nothing itself; whoever looks through the routes meets those next.
    """

    def __init__(self, routes: list[BaseRoute], paths: tuple[str, ...], make: Callable[[], APIRouter]) -> None:
        self._routes = routes
        self._paths = paths
        self._make = make
        self._are_made = False

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Make them if they may be asked for, below whatever path the application itself has."""
        if any(path in scope["path"] for path in self._paths):
            self.make()
        return Match.NONE, {}

    def make(self) -> None:
        """Make them, unless they are there."""
        if not self._are_made:
            with _without("pydantic.v1"):
                router = self._make()
            behind = self._routes.index(self) + 1
            # Not by include_router, which would build each of them once more when the first request comes.
            self._routes[behind:behind] = router.routes
            self._are_made = True


def add(routes: list[BaseRoute], *, at_once: bool) -> None:
    """Add to an application's routes all that it always has, apart from /livez.

    Args:
        routes: The application's.
        at_once: Make them now, for whoever wants to list them.
    """
    later = [Later(routes, paths, make) for paths, make in _MADE_BY.items()]
    routes += later
    for each in later if at_once else ():
        each.make()


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let the import of a module fail for as long as this lasts, unless it is there already.

    To see that no model of a route is one of pydantic.v1, FastAPI imports all of that: a tenth of a cold start. Where
    it cannot be imported, FastAPI takes it for gone.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # what the manual of `import` says to do
    try:
        yield
    finally:
        del sys.modules[module]
