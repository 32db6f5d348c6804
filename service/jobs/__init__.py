"""Background work: embeds new items and tidies indexes, trains the collaborative source, probes
models."""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from service.catalog import Catalog
from service.config import Settings
from service.errors import ModelError
from service.jobs.learning import RankerLearning
from service.models import PROBE_S, Models
from service.retrieve import factorization, neighbours
from service.retrieve.factorization import Factors
from service.store import TOGETHER, Neighbours, Store
from service.store.database import micros
from service.store.trainings import Training
from service.telemetry import Telemetry

CHOSEN = 0.6
"""Least weight of the event types of which it is counted how many people did the same to two items:
below it nothing is chosen, only looked at."""


class Trainer:
    """Trains the sources that learn from likes (`collaborative`, `item_item`, `sequence`) on the
    whole event log, again whenever the log has grown."""

    def __init__(
        self, settings: Settings, *, store: Store, catalog: Catalog, clock: Callable[[], datetime]
    ) -> None:
        self._training = settings.retrieve.training
        self._meanings = settings.events.of(settings.service.domain)
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._tried = 0
        """Number of events in the log at the last training."""
        self._keeping: set[asyncio.Task[int]] = set()

    async def train_if_outgrown(self) -> None:
        """Trains if the log has grown by the share `training.growth` since the last training, or if
        its settings changed. A training that failed is tried again at the next call."""
        length = await self._store.events.length()
        if length <= self._tried or not await self._outgrown(length):
            return
        self._tried = length
        try:
            await self.train()
        except BaseException:
            self._tried = 0
            raise

    async def train(self) -> int:
        """Learns, on a thread, a vector of factors and a row of neighbours for every liked item,
        and stores them. Returns how many items have factors; 0, and nothing stored, if too few
        people or items are liked."""
        length, now = await self._store.events.length(), self._clock()
        rows = await self._store.events.opinions(
            [name for name, meaning in self._meanings.items() if meaning.weight]
        )
        lessons = await asyncio.to_thread(self._learn, rows)
        if lessons is None:
            return 0
        factors, tables = lessons
        learned = Training(
            f"{micros(now):017d}-{uuid.uuid4().hex[:8]}",
            trained_at=now,
            gram=factors.gram,
            alpha=self._training.alpha,
            regularization=factors.regularization,
            events=length,
            items=len(factors.items),
            made_with=self._made_with,
        )
        keeping = asyncio.create_task(self._keep(learned, factors.items, tables))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)
        return await asyncio.shield(keeping)  # half of it would pass for a whole one

    def _learn(
        self, rows: Sequence[tuple[str, str, str, float | None]]
    ) -> tuple[Factors, dict[str, Neighbours]] | None:
        """Returns the items' factors, and the tables of neighbours by source; None if too few
        people or items are liked. `rows`: (person, item, event type, value), ordered by time."""
        liked = factorization.likes(
            (who, item_id, self._meanings[kind].opinion(value))
            for who, item_id, kind, value in rows
        )
        sizes = self._training.model_dump(exclude={"growth", "every_s"})
        factors = factorization.train(liked, **sizes)
        if factors is None:
            return None
        counted = {
            f"{TOGETHER}{kind}": neighbours.together(
                (who, item_id)
                for who, item_id, type_, value in rows
                if type_ == kind and self._meanings[kind].opinion(value) > 0
            )
            for kind in {type_ for _, _, type_, _ in rows}
            if self._meanings[kind].weight >= CHOSEN
        }
        tables = {name: table for name, table in counted.items() if table is not None}
        return factors, neighbours.learn(liked) | tables

    async def close(self) -> None:
        """Waits until the factors of a finished training are stored."""
        if self._keeping:
            await asyncio.wait(self._keeping)

    async def _keep(
        self, learned: Training, factors: Mapping[str, Any], tables: Mapping[str, Neighbours]
    ) -> int:
        await self._store.neighbours.put(learned.version, tables)
        await self._store.trainings.add(learned)
        count = await self._catalog.put_factors(learned.version, factors)
        await self._store.trainings.forget_old()
        return count

    async def _outgrown(self, length: int) -> bool:
        last = await self._store.trainings.latest()
        return (
            last is None
            or last.made_with != self._made_with
            or length >= last.events * (1 + self._training.growth)
        )

    @property
    def _made_with(self) -> str:
        """A hash of all settings that affect the result of a training."""
        training = self._training.model_dump(exclude={"growth", "every_s"})
        meanings = sorted(self._meanings.items())
        return sha256(repr((training, neighbours.METHOD, meanings)).encode()).hexdigest()[:16]


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
            tasks.create_task(self._keep_training())
            tasks.create_task(RankerLearning(self._settings, self._telemetry).run())
            for alias in sorted(self._models.in_use()):
                tasks.create_task(self._keep_probing(alias))
            tasks.create_task(
                self._catalog.work(
                    self._settings.catalog.optimize_every_s,
                    failed=lambda error: self._failed("catalog_work", error),
                )
            )

    async def _keep_training(self) -> None:
        """Trains again and again. A round that fails is logged; the next one follows when it is
        due."""
        while True:
            try:
                await self.trainer.train_if_outgrown()
            except Exception as error:
                self._failed("training", error)
            await asyncio.sleep(self._settings.retrieve.training.every_s)

    async def _keep_probing(self, alias: str) -> None:
        """Probes a model again and again: its server may start later than the service, or come back
        with another model. Logs each outcome that differs from the last one. Of a model that costs
        money, each failure in a row doubles the time to the next probe."""
        last_outcome, failures = "", 0
        while True:
            able = None
            try:
                able = await self._models.probe(alias)
                outcome = able.model_dump_json(exclude={"at", "read_tps", "write_tps"})
            except ModelError as error:
                outcome = f"{error.code}: {error.message}"
            except Exception as error:
                outcome = repr(error)
            if outcome != last_outcome:
                last_outcome = outcome
                log = self._telemetry.log.info if able else self._telemetry.log.warning
                log("model_probed" if able else "model_not_probed", alias=alias, found=outcome)
            failures = 0 if able else failures + 1
            doublings = min(failures, 6) if self._settings.models[alias].costs else 0
            await asyncio.sleep(PROBE_S * 2**doublings)

    def _failed(self, name: str, error: Exception) -> None:
        self._telemetry.log.error(f"{name}_failed", error=repr(error))
