"""`/v1/admin/reload`: other models by the same configuration file, without dropping a request."""

from __future__ import annotations

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
"""No request may take longer, so none that began before a reload needs the former models after
it."""


class NotReloaded(BadRequest):
    """What is configured can't be used, or not without a restart; all goes on as before."""

    code = "bad_config"


class Reloaded(BaseModel):
    """What a reload made of the configuration."""

    changed: list[str] = Field(description="Settings that are others now.")
    models: list[str] = Field(description="What requests may name.")


class Live:
    """The service that answers from now on, as `app.state.service`, with its work in the
    background; those it took the place of finish what they began."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self._app = app
        self._one_at_a_time = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._take(service)

    def _take(self, service: Service) -> None:
        self._app.state.service = self._service = service
        self._work = asyncio.create_task(service.jobs.run())

    async def reload(self) -> list[str]:
        """Raises `ConfigError` and changes nothing if the configuration can't be used so."""
        async with self._one_at_a_time:
            settings = await asyncio.to_thread(self._service.settings.reread)
            changed = self._service.settings.differing(settings)
            old, new = self._service, await self._service.reloaded(settings)
            await self._stop_work()
            self._take(new)
            task = asyncio.create_task(self._let_go(old, new))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            return changed

    async def reload_on_signal(self) -> None:
        log = self._service.telemetry.log
        try:
            log.info("reloaded", changed=await self.reload())
        except Exception as error:
            log.error("not_reloaded", error=str(error))

    async def _let_go(self, old: Service, new: Service) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), LONGEST_S)
        await old.leave_to(new)

    async def _stop_work(self) -> None:
        self._work.cancel()
        with suppress(asyncio.CancelledError):
            await self._work

    async def close(self) -> None:
        await self._stop_work()
        self._over.set()
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self._service.close()


@asynccontextmanager
async def live(app: FastAPI, service: Service) -> AsyncIterator[None]:
    """SIGHUP reloads, where this process is asked by signals."""
    app.state.live = one = Live(app, service)
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    def begin() -> None:
        tasks.add(task := loop.create_task(one.reload_on_signal()))
        task.add_done_callback(tasks.discard)

    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        loop.add_signal_handler(signal.SIGHUP, begin)
    yield
    with suppress(NotImplementedError, RuntimeError, ValueError):
        loop.remove_signal_handler(signal.SIGHUP)
    await one.close()


@router.post("/reload", summary="Read the configuration anew")
async def reload(request: Request) -> Reloaded:
    """Models, roles, fallback, ranking, explanation and limits change for the requests that come
    from then on; those under way are answered by what they began with. SIGHUP does the same. 422
    for a configuration that can't be used, or that changes what needs a restart: nothing changes
    then."""
    found: Live = request.app.state.live
    try:
        changed = await found.reload()
    except ConfigError as error:
        raise NotReloaded(error.message, param=error.param) from error
    service: Service = request.app.state.service
    return Reloaded(changed=changed, models=service.models.names)
