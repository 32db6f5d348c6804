"""Every ranking of every face goes through `rank`: down the ladder of strategies, fused with the prior, always complete."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal, Protocol, cast

from service.errors import ModelError, ModelTimeout
from service.prompts import Prompt
from service.rank.fusion import Terms, fused_order
from service.schema import Candidate, Degraded, PromptRef, Repairs, Usage, UserState

__all__ = ["Context", "Order", "Scores", "Strategy", "rank", "slots"]


@dataclass(frozen=True)
class Context:
    """What a strategy may know beside the person and the candidates. `deadline`: the event loop's time to be done by.
    `popularity`, `diversity`: what fusion takes off for them."""

    prompt: Prompt
    deadline: float
    window: int
    line_tokens: int
    shown: Literal["prior", "reversed", "shuffled"] = "prior"
    popularity: float = 0
    diversity: float = 0
    instruction: str | None = None
    locale: str | None = None


@dataclass(frozen=True)
class Scores:
    """One finite value a candidate, higher is better, in the candidates' order."""

    values: Sequence[float]
    usage: Usage = Usage()
    repairs: Repairs = Repairs()


class Strategy(Protocol):
    """`model`: alias of the model it asks; `weight`: its share against the prior. `score` raises only `ModelError`s."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str | None: ...
    @property
    def weight(self) -> float: ...
    async def score(self, state: UserState, candidates: Sequence[Candidate], context: Context) -> Scores: ...


@dataclass(frozen=True)
class Order:
    """Candidates best first with strictly falling scores in (0, 1), and how they came to be."""

    candidates: list[Candidate]
    scores: list[float]
    signals: list[dict[str, float]]
    strategy: str
    model: str | None = None
    prompt: PromptRef | None = None
    degraded: Degraded | None = None
    usage: Usage = Usage()
    repairs: Repairs = Repairs()


def slots(candidates: Sequence[Candidate], context: Context) -> list[int]:
    """Places of the window's candidates in the order in which the model sees them."""
    places = list(range(min(len(candidates), context.window)))
    if context.shown == "shuffled":
        return sorted(places, key=lambda place: sha256(candidates[place].item.id.encode()).digest())
    return places[::-1] if context.shown == "reversed" else places


async def rank(state: UserState, candidates: Sequence[Candidate], context: Context, ladder: Sequence[Strategy]) -> Order:
    """The first strategy of the ladder that answers in time, fused with the prior; the prior alone if none does.

    `candidates` come by falling prior; the model sees the first `context.window`, the rest follow behind them.
    """
    failure: tuple[Strategy, ModelError] | None = None
    places = slots(candidates, context)
    window = [candidates[place] for place in places]
    for strategy in ladder if len(window) > 1 else ():
        try:
            async with asyncio.timeout_at(context.deadline):
                scores = await strategy.score(state, window, context)
        except TimeoutError:
            failure = failure or (strategy, ModelTimeout("the deadline passed"))
            break
        except ModelError as error:
            failure = failure or (strategy, error)
            continue
        values = dict(zip(places, scores.values, strict=True))
        order = _order(candidates, [values[place] for place in range(len(places))], strategy.weight, context)
        return replace(
            order,
            strategy=strategy.name,
            model=strategy.model,
            prompt=context.prompt.ref,
            degraded=_degraded(failure, f"{strategy.name}:{strategy.model}"),
            usage=scores.usage,
            repairs=scores.repairs,
        )
    return replace(_order(candidates, [], 0, context), degraded=_degraded(failure, "prior"))


def _order(candidates: Sequence[Candidate], model: Sequence[float], weight: float, context: Context) -> Order:
    terms = Terms(weight, context.popularity, context.diversity)
    vectors = [candidate.vector for candidate in candidates[: context.window]] if context.diversity else []
    places, scores, signals = fused_order(
        [candidate.prior for candidate in candidates],
        model,
        terms,
        popularity=[candidate.popularity for candidate in candidates],
        vectors=vectors,
    )
    return Order([candidates[place] for place in places], scores, signals, strategy="prior")


def _degraded(failure: tuple[Strategy, ModelError] | None, to: str) -> Degraded | None:
    if failure is None:
        return None
    strategy, error = failure
    reason = cast(Literal["timeout"], error.code)  # each ModelError's code is one of the allowed reasons
    return Degraded(from_=f"{strategy.name}:{strategy.model}", to=to, reason=reason)
