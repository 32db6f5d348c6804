"""Builds a `Service` from settings: the only place where its parts are made and connected."""

import asyncio
import importlib.util
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from os import environ
from pathlib import Path
from typing import Any, Self

from service import state
from service.access import Access
from service.candidates import Finder
from service.catalog import Catalog, Embeds
from service.chat.conversation import Conversation
from service.chat.understanding import Understanding
from service.config import HOUSE, History, Settings
from service.diagnostics import Diagnostics
from service.documents import DocumentReader
from service.embed import Embedder, MultilingualEmbedder, OnnxEmbedder, RemoteEmbedder
from service.embeddings import EmbeddingSpace
from service.errors import BadRequest, ConfigError, WhyrankError
from service.explainer import Explainer
from service.ingest import Ingest
from service.jobs import Jobs, Trainer
from service.jobs.shadow import Shadowing
from service.llm import ModelAdapter, ScorerAdapter
from service.llm.hosted import Hosted
from service.llm.local import Local
from service.llm.openai import VLLM, Compatible
from service.models import Models
from service.observers import Observers
from service.people import People
from service.pipeline import Recommender, Stages
from service.plan import Planner
from service.preview import Previewer
from service.privacy import PatternRedactor
from service.prompts import PromptLibrary
from service.ranker import Ranker
from service.records import Records
from service.retrieve import LearnedRanker
from service.store import Store
from service.telemetry import Telemetry
from service.wishes import WishReader

RELOADABLE = (
    *("models.", "roles.", "fallback", "rank.", "explain.", "rerank.", "limits.", "shadow."),
    *("service.deadline_ms", "service.ping_s"),
)
"""Prefixes of the settings that may change while the service runs."""


@dataclass(frozen=True)
class Outside:
    """What `build` opens and passes to a service. `adapters`: the opened models, by alias."""

    store: Store
    catalog: Catalog
    prompts: PromptLibrary
    adapters: Mapping[str, ScorerAdapter]
    telemetry: Telemetry
    clock: Callable[[], datetime]


def _stages(settings: Settings, outside: Outside, models: Models, wishes: WishReader) -> Stages:
    store, catalog = outside.store, outside.catalog
    return Stages(
        Planner(
            settings,
            prompts=outside.prompts,
            models=models,
            nulls=store.nulls,
            rankers=_rankers(settings, catalog.embedder.name, outside.telemetry),
        ),
        People(settings, store=store, catalog=catalog, privacy=models.privacy, clock=outside.clock),
        Finder(store, catalog),
        wishes,
        DocumentReader(catalog, settings.limits),
        Ranker(settings, models.latency),
        Explainer(settings, store=store, catalog=catalog, prompts=outside.prompts, models=models),
    )


def _rankers(
    settings: Settings, embedder: str, telemetry: Telemetry
) -> dict[str, dict[History, LearnedRanker]]:
    """Returns the learned rankers by domain and kind of history. Leaves out, with a warning, a
    ranker that was learned with another embedder than `embedder`."""
    rankers: dict[str, dict[History, LearnedRanker]] = {}
    for domain, records in settings.rankers().items():
        for kind, record in records.items():
            if record.embedder == embedder:
                ranker = LearnedRanker(record.features, record.weights, record.trees)
                rankers.setdefault(domain, {})[kind] = ranker
            else:
                telemetry.log.warning(
                    "ranker_left_out",
                    domain=domain,
                    history=kind,
                    why=f"learned with the embedder {record.embedder}, not {embedder}: 'whyrank "
                    "fit --ranker auto' learns it anew",
                )
    return rankers


