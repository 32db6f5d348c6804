"""The HTTP APIs: `create_app(settings)` makes the whole service."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service import __version__
from service.api import (
    foreign,
    gorse,
    openai,
    operations,
    recommend,
    records,
    rerank,
)
from service.api.edge import HANDLERS, Edge, Gate, with_required_keys
from service.build import Service, build, guard
from service.config import Settings

__all__ = ["create_app"]

ABOUT = """Ranks, for one person, what to show next, and says why.

Send what users do to `/v1/events`; ask `/v1/recommendations`. The very next answer knows the event.
Every answer is complete and valid; when the model could not do its part, `degraded` says so. Errors
share one body; every answer has `x-request-id`.
"""


class ServiceApp(FastAPI):
    """An app whose OpenAPI says which keys `Gate` asks for."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = with_required_keys(super().openapi())
        return self.openapi_schema


def create_app(
    settings: Settings, make: Callable[[Settings], Awaitable[Service]] = build
) -> FastAPI:
    """The service for these settings. At start `make(settings)` is awaited for the `Service`.

    Raises `ConfigError` for an address that others can reach while no key is needed.
    """
    guard(settings)
    app = ServiceApp(
        title="whyrank",
        version=__version__,
        description=ABOUT,
        lifespan=lambda app: operations.live(app, make(settings)),
        docs_url=None,
        redoc_url=None,
        exception_handlers=HANDLERS,
    )
    for module in (recommend, rerank, openai, records, gorse, foreign, operations):
        app.router.routes += module.router.routes  # `include_router` makes each anew: 55 ms
    app.add_middleware(Gate)
    if origins := settings.service.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["x-request-id"],
        )
    app.add_middleware(Edge)  # the last one added is the outermost
    return app
