"""Ranks candidates for a person by a plan. The pipeline uses it, and so does the shadow model,
which ranks a sample of requests again."""

import uuid
from collections.abc import Sequence
from dataclasses import replace

from service.config import Settings, at_history
from service.models import LatencyEstimator
from service.plan import Plan
from service.privacy import Views
from service.rank import GuardedStrategy, Ladder, Order, rank, reason_to_skip
from service.schema import Candidate, Ranked, Ranking, Timings, UserState

NO_SHARE = "a model adds nothing for people who liked so much or so little"
"""Why no model is asked: the share of each in the order is 0 for the person's number of likes."""


class Ranker:
    def __init__(self, settings: Settings, latency: LatencyEstimator) -> None:
        self._settings = settings
        self._latency = latency

    async def rank(
        self, plan: Plan, person: UserState, candidates: Sequence[Candidate], views: Views
    ) -> Order:
        """Orders all candidates. The order's usage sums all calls, including those that failed."""
        context = replace(plan.context, call=plan.context.call.part())
        ladder = self._ladder(plan, person, candidates, views)
        order = await rank(person, candidates, context, ladder, self._latency)
        return replace(order, usage=context.call.usage)

    def _ladder(
        self, plan: Plan, person: UserState, candidates: Sequence[Candidate], views: Views
    ) -> Ladder:
        """Adapts a plan's ladder to this person. It becomes empty if the strategy is `auto` and no
        model would help. A model outside gets redacted data, or is not called if the person forbids
        it."""
        ladder, sizes = plan.ladder, self._settings.rank
        likes = len(person.likes)
        shares = {alias: at_history(share, likes) for alias, share in plan.shares.items()}
        steps = [GuardedStrategy(step, views.of(step.model)) for step in ladder.steps]
        if ladder.asked == "auto":
            why = reason_to_skip(person, candidates, sizes.least_history, sizes.clear_prior)
            if why:
                return Ladder([], ladder.asked, why)
            useful = [step for step in steps if shares[step.model]]
            if steps and not useful:
                return Ladder([], ladder.asked, NO_SHARE)
            steps = useful
        return replace(ladder, steps=steps, shares=shares)


def ranking_of(
    order: Order, plan: Plan, person: UserState, timings: Timings, top_n: int
) -> Ranking:
    """Makes the `Ranking` that is shown: the first `top_n` of an order."""
    full = plan.request.explain == "full"
    return Ranking(
        ranking_id=f"rk-{uuid.uuid4().hex}",
        items=[
            Ranked(
                rank=place + 1,
                item_id=candidate.item.id,
                score=order.scores[place],
                title=candidate.item.title,
                signals={
                    **order.signals[place],
                    **_relevance(candidate),
                    **(_by_source(candidate) if full else {}),
                },
                item=candidate.item,
            )
            for place, candidate in enumerate(order.candidates[:top_n])
        ],
        strategy=order.strategy,
        model=order.model,
        prompt=order.prompt,
        choice=order.choice,
        state_version=person.version,
        profile_source=person.source,
        degraded=order.degraded,
        repairs=order.repairs,
        usage=order.usage,
        timings=timings,
    )


def _relevance(candidate: Candidate) -> dict[str, float]:
    return {} if candidate.relevance is None else {"relevance": round(candidate.relevance, 7)}


def _by_source(candidate: Candidate) -> dict[str, float]:
    """Returns signals of a candidate by name: its rank (`source.…`) and score (`score.…`) in each
    source that found it, and the other features that a learned ranker orders by (`feature.…`)."""
    ranks = {f"source.{name}": float(place) for name, place in candidate.sources.items()}
    scores = {f"score.{name}": score for name, score in candidate.scores.items()}
    others = {
        f"feature.{name}": value
        for name, value in candidate.features.items()
        if not name.startswith("score.")
    }
    return ranks | scores | others