class Service:
    """All parts of the service that its API, command line and evaluations use.

    `predecessor`: the service that this one replaces after a reload of settings. The speed it
    measured of each model is taken over.
    """

    def __init__(
        self, settings: Settings, outside: Outside, predecessor: Self | None = None
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry = outside.telemetry
        self._outside = outside
        store, catalog, clock = outside.store, outside.catalog, outside.clock
        self.models: Models = Models(
            settings,
            outside.adapters,
            spendings=store.spendings,
            telemetry=telemetry,
            clock=clock,
            latency=predecessor.models.latency if predecessor is not None else None,
        )
        self._wishes = WishReader(settings, catalog, outside.prompts, self.models)
        stages = _stages(settings, outside, self.models, self._wishes)
        self.shadowing = Shadowing(settings, stages, store=store, telemetry=telemetry, clock=clock)
        self.observers = Observers(store, telemetry, self.shadowing, clock)
        self.recommender = Recommender(stages, self.observers)
        self.records = Records(store, catalog, self.observers.settled)
        self.ingest = Ingest(
            settings,
            store=store,
            catalog=catalog,
            records=self.records,
            telemetry=telemetry,
            clock=clock,
        )
        self.chat = self._conversation()
        self.previewer = Previewer(settings, stages, self.models, outside.prompts, self.records)
        self.access = Access(settings, store, clock)
        self.embeddings = EmbeddingSpace(catalog, settings.limits)
        self.diagnostics = Diagnostics(
            settings, store=store, catalog=catalog, models=self.models, telemetry=telemetry
        )
        self.jobs = Jobs(
            settings,
            catalog=catalog,
            models=self.models,
            trainer=Trainer(settings, store=store, catalog=catalog, clock=clock),
            telemetry=telemetry,
        )

    def _conversation(self) -> Conversation:
        outside = self._outside
        return Conversation(
            self.settings,
            catalog=outside.catalog,
            recommender=self.recommender,
            understanding=Understanding(
                self.settings,
                store=outside.store,
                catalog=outside.catalog,
                models=self.models,
                wishes=self._wishes,
            ),
            ingest=self.ingest,
            clock=outside.clock,
        )

    async def reloaded(self, settings: Settings) -> Self:
        """Returns a service with new settings on the same store and catalogue. Models whose
        configuration is the same stay open. Raises `ConfigError` for a changed setting that needs a
        restart, and for a model that can't be opened."""
        fixed = [key for key in self.settings.differing(settings) if not key.startswith(RELOADABLE)]
        if fixed:
            raise ConfigError(
                f"{', '.join(fixed)}: can't be changed without a restart", param=fixed[0]
            )
        kept = self.models.kept_by(settings)
        adapters = {
            **open_models(settings, self.telemetry, local=False, kept=kept),
            **open_models(settings, self.telemetry, local=True, kept=kept),
        }
        return type(self)(settings, replace(self._outside, adapters=adapters), predecessor=self)

    async def leave_to(self, successor: Self | None) -> None:
        """Finishes background work, and closes the models that the successor doesn't use."""
        await self.shadowing.close()
        await self.observers.settled()
        await self.jobs.trainer.close()
        await self.models.close(successor=successor.models if successor is not None else None)

    async def close(self) -> None:
        await self.leave_to(None)
        await self._outside.catalog.embedder.close()
        self._outside.store.close()


async def build(
    settings: Settings,
    *,
    llms: Mapping[str, ModelAdapter] | None = None,
    scorers: Mapping[str, ScorerAdapter] | None = None,
    prompts: Path = HOUSE / "prompts",
    re_embed: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Service:
    """Builds a service on the real store, catalogue, embedder and models. Raises `ConfigError` if
    something is missing.

    `llms` replace the configured models behind a URL or at a provider, `scorers` those in this
    process. `re_embed`: drops vectors made by another embedder, to make them anew, instead of
    refusing to open the catalogue.
    """
    telemetry = Telemetry()
    library = PromptLibrary(
        prompts,
        failed=lambda message: telemetry.log.error("prompt_not_reloaded", error=message),
    )
    store = await asyncio.to_thread(open_store, settings)
    embed = await open_embedder(settings)
    try:
        catalog = await open_catalog(settings, embed, re_embed=re_embed)
    except WhyrankError:
        await embed.close()
        raise
    adapters: dict[str, ScorerAdapter] = {
        **(open_models(settings, telemetry, local=False) if llms is None else llms),
        **(open_models(settings, telemetry, local=True) if scorers is None else scorers),
    }
    return Service(settings, Outside(store, catalog, library, adapters, telemetry, clock))


async def open_catalog(settings: Settings, embed: Embeds, *, re_embed: bool = False) -> Catalog:
    """Opens the catalogue alone, without a service. Raises `ConfigError` if another embedder made
    its vectors (unless `re_embed`), or if it can't be filtered by a scope in `catalog.scopes`."""
    catalog = await Catalog.open(
        settings.data / "catalog",
        embed=embed,
        filterable=settings.catalog.filterable,
        factors=settings.retrieve.training.factors,
        re_embed=re_embed,
    )
    for domain, kind in settings.catalog.scopes.items():
        try:
            catalog.check_filters(kind)
        except BadRequest as error:
            key = f"catalog.scopes.{domain}"
            raise ConfigError(f"{key}: {error.message}", param=key) from error
    return catalog


def open_store(settings: Settings) -> Store:
    """Opens the store alone, without a service."""
    meanings = settings.events.of(settings.service.domain)
    return Store(
        settings.store_url,
        weigh=lambda event: state.opinion(event, meanings),
        half_life_days=settings.retrieve.popular_half_life_days,
        meaning=repr(sorted(meanings.items())),
    )


def guard(settings: Settings) -> None:
    """Raises `ConfigError` if other machines can reach the service and no API key exists."""
    if settings.service.loopback or settings.api_key is not None:
        return
    with closing(open_store(settings)) as store:
        if not store.keys.exist():
            raise ConfigError(
                f"service.host {settings.service.host} is reachable from outside: "
                "make a key ('whyrank keys create'), set WHYRANK_API_KEY, or bind 127.0.0.1",
                param="service.host",
            )


# ── embedders ─────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=1)
def _local_embedder(path: Path | None, threads: int, batch: int) -> Embedder:
    """Returns the embedder that runs in this process: the ONNX model at `path`, or
    `MultilingualEmbedder` if `path` is None. Cached, so that all services of a process share it."""
    if path is None:
        return MultilingualEmbedder(threads=threads, batch=batch)
    return OnnxEmbedder(path, threads=threads, batch=batch)


async def open_embedder(settings: Settings) -> Embedder:
    """Opens the configured embedder. An embedder outside the house is sent redacted texts. Raises
    `ConfigError` if it can't be opened."""
    embed = settings.embed
    if not embed.base_url:
        return await asyncio.to_thread(_local_embedder, embed.path, embed.threads, embed.batch)
    return await RemoteEmbedder.open(
        embed.base_url,
        embed.model,
        api_key=_secret(embed.api_key_env, "embed.api_key_env"),
        batch=embed.batch,
        timeout_s=embed.timeout_s,
        redact=PatternRedactor(settings.privacy.phone_regions) if embed.leaves_the_house else str,
    )


# ── models ────────────────────────────────────────────────────────────────────────────────────────


def open_models(
    settings: Settings,
    telemetry: Telemetry,
    *,
    local: bool,
    kept: Mapping[str, ScorerAdapter] | None = None,
) -> dict[str, ScorerAdapter]:
    """Opens the models that run in this process (`local`), or those behind a URL or at a provider;
    returns them by alias. `kept`: open adapters to reuse. A model that can't be opened is left out,
    with a warning; if it has a role and doesn't run in this process, raises `ConfigError`."""
    needed = {
        *settings.roles.model_dump(exclude_none=True).values(),
        *settings.fallback,
        settings.shadow.model,
    }
    opened: dict[str, ScorerAdapter] = {}
    for alias, model in settings.models.items():
        if (model.backend == "local") is not local:
            continue
        try:
            if local:
                _check_local(alias, settings)  # nothing else of a local model may be passed over
            opened[alias] = (kept or {}).get(alias) or _open(alias, settings, telemetry)
        except ConfigError as error:
            if alias in needed and not local:
                raise
            telemetry.log.warning("model_left_out", alias=alias, why=error.message)
    return opened


def _check_local(alias: str, settings: Settings) -> None:
    if importlib.util.find_spec("torch") is None:
        raise ConfigError("backend local needs torch: pip install 'whyrank[engine]'")
    if not settings.weights_path(alias).exists():
        raise ConfigError(f"no weights: whyrank models pull {settings.models[alias].model}")


_local = lru_cache(maxsize=4)(Local)
"""`Local`, cached, so that all services of a process share the weights of a model."""


def _open(alias: str, settings: Settings, telemetry: Telemetry) -> ScorerAdapter:
    model = settings.models[alias]
    if model.backend == "local":
        return _local(
            alias,
            settings.weights_path(alias),
            threads=model.threads,
            cache_mb=model.cache_mb,
        )
    options: dict[str, Any] = {
        "model": model.model,
        "base_url": model.base_url,
        "api_key": _secret(model.api_key_env, f"models.{alias}.api_key_env"),
        "extra": model.extra,
        "context": model.context,
    }
    if model.backend != "litellm":
        return VLLM(alias, **options) if model.backend == "vllm" else Compatible(alias, **options)
    if importlib.util.find_spec("litellm") is None:
        raise ConfigError(
            f"models.{alias}: backend litellm needs LiteLLM: pip install 'whyrank[hosted]'"
        )
    hosted = Hosted(alias, **options)
    hosted.warn = lambda why: telemetry.log.warning("model_downgraded", alias=alias, why=why)
    return hosted


def _secret(variable: str | None, where: str) -> str | None:
    """Reads a secret from an environment variable; None if `variable` is None. Raises `ConfigError`
    if the variable is unset or empty."""
    if variable and not environ.get(variable):
        raise ConfigError(f"{where}: {variable} is not set in the environment")
    return environ[variable] if variable else None
