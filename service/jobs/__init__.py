"""Background work: embeds new items and tidies indexes, trains the collaborative source, probes
models."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from service.catalog import Catalog
from service.config import Settings
from service.jobs.probing import Probing
from service.jobs.training import Trainer
from service.models import Models
from service.telemetry import Telemetry


@dataclass(frozen=True)
class Job:
    """Work that is repeated. `every_s`: seconds from the end of one round to the start of the
    next."""

    name: str
    every_s: Callable[[], float]
    run: Callable[[], Awaitable[None]]


class Jobs:
    def __init__(
        self,
        settings: Settings,
        *,
        catalog: Catalog,
        models: Models,
        trainer: Trainer,
        telemetry: Telemetry,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._models = models
        self._telemetry = telemetry
        self.trainer = trainer

    async def run(self) -> None:
        """Runs all jobs until cancelled."""
        self._telemetry.leave_request()
        async with asyncio.TaskGroup() as tasks:
            for job in self._jobs():
                tasks.create_task(self._repeat(job))
            tasks.create_task(
                self._catalog.work(
                    self._settings.catalog.optimize_every_s,
                    failed=lambda error: self._failed("catalog_work", error),
                )
            )

    def _jobs(self) -> list[Job]:
        every_s = self._settings.retrieve.training.every_s
        jobs = [Job("training", lambda: every_s, self.trainer.train_if_outgrown)]
        for alias in sorted(self._models.in_use()):
            costs = self._settings.models[alias].costs
            probing = Probing(alias, self._models, self._telemetry, costs=costs)
            jobs.append(Job("probing", probing.every_s, probing.probe))
        return jobs

    async def _repeat(self, job: Job) -> None:
        """Runs a job again and again. A round that fails is logged; the next one follows when it is
        due."""
        while True:
            try:
                await job.run()
            except Exception as error:
                self._failed(job.name, error)
            await asyncio.sleep(job.every_s())

    def _failed(self, name: str, error: Exception) -> None:
        self._telemetry.log.error(f"{name}_failed", error=repr(error))
