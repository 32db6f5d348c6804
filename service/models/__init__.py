"""The configured models: which there are, what each can do, and how each is asked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from datetime import datetime

from service.config import Settings
from service.errors import ModelError
from service.llm import ModelAdapter, OutputConstraint, ScorerAdapter
from service.llm.probe import Probes
from service.models.breaker import CircuitBreaker
from service.models.budget import Budget
from service.models.latency import LatencyEstimator
from service.models.metered import MeteredModel, MeteredScorer, Meters
from service.privacy import Privacy
from service.schema import FASTER, PRIOR, Capabilities
from service.store.spendings import Spendings
from service.telemetry import Telemetry

__all__ = ["PROBE_S", "LatencyEstimator", "MeteredModel", "MeteredScorer", "Models"]

PROBE_S = 60
"""Seconds that a model is given for each answer of a probe, and between two probes of it."""


class Models:
    """`adapters`: the opened models by alias; those that can write are `ModelAdapter`s.

    `writers`: those that write, `scorers`: all of them, as stages ask them. `latency`: how fast
    each is; shared by the registries that follow each other at reloads.
    """

    def __init__(
        self,
        settings: Settings,
        adapters: Mapping[str, ScorerAdapter],
        *,
        spendings: Spendings,
        telemetry: Telemetry,
        clock: Callable[[], datetime],
        latency: LatencyEstimator | None = None,
    ) -> None:
        self._settings = settings
        self._spendings = spendings
        self._telemetry = telemetry
        self._clock = clock
        self._privacy = Privacy(settings)
        self.adapters = dict(adapters)
        self.latency = latency or LatencyEstimator()
        self.writers: dict[str, MeteredModel] = {}
        self.scorers: dict[str, MeteredScorer] = {}
        for alias, adapter in self.adapters.items():
            configured = settings.models[alias]
            breaker = CircuitBreaker(configured.failures, configured.cool_down_s)
            self.scorers[alias] = metered = self._metered(adapter, self.latency, breaker)
            if isinstance(metered, MeteredModel):
                self.writers[alias] = metered
        self._probes = Probes(
            settings.data / "capabilities",
            {alias: self._probed(adapter) for alias, adapter in self.adapters.items()},
            {alias: self.identity(alias) for alias in settings.models},
            clock,
            failed=lambda message: telemetry.log.warning("capabilities_not_kept", error=message),
        )

    @property
    def names(self) -> list[str]:
        """What `model` in a request may name."""
        aliases = (alias for alias in self._settings.models if alias in self.scorers)
        return ["whyrank", FASTER, PRIOR, *aliases]

    def identity(self, alias: str) -> str:
        """What configuration says of which model an alias stands for."""
        model = self._settings.models[alias]
        parts = model.backend, model.model, model.base_url, model.path, model.extra
        return " ".join(str(part) for part in parts if part)

    def capabilities(self, alias: str) -> Capabilities | None:
        """What a probe found that it can do; None before the first."""
        return self._probes.known.get(alias)

    def constraint(self, alias: str) -> OutputConstraint:
        """What its answers can be held to: as probed, before that by its backend."""
        able = self.capabilities(alias)
        if able is None:
            return OutputConstraint(grammar=self._settings.models[alias].backend == "vllm")
        return OutputConstraint(able.grammar, able.json_schema != "refused")

    async def probe(
        self, alias: str, *, anew: bool = False, seconds: float = PROBE_S
    ) -> Capabilities:
        """What a model can do; asked of it once, and again after it changed. Raises a `ModelError`
        if it gives no answer within `seconds`."""
        able = await self._probes.of(alias, anew=anew, seconds=seconds)
        self.latency.seed(alias, able.read_tps, able.write_tps)
        return able

    async def why_unusable(self, alias: str, seconds: float = 5) -> str:
        """What keeps a model from answering within so many seconds; empty if nothing does."""
        try:
            async with asyncio.timeout(seconds):
                await self.probe(alias, seconds=seconds)
                await self._probes.answers(alias)
        except TimeoutError:
            return f"timeout: no answer within {seconds:g} s"
        except ModelError as error:
            return f"{error.code}: {error.message}"
        return ""

    def in_use(self) -> set[str]:
        """Models worth probing: those that have a role, and those that cost neither money nor this
        process's memory."""
        settings = self._settings
        free = {
            alias
            for alias, model in settings.models.items()
            if not model.costs and model.backend != "local"
        }
        working = {*settings.roles.model_dump(exclude_none=True).values(), *settings.fallback}
        if settings.shadow.model is not None:
            working.add(settings.shadow.model)
        return (free | working) & self.scorers.keys()

    def kept_by(self, settings: Settings) -> dict[str, ScorerAdapter]:
        """The opened models that are configured the same in other settings; how fast the others
        are is forgotten."""
        kept = {}
        for alias, adapter in self.adapters.items():
            if settings.models.get(alias) == self._settings.models[alias]:
                kept[alias] = adapter
            else:
                self.latency.forget(alias)
        return kept

    async def close(self, *, successor: Models | None = None) -> None:
        """Close the models, but for those that the successor goes on with."""
        for alias, adapter in self.adapters.items():
            if successor is None or successor.adapters.get(alias) is not adapter:
                await self.scorers[alias].close()

    def _metered(
        self, adapter: ScorerAdapter, latency: LatencyEstimator, breaker: CircuitBreaker
    ) -> MeteredScorer:
        alias = adapter.alias
        configured = self._settings.models[alias]
        budget = Budget(
            alias,
            self._spendings,
            self._clock,
            price=configured.price,
            daily=configured.budget,
            costs=configured.costs,
        )
        redact = self._privacy.outgoing(alias)
        meters = Meters(latency, breaker, budget, self._telemetry, redact)
        if isinstance(adapter, ModelAdapter):
            return MeteredModel(adapter, meters)
        return MeteredScorer(adapter, meters)

    def _probed(self, adapter: ScorerAdapter) -> MeteredScorer:
        """As probes ask it: paid and counted, but without effect on its circuit breaker and on how
        fast it is taken to be."""
        return self._metered(adapter, LatencyEstimator(), CircuitBreaker(sys.maxsize, 0))
