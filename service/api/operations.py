"""What who runs the service needs: probes, metrics, `/v1/admin/reload`, and `/docs`, a page to read
and try the OpenAPI."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel, Field

from service.api.edge import REFUSALS
from service.api.needs import DiagnosticsDep, refuse_unknown_queries
from service.build import Service
from service.errors import BadRequest, ConfigError

router = APIRouter(tags=["operations"], responses=REFUSALS)

EXPOSITION = "text/plain; version=0.0.4"
RANKERS_EVERY_S = 30.0
"""How often is looked whether another learned ranker is to serve."""
LONGEST_S = 600
"""Longest time of a request: so long after a reload nothing needs the former models any more."""
SWAGGER_UI = Path(str(files("fastapi_offline"))) / "static"
"""Where the package `fastapi_offline` keeps Swagger UI's files."""
SELF_CONTAINED = {"content-security-policy": "default-src 'self' 'unsafe-inline' data:"}
"""Tells a browser to fetch nothing from elsewhere, whatever a later Swagger UI may ask for."""


# ── probes and metrics ────────────────────────────────────────────────────────────────────────────


@router.get("/healthz", summary="Is the process up?")
async def healthz() -> dict[str, str]:
    """Always `ok` while the process answers; checks no part."""
    return {"status": "ok"}


@router.get("/readyz", summary="Which part is ready, and if not, why")
async def readyz(diagnostics: DiagnosticsDep, response: Response) -> dict[str, Any]:
    """503 if no request can be answered. A missing model only makes the service `degraded`: the
    prior answers then."""
    parts = await diagnostics.readiness()
    if all(part["ok"] for part in parts.values()):
        return {"status": "ready", "parts": parts}
    usable = parts["store"]["ok"] and parts["catalog"]["ok"]
    response.status_code = 200 if usable else 503
    return {"status": "degraded" if usable else "not ready", "parts": parts}


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {EXPOSITION: {"schema": {"type": "string"}}}}},
)
async def metrics(diagnostics: DiagnosticsDep) -> Response:
    """Requests and how long they took, rankings, tokens, what was degraded and why, events taken,
    and items without a vector yet."""
    return Response(await diagnostics.metrics(), media_type=EXPOSITION)


# ── reload ────────────────────────────────────────────────────────────────────────────────────────


class NotReloaded(BadRequest, code="bad_config"):
    """The configuration can't be used, or not without a restart; nothing was changed."""


class Reloaded(BaseModel):
    """What a reload changed."""

    changed: list[str] = Field(description="Settings that have changed.")
    models: list[str] = Field(description="What requests may name.")


class Live:
    """Keeps the current service as `app.state.service` and runs its background work. Former
    services are closed once the requests that they began are finished."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self._app = app
        self._reloading = asyncio.Lock()
        self._begun: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._take(service)

    def _take(self, service: Service) -> None:
        """Makes a service the current one."""
        self._app.state.service = self._service = service
        self._serving = service.settings.serving
        self._work = asyncio.create_task(service.jobs.run())

    async def reload(self) -> list[str]:
        """Reads the configuration again and gives the settings that changed. Raises `ConfigError`
        and changes nothing if it can't be used."""
        async with self._reloading:
            old = self._service
            settings = await asyncio.to_thread(old.settings.reread)
            new = await old.reloaded(settings)
            await self._stop_work()
            self._take(new)
            self.begin(self._retire(old, new))
            return old.settings.differing(settings)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Does something beside the requests, and before the service is closed."""
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    async def reload_on_signal(self) -> None:
        """Reloads, and logs what came of it."""
        log = self._service.telemetry.log
        try:
            log.info("reloaded", changed=await self.reload())
        except Exception as error:
            log.error("not_reloaded", error=str(error))

    async def follow_rankers(self) -> None:
        """Reloads whenever another ranker is to serve, until cancelled."""
        while True:
            await asyncio.sleep(RANKERS_EVERY_S)
            with suppress(ConfigError, OSError):  # which serves can't be read: the former does
                serving = await asyncio.to_thread(lambda: self._service.settings.serving)
                if serving != self._serving:
                    self._serving = serving
                    await self.reload_on_signal()

    async def _retire(self, old: Service, new: Service) -> None:
        """Hands over what `old` holds once its last request is finished, or the service stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), LONGEST_S)
        await old.leave_to(new)

    async def _stop_work(self) -> None:
        self._work.cancel()
        with suppress(asyncio.CancelledError):
            await self._work

    async def close(self) -> None:
        """Stops the background work and closes all services."""
        self._stopping.set()
        while self._begun:  # a reload begins another task
            await asyncio.wait(self._begun)
        await self._stop_work()
        await self._service.close()


@asynccontextmanager
async def live(app: FastAPI, making: Awaitable[Service]) -> AsyncIterator[None]:
    """Serves from the service once it is made; SIGHUP reloads, where the process gets signals."""
    app.state.live = current = Live(app, await making)
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        loop.add_signal_handler(signal.SIGHUP, lambda: current.begin(current.reload_on_signal()))
    following = asyncio.create_task(current.follow_rankers())
    yield
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    with suppress(NotImplementedError, RuntimeError, ValueError):
        loop.remove_signal_handler(signal.SIGHUP)
    await current.close()


@router.post(
    "/v1/admin/reload",
    summary="Read the configuration anew",
    dependencies=[Depends(refuse_unknown_queries)],
)
async def reload(request: Request) -> Reloaded:
    """Models, roles, fallback, ranking, explanation and limits change for the requests that come
    from then on; those under way are answered with the former ones. SIGHUP does the same. 422 for a
    configuration that can't be used, or that changes what needs a restart: nothing changes then."""
    state = request.app.state
    try:
        return Reloaded(changed=await state.live.reload(), models=state.service.models.names)
    except ConfigError as error:
        raise NotReloaded(error.message, param=error.param) from error


# ── documentation ─────────────────────────────────────────────────────────────────────────────────


@router.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
async def page() -> HTMLResponse:
    """The OpenAPI to read and try. Its addresses are relative, so that it also works behind a proxy
    that strips a prefix."""
    swagger = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="whyrank",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="data:,",
    )
    return HTMLResponse(swagger.body, headers=SELF_CONTAINED)


@router.get("/docs/swagger-ui-bundle.js", include_in_schema=False)
@router.get("/docs/swagger-ui.css", include_in_schema=False)
async def asset(request: Request) -> FileResponse:
    """A file of Swagger UI, by the name in its route."""
    return FileResponse(SWAGGER_UI / Path(request.scope["route"].path).name)
