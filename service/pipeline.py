"""The order of the work on a request: read the person's state from events, find candidates, rank
them, explain the ranking."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from service.candidates import Finder
from service.context import CallContext
from service.documents import DocumentReader, Documents
from service.explain import Explained
from service.explainer import Explainer
from service.observers import Observers
from service.people import People
from service.plan import Plan, Planner
from service.privacy import Views
from service.rank.fusion import Terms, fused_order
from service.rank.selection import SPECS
from service.ranker import Ranker, ranking_of
from service.retrieve import LearnedRanker, blank, falling, prior_of, unit, z_scores
from service.schema import (
    Candidate,
    Capabilities,
    Ranking,
    Reason,
    RecommendRequest,
    Reranked,
    RerankRequest,
    Understood,
    UserState,
    Wish,
)
from service.telemetry import Stopwatch
from service.wishes import WishReader

Answer = AsyncGenerator[Ranking | Reason, None]
"""Yields the ranking, then a reason for each item, then the ranking with all reasons."""


@dataclass(frozen=True)
class Stages:
    """The stages that a request passes."""

    planner: Planner
    people: People
    finder: Finder
    wishes: WishReader
    documents: DocumentReader
    ranker: Ranker
    explainer: Explainer


@dataclass(frozen=True)
class _Question:
    """The input of a ranking. `warnings`: about parts of the request that had no effect."""

    plan: Plan
    person: UserState
    views: Views
    candidates: Sequence[Candidate]
    warnings: Sequence[str]


class Recommender:
    """Ranks items or documents for one person, and explains the ranking. `build.build` makes it."""

    def __init__(self, stages: Stages, observers: Observers) -> None:
        self._stages = stages
        self._observers = observers

    async def recommend(
        self, request: RecommendRequest, call: CallContext | None = None
    ) -> Ranking:
        """Returns the ranking with its reasons: the last element that `stream` yields."""
        return await _last(await self.stream(request, call))

    async def stream(self, request: RecommendRequest, call: CallContext | None = None) -> Answer:
        """Returns an iterator that yields the ranking, then each reason, then the ranking with all
        reasons. Closing the iterator stops the model.

        Raises the errors of an invalid request when awaited, before iteration begins.
        """
        plan = self._stages.planner.plan(request, call or CallContext())
        watch = Stopwatch()
        person, views = await self._stages.people.read(plan)
        watch.mark("state_ms")
        reading = await self._stages.wishes.start(plan, views)
        candidates, wish = await self._stages.finder.find(plan, person, views, reading)
        plan = plan.wishing(wish)
        warnings = await self._stages.finder.warnings(plan, candidates)
        watch.mark("retrieve_ms")
        return self._answer(_Question(plan, person, views, candidates, warnings), watch)

    async def rerank(self, request: RerankRequest, call: CallContext | None = None) -> Reranked:
        """Ranks the caller's documents for a query, a person, or both. Each appears exactly once,
        blank ones last."""
        documents, question, unembedded, watch = await self._about(request, call)
        ranking = _relevant(await _last(self._answer(question, watch)))
        unread = documents.unread_warnings(question.plan, ranking, question.candidates, unembedded)
        places = documents.places
        return Reranked.model_construct(
            ranking=ranking,
            places=[places[item.item_id] for item in ranking.items],
            warnings=[*question.warnings, *unread],
        )

    async def rerank_stream(
        self, request: RerankRequest, call: CallContext | None = None
    ) -> Answer:
        """Ranks the caller's documents like `rerank`, and yields what `stream` yields."""
        _, question, _, watch = await self._about(request, call)
        return self._answer(question, watch)

    def check(self, request: RecommendRequest, call: CallContext) -> None:
        """Raises the errors that `recommend` raises before it reads any data."""
        self._stages.planner.plan(request, call)

    @staticmethod
    def doable(able: Capabilities) -> list[str]:
        """Names of the strategies that a model with these capabilities can run, cheapest first."""
        return [name for name, spec in SPECS.items() if spec.needs(able)]

    prior_of = staticmethod(prior_of)
    unit = staticmethod(unit)
    z_scores = staticmethod(z_scores)
    learned = staticmethod(LearnedRanker)

    @staticmethod
    def fuse(prior: Sequence[float], model: Sequence[float], share: float) -> list[int]:
        """Returns the candidates' places, best first, by their prior and the model's scores, fused
        as in every ranking. `share`: the model's weight. Evaluations use this to fit that
        weight."""
        return fused_order(prior, model, Terms(share))[0]

    async def _about(
        self, request: RerankRequest, call: CallContext | None
    ) -> tuple[Documents, _Question, int, Stopwatch]:
        """Reads the documents and prepares their ranking. Returns the documents, the input of the
        ranking, how many documents could not be embedded in time, and the running stopwatch."""
        documents = await self._stages.documents.read(request)
        spoken = documents.spoken
        plan, warnings = self._stages.planner.plan_documents(
            request, len(spoken), call or CallContext()
        )
        watch = Stopwatch()
        person, views = await self._stages.people.read(plan, request.history)
        watch.mark("state_ms")
        reading = await self._stages.wishes.start(plan, views)
        plan = plan.wishing(reading if isinstance(reading, Wish) else await reading)
        candidates, unembedded = await self._stages.finder.find_among(
            spoken, plan, person, views, plan.wish
        )
        candidates += map(blank, documents.blank)
        watch.mark("retrieve_ms")
        if not views.embedder.allowed:
            warnings.append(
                "this person is kept from the embedder outside (allow_hosted): of documents only "
                "their words count"
            )
        warnings += documents.blank_warning()
        question = _Question(plan, person, views, candidates, warnings)
        return documents, question, unembedded, watch

    async def _answer(self, question: _Question, watch: Stopwatch) -> Answer:
        plan, person, views = question.plan, question.person, question.views
        request, reasons = plan.request, list[Reason | Explained]()
        order = await self._stages.ranker.rank(plan, person, question.candidates, views)
        watch.mark("model_ms")
        ranking = ranking_of(order, plan, person, watch.timings(), request.top_n).model_copy(
            update={"warnings": [*question.warnings], "understood": _understood(plan)}
        )
        try:
            yield ranking
            if request.explain != "none":
                chosen = [one for one in order.candidates[: request.top_n] if not one.blank]
                explained = self._stages.explainer.explain(plan, person, chosen, views)
                async with aclosing(explained):
                    async for part in explained:
                        reasons.append(part)
                        if isinstance(part, Reason):
                            yield part
        finally:  # it was shown, also to somebody who did not wait for the end
            watch.mark("explain_ms")
            ranking = _justified(ranking, reasons).model_copy(update={"timings": watch.timings()})
            self._observers.shown(ranking, plan, person, question.candidates)
        yield ranking


