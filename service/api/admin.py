"""`/v1/admin/reload`: reads the configuration file again, without dropping a request."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel, Field

from service.build import Service
from service.errors import BadRequest, ConfigError

router = APIRouter(prefix="/v1/admin", tags=["operations"])

LONGEST_S = 600
"""Longest time of a request: so long after a reload nothing needs the former models any more."""


class NotReloaded(BadRequest):
    """The configuration can't be used, or not without a restart; nothing was changed."""

    code = "bad_config"


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
        self._leaving: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._take(service)

    def _take(self, service: Service) -> None:
        """Makes a service the current one."""
        self._app.state.service = self._service = service
        self._work = asyncio.create_task(service.jobs.run())

    async def reload(self) -> list[str]:
        """Reads the configuration again and gives the settings that changed. Raises `ConfigError`
        and changes nothing if it can't be used."""
        async with self._reloading:
            settings = await asyncio.to_thread(self._service.settings.reread)
            changed = self._service.settings.differing(settings)
            old, new = self._service, await self._service.reloaded(settings)
            await self._stop_work()
            self._take(new)
            task = asyncio.create_task(self._retire(old, new))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            return changed

    async def reload_on_signal(self) -> None:
        """Reloads, and logs what came of it."""
        log = self._service.telemetry.log
        try:
            log.info("reloaded", changed=await self.reload())
        except Exception as error:
            log.error("not_reloaded", error=str(error))

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
        await self._stop_work()
        self._stopping.set()
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self._service.close()


@asynccontextmanager
async def live(app: FastAPI, service: Service) -> AsyncIterator[None]:
    """Serves from this service; SIGHUP reloads, where the process gets signals."""
    app.state.live = current = Live(app, service)
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    def begin_reload() -> None:
        tasks.add(task := loop.create_task(current.reload_on_signal()))
        task.add_done_callback(tasks.discard)

    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        loop.add_signal_handler(signal.SIGHUP, begin_reload)
    yield
    with suppress(NotImplementedError, RuntimeError, ValueError):
        loop.remove_signal_handler(signal.SIGHUP)
    await current.close()


@router.post("/reload", summary="Read the configuration anew")
async def reload(request: Request) -> Reloaded:
    """Models, roles, fallback, ranking, explanation and limits change for the requests that come
    from then on; those under way are answered with the former ones. SIGHUP does the same. 422 for a
    configuration that can't be used, or that changes what needs a restart: nothing changes then."""
    current: Live = request.app.state.live
    try:
        changed = await current.reload()
    except ConfigError as error:
        raise NotReloaded(error.message, param=error.param) from error
    service: Service = request.app.state.service
    return Reloaded(changed=changed, models=service.models.names)
