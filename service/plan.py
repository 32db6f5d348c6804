"""Plans a request: settles everything that configuration decides about it, and refuses bad requests
before any data is read."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from service.config import History, Settings, WeightByHistory, Weights, greatest
from service.context import CallContext
from service.errors import BadRequest, ModelIncapable, NotFound, check_limit
from service.llm import OutputConstraint
from service.models import Models
from service.prompts import Prompt, PromptLibrary
from service.rank import Context, GuardedStrategy, Ladder, Strategy
from service.rank.likelihood import KeptNulls, Likelihood
from service.rank.selection import SPECS, STRATEGIES, Option, choose, names_to_try
from service.retrieve import LearnedRanker
from service.schema import (
    FASTER,
    LONGEST_INSTRUCTION,
    NO_WISH,
    PRIOR,
    Filter,
    Meaning,
    RecommendRequest,
    RerankRequest,
    Wish,
)

FINISH_S = 0.25
"""Seconds of a deadline kept for the work after the model; at most a tenth of the deadline."""


@dataclass(frozen=True)
class Plan:
    """A request, with what configuration decides about it.

    `kind`: filters that every item of the domain meets. `shares`: by model, the weight of its
    scores against the prior. `retrieved`: how many candidates are retrieved if the request lists
    none. `rankers`: the learned rankers that order retrieved candidates, by the person's kind of
    history; a kind without one is ordered by the prior. `wish`: what the request asks for in words,
    once it is read.
    """

    request: RecommendRequest
    domain: str
    kind: Mapping[str, Filter]
    meanings: Mapping[str, Meaning]
    ladder: Ladder
    weights: Weights
    shares: Mapping[str, WeightByHistory]
    context: Context
    retrieved: int
    rankers: Mapping[History, LearnedRanker] = field(default_factory=dict)
    wish: Wish = NO_WISH

    def wishing(self, wish: Wish) -> Self:
        """The same plan for a request whose wish is read."""
        context = replace(self.context, wanted=wish.wanted, avoided=wish.avoided)
        return replace(self, wish=wish, context=context)

    @property
    def known(self) -> bool:
        """Whether the request names a user or a session."""
        return self.request.user_id is not None or self.request.session_id is not None

    def for_documents(self, count: int, line_tokens: int) -> Self:
        """The same plan for ranking `count` documents that have content. No model is asked if there
        is only one. Popularity gets no weight, so that blank documents stay last."""
        return replace(
            self,
            ladder=self.ladder if count > 1 else replace(self.ladder, steps=[]),
            context=replace(
                self.context, depth=min(self.context.depth, count), line_tokens=line_tokens
            ),
            weights=self.weights.model_copy(update={"popularity": 0}),
        )


class Planner:
    def __init__(
        self,
        settings: Settings,
        *,
        prompts: PromptLibrary,
        models: Models,
        nulls: KeptNulls,
        rankers: Mapping[str, Mapping[History, LearnedRanker]],
    ) -> None:
        self._settings = settings
        self._rankers = rankers
        self._prompts = prompts
        self._models = models
        self._nulls = nulls
        self._fitted = settings.fitted()
        self._strategies: dict[tuple[str, str, OutputConstraint], Strategy] = {}

    def plan(self, request: RecommendRequest, call: CallContext) -> Plan:
        """Plans a request. Raises `BadRequest` if it exceeds a limit or names an unknown strategy,
        `NotFound` for an unknown model or prompt."""
        limits = self._settings.limits
        check_limit("top_n", request.top_n, limits.top_n, "top_n")
        check_limit("candidates", len(request.candidates or ()), limits.candidates, "candidates")
        return self.unbounded(request, call)

    def plan_documents(
        self, request: RerankRequest, documents: int, call: CallContext
    ) -> tuple[Plan, list[str]]:
        """Plans the ranking of a caller's documents; also returns warnings about fields that were
        changed: the default model replaces one that isn't configured, and a query that is too long
        is cut. `documents`: how many have content."""
        model, warnings = request.model, list[str]()
        if model is not None and model not in self._models.names:
            warnings.append(
                f"model {model!r} is not configured here: the default answered; "
                f"known: {', '.join(self._models.names)}"
            )
            model = None
        if len(request.query) > LONGEST_INSTRUCTION:
            warnings.append(f"query: a model is shown its first {LONGEST_INSTRUCTION} characters")
        count, limit = len(request.documents), self._settings.rerank.line_tokens
        recommendation = RecommendRequest(
            user_id=request.user_id,
            session_id=request.session_id,
            top_n=min(request.top_n or count, count),
            instruction=request.query[:LONGEST_INSTRUCTION] if request.query.strip() else None,
            domain=request.domain,
            locale=request.locale,
            strategy=request.strategy,
            model=model,
            explain=request.explain,
            deadline_ms=request.deadline_ms,
            redact=request.redact,
        )
        line_tokens = min(request.line_tokens or limit, limit)
        plan = self.unbounded(recommendation, call).for_documents(documents, line_tokens)
        return plan, warnings

    def unbounded(self, request: RecommendRequest, call: CallContext) -> Plan:
        """Plans a request without checking the limits that apply to callers (`top_n`,
        `candidates`)."""
        settings, sizes = self._settings, self._settings.rank
        domain = request.domain or settings.service.domain
        prompt = self._prompt(request, domain)
        ladder = self._ladder(request, domain)
        alias = ladder.steps[0].model if ladder.steps else self.alias("rank", request)
        weights = self.weights(domain, alias)
        return Plan(
            request=request,
            domain=domain,
            kind=settings.catalog.scopes.get(domain, {}),
            meanings=settings.events.of(domain),
            ladder=ladder,
            weights=weights,
            shares={step.model: self._share(step.model, request, domain) for step in ladder.steps},
            context=Context(
                prompt,
                self._score_prompt(request, domain),
                self._deadline(request),
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
                call=call,
            ),
            retrieved=max(settings.retrieve.k, request.top_n),
            rankers=self._rankers.get(domain, {}),
        )

    def weights(self, domain: str, alias: str | None) -> Weights:
        """The fusion weights for a model: fitted if there are any, else as configured."""
        return self._fitted.get(f"{domain}.{alias}") or self._settings.configured(domain, alias)

    def _share(self, alias: str, request: RecommendRequest, domain: str) -> WeightByHistory:
        """Returns the share of a model's scores against the prior. If the request has an
        instruction, this is the greatest share fitted for any history or configured, since no log
        tells how well a model follows an instruction."""
        fitted = self.weights(domain, alias).model
        if request.instruction is None:
            return fitted
        return max(greatest(fitted), greatest(self._settings.configured(domain, alias).model))

    def alias(self, role: Literal["rank", "score"], request: RecommendRequest) -> str | None:
        """Returns the alias of the model that the request names, else of the model in `roles.rank`
        or `roles.score`; None if there is neither."""
        roles = self._settings.roles
        default = roles.rank if role == "rank" else roles.score
        return request.model if request.model in self._settings.models else default

    def _deadline(self, request: RecommendRequest) -> float:
        """The time of the event loop by which models must have answered."""
        seconds = (request.deadline_ms or self._settings.service.deadline_ms) / 1000
        return asyncio.get_running_loop().time() + seconds - min(FINISH_S, seconds / 10)

    def _prompt(self, request: RecommendRequest, domain: str) -> Prompt:
        if request.prompt_id:
            return self._prompts.named(request.prompt_id, request.prompt_version)
        prompt = self._prompts.find("rank", domain, request.locale)
        if request.prompt_version not in (None, prompt.ref.version):
            raise NotFound(
                "prompt", f"{prompt.ref.id} {request.prompt_version}", param="prompt_version"
            )
        return prompt

    def _score_prompt(self, request: RecommendRequest, domain: str) -> Prompt | None:
        """The template for log-likelihoods; None if the caller's own prompt folder has none."""
        try:
            return self._prompts.find("score", domain, request.locale)
        except NotFound:
            return None

    def _ladder(self, request: RecommendRequest, domain: str) -> Ladder:
        asked = self._asked(request)
        if asked == "prior":
            return Ladder([], asked)
        names = names_to_try(asked, self._settings.rank.prefer, fast=request.model == FASTER)
        chosen = choose(
            asked,
            names,
            [option for name in names for option in self._options(name, request, domain)],
        )
        if asked not in {"auto", *(option.strategy for option in chosen)}:
            role = "score" if asked == "likelihood" else "rank"
            raise BadRequest(
                f"strategy {asked!r} needs a model (roles.{role}) and a prompt for it",
                param="strategy",
            )
        return Ladder([self._strategy(option, domain) for option in chosen], asked)

    def _asked(self, request: RecommendRequest) -> str:
        """The strategy that the request or configuration names. Raises `BadRequest` for an unknown
        strategy, `NotFound` for an unknown model."""
        asked = request.strategy or self._settings.rank.strategy
        if asked not in STRATEGIES:
            raise BadRequest(
                f"strategy {asked!r}: this build has {', '.join(STRATEGIES)}", param="strategy"
            )
        if request.model == PRIOR:
            return "prior"
        if request.model is not None and request.model not in self._models.names:
            raise NotFound(
                "model", request.model, param="model", known=", ".join(self._models.names)
            )
        return asked

    def _options(self, name: str, request: RecommendRequest, domain: str) -> Iterable[Option]:
        """Yields an option for each model that may run the strategy `name`: the requested model,
        then the fallbacks. A model that was never probed counts as able."""
        models = self._models
        if name == "likelihood":
            score = self.alias("score", request) if self._score_prompt(request, domain) else None
            aliases = [score] if score in models.scorers else []
        else:
            asked = dict.fromkeys([self.alias("rank", request), *self._settings.fallback])
            aliases = [alias for alias in asked if alias in models.writers]
        for alias in aliases:
            able = models.capabilities(alias)
            can = able is None or SPECS[name].needs(able)
            yield Option(name, alias, can, models.constraint(alias).grammar)

    def _strategy(self, option: Option, domain: str) -> Strategy:
        """Makes the strategy of an option. Strategies that have a model write are cached across
        requests, with what they measured."""
        alias, weights = option.model, self.weights(domain, option.model)
        make, models = SPECS[option.strategy].make, self._models
        if make is None:
            strategy: Strategy = Likelihood(
                models.scorers[alias],
                weights.null,
                self._nulls,
                models.identity(alias),
            )
        else:
            held = models.constraint(alias)
            key = option.strategy, alias, held
            if key not in self._strategies:
                self._strategies[key] = make(models.writers[alias], held)
            strategy = self._strategies[key]
        why = ModelIncapable(f"{alias} can't do what {option.strategy} needs")
        return strategy if option.able else GuardedStrategy(strategy, why=why)
