"""The product in one file: events become a person's state, the state finds candidates, a model
ranks and justifies them.

`Recommender` is all that the faces, the command line and evaluations call. `build` makes one from
settings, with the real store, catalogue, embedder and models as defaults; tests pass their own.
"""

from __future__ import annotations

import asyncio
import hmac
import importlib.util
import shutil
import sys
import time
import uuid
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from contextlib import aclosing, closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from hashlib import sha256
from itertools import chain
from os import environ
from pathlib import Path
from typing import Any, Literal, TypeVar

from service import collaborative, explain, retrieve, state
from service.catalog import READ, Catalog, Embeds, Scope, UserFactors, words_of
from service.config import HOUSE, Settings, Weights
from service.conversation import Conversation
from service.embed import Embedder, RemoteEmbedder, count_tokens
from service.errors import (
    BadRequest,
    ConfigError,
    DiskFull,
    ModelError,
    ModelIncapable,
    ModelNotAllowed,
    NotFound,
    StorageError,
    Unauthorized,
    WhyrankError,
)
from service.feeds import foreign
from service.feeds.notes import Notes
from service.feeds.rows import checked_rows
from service.llm import LLM, OutputConstraint, Scorer
from service.llm.hosted import Hosted
from service.llm.local import Local
from service.llm.openai import Compatible, load_client
from service.llm.probe import Probes
from service.llm.vllm import VLLM
from service.models import BILL, HEARD, PAYER, Budget, CircuitBreaker, MeteredModel, MeteredScorer
from service.models import Exchange as Exchange
from service.prompts import Message, Prompt, PromptLibrary, shown_of, variables
from service.rank import Context, Order, Strategy, rank, reason_to_skip, slots
from service.rank.first_token import FirstToken
from service.rank.fusion import Terms, fused_order
from service.rank.keyed import Keyed
from service.rank.lacking import UnavailableStrategy
from service.rank.likelihood import Likelihood
from service.rank.listwise import Listwise
from service.rank.pace import LatencyEstimator
from service.rank.pointwise import Pointwise
from service.rank.veiled import RedactedStrategy
from service.redact import PatternRedactor, Redaction, counted, ids_in
from service.schema import (
    FASTER,
    LONGEST_INSTRUCTION,
    PRIOR,
    ApiKey,
    Candidate,
    Capabilities,
    ChatReply,
    ChatRequest,
    Event,
    Feed,
    ForeignReport,
    IngestReport,
    InlineEvent,
    Item,
    LoggedRanking,
    Meaning,
    PromptRef,
    Ranked,
    Ranking,
    Reason,
    RecommendRequest,
    Rejection,
    Reranked,
    RerankRequest,
    ShadowRanking,
    Shape,
    Timings,
    Usage,
    User,
    UserPatch,
    UserState,
)
from service.shadow import Outcome, Shadowing
from service.store import Store
from service.store.database import micros
from service.store.events import log_key
from service.store.shadows import Shadowed as Shadowed
from service.store.trainings import Training
from service.telemetry import Telemetry

ASKING: dict[str, Callable[[LLM, float, OutputConstraint], Strategy]] = {
    "first_token": FirstToken,
    "listwise": Listwise,
    "keyed": Keyed,
    "pointwise": Pointwise,
}
ANSWERS = {"first_token": "letter", "keyed": "scores", "pointwise": "yes or no"}
"""What they ask for in a prompt; the others for an order."""
COSTS = ("likelihood", "first_token", "listwise", "keyed", "pointwise")
"""From the cheapest, in tokens read and written."""
STRATEGIES = ("auto", "likelihood", *ASKING, "prior")
FAST = ("likelihood", "first_token")
"""What `FASTER` may be answered by."""
NEEDS: dict[str, Callable[[Capabilities], bool]] = {
    "likelihood": lambda able: able.prompt_logprobs,
    "first_token": lambda able: able.token_logprobs,
    "listwise": lambda able: True,
    "keyed": lambda able: True,
    "pointwise": lambda able: able.token_logprobs,
}
"""What a model must be able to do: whatever writes can be asked for JSON in words, and what it
writes is mended."""
PROBE_S = 60
"""A model is given so long for each answer of a probe, and looked at again so often."""
EMBEDDING = 1 / 3
"""At most this share of the time is spent on embedding documents."""
FINISH_S = 0.25
"""Kept back from a deadline for what follows the model; at most a tenth of it."""
OWNER = ApiKey(key_id="owner", name="WHYRANK_API_KEY", scopes=("admin",))
"""Who sends the key that stands in the environment."""
ANYONE = ApiKey(key_id="anyone", name="anyone", scopes=("admin",))
"""Whoever calls while there is no key."""
RELOADABLE = (
    *(
        "models.",
        "roles.",
        "fallback",
        "rank.",
        "explain.",
        "rerank.",
        "limits.",
        "service.deadline_ms",
        "service.ping_s",
    ),
    "shadow.",
)
"""What begins so may change while the service runs."""
CHUNK = 2_000
"""So many rows out of foreign ones are stored at once."""
NO_ITEM = {
    "candidates": "so last and without a reason",
    "context_items": "so without effect",
    "exclude": "so without effect",
}
"""What becomes of an id that the catalogue does not have, by the field that names it."""
NAMED = 20
"""So many ids, or places of documents, are named in a warning."""
PAGE = 100
"""So many rows of an export are read at once."""
LEAST_FREE = 64 * 2**20
"""Bytes: with less on the disk writes may fail soon."""
Metered = TypeVar("Metered", bound=MeteredScorer)
PreviewTask = Literal["rank", "explain", "score"]
"""Tasks whose prompts can be looked at."""


