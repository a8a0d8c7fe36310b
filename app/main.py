"""Puts the house together: `create_app(configuration)`, and the `app` that a server serves."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from app import log
from app.errors import NotConfigured
from app.migrator.deadline import InvocationEnds
from app.web import problems
from app.web.envelope import Envelope
from app.web.house import House, ReadConfiguration

if TYPE_CHECKING:
    from app.settings import Settings

_MAKE_ROUTES = ("MIGRATION_DOCS", *(f"MIGRATION_{who}_WEBHOOK_SECRET" for who in ("VERCEL", "GITHUB", "STANDARD")))
"""The variables by which there are more routes."""


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let the import of a module fail for as long as this lasts, unless it is there already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # what the manual of `import` says to do
    try:
        yield
    finally:
        del sys.modules[module]


# To see that no model of a route is one of pydantic.v1, FastAPI imports all of that: a tenth of a cold start. Where it
# cannot be imported, FastAPI takes it for gone.
with _without("pydantic.v1"):
    from app.web import health, migrate, plan, rehearse, routes


def create_app(
    configuration: "Settings | NotConfigured | ReadConfiguration", *, invocation_ends: InvocationEnds = lambda: None
) -> FastAPI:
    """The application. A configuration that cannot be used is answered per request; it still starts.

    Args:
        configuration: The settings, or what is wrong with them; or a function that tells, when a request first needs
            to know: then there are no routes but those that there always are.
        invocation_ends: Tells when the platform will end the invocation that is under way, None where it will not.
    """
    known = None if callable(configuration) else configuration
    documented = known is not None and not isinstance(known, NotConfigured) and known.docs
    built = FastAPI(
        title="Migration Endpoint",
        description="One HTTP request upgrades a PostgreSQL database to what the running deployment needs.",
        openapi_url="/openapi.json" if documented else None,
        docs_url="/docs" if documented else None,
        redoc_url=None,
        redirect_slashes=False,
    )
    built.state.house = House(configuration if callable(configuration) else lambda: configuration, invocation_ends)
    built.state.look = health.Look()
    # Not by include_router, which would build each of them once more when the first request comes.
    for router in (health.router, migrate.router, plan.router, rehearse.router, routes.router):
        built.router.routes += router.routes
    if known is not None:
        from app.web import hooks  # with all that it brings, most functions do without

        built.router.routes += hooks.router(known).routes
    problems.install(built)
    built.add_middleware(Envelope)
    return built


def of_the_environment() -> "Settings | NotConfigured | ReadConfiguration":
    """The configuration, read at once only where routes depend on it: pydantic-settings is a tenth of a cold start."""

    def read() -> "Settings | NotConfigured":
        from app import settings  # as said

        return settings.from_environment()

    there = {name.upper() for name, value in os.environ.items() if value}
    return read() if there.intersection(_MAKE_ROUTES) else read


def of_the_platform() -> InvocationEnds:
    """When an invocation ends here: Vercel's runtime knows, elsewhere nobody ends one."""
    try:
        from vercel_runtime import get_deadline  # brought by the platform
    except ImportError:
        return lambda: None
    ends: InvocationEnds = get_deadline
    return ends


log.to_stderr_if_nobody_listens()
log.leave_runs_to_our_events()
app = create_app(of_the_environment(), invocation_ends=of_the_platform())
