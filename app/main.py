"""Puts the house together: `create_app(configuration)`, and the `app` that a server serves."""

from fastapi import FastAPI

from app import log, settings
from app.errors import NotConfigured
from app.settings import Settings
from app.web import health, problems, routes
from app.web.envelope import Envelope
from app.web.house import House


def create_app(configuration: Settings | NotConfigured) -> FastAPI:
    """The application. A configuration that cannot be used is answered per request; it still starts."""
    documented = isinstance(configuration, Settings) and configuration.docs
    built = FastAPI(
        title="Migration Endpoint",
        description="One HTTP request upgrades a PostgreSQL database to what the running deployment needs.",
        openapi_url="/openapi.json" if documented else None,
        docs_url="/docs" if documented else None,
        redoc_url=None,
        redirect_slashes=False,
    )
    built.state.house = House(configuration)
    built.state.look = health.Look()
    built.include_router(health.router)
    built.include_router(routes.router)
    problems.install(built)
    built.add_middleware(Envelope)
    return built


log.to_stderr_if_nobody_listens()
app = create_app(settings.from_environment())
