"""The registry of the configured models: what each can do, and the wrapper through which each is
called."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from service.config import Settings
from service.context import CallContext
from service.errors import ModelError, NotFound
from service.llm import Asked, ModelAdapter, OutputConstraint, ScorerAdapter
from service.llm.probe import Probes
from service.models.metered import MeteredModel, MeteredScorer
from service.models.meters import Budget, CircuitBreaker, LatencyEstimator, Meters
from service.privacy import Privacy
from service.schema import FASTER, PRIOR, Capabilities
from service.store.spendings import Spendings
from service.telemetry import Telemetry

__all__ = ["PROBE_S", "LatencyEstimator", "MeteredModel", "MeteredScorer", "Models"]

PROBE_S = 60
"""Seconds that a model has for each answer of a probe, and seconds between two probes."""


class Models:
    """The configured models by alias.

    `adapters`: the opened adapters; those of models that write text are `ModelAdapter`s. `scorers`:
    all models, metered. `writers`: those of them that write text. `privacy`: decides what each may
    see. `latency`: estimates each model's speed; the next registry takes it over when settings are
    reloaded.
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
        self.privacy = Privacy(settings)
        self.adapters = dict(adapters)
        self.latency = latency or LatencyEstimator()
        self.scorers = {alias: self._metered(adapter) for alias, adapter in self.adapters.items()}
        self.writers = {
            alias: model for alias, model in self.scorers.items() if isinstance(model, MeteredModel)
        }
        self._probes = Probes(
            settings.data / "capabilities",
            {
                alias: self._metered(adapter, probing=True)
                for alias, adapter in self.adapters.items()
            },
            {alias: self.identity(alias) for alias in settings.models},
            clock,
            failed=lambda message: telemetry.log.warning("capabilities_not_kept", error=message),
        )

    @property
    def names(self) -> list[str]:
        """Values that the field `model` of a request accepts."""
        aliases = (alias for alias in self._settings.models if alias in self.scorers)
        return ["whyrank", FASTER, PRIOR, *aliases]

    def identity(self, alias: str) -> str:
        """Returns a text made of the settings that decide which model `alias` stands for. Another
        text means another model."""
        model = self._settings.models[alias]
        parts = model.backend, model.model, model.base_url, model.path, model.extra
        return " ".join(str(part) for part in parts if part)

    def capabilities(self, alias: str) -> Capabilities | None:
        """What the last probe found that the model can do; None if it was never probed."""
        return self._probes.known.get(alias)

    def constraint(self, alias: str) -> OutputConstraint:
        """Which constraints on its output (grammar, JSON schema) a model follows: as probed; before
        the first probe, as its backend usually does."""
        able = self.capabilities(alias)
        if able is None:
            return OutputConstraint(grammar=self._settings.models[alias].backend == "vllm")
        return OutputConstraint(able.grammar, able.json_schema != "refused")

    async def probe(
        self, alias: str, *, anew: bool = False, seconds: float = PROBE_S
    ) -> Capabilities:
        """Returns what a model can do. Probes it if it was never probed, if it has changed, or if
        `anew`. Raises a `ModelError` if it doesn't answer a call of the probe within `seconds`."""
        able = await self._probes.of(alias, anew=anew, seconds=seconds)
        self.latency.seed(alias, able.read_tps, able.write_tps)
        return able

    async def why_unusable(self, alias: str, seconds: float = 5) -> str:
        """Says why a model doesn't answer within `seconds`; returns an empty text if it does."""
        try:
            async with asyncio.timeout(seconds):
                await self.probe(alias, seconds=seconds)
                await self._probes.answers(alias)
        except TimeoutError:
            return f"timeout: no answer within {seconds:g} s"
        except ModelError as error:
            return f"{error.code}: {error.message}"
        return ""

    async def likelihoods(self, alias: str, asked: Sequence[tuple[str, str]]) -> list[float]:
        """How likely each text is after its context, (context, text), under a model: the natural
        logarithm of its probability. Raises `NotFound` for a model that isn't open, and a
        `ModelError` if it fails."""
        if alias not in self.scorers:
            raise NotFound("model", alias, known=", ".join(self.scorers))
        questions = [Asked((context,), text) for context, text in asked]
        found = await self.scorers[alias].loglikelihoods(questions, context=CallContext())
        return found.values

    def in_use(self) -> set[str]:
        """Aliases of the models that are probed regularly: those with a role, and all that cost no
        money and don't run in this process."""
        settings = self._settings
        free = {
            alias
            for alias, model in settings.models.items()
            if not model.costs and model.backend != "local"
        }
        roles = settings.roles.model_dump().values()
        return self.scorers.keys() & {*free, *roles, *settings.fallback, settings.shadow.model}

    def kept_by(self, settings: Settings) -> dict[str, ScorerAdapter]:
        """Returns the opened adapters whose configuration is the same in `settings`. Drops the
        measured speed of all others."""
        kept = {
            alias: adapter
            for alias, adapter in self.adapters.items()
            if settings.models.get(alias) == self._settings.models[alias]
        }
        for alias in self.adapters.keys() - kept.keys():
            self.latency.forget(alias)
        return kept

    async def close(self, *, successor: Models | None = None) -> None:
        """Closes the adapters, except those that the successor uses too."""
        for alias, adapter in self.adapters.items():
            if successor is None or successor.adapters.get(alias) is not adapter:
                await self.scorers[alias].close()

    def _metered(self, adapter: ScorerAdapter, *, probing: bool = False) -> MeteredScorer:
        """Wraps an adapter. `probing`: its calls are paid for and counted, but change neither the
        model's circuit breaker nor its estimated speed."""
        configured = self._settings.models[adapter.alias]
        budget = Budget(
            adapter.alias,
            self._spendings,
            self._clock,
            price=configured.price,
            daily=configured.budget,
            costs=configured.costs,
        )
        meters = Meters(
            LatencyEstimator() if probing else self.latency,
            CircuitBreaker(sys.maxsize, 0)
            if probing
            else CircuitBreaker(configured.failures, configured.cool_down_s),
            budget,
            self._telemetry,
            self.privacy.outgoing(adapter.alias),
        )
        if isinstance(adapter, ModelAdapter):
            return MeteredModel(adapter, meters)
        return MeteredScorer(adapter, meters)
