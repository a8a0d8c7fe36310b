"""Puts the house together: `create_app(configuration)`, and the `app` that a server serves."""

import os
from typing import TYPE_CHECKING

from fastapi import FastAPI

from app import log
from app.errors import NotConfigured
from app.web import later, livez, problems
from app.web.envelope import Envelope

if TYPE_CHECKING:
    from app.migrator.deadline import InvocationEnds
    from app.settings import Settings
    from app.web.house import ReadConfiguration

_MAKE_ROUTES = ("MIGRATION_DOCS", *(f"MIGRATION_{who}_WEBHOOK_SECRET" for who in ("VERCEL", "GITHUB", "STANDARD")))
"""The variables by which there are more routes."""


def create_app(
    configuration: "Settings | NotConfigured | ReadConfiguration", *, invocation_ends: "InvocationEnds" = lambda: None
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
    built.state.read_configuration = configuration if callable(configuration) else lambda: configuration
    built.state.invocation_ends = invocation_ends
    built.router.routes += livez.router.routes
    later.add(built.router.routes, at_once=documented)
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


def of_the_platform() -> "InvocationEnds":
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