class Recommender:
    """Everything that touches the outside is passed in; `build` passes the real things."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        catalog: Catalog,
        prompts: PromptLibrary,
        llms: Mapping[str, LLM],
        scorers: Mapping[str, Scorer] | None = None,
        telemetry: Telemetry,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pace: LatencyEstimator | None = None,
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self._changing = asyncio.Lock()
        """Held by who writes of an item or a user what was read of it before, and by all who would
        come between."""
        self._store = store
        self._catalog = catalog
        self._prompts = prompts
        self._clock = clock
        self._net = PatternRedactor(settings.privacy.phone_regions)
        self._veil = _veil(settings, self._net)
        self._pace = pace or LatencyEstimator()
        self._opened: dict[str, Scorer] = {**llms, **(scorers or {})}
        self._llms = {
            alias: self._metered(MeteredModel, llm, self._pace) for alias, llm in llms.items()
        }
        self._scorers: dict[str, MeteredScorer] = {
            **self._llms,
            **{
                alias: self._metered(MeteredScorer, one, self._pace)
                for alias, one in (scorers or {}).items()
            },
        }
        self._probes = Probes(
            settings.data / "capabilities",
            {alias: self._probed(model) for alias, model in self._opened.items()},
            {alias: self._identity(alias) for alias in settings.models},
            clock,
            failed=lambda message: telemetry.log.warning("capabilities_not_kept", error=message),
        )
        self._conversation = Conversation(
            settings,
            store=store,
            catalog=catalog,
            prompts=prompts,
            llms=self._llms,
            veil=self._veil,
            stream=self.stream,
            rerank=self._rerank_stream,
            ingest=self.ingest_events,
            refuse=self._checked,
            clock=clock,
        )
        self._fitted = settings.fitted()
        self._strategies: dict[tuple[str, str, float, OutputConstraint], Strategy] = {}
        self._warned: set[str] = set()
        self._noted: dict[str, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._shadowing = Shadowing(settings.shadow, telemetry)

    def _identity(self, alias: str) -> str:
        """What configuration says of which model that is."""
        model = self.settings.models[alias]
        return " ".join(
            map(
                str,
                filter(None, (model.backend, model.model, model.base_url, model.path, model.extra)),
            )
        )

    def _probed(self, model: Scorer) -> Scorer:
        """As probes ask it: what costs money is paid and counted, but neither tires nor teaches how
        fast it is."""
        if not isinstance(model, LLM) or not self.settings.models[model.alias].costs:
            return model
        return self._metered(
            MeteredModel, model, LatencyEstimator(), CircuitBreaker(sys.maxsize, 0)
        )

    def _metered(
        self,
        kind: type[Metered],
        model: Any,
        pace: LatencyEstimator,
        rest: CircuitBreaker | None = None,
    ) -> Metered:
        told = self.settings.models[model.alias]
        purse = Budget(
            model.alias,
            self._store.spendings,
            lambda: self._clock(),
            price=told.price,
            budget=told.budget,
            costs=told.costs,
        )
        rest = rest or CircuitBreaker(told.failures, told.cool_down_s)
        return kind(model, pace, rest, purse, self.telemetry, self._before(model.alias))

    # ── the main job ──────────────────────────────────────────────────────────────────────────────

    async def recommend(self, request: RecommendRequest) -> Ranking:
        """The ranked, justified list: the last word of `stream`."""
        return await _last(await self.stream(request))

    async def rerank(self, request: RerankRequest) -> Reranked:
        """The caller's documents for a query, a person, or both: every one of them once, blank ones
        last."""
        warnings: list[str] = []
        documents = await self._documents(request)
        plan, candidates, unread, parts = await self._reranked(request, documents, warnings)
        ranking = await _last(parts)
        places = {item.id: place for place, item in enumerate(documents)}
        warnings += _unread(plan, ranking, documents, candidates, unread)
        return Reranked.model_construct(
            ranking=ranking,
            places=[places[item.item_id] for item in ranking.items],
            warnings=warnings,
        )

    async def _rerank_stream(
        self, request: RerankRequest
    ) -> AsyncGenerator[Ranking | Reason, None]:
        *_, parts = await self._reranked(request, await self._documents(request), [])
        return parts

    async def _reranked(
        self, request: RerankRequest, documents: Sequence[Item], warnings: list[str]
    ) -> tuple[Plan, list[Candidate], int, AsyncGenerator[Ranking | Reason, None]]:
        """The plan, the documents by falling prior, how many of them could not be embedded in time,
        and the ranking."""
        said, blank = (
            [item for item in documents if _says(item)],
            [item for item in documents if not _says(item)],
        )
        plan = self._plan(self._recommendation(request, warnings))
        plan = plan.for_documents(
            len(said), request.line_tokens or self.settings.rerank.line_tokens
        )
        watch = Stopwatch()
        person = await self._state(plan.request, plan, request.history)
        watch.mark("state_ms")
        wanted = await self._wanted(plan, person)
        now = asyncio.get_running_loop().time()
        until = now + EMBEDDING * (plan.context.deadline - now)
        candidates, unread = await retrieve.documents(
            self._store, self._catalog, person, said, wanted, until
        )
        candidates += map(retrieve.blank, blank)
        watch.mark("retrieve_ms")
        if not wanted.embeds:
            warnings.append(
                "this person is kept from the embedder outside (allow_hosted): of documents "
                "only their words count"
            )
        if blank:
            places = [place for place, item in enumerate(documents) if not _says(item)]
            warnings.append(
                "blank, or only an id that the catalogue does not have, so last and without a "
                "reason: "
                f"documents {_listed(places)}"
            )
        return plan, candidates, unread, self._told(plan, person, candidates, watch, warnings)

    async def _documents(self, request: RerankRequest) -> list[Item]:
        """Each with an id of its own: the caller's, else one made of what it says. What the
        catalogue knows lends its words."""
        limits = self.settings.limits
        if len(request.documents) > limits.documents:
            raise BadRequest(
                f"documents: at most {limits.documents} (limits.documents)", param="documents"
            )
        if len(request.query) > limits.query_chars:
            raise BadRequest(
                f"query: at most {limits.query_chars} characters (limits.query_chars)",
                param="query",
            )
        known = await self._catalog.get(
            one.name for one in request.documents if one.name is not None
        )
        items: dict[str, Item] = {}
        times = Counter[str]()
        for one in request.documents:
            name = one.id or (one.name if one.name in known else None)
            item = one.over(known.get(name or ""))
            key = base = name if name is not None and name not in items else _named_for(item)
            while key in items:
                times[base] += 1
                key = f"{base}+{times[base]}"
            items[key] = item.model_copy(update={"id": key})
        return list(items.values())

    def _recommendation(self, request: RerankRequest, warnings: list[str]) -> RecommendRequest:
        """What is asked in the words of a recommendation. A model that nobody configured is
        answered by the default."""
        model = request.model
        if model is not None and model not in self.models():
            warnings.append(
                f"model {model!r} is not configured here: the default answered; known: "
                f"{', '.join(self.models())}"
            )
            model = None
        if len(request.query) > LONGEST_INSTRUCTION:
            warnings.append(f"query: a model is shown its first {LONGEST_INSTRUCTION} characters")
        return RecommendRequest(
            user_id=request.user_id,
            session_id=request.session_id,
            top_n=min(request.top_n or len(request.documents), len(request.documents)),
            instruction=request.query[:LONGEST_INSTRUCTION] if request.query.strip() else None,
            domain=request.domain,
            locale=request.locale,
            strategy=request.strategy,
            model=model,
            explain=request.explain,
            deadline_ms=request.deadline_ms,
            redact=request.redact,
        )

    async def trace(
        self, request: RecommendRequest, bill: list[Usage] | None = None
    ) -> tuple[Ranking, list[Exchange]]:
        """`recommend`, and what was asked of models and what they said. `bill`: gets what calls
        took, also if this raises."""
        exchanges: list[Exchange] = []
        heard, billed = HEARD.set(exchanges), BILL.set(bill)
        try:
            return await self.recommend(request), exchanges
        finally:
            HEARD.reset(heard)
            BILL.reset(billed)

    async def stream(self, request: RecommendRequest) -> AsyncGenerator[Ranking | Reason, None]:
        """The ranking first, then a reason for each item, then the whole; closing it stops the
        model's work.

        Whatever is wrong with the request is raised here, before there is anything to iterate over.
        """
        plan = self._checked(request)
        watch = Stopwatch()
        person = await self._state(request, plan)
        watch.mark("state_ms")
        candidates = await self._candidates(plan, person)
        warnings = [*await self._unknown(request), *await self._unmet(request, candidates)]
        watch.mark("retrieve_ms")
        return self._told(plan, person, candidates, watch, warnings)

    async def _unknown(self, request: RecommendRequest) -> list[str]:
        """Of each of the request's lists of ids those that the catalogue does not have, in
        words."""
        candidates = [
            item_id for item_id in request.candidates or () if item_id not in request.exclude
        ]
        lists = {
            "candidates": candidates,
            "context_items": request.context_items,
            "exclude": request.exclude,
        }
        unknown = set(await self._catalog.unknown(chain(*lists.values())))
        found = {
            name: [item_id for item_id in ids if item_id in unknown] for name, ids in lists.items()
        }
        return [
            f"{name}: not in the catalogue, {NO_ITEM[name]}: {_listed(ids)}"
            for name, ids in found.items()
            if ids
        ]

    async def _unmet(self, request: RecommendRequest, candidates: Sequence[Candidate]) -> list[str]:
        """Where nothing is left to recommend, whether that is for the request's filters, and what
        they might ask for."""
        if candidates or not request.filters:
            return []
        if await self._catalog.search.some(1, Scope(filters=request.filters)):
            return ["filters: all that they admit is excluded, or this person has had it"]
        facets = await self._catalog.facets()
        known = {key: facets.in_words(key) for key in request.filters}
        values = [f"filters.{key}: the catalogue has {told}" for key, told in known.items() if told]
        return ["filters: no item meets them", *values]

    async def _told(
        self,
        plan: Plan,
        person: UserState,
        candidates: Sequence[Candidate],
        watch: Stopwatch,
        warnings: Sequence[str],
    ) -> AsyncGenerator[Ranking | Reason, None]:
        request, parts = plan.request, list[Reason | explain.Explained]()
        order = await self._ranked(plan, person, candidates)
        watch.mark("model_ms")
        ranking = self._ranking(request, plan, person, order, watch).model_copy(
            update={"warnings": [*warnings]}
        )
        try:
            yield ranking
            if request.explain != "none":
                shown = [
                    candidate
                    for candidate in order.candidates[: request.top_n]
                    if not candidate.blank
                ]
                explained = await self._explain(plan, person, shown)
                async with aclosing(_billed(explained)) as found:
                    async for part in found:
                        parts.append(part)
                        if isinstance(part, Reason):
                            yield part
        finally:  # it was shown, also to somebody who did not wait for the end
            watch.mark("explain_ms")
            ranking = _with(ranking, parts).model_copy(update={"timings": watch.timings()})
            self._shadow(ranking, plan, person, candidates, self._log(ranking, request, plan))
        yield ranking

    async def chat(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply, None]:
        """The answer's text in pieces as they come to be, then the whole. What is wrong is raised
        here, not while iterating."""
        return await self._conversation.answer(request)

    def _checked(self, request: RecommendRequest) -> Plan:
        """Raises `BadRequest` for what is beyond the limits."""
        limits = self.settings.limits
        if request.top_n > limits.top_n:
            raise BadRequest(f"top_n: at most {limits.top_n} (limits.top_n)", param="top_n")
        if len(request.candidates or ()) > limits.candidates:
            raise BadRequest(
                f"candidates: at most {limits.candidates} (limits.candidates)", param="candidates"
            )
        return self._plan(request)

    def _plan(self, request: RecommendRequest) -> Plan:
        """All that can be decided, and refused, before anything is read."""
        settings = self.settings
        domain = request.domain or settings.service.domain
        prompt = self._prompts.find("rank", domain, request.locale)
        if request.prompt_id:
            prompt = self._prompts.named(request.prompt_id, request.prompt_version)
        elif request.prompt_version not in (None, prompt.ref.version):
            raise NotFound(
                "prompt", f"{prompt.ref.id} {request.prompt_version}", param="prompt_version"
            )
        seconds = (request.deadline_ms or settings.service.deadline_ms) / 1000
        deadline = asyncio.get_running_loop().time() + seconds - min(FINISH_S, seconds / 10)
        sizes = settings.rank
        asked, ladder = self._ladder(request, domain)
        weights = self._weights(domain, ladder[0].model if ladder else self._asked(request))
        return Plan(
            request=request,
            settings=settings,
            domain=domain,
            meanings=settings.events.of(domain),
            asked=asked,
            ladder=ladder,
            weights=weights,
            context=Context(
                prompt,
                self._score_prompt(request, domain),
                deadline,
                window=sizes.window,
                line_tokens=sizes.line_tokens,
                depth=sizes.depth,
                orderings=sizes.orderings,
                titles=sizes.titles,
                shown=sizes.shown,
                popularity=weights.popularity,
                diversity=weights.diversity,
                instruction=request.instruction,
                locale=request.locale,
            ),
        )

    def _weights(self, domain: str, alias: str | None) -> Weights:
        return self._fitted.get(f"{domain}.{alias}") or self.settings.configured(alias)

    def _asked(self, request: RecommendRequest) -> str | None:
        """The alias that a request names, else the one for ranking; None where no model ranks."""
        return request.model if request.model in self.settings.models else self.settings.roles.rank

    def _scoring(self, request: RecommendRequest) -> str | None:
        """The alias that tells likelihoods: the one that a request names, else the one for it."""
        return request.model if request.model in self.settings.models else self.settings.roles.score

    def _ladder(self, request: RecommendRequest, domain: str) -> tuple[str, list[Strategy]]:
        """What is asked for, and what to try, in order; below it stands the prior, which needs no
        model."""
        asked = request.strategy or self.settings.rank.strategy
        if asked not in STRATEGIES:
            raise BadRequest(
                f"strategy {asked!r}: this build has {', '.join(STRATEGIES)}", param="strategy"
            )
        if request.model == PRIOR:
            asked = "prior"
        elif request.model is not None and request.model not in self.models():
            raise NotFound("model", request.model, param="model", known=", ".join(self.models()))
        if asked == "prior":
            return asked, []
        names: list[str] = [
            one for one in self.settings.rank.prefer if request.model != FASTER or one in FAST
        ]
        if asked != "auto":
            cheaper = COSTS[: COSTS.index(asked)]
            names = [asked, *(name for name in names if name in cheaper)]
        if asked == "auto":
            steps = self._preferred(names, request, domain)
        else:
            steps = [step for name in names for step in self._steps(name, request, domain)]
        able = [step if self._can(step) else _unable(step) for step in steps]
        found = [
            step for step in able if step.name == asked or not isinstance(step, UnavailableStrategy)
        ] or able[:1]
        if asked not in {"auto", *(step.name for step in found)}:
            role = "score" if asked == "likelihood" else "rank"
            raise BadRequest(
                f"strategy {asked!r} needs a model (roles.{role}) and a prompt for it",
                param="strategy",
            )
        return asked, found

    def _preferred(
        self, names: Sequence[str], request: RecommendRequest, domain: str
    ) -> list[Strategy]:
        """All that one model can do before another stands in for it. A list that no grammar binds
        is worse than scores."""
        likely = self._steps("likelihood", request, domain) if "likelihood" in names else []
        asking = [
            step
            for name in names
            if name != "likelihood"
            for step in self._steps(name, request, domain)
        ]
        order = [self._asked(request), *self.settings.fallback]
        asking.sort(
            key=lambda step: (
                order.index(step.model),
                step.name == "listwise" and not self._held(step.model).grammar,
            )
        )
        return likely + asking if names[:1] == ["likelihood"] else asking + likely

    def _steps(self, name: str, request: RecommendRequest, domain: str) -> list[Strategy]:
        """One strategy by the model asked for, then by those that stand in for it."""
        if name == "likelihood":
            alias = self._scoring(request)
            if (
                alias is None
                or alias not in self._scorers
                or self._score_prompt(request, domain) is None
            ):
                return []
            weights = self._weights(domain, alias)
            scorer, known = self._scorers[alias], self._store.nulls
            return [Likelihood(scorer, weights.model, weights.null, known, self._identity(alias))]
        aliases = dict.fromkeys([self._asked(request), *self.settings.fallback])
        able = [alias for alias in aliases if alias in self._llms]
        return [self._asking(name, alias, self._weights(domain, alias).model) for alias in able]

    def _asking(self, name: str, alias: str, weight: float) -> Strategy:
        """Kept from request to request, with what it has measured."""
        if (key := (name, alias, weight, self._held(alias))) not in self._strategies:
            self._strategies[key] = ASKING[name](self._llms[alias], weight, key[-1])
        return self._strategies[key]

    def _held(self, alias: str) -> OutputConstraint:
        """As far as is known; before a probe by the backend."""
        able = self._probes.known.get(alias)
        if able is None:
            return OutputConstraint(grammar=self.settings.models[alias].backend == "vllm")
        return OutputConstraint(able.grammar, able.json_schema != "refused")

    async def _over(self, request: RecommendRequest, person: UserState) -> Redaction:
        """What stands between the person of a request and models outside."""
        said = [request.instruction or "", *(entry.event.text or "" for entry in person.recent)]
        own = [request.user_id, request.session_id, *await ids_in(self._catalog, said)]
        return self._veil.of(request.redact, own)

    def _leaves(self, alias: str) -> bool:
        model = self.settings.models.get(alias)
        return model is not None and model.leaves_the_house

    def _before(self, alias: str) -> Callable[[str], str]:
        """What every text to a model goes through."""
        return self._net if self._leaves(alias) else str

    def _can(self, step: Strategy) -> bool:
        """As far as is known: a model that was never probed is tried."""
        able = self._probes.known.get(step.model)
        return able is None or NEEDS[step.name](able)

    def _score_prompt(self, request: RecommendRequest, domain: str) -> Prompt | None:
        """A folder of somebody's own prompts may hold none."""
        try:
            return self._prompts.find("score", domain, request.locale)
        except NotFound:
            return None

    async def _ranked(
        self, plan: Plan, person: UserState, candidates: Sequence[Candidate]
    ) -> Order:
        """Without a model where `auto` sees that none would help. Its usage is that of all calls,
        of those that failed too."""
        sizes = self.settings.rank
        why = (
            reason_to_skip(person, candidates, sizes.least_history, sizes.clear_prior)
            if plan.asked == "auto"
            else ""
        )
        ladder = [] if why else await self._veiled(plan, person)
        bill, whole = list[Usage](), BILL.get()
        token = BILL.set(bill)
        try:
            order = await rank(
                person, candidates, plan.context, ladder, self._pace, asked=plan.asked, why=why
            )
        finally:
            BILL.reset(token)
            if whole is not None:
                whole += bill
        return replace(order, usage=sum(bill, Usage()))

    async def _veiled(self, plan: Plan, person: UserState) -> list[Strategy]:
        """The ladder for this person; a model outside sees what may leave."""
        ladder = self._allowed(plan.ladder, person)
        if not any(self._leaves(step.model) for step in ladder):
            return ladder
        over = await self._over(plan.request, person)
        return [
            RedactedStrategy(step, over) if self._leaves(step.model) else step for step in ladder
        ]

    def models(self) -> list[str]:
        """What `model` in a request may name."""
        return [
            "whyrank",
            FASTER,
            PRIOR,
            *(alias for alias in self.settings.models if alias in self._scorers),
        ]

    def _allowed(self, ladder: Sequence[Strategy], person: UserState) -> list[Strategy]:
        """Nothing of a person who disallowed it is shown to a model outside."""
        no = ModelNotAllowed("this person may not be shown to a hosted model")
        return [
            step if self._may_see(step.model, person) else UnavailableStrategy(step, no)
            for step in ladder
        ]

    def _may_see(self, alias: str, person: UserState) -> bool:
        return person.allow_hosted or not self._leaves(alias)

    def _may_embed(self, person: UserState) -> bool:
        return person.allow_hosted or not self.settings.embed.leaves_the_house

    async def _state(
        self, request: RecommendRequest, plan: Plan, did: Sequence[InlineEvent] = ()
    ) -> UserState:
        """The person as of every event accepted so far; without any, what they declared, asked for,
        or nothing. `did`: what came with the question."""
        sizes = self.settings.rank.recent_min, self.settings.rank.recent_max
        person = await state.read(
            self._store,
            self._catalog,
            plan.meanings,
            state.Requester(
                request.user_id,
                request.session_id,
                [
                    Event(
                        user_id=TOLD, item_id=one.item_id, type=one.type, occurred_at=self._clock()
                    )
                    for one in did
                ],
            ),
            window=sizes,
            now=self._clock(),
        )
        if person.source != "popularity":
            return person
        described = await self._described(request, person)
        if described:
            with suppress(ModelError):  # the embedder's
                interest = await self._catalog.interest(described)
                return person.model_copy(update={"source": "attributes", "interests": (interest,)})
        return (
            person.model_copy(update={"source": "instruction"}) if request.instruction else person
        )

    async def _described(self, request: RecommendRequest, person: UserState) -> str:
        """What a person declared, as the embedder may see it."""
        outside = self.settings.embed.leaves_the_house
        if not self._may_embed(person):
            return ""
        shown = (await self._over(request, person)).over(person, [], None)[0] if outside else person
        told = ", ".join(f"{key} {value}" for key, value in shown.attributes.items())
        return self._net(told) if outside else told

    async def _candidates(self, plan: Plan, person: UserState) -> list[Candidate]:
        return await retrieve.retrieve(
            self._store, self._catalog, person, await self._wanted(plan, person)
        )

    async def _wanted(self, plan: Plan, person: UserState) -> retrieve.RetrievalQuery:
        taste = (
            await collaborative.taste(self._store, self._catalog, person)
            if plan.weights.collaborative
            else None
        )
        wanted, said = plan.wanted(person, taste), plan.request.instruction
        if not self._may_embed(person):
            return replace(wanted, embeds=False)
        if said is not None and self.settings.embed.leaves_the_house:
            said = (await self._over(plan.request, person)).sent(said)
        return replace(wanted, meant=said)

    def _ranking(
        self,
        request: RecommendRequest,
        plan: Plan,
        person: UserState,
        order: Order,
        watch: Stopwatch,
    ) -> Ranking:
        items = [
            Ranked(
                rank=n,
                item_id=candidate.item.id,
                score=score,
                title=candidate.item.title,
                signals=signals,
                item=candidate.item,
            )
            for n, (candidate, score, signals) in enumerate(
                zip(order.candidates, order.scores, plan.signals(order), strict=True), 1
            )
        ]
        return Ranking(
            ranking_id=f"rk-{uuid.uuid4().hex}",
            items=items[: request.top_n],
            strategy=order.strategy,
            model=order.model,
            prompt=order.prompt,
            choice=order.choice,
            state_version=person.version,
            profile_source=person.source,
            degraded=order.degraded,
            repairs=order.repairs,
            usage=order.usage,
            timings=watch.timings(),
        )

    async def _explain(
        self, plan: Plan, person: UserState, shown: Sequence[Candidate]
    ) -> AsyncGenerator[Reason | explain.Explained, None]:
        """A ranking that asked for no model, and a person no model may see, get templates."""
        request = plan.request
        alias = self._speaker(person) if plan.ladder and request.model != FASTER else None
        locale, attribution, seen = (
            request.locale or person.locale,
            self._attribution(plan, person),
            None,
        )
        asked = [alias or "", attribution.scorer.alias if attribution is not None else ""]
        if any(map(self._leaves, asked)):
            seen = (await self._over(request, person)).over(person, shown, request.instruction)
        return explain.explain(
            person,
            shown,
            self._llms[alias] if alias is not None else None,
            self._prompts.find("explain", plan.domain, locale),
            top=self.settings.explain.top,
            deadline=plan.context.deadline,
            line_tokens=plan.context.line_tokens,
            attribution=attribution,
            full=request.explain == "full",
            instruction=request.instruction,
            locale=locale,
            held=self._held(alias) if alias is not None else OutputConstraint(),
            seen=seen,
        )

    def _speaker(self, person: UserState) -> str | None:
        """Who writes reasons: the first of its role and the fallbacks that may and is not
        resting."""
        aliases = [
            one
            for one in (self.settings.roles.explain, *self.settings.fallback)
            if one in self._llms
        ]
        may = [one for one in aliases if self._may_see(one, person)]
        return next((one for one in may if not self._llms[one].resting), may[0] if may else None)

    def _attribution(self, plan: Plan, person: UserState) -> explain.Attributor | None:
        """By the model for likelihoods, on the same condition."""
        alias, prompt = self.settings.roles.score, plan.context.score
        if (
            not plan.ladder
            or prompt is None
            or alias not in self._scorers
            or not self._may_see(alias, person)
        ):
            return None
        return explain.Attributor(self._scorers[alias], prompt, plan.context.titles)

    def _log(self, ranking: Ranking, request: RecommendRequest, plan: Plan) -> asyncio.Task[None]:
        """Off the request path; `close` waits for it."""
        self.telemetry.ranked(ranking)
        known = request.user_id is not None or request.session_id is not None
        who = log_key(request.user_id, request.session_id) if known else None
        job = self._store.rankings.log(
            ranking, who=who, domain=plan.domain, shown_at=micros(self._clock())
        )
        task = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._logged)
        return task

    async def _settled(self) -> None:
        """All that was shown so far is in the log."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _logged(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.telemetry.log.error("ranking_not_logged", error=repr(error))

    prior_of = staticmethod(retrieve.prior_of)

    @staticmethod
    def fuse(prior: Sequence[float], model: Sequence[float], share: float) -> list[int]:
        """Places of the candidates as every ranking orders them, had the model this share: for
        those who look for a better."""
        return fused_order(prior, model, Terms(share))[0]

    # ── the shadow ────────────────────────────────────────────────────────────────────────────────

    def _shadow(
        self,
        shown: Ranking,
        plan: Plan,
        person: UserState,
        candidates: Sequence[Candidate],
        logged: asyncio.Task[None],
    ) -> None:
        """Have a share of what was shown ranked once more, beside the requests; not what was shown
        to nobody in particular: who would like it is never learned."""
        request = plan.request
        known = request.user_id is not None or request.session_id is not None
        if known and len(candidates) > 1 and self._shadowing.wants(shown.ranking_id):
            self._shadowing.begin(
                partial(self._ranked_again, shown, plan, person, candidates, logged)
            )

    async def _ranked_again(
        self,
        shown: Ranking,
        plan: Plan,
        person: UserState,
        candidates: Sequence[Candidate],
        logged: asyncio.Task[None],
    ) -> Outcome:
        """By the shadow model, as any ranking; a person who was forgotten or hidden while this
        waited is not shown to it."""
        await asyncio.wait([logged])
        who, alias = (
            log_key(plan.request.user_id, plan.request.session_id),
            self.settings.shadow.model or "",
        )
        if await self._store.rankings.get(shown.ranking_id) is None:
            return "dropped"
        found = await self._store.users.get(who)
        allowed = person.allow_hosted and (found is None or found[0].allow_hosted)
        if not self._may_see(alias, person.model_copy(update={"allow_hosted": allowed})):
            return "not_allowed"
        watch, plan = Stopwatch(), self._shadow_plan(plan, alias)
        order = await self._ranked(plan, person, candidates)
        watch.mark("model_ms")
        made = self._ranking(
            plan.request.model_copy(update={"top_n": len(candidates)}), plan, person, order, watch
        )
        await self._store.shadows.log(
            _beside(made, shown, plan.request.top_n), who=who, alias=alias, at=self._clock()
        )
        return "failed" if order.degraded is not None and order.model is None else "ranked"

    def _shadow_plan(self, plan: Plan, alias: str) -> Plan:
        """The same question to the shadow model alone: that it fails is what is to be found, and
        must cost no other model."""
        told = self.settings.shadow
        changes = {
            "model": alias,
            "strategy": told.strategy,
            "deadline_ms": told.deadline_ms,
            "explain": "none",
        }
        own = self._plan(plan.request.model_copy(update=changes))
        ladder = [step for step in own.ladder if step.model == alias]
        if not ladder:
            raise ModelIncapable(f"{alias} can't be asked for {told.strategy}")
        context = replace(plan.context, deadline=own.context.deadline)
        return replace(plan, request=own.request, asked=own.asked, ladder=ladder, context=context)

    async def shadowed(
        self, after: int, limit: int, since: datetime | None = None
    ) -> list[Shadowed]:
        """What was shown, from some time on, beside what the shadow model made of the same: the
        first after a place."""
        return await self._store.shadows.page(after, limit, since)

    async def done(self, who: str, since: datetime, until: datetime) -> list[Event]:
        """What the person of a `Shadowed` did in a time, in its order."""
        return await self._store.events.between(who, since, until)

    # ── feeds ─────────────────────────────────────────────────────────────────────────────────────

    async def ingest_events(self, rows: Sequence[Any], notes: Notes | None = None) -> IngestReport:
        """Take events, one or many; each is on disk when this returns. Duplicates change nothing.
        `notes` of a feed that comes in parts: they gather what is to be said of the whole, and the
        report leaves it to them."""
        counted = notes or Notes()
        events, rejected = self._events(rows, counted)
        fresh = await self._store.events.add(events)
        return self._report(
            "events",
            sum(fresh),
            len(fresh) - sum(fresh),
            rejected,
            [] if notes else counted.sentences(),
        )

    async def ingest_items(self, rows: Sequence[Any], notes: Notes | None = None) -> IngestReport:
        """Insert or replace items by id; each is on disk when this returns, its vector follows.
        `notes`: as for events."""
        async with self._changing:
            return await self._put_items(rows, notes)

    async def _put_items(self, rows: Sequence[Any], notes: Notes | None = None) -> IngestReport:
        counted = notes or Notes()
        items, rejected = self._items(rows, counted)
        await self._catalog.put(items)
        return self._report("items", len(items), 0, rejected, [] if notes else counted.sentences())

    async def ingest_users(self, rows: Sequence[Any], notes: Notes | None = None) -> IngestReport:
        """Insert or replace what users declared. `notes`: as for events."""
        async with self._changing:
            return await self._put_users(rows, notes)

    async def _put_users(
        self, rows: Sequence[Any], notes: Notes | None = None, only: Set[str] | None = None
    ) -> IngestReport:
        counted = notes or Notes()
        users, rejected = self._users(rows, counted)
        await self._store.users.put(users, only)
        return self._report("users", len(users), 0, rejected, [] if notes else counted.sentences())

    def check_rows(
        self, feed: Feed, rows: Sequence[Any], notes: Notes, shape: Shape | None = None
    ) -> tuple[Sequence[Item | User | Event], list[Rejection]]:
        """What would be taken of the rows of a feed, of another system's with `shape`, and what
        refused; nothing is stored."""
        checks: dict[
            Feed,
            Callable[[Sequence[Any], Notes], tuple[Sequence[Item | User | Event], list[Rejection]]],
        ] = {
            "items": self._items,
            "users": self._users,
            "events": self._events,
        }
        if shape is None:
            return checks[feed](rows, notes)
        sorted_rows = foreign.sorted_out(shape, feed, rows)
        nouns, rejected = checks[feed]([part.row for part in sorted_rows.parts], notes)
        placed = [foreign.placed(sorted_rows.parts[one.index], one) for one in rejected]
        return nouns, foreign.one_a_row([*sorted_rows.rejected, *placed])

    def _items(self, rows: Sequence[Any], notes: Notes) -> tuple[list[Item], list[Rejection]]:
        def fitted(item: Item) -> Item:
            attributes = self._catalog.fitted(item.attributes, notes.misfit)
            return (
                item
                if attributes == item.attributes
                else item.model_copy(update={"attributes": attributes})
            )

        return checked_rows("items", Item, rows, notes, fitted)

    def _users(self, rows: Sequence[Any], notes: Notes) -> tuple[list[User], list[Rejection]]:
        return checked_rows("users", User, rows, notes, lambda user: user)

    def _events(self, rows: Sequence[Any], notes: Notes) -> tuple[list[Event], list[Rejection]]:
        latest = self._clock() + timedelta(seconds=self.settings.events.future_tolerance_s)
        meanings = self.settings.events.of(self.settings.service.domain)
        known, unknown = self.settings.events.known, Counter[str]()

        def fitted(event: Event) -> Event:
            if event.occurred_at > latest:
                raise BadRequest(f"occurred_at: {event.occurred_at.isoformat()} lies in the future")
            meaning = meanings.get(event.type)
            if event.type not in known:
                unknown[event.type] += 1
            elif meaning is not None and meaning.scale is not None and event.value is not None:
                notes.valued(event.type, event.value, meaning.scale)
            return event

        events, rejected = checked_rows("events", Event, rows, notes, fitted)
        for kind in unknown.keys() - self._warned:
            self._warned.add(kind)
            self.telemetry.log.warning("event_type_without_meaning", type=kind, weight=0)
        notes.noticed.update(
            {state.without_meaning(kind, known): count for kind, count in unknown.items()}
        )
        return events, rejected

    async def ingest_foreign(
        self,
        shape: Shape,
        rows: Sequence[Any],
        feed: Feed | None = None,
        notes: Notes | None = None,
    ) -> ForeignReport:
        """Take what clients of other systems send: what rows hold for a feed, or for any where they
        say which.

        What a foreign row has no word for (as a user's `allow_hosted`) stays as it was. `notes`: as
        for events.
        """
        counted = notes or Notes()
        found = foreign.sorted_out(shape, feed, rows)
        rejected = self._report(feed or shape, 0, 0, found.rejected).rejected
        accepted = duplicates = 0
        counted.noticed.update(found.noticed)
        puts: dict[str, Callable[[Sequence[Any]], Awaitable[IngestReport]]] = {
            "items": partial(self._put_items, notes=counted),
            "users": partial(self._put_users, notes=counted, only={"attributes"}),
            "events": partial(self.ingest_events, notes=counted),
        }
        for name, put in puts.items():
            for batch in _batches([part for part in found.parts if part.feed == name]):
                async with self._changing if name != "events" else nullcontext():
                    report = await put(await self._renewed(shape, batch, counted))
                accepted, duplicates = accepted + report.accepted, duplicates + report.duplicates
                rejected = [
                    *rejected,
                    *(foreign.placed(batch[one.index], one) for one in report.rejected),
                ]
        return ForeignReport(
            accepted=accepted,
            duplicates=duplicates,
            rejected=foreign.one_a_row(rejected),
            skipped=found.skipped,
            warnings=[] if notes else counted.sentences(),
        )

    async def _renewed(
        self, shape: Shape, batch: Sequence[foreign.FeedRow], notes: Notes
    ) -> list[dict[str, Any]]:
        """The rows of parts of one feed, over what is known of their items or users; no id is in
        there twice. An attribute that does not fit its declared type leaves what is known."""
        if batch[0].feed == "events":
            return [part.row for part in batch]
        ids = [part.key for part in batch]
        if batch[0].feed == "users":
            users = await self._store.users.known(ids)
            return [
                foreign.renewed(
                    shape, users[part.key].model_dump() if part.key in users else {}, part.row
                )
                for part in batch
            ]
        items = await self._catalog.get(ids)
        rows = [
            {**part.row, "attributes": self._catalog.fitted(part.row["attributes"], notes.misfit)}
            for part in batch
        ]
        return [
            foreign.renewed(shape, items[row["id"]].model_dump() if row["id"] in items else {}, row)
            for row in rows
        ]

    async def change_foreign(
        self,
        shape: Shape,
        feed: Literal["items", "users"],
        key: str,
        row: Callable[[Any], Any],
        fields: Set[str],
    ) -> ForeignReport:
        """Of a known item or user those of our `fields` that `row` of what is known says in foreign
        words."""
        async with self._changing:
            known = await (self.item(key) if feed == "items" else self.user(key))
            found = foreign.sorted_out(shape, feed, [row(known)])
            said = [
                {name: part.row[name] for name in fields & part.row.keys()} for part in found.parts
            ]
            rows = [known.model_dump() | one for one in said]
            report = await (
                self._put_items(rows) if feed == "items" else self._put_users(rows, only=fields)
            )
        rejected = self._report(feed, 0, 0, found.rejected).rejected
        return ForeignReport(
            accepted=report.accepted,
            duplicates=0,
            rejected=[*rejected, *report.rejected],
            skipped=0,
        )

    async def list_items(self, after: str, limit: int) -> list[Item]:
        """By id, those whose id comes after."""
        return await self._catalog.page(after, limit)

    async def list_users(self, after: str, limit: int) -> list[User]:
        """By id, those whose id comes after; visitors known by a session alone are none."""
        return await self._store.users.page(after, limit)

    async def list_events(self, user_id: str, after: int, limit: int) -> list[tuple[int, Event]]:
        """A user's events as they arrived, each with its place in the log."""
        await self.user(user_id)
        return await self._store.events.page(user_id, after, limit)

    async def list_last_said(
        self,
        after: int,
        limit: int,
        *,
        until: int,
        kind: str | None = None,
        user_id: str | None = None,
    ) -> tuple[list[tuple[int, Event]], int | None]:
        """What users last said of items, and the place in the log to go on from. `kind`: a type in
        any spelling; `until`: the `end_of_log` when the walk began."""
        wanted = foreign.label(kind) if kind is not None else None
        return await self._store.events.latest_per_item(
            after, limit, until=until, who=user_id, kind=wanted
        )

    async def end_of_log(self) -> int:
        """The place of the last event."""
        return await self._store.events.length()

    async def unsay(self, user_id: str, item_id: str, kind: str | None = None) -> int:
        """Take what a user said of an item out of the log; returns how many events. Popularity
        stays as it is."""
        return await self._store.events.remove(
            user_id, item_id, foreign.label(kind) if kind is not None else None
        )

    async def forget(self, user_id: str) -> None:
        """Delete what a user declared and did, and what they were shown. Popularity, which names
        nobody, stays as it is."""
        await self._settled()
        async with self._changing:
            known = await self._store.forget(user_id)
        if not known:
            raise NotFound("user", user_id)

    def _report(
        self,
        feed: str,
        accepted: int,
        duplicates: int,
        rejected: list[Rejection],
        warnings: Sequence[str] = (),
    ) -> IngestReport:
        for outcome, count in (
            ("accepted", accepted),
            ("duplicate", duplicates),
            ("rejected", len(rejected)),
        ):
            self.telemetry.events.labels(feed, outcome).inc(count)
        return IngestReport(
            accepted=accepted, duplicates=duplicates, rejected=rejected, warnings=list(warnings)
        )

    async def item(self, item_id: str) -> Item:
        found = await self._catalog.get([item_id])
        if item_id not in found:
            raise NotFound("item", item_id)
        return found[item_id]

    async def items(self, ids: Iterable[str]) -> dict[str, Item]:
        """The known ones of many ids."""
        return await self._catalog.get(ids)

    async def delete_item(self, item_id: str) -> None:
        async with self._changing:
            known = await self._catalog.delete(item_id)
        if not known:
            raise NotFound("item", item_id)

    async def user(self, user_id: str) -> User:
        found = await self._store.users.get(user_id)
        if found is None:
            raise NotFound("user", user_id)
        return found[0]

    async def patch_user(self, user_id: str, change: UserPatch) -> User:
        async with self._changing:
            user = await self._store.users.patch(user_id, change)
        if user is None:
            raise NotFound("user", user_id)
        return user

    async def state(self, user_id: str) -> UserState:
        """A user as a ranking would see them now."""
        await self.user(user_id)
        request = RecommendRequest(user_id=user_id)
        return await self._state(request, self._plan(request))

    async def export(
        self, user_id: str
    ) -> AsyncGenerator[User | Event | LoggedRanking | ShadowRanking, None]:
        """All that is stored of a user: what they declared, what they did as it arrived, what they
        were shown, by time, and what a shadow model made of it.

        Who is unknown is refused here, before there is anything to iterate over.
        """
        user = await self.user(user_id)
        await self._settled()
        return self._stored(user)

    async def _stored(
        self, user: User
    ) -> AsyncGenerator[User | Event | LoggedRanking | ShadowRanking, None]:
        yield user
        place, last = 0, None
        while events := await self._store.events.page(user.user_id, place, PAGE):
            for _, event in events:
                yield event
            place = events[-1][0]
        while shown := await self._store.rankings.page(user.user_id, last, PAGE):
            for last in shown:
                yield last
        place = 0
        while beside := await self._store.shadows.page(place, PAGE, who=user.user_id):
            for one in beside:
                yield ShadowRanking(alias=one.alias, ranking=one.shadow)
            place = beside[-1].seq

    async def ranking(self, ranking_id: str) -> Ranking:
        """A ranking as it was shown."""
        found = await self._store.rankings.get(ranking_id)
        if found is None:
            raise NotFound("ranking", ranking_id)
        return found

    # ── who may call ──────────────────────────────────────────────────────────────────────────────

    async def caller(self, given: bytes) -> ApiKey:
        """Whose key that is as of now; while there is none at all, everybody may do everything.
        Raises `Unauthorized`.

        What this task asks of models from then on is on that key's account.
        """
        key = await self._caller(given)
        PAYER.set(key)
        return key

    async def _caller(self, given: bytes) -> ApiKey:
        own = self.settings.api_key
        if own is not None and hmac.compare_digest(given, own.get_secret_value().encode()):
            return OWNER
        found = await self._store.keys.find(given.decode(errors="replace"), self._clock())
        if found is not None:
            return found
        if own is None and not await asyncio.to_thread(self._store.keys.exist):
            return ANYONE
        raise Unauthorized("a valid key is needed: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")

    # ── looking inside ────────────────────────────────────────────────────────────────────────────

    def prompts(self) -> list[Prompt]:
        return list(self._prompts.all().values())

    async def preview(
        self, request: RecommendRequest, task: PreviewTask, model: str | None = None
    ) -> Preview:
        """What a model (an alias; else the task's own) would be shown for this request; it is not
        asked.

        Of the task `score` that are two texts: what a likelihood is told after, and the titles
        whose likelihood it is. Raises `BadRequest` where the model can't be asked for this task,
        `PromptError` where a template fails.
        """
        alias = model or self._alias_for(task, request)
        if alias not in self.settings.models:
            raise NotFound("model", alias, param="model", known=", ".join(self.settings.models))
        if task != "score" and self.settings.models[alias].backend == "local":
            raise BadRequest(
                f"model {alias!r} tells likelihoods only: it is shown something for the task score",
                param="model",
            )
        fields = {"model": alias, **({"strategy": "likelihood"} if task == "score" else {})}
        plan = self._checked(request if task == "explain" else request.model_copy(update=fields))
        person = await self._state(request, plan)
        prompt = plan.context.prompt
        if task != "rank":
            locale = request.locale or (person.locale if task == "explain" else None)
            prompt = self._prompts.find(task, plan.domain, locale)
        outside = self._leaves(alias)
        if not self._may_see(alias, person):
            return Preview(prompt.ref, [], None, alias, outside)
        if task == "score":
            messages = await self._scored_texts(plan, person, prompt, alias)
        else:
            messages = prompt.render(await self._shown(plan, person, task, alias))
        if outside:
            messages = [_changed(message, self._net) for message in messages]
        tokenizer = self.settings.weights_path(alias) / "tokenizer.json"
        tokens = await asyncio.to_thread(count_tokens, messages, tokenizer)
        return Preview(
            prompt.ref,
            messages,
            tokens,
            alias,
            outside,
            counted(one["content"] for one in messages),
        )

    def _alias_for(self, task: PreviewTask, request: RecommendRequest) -> str:
        """The model that a task is given to. Raises `BadRequest` where no model has its role."""
        roles = self.settings.roles
        aliases = {
            "rank": self._asked(request),
            "explain": roles.explain,
            "score": self._scoring(request),
        }
        alias = aliases[task]
        if alias is None:
            raise BadRequest(
                f"roles.{task} names no model: none would be shown anything", param="model"
            )
        return alias

    async def _scored_texts(
        self, plan: Plan, person: UserState, prompt: Prompt, alias: str
    ) -> list[Message]:
        """What `Likelihood` makes of a person and the candidates of one window, in prior order."""
        chosen = await self._candidates(plan, person)
        chosen = [chosen[place] for place in slots(chosen, plan.context)]
        if self._leaves(alias):
            person, chosen, _ = (await self._over(plan.request, person)).over(person, chosen, None)
        line_tokens = plan.context.line_tokens
        head, lines = prompt.document(person, plan.context.titles, line_tokens)
        titles = [prompt.line(candidate.item, line_tokens) for candidate in chosen]
        return [
            {"role": "history", "content": head + "".join(lines.values())},
            {"role": "titles", "content": "\n".join(titles)},
        ]

    async def _shown(
        self, plan: Plan, person: UserState, task: Literal["rank", "explain"], alias: str
    ) -> dict[str, Any]:
        """What a task's prompt is made of; of several alike, the first."""
        request, candidates = plan.request, await self._candidates(plan, person)
        line_tokens, locale = plan.context.line_tokens, request.locale or person.locale
        step = next((one for one in plan.ladder if one.name in ASKING), None)
        window = [candidates[place] for place in slots(candidates, plan.context)]
        window = (
            window[:: max(1, -(-len(window) // plan.context.window))]
            if step is None or step.in_letters
            else window[:1]
        )
        order = "order" if self._held(alias).grammar else "order as JSON"
        answer = ANSWERS.get(step.name, order) if step is not None else order
        chosen, instruction = (
            window if task == "rank" else candidates[: request.top_n],
            request.instruction,
        )
        if self._leaves(alias):
            person, chosen, instruction = (await self._over(request, person)).over(
                person, chosen, instruction
            )
        if task == "rank":
            return variables(
                person,
                chosen,
                instruction=instruction,
                locale=locale,
                line_tokens=line_tokens,
                answer=answer,
            )
        top, moved, attribution = (
            self.settings.explain.top,
            explain.Attribution(),
            self._attribution(plan, person),
        )
        if attribution is not None and not self._leaves(
            attribution.scorer.alias
        ):  # who only looks sends nothing
            until = plan.context.deadline
            moved = await attribution.moved(
                person, chosen[:top], line_tokens=line_tokens, until=until
            )
        found = explain.material(
            person,
            chosen,
            top=top,
            line_tokens=line_tokens,
            moved=moved,
            instruction=instruction,
            locale=locale,
            held=self._held(alias),
        )
        return (
            found[0]
            if found
            else variables(
                person, [], instruction=instruction, locale=locale, line_tokens=line_tokens
            )
        )

    async def readiness(self, seconds: float = 5) -> dict[str, Any]:
        """Each part with `ok` and, where it is not, why. Only store and catalogue are needed to
        answer; each part is given `seconds`."""
        aliases = self._in_use()
        wrong = await asyncio.gather(*(self._unready(alias, seconds) for alias in aliases.values()))
        parts = {
            "store": await part(self._read_store(), seconds),
            "catalog": await part(self._read_catalog(), seconds),
            "collaborative": await part(self._trained(), seconds),
            "disk": await part(self._disk(), seconds),
            "upkeep": await part(self._kept_up(), seconds),
        }
        self._note(parts)
        models = zip(aliases.items(), wrong, strict=True)
        return parts | {
            f"model:{role}": self._model_part(role, alias, why) for (role, alias), why in models
        }

    def _in_use(self) -> dict[str, str]:
        """Aliases by what they are there for."""
        standing_in = {f"fallback[{n}]": alias for n, alias in enumerate(self.settings.fallback)}
        shadow = (
            {"shadow": self.settings.shadow.model} if self.settings.shadow.model is not None else {}
        )
        return {**self.settings.roles.model_dump(exclude_none=True), **standing_in, **shadow}

    async def _read_store(self) -> dict[str, Any]:
        await asyncio.to_thread(self._store.check)
        return {}

    async def _read_catalog(self) -> dict[str, Any]:
        await self._catalog.health.examine()
        backlog = await self._catalog.backlog.count()
        self.telemetry.backlog.set(backlog)
        return {
            "items": await self._catalog.count(),
            "dimension": self._catalog.dimension,
            "embedding_backlog": backlog,
        }

    async def _disk(self) -> dict[str, Any]:
        """Of the disks that hold the data, the fuller one. Raises `DiskFull` for one that is nearly
        full, and while the last write was refused."""
        folders = self.settings.data, self._store.folder
        free = min([await asyncio.to_thread(_free_bytes, folder) for folder in folders])
        for refused in (self._store.full, self._catalog.full):
            if refused is not None:
                raise refused
        if free < LEAST_FREE:
            raise DiskFull(
                f"{free >> 20} MB are free for {self.settings.data}; below {LEAST_FREE >> 20} "
                f"writes may fail"
            )
        return {"free_mb": free >> 20}

    async def _kept_up(self) -> dict[str, Any]:
        """Raises what ended the last round of work in the background."""
        if self._catalog.failing is not None:
            raise self._catalog.failing
        return {}

    def _note(self, parts: Mapping[str, Mapping[str, Any]]) -> None:
        """What is wrong goes to the log once, and so does that it is right again."""
        for name, found in parts.items():
            why = found.get("why", "")
            if why != self._noted.get(name, ""):
                log = self.telemetry.log.error if why else self.telemetry.log.info
                log("part_not_ready" if why else "part_ready", part=name, why=why)
            self._noted[name] = why

    async def _unready(self, alias: str, seconds: float) -> str:
        """Why a model can't do its part, empty if it can. One that costs money isn't asked for
        that, but remembered."""
        model = self.settings.models[alias]
        if not model.costs:
            return await self.wrong(alias, seconds)
        if alias not in self._probes.known:
            return f"no answer yet: 'whyrank models probe {alias}' asks it"
        return "resting after failures" if self._scorers[alias].resting else ""

    def _model_part(self, role: str, alias: str, wrong: str) -> dict[str, Any]:
        """A model that answers isn't ready for a role whose work it can't do."""
        able = self._probes.known.get(alias)
        if not wrong and able and not self._fits(role, able):
            wrong = f"no_capability: it lacks what this role needs (whyrank models probe {alias})"
        shown = {"capabilities": able.model_dump(mode="json")} if able else {}
        return {"ok": not wrong, "alias": alias, **shown, **({"why": wrong} if wrong else {})}

    def _fits(self, role: str, able: Capabilities) -> bool:
        if role != "rank":
            return able.prompt_logprobs if role == "score" else True
        asked = self.settings.rank.strategy
        names = [*self.settings.rank.prefer] if asked == "auto" else [asked]
        return any(name == "prior" or (name in ASKING and NEEDS[name](able)) for name in names)

    async def _trained(self) -> dict[str, Any]:
        """What the collaborative source knows; nothing is wrong before anybody liked enough for a
        training."""
        last = await self._store.trainings.latest()
        if last is None:
            return {"trained_at": None, "events": 0, "items": 0}
        return {
            "trained_at": last.trained_at.isoformat(),
            "events": last.events,
            "items": last.items,
        }

    async def metrics(self) -> bytes:
        """In Prometheus' text format; the backlog as it was last told where the catalogue can't be
        read."""
        with suppress(StorageError):
            self.telemetry.backlog.set(await self._catalog.backlog.count())
        return self.telemetry.exposition()

    async def probe(
        self, alias: str, *, anew: bool = False, seconds: float = PROBE_S
    ) -> Capabilities:
        """What a model can do; asked of it once, and again after it changed. Raises a `ModelError`
        if it gives no answer."""
        found = await self._probes.of(alias, anew=anew, seconds=seconds)
        self._pace.expect(alias, found.read_tps, found.write_tps)
        return found

    async def wrong(self, alias: str, seconds: float = 5) -> str:
        """What keeps a model from answering within so many seconds; empty if nothing."""
        try:
            async with asyncio.timeout(seconds):
                await self.probe(alias, seconds=seconds)
                await self._probes.answers(alias)
        except TimeoutError:
            return f"timeout: no answer within {seconds:g} s"
        except ModelError as error:
            return f"{error.code}: {error.message}"
        return ""

    # ── life ──────────────────────────────────────────────────────────────────────────────────────

    async def prepare(self) -> None:
        """Before the first request: read of store and catalogue what a request would, and load what
        it would wait for. Raises a `StorageError` or `ConfigError` for what is damaged."""
        await asyncio.to_thread(self._store.check)
        await self._catalog.health.examine()
        with suppress(ModelError):  # an embedder outside may be away
            await self._catalog.embedder.embed_one("a first text")
        await asyncio.to_thread(load_client)
        await asyncio.to_thread(retrieve.load_bm25)

    async def work(self) -> None:
        """Embed, tidy, train and probe in the background until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for alias in self._scorers.keys() & self._needed():
                tasks.create_task(self._keep_probed(alias))
            tasks.create_task(self._keep_trained())
            tasks.create_task(
                self._catalog.work(
                    self.settings.catalog.optimize_every_s,
                    failed=lambda error: self.telemetry.log.error(
                        "catalog_work_failed", error=repr(error)
                    ),
                )
            )

    def _needed(self) -> set[str]:
        """Models that cost neither money nor this process's memory, and of the others those that
        have something to do."""
        models, roles = self.settings.models, self.settings.roles.model_dump(exclude_none=True)
        free = {
            alias for alias, model in models.items() if not model.costs and model.backend != "local"
        }
        return free | {
            *roles.values(),
            *self.settings.fallback,
            *filter(None, [self.settings.shadow.model]),
        }

    async def _keep_probed(self, alias: str) -> None:
        """A model that comes back as another one, or came up after us, is probed when it is there;
        one that costs money and fails, ever more rarely."""
        told, failed = "", 0
        while True:
            try:
                found = await self.probe(alias)
                why = found.model_dump_json(exclude={"at", "read_tps", "write_tps"})
            except ModelError as error:
                found, why = None, f"{error.code}: {error.message}"
            except Exception as error:
                found, why = None, repr(error)
            if why != told:
                told = why
                log = self.telemetry.log.info if found else self.telemetry.log.warning
                log("model_probed" if found else "model_not_probed", alias=alias, found=why)
            failed = 0 if found else failed + 1
            await asyncio.sleep(
                PROBE_S * (2 ** min(failed, 6) if self.settings.models[alias].costs else 1)
            )

    async def _keep_trained(self) -> None:
        """A failure is logged and tried again a round later."""
        tried = 0
        while True:
            try:
                length = await self._store.events.length()
                if length > tried and await self._outgrown(length):
                    tried = length
                    await self.train()
            except Exception as error:
                tried = 0
                self.telemetry.log.error("training_failed", error=repr(error))
            await asyncio.sleep(self.settings.retrieve.training.every_s)

    async def _outgrown(self, length: int) -> bool:
        last = await self._store.trainings.latest()
        if last is None or last.made_with != self._made_with:
            return True
        return length >= last.events * (1 + self.settings.retrieve.training.growth)

    @property
    def _made_with(self) -> str:
        """A fingerprint of all that decides what a training makes of a log."""
        training = self.settings.retrieve.training.model_dump(exclude={"growth", "every_s"})
        meanings = sorted(self.settings.events.of(self.settings.service.domain).items())
        return sha256(repr((training, meanings)).encode()).hexdigest()[:16]

    async def train(self) -> int:
        """Learn from the whole log who likes what, off the event loop; returns how many items then
        have factors.

        With too few people or items to learn from nothing changes.
        """
        training = self.settings.retrieve.training
        meanings = self.settings.events.of(self.settings.service.domain)
        length, now = await self._store.events.length(), self._clock()
        rows = await self._store.events.opinions(
            [name for name, meaning in meanings.items() if meaning.weight]
        )
        found = await asyncio.to_thread(
            collaborative.train,
            ((who, item_id, meanings[kind].opinion(value)) for who, item_id, kind, value in rows),
            **training.model_dump(exclude={"growth", "every_s"}),
        )
        if found is None:
            return 0
        version = f"{micros(now):017d}-{uuid.uuid4().hex[:8]}"
        learned = Training(
            version,
            trained_at=now,
            gram=found.gram,
            alpha=training.alpha,
            regularization=found.regularization,
            events=length,
            items=len(found.items),
            made_with=self._made_with,
        )
        keeping = asyncio.create_task(self._keep(learned, found.items))
        self._tasks.add(keeping)
        keeping.add_done_callback(self._tasks.discard)
        return await asyncio.shield(keeping)  # half of it would pass for a whole one

    async def _keep(self, learned: Training, factors: Mapping[str, Any]) -> int:
        await self._store.trainings.add(learned)
        count = await self._catalog.put_factors(learned.version, factors)
        await self._store.trainings.forget_old()
        return count

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> tuple[Any, int]:
        """Unit vectors, shape [len(texts), dimension], of texts or their token ids; and how many
        tokens were read."""
        if len(texts) > (most := self.settings.limits.inputs):
            raise BadRequest(f"input: at most {most} (limits.inputs)", param="input")
        return await self._catalog.embedder.counted(texts)

    @property
    def embedding(self) -> str:
        """The embedder's name: whoever has another is in another space."""
        return self._catalog.embedder.name

    @property
    def dimension(self) -> int:
        return self._catalog.dimension

    async def embed_pending(
        self, step: Callable[[int, int], None] = lambda done, total: None
    ) -> int:
        """Embed now what is waiting, then tidy: for loads that a person waits for."""
        count = await self._catalog.backlog.embed(step)
        await self._catalog.indexes.tidy()
        return count

    async def re_index(self) -> list[str]:
        """Make the indexes of the items anew; returns the columns that have one."""
        return await self._catalog.indexes.remake()

    async def reloaded(self, settings: Settings) -> Recommender:
        """Another one by these settings, on the same store and catalogue, with those models that
        stay as they are. Raises `ConfigError` for what needs a restart, and for a model that can't
        be had."""
        if fixed := [
            key for key in self.settings.differing(settings) if not key.startswith(RELOADABLE)
        ]:
            raise ConfigError(
                f"{', '.join(fixed)}: can't be changed without a restart", param=fixed[0]
            )
        same = {
            alias
            for alias, model in settings.models.items()
            if self.settings.models.get(alias) == model
        }
        for alias in self._opened.keys() - same:
            self._pace.forget(alias)
        kept = {alias: model for alias, model in self._opened.items() if alias in same}
        writing = {alias: model for alias, model in kept.items() if isinstance(model, LLM)}
        local = {alias: model for alias, model in kept.items() if alias not in writing}
        return Recommender(
            settings,
            store=self._store,
            catalog=self._catalog,
            prompts=self._prompts,
            llms=_opened(settings, self.telemetry, writing),
            scorers={**_in_process(settings, self.telemetry), **local},
            telemetry=self.telemetry,
            clock=self._clock,
            pace=self._pace,
        )

    async def leave_to(self, successor: Recommender) -> None:
        """Finish, and close the models that the successor doesn't have."""
        await self._shadowing.close()
        await self._settled()
        for alias, model in self._opened.items():
            if successor._opened.get(alias) is not model:
                await self._scorers[alias].close()

    async def close(self) -> None:
        await self._shadowing.close()
        await self._settled()
        for model in self._scorers.values():
            await model.close()
        await self._catalog.close()
        self._store.close()


async def part(reading: Awaitable[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """`ok` and what was read of a part; or why it could not be, within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return {"ok": True, **await reading}
    except TimeoutError:
        return {"ok": False, "why": f"no answer within {seconds:g} s"}
    except WhyrankError as error:
        return {"ok": False, "why": error.message}
    except Exception as error:  # whatever is wrong with it: who asks what works needs an answer
        return {"ok": False, "why": repr(error)}


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class RedactedEmbedder:
    """An embedder outside, behind the net. Token ids are the caller's own and go as they came."""

    def __init__(self, embed: RemoteEmbedder, net: PatternRedactor) -> None:
        self._embed = embed
        self._net = net
        self.name = embed.name
        self.loaded = embed.loaded
        self.dimension = embed.dimension
        self.close = embed.close

    async def embed(self, texts: Sequence[str]) -> Any:
        return await self._embed.embed([*map(self._net, texts)])

    async def embed_one(self, text: str) -> Any:
        return await self._embed.embed_one(self._net(text))

    async def counted(self, texts: Sequence[str | Sequence[int]]) -> tuple[Any, int]:
        return await self._embed.counted(
            [self._net(text) if isinstance(text, str) else text for text in texts]
        )


@dataclass(frozen=True)
class Preview:
    """`tokens`: of the messages' text by the model's own tokenizer; None where that is not on this
    machine. `leaves`: is the model outside? Then `redacted` counts by kind what was taken out, and
    there is no message for a person it may not see."""

    prompt: PromptRef
    messages: list[Message]
    tokens: int | None
    model: str
    leaves: bool = False
    redacted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A request with everything that configuration decides about it."""

    request: RecommendRequest
    settings: Settings
    domain: str
    meanings: Mapping[str, Meaning]
    asked: str
    ladder: list[Strategy]
    weights: Weights
    context: Context

    def wanted(self, person: UserState, taste: UserFactors | None) -> retrieve.RetrievalQuery:
        """What to look for, given what the person has seen; a list the caller gives is ranked
        whole."""
        request, sources = self.request, self.settings.retrieve
        exclude = frozenset(request.exclude)
        given = [item_id for item_id in request.candidates or () if item_id not in exclude]
        if request.candidates is not None:
            scope = Scope(only=frozenset(given))
        else:
            scope = Scope(
                exclude=exclude | person.seen | frozenset(request.context_items),
                filters=request.filters,
            )
        return retrieve.RetrievalQuery(
            k=len(given) if request.candidates is not None else max(sources.k, request.top_n),
            weights=self.weights.sources,
            scope=scope,
            given=given if request.candidates is not None else None,
            instruction=request.instruction,
            context_items=request.context_items,
            taste=taste,
            avoid=person.avoid | frozenset(request.avoid),
            popularity=bool(self.weights.popularity),
            vectors=bool(self.weights.diversity),
        )

    def for_documents(self, count: int, line_tokens: int) -> Plan:
        """The same with so many documents that say something as candidates; blank ones can't be
        lifted by anything, and for one no model is asked."""
        line_tokens = min(line_tokens, self.settings.rerank.line_tokens)
        context = replace(
            self.context, depth=min(self.context.depth, count), line_tokens=line_tokens
        )
        ladder = self.ladder if count > 1 else []
        return replace(
            self,
            ladder=ladder,
            context=context,
            weights=self.weights.model_copy(update={"popularity": 0}),
        )

    def signals(self, order: Order) -> list[dict[str, float | bool]]:
        """The raw values behind each score; with `explain: full` also each source's rank."""
        full = self.request.explain == "full"
        return [
            {
                **signals,
                **(
                    {f"source.{name}": float(rank) for name, rank in candidate.sources.items()}
                    if full
                    else {}
                ),
            }
            for candidate, signals in zip(order.candidates, order.signals, strict=True)
        ]


def _unable(step: Strategy) -> UnavailableStrategy:
    return UnavailableStrategy(
        step, ModelIncapable(f"{step.model} can't do what {step.name} needs")
    )


def _veil(settings: Settings, net: PatternRedactor) -> Redaction:
    privacy = settings.privacy
    shown = (
        settings.catalog.filterable if privacy.item_attributes is None else privacy.item_attributes
    )
    return Redaction(
        net, frozenset(shown), frozenset(privacy.user_attributes), tuple(privacy.names)
    )


def _changed(message: Message, before: Callable[[str], str]) -> Message:
    return {**message, "content": before(message["content"])}


TOLD = "told"
"""Whoever did what came with a question: those events are in no log."""


def _listed(names: Sequence[object]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more


def _says(item: Item) -> bool:
    return bool(item.title.strip() or item.text.strip() or item.attributes)


def _named_for(item: Item) -> str:
    return f"document-{sha256(words_of(item).encode()).hexdigest()[:16]}"


def _unread(
    plan: Plan,
    ranking: Ranking,
    documents: Sequence[Item],
    candidates: Sequence[Candidate],
    unembedded: int,
) -> list[str]:
    """What of the documents was not looked at, in words."""
    places = {item.id: place for place, item in enumerate(documents)}
    depth, size, said = plan.context.depth, plan.context.line_tokens, sum(map(_says, documents))
    judged = {one.item.id for one in candidates[:depth]} if ranking.model is not None else set()
    cut = [
        item
        for item in documents
        if len(item.text) > READ or (item.id in judged and len(shown_of(item)) > size)
    ]
    found = []
    if judged and depth < said:
        found.append(
            f"a model judged {depth} of {said} documents (rank.depth); the others follow in the "
            f"prior's order"
        )
    if cut:
        what = f"{READ} characters" + (
            f", of those shown to a model {size} tokens (rerank.line_tokens)" if judged else ""
        )
        found.append(
            f"cut to the first {what}: documents {_listed([places[item.id] for item in cut])}"
        )
    if unembedded:
        found.append(
            f"no time to embed {unembedded} of {said} documents: only their words count; raise "
            f"deadline_ms"
        )
    return found


class Stopwatch:
    """Times the parts of a request."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._marks: dict[str, float] = {}

    def mark(self, name: str) -> None:
        now = time.perf_counter()
        self._marks[name] = round((now - self._last) * 1000, 2)
        self._last = now

    def timings(self) -> Timings:
        return Timings(total_ms=round((time.perf_counter() - self._start) * 1000, 2), **self._marks)


def _with(ranking: Ranking, parts: Sequence[Reason | explain.Explained]) -> Ranking:
    """The ranking with its reasons, and with what they cost."""
    items, usage, degraded = list(ranking.items), ranking.usage, ranking.degraded
    for part in parts:
        if isinstance(part, explain.Explained):
            usage, degraded = usage + part.usage, degraded or part.degraded
        else:
            old = items[part.rank - 1]
            signals = {**old.signals, "grounded": part.grounded}
            told = part.model_dump(include={"reason", "evidence", "attribution"})
            items[part.rank - 1] = old.model_copy(update={**told, "signals": signals})
    return ranking.model_copy(update={"items": items, "usage": usage, "degraded": degraded})


async def _billed(
    parts: AsyncGenerator[Reason | explain.Explained, None],
) -> AsyncGenerator[Reason | explain.Explained, None]:
    """The parts; the usage of the whole is that of all calls, of those that were broken off too."""
    bill, whole = list[Usage](), BILL.get()
    async with aclosing(parts):
        while True:
            token = BILL.set(
                bill
            )  # not from part to part: whoever gets them has calls of their own
            try:
                part = await anext(parts, None)
            finally:
                BILL.reset(token)
            if part is None:
                break
            yield (
                replace(part, usage=sum(bill, Usage()))
                if isinstance(part, explain.Explained)
                else part
            )
    if whole is not None:
        whole += bill


def _beside(made: Ranking, shown: Ranking, top_n: int) -> Ranking:
    """Of a shadow's whole order what it would have shown, and where it places what was shown."""
    known = {item.item_id for item in shown.items}
    items = [item for item in made.items if item.rank <= top_n or item.item_id in known]
    return made.model_copy(update={"ranking_id": shown.ranking_id, "items": items})


async def _last(parts: AsyncGenerator[Ranking | Reason, None]) -> Ranking:
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Ranking):
                ranking = part
    return ranking


def _batches(parts: Sequence[foreign.FeedRow]) -> Iterator[list[foreign.FeedRow]]:
    """Parts of one feed, `CHUNK` at a time; of an item or user that comes again the next change
    follows in the next batch."""
    batch: list[foreign.FeedRow] = []
    keys: set[str] = set()
    for part in parts:
        if len(batch) == CHUNK or part.key in keys:
            yield batch
            batch, keys = [], set()
        batch.append(part)
        keys |= {part.key} - {""}
    if batch:
        yield batch


async def build(
    settings: Settings,
    *,
    llms: Mapping[str, LLM] | None = None,
    scorers: Mapping[str, Scorer] | None = None,
    prompts: Path = HOUSE / "prompts",
    re_embed: bool = False,
) -> Recommender:
    """A recommender on the real store, catalogue, embedder and models. Raises `ConfigError` naming
    what is missing.

    `re_embed`: vectors of another embedder are dropped, to be made anew, instead of being refused.
    """
    telemetry = Telemetry()
    library = PromptLibrary(
        prompts, failed=lambda message: telemetry.log.error("prompt_not_reloaded", error=message)
    )
    store = await asyncio.to_thread(open_store, settings)
    embed = await embedder_of(settings)
    try:
        catalog = await open_catalog(settings, embed, re_embed=re_embed)
    except WhyrankError:
        await embed.close()
        raise
    return Recommender(
        settings,
        store=store,
        catalog=catalog,
        prompts=library,
        llms=llms if llms is not None else _opened(settings, telemetry),
        scorers=scorers if scorers is not None else _in_process(settings, telemetry),
        telemetry=telemetry,
    )


async def open_catalog(settings: Settings, embed: Embeds, *, re_embed: bool = False) -> Catalog:
    """The catalogue alone, for what needs nothing else."""
    return await Catalog.open(
        settings.data / "catalog",
        embed=embed,
        filterable=settings.catalog.filterable,
        factors=settings.retrieve.training.factors,
        re_embed=re_embed,
    )


def open_store(settings: Settings) -> Store:
    """The store alone, for what needs nothing else."""
    meanings = settings.events.of(settings.service.domain)
    return Store(
        settings.store_url,
        weigh=lambda event: state.opinion(event, meanings),
        half_life_days=settings.retrieve.popular_half_life_days,
        meaning=repr(sorted(meanings.items())),
    )


def guard(settings: Settings) -> None:
    """Raises `ConfigError` for an address that others can reach while nobody needs a key."""
    if settings.service.loopback or settings.api_key is not None:
        return
    with closing(open_store(settings)) as store:
        if not store.keys.exist():
            raise ConfigError(
                f"service.host {settings.service.host} is reachable from outside: "
                "make a key ('whyrank keys create'), set WHYRANK_API_KEY, or bind 127.0.0.1",
                param="service.host",
            )


_embedder = lru_cache(maxsize=1)(Embedder)
"""Recommenders of one process share it: an evaluation makes one for each of its settings, all on
the same embedder."""


async def embedder_of(settings: Settings) -> Embedder | RemoteEmbedder | RedactedEmbedder:
    """The embedder alone. Raises `ConfigError` if it can't be had."""
    embed = settings.embed
    if not embed.base_url:
        return await asyncio.to_thread(
            _embedder, settings.embedder_path, threads=embed.threads, batch=embed.batch
        )
    key = _secret(embed.api_key_env, "embed.api_key_env")
    found = await RemoteEmbedder.open(
        embed.base_url, embed.model, api_key=key, batch=embed.batch, timeout_s=embed.timeout_s
    )
    return (
        RedactedEmbedder(found, PatternRedactor(settings.privacy.phone_regions))
        if embed.leaves_the_house
        else found
    )


def _named(settings: Settings, backend: str) -> list[str]:
    return [alias for alias, model in settings.models.items() if model.backend == backend]


def _in_process(settings: Settings, telemetry: Telemetry) -> dict[str, Scorer]:
    """Those that can run here; without torch or without weights one is left out, and likelihoods
    with it."""
    found: dict[str, Scorer] = {}
    for alias in _named(settings, "local"):
        model, folder = settings.models[alias], settings.weights_path(alias)
        if importlib.util.find_spec("torch") is None:
            telemetry.log.warning(
                "model_left_out",
                alias=alias,
                why="backend local needs torch: pip install 'whyrank[engine]'",
            )
        elif not folder.exists():
            telemetry.log.warning(
                "model_left_out", alias=alias, why=f"no weights: whyrank models pull {model.model}"
            )
        else:
            found[alias] = _weights_in_process(alias, folder, model.threads, model.cache_mb)
    return found


@lru_cache(maxsize=4)
def _weights_in_process(alias: str, folder: Path, threads: int, cache_mb: int) -> Scorer:
    """Recommenders of one process share it."""
    return Local(alias, folder, threads=threads, cache_mb=cache_mb)


def _opened(
    settings: Settings, telemetry: Telemetry, kept: Mapping[str, LLM] | None = None
) -> dict[str, LLM]:
    """Those behind a URL or a provider. One that has work but can't be had is a `ConfigError`;
    another is left out."""
    needed = {
        *settings.roles.model_dump(exclude_none=True).values(),
        *settings.fallback,
        settings.shadow.model,
    }
    found: dict[str, LLM] = {}
    for alias in [
        *_named(settings, "vllm"),
        *_named(settings, "openai"),
        *_named(settings, "litellm"),
    ]:
        try:
            found[alias] = (kept or {}).get(alias) or _open(alias, settings, telemetry)
        except ConfigError as error:
            if alias in needed:
                raise
            telemetry.log.warning("model_left_out", alias=alias, why=error.message)
    return found


def _open(alias: str, settings: Settings, telemetry: Telemetry) -> LLM:
    model = settings.models[alias]
    key = _secret(model.api_key_env, f"models.{alias}.api_key_env")
    more: dict[str, Any] = {"api_key": key, "extra": model.extra, "context": model.context}
    if model.backend == "litellm":
        if importlib.util.find_spec("litellm") is None:
            raise ConfigError(
                f"models.{alias}: backend litellm needs LiteLLM: pip install 'whyrank[hosted]'"
            )
        warn = partial(telemetry.log.warning, "model_downgraded", alias=alias)
        return Hosted(
            alias,
            model=model.model,
            base_url=model.base_url,
            warn=lambda why: warn(why=why),
            **more,
        )
    kind = VLLM if model.backend == "vllm" else Compatible
    return kind(alias, model=model.model, base_url=model.base_url, **more)


def _secret(variable: str | None, where: str) -> str | None:
    """From the environment; None where no variable is named. An empty one is none."""
    if variable and not environ.get(variable):
        raise ConfigError(f"{where}: {variable} is not set in the environment")
    return environ[variable] if variable else None