def _relevant(ranking: Ranking) -> Ranking:
    """The ranking of documents with their relevances falling along it, as far as they were judged
    by words."""
    known = [row.signals.get("relevance") for row in ranking.items]
    if all(value is None for value in known):
        return ranking
    values = falling([float(value or 0.0) for value in known])
    rows = [
        row.model_copy(update={"signals": {**row.signals, "relevance": value}})
        for row, value in zip(ranking.items, values, strict=True)
    ]
    return ranking.model_copy(update={"items": rows})


def _understood(plan: Plan) -> Understood | None:
    """What the request's words were taken to ask for; None if it has none."""
    asks = plan.request.instruction or plan.request.understood
    return plan.wish.public() if asks else None


def _justified(ranking: Ranking, parts: Sequence[Reason | Explained]) -> Ranking:
    """Adds the reasons and the usage of explaining to a ranking."""
    items, usage, degraded = list(ranking.items), ranking.usage, ranking.degraded
    for part in parts:
        if isinstance(part, Explained):
            usage, degraded = usage + part.usage, degraded or part.degraded
        else:
            item = items[part.rank - 1]
            told = part.model_dump(include={"reason", "evidence", "attribution"})
            told["facts"] = part.facts
            told["signals"] = {**item.signals, "grounded": part.grounded}
            items[part.rank - 1] = item.model_copy(update=told)
    return ranking.model_copy(update={"items": items, "usage": usage, "degraded": degraded})


async def _last(answer: Answer) -> Ranking:
    async with aclosing(answer):
        rankings = [part async for part in answer if isinstance(part, Ranking)]
    return rankings[-1]
