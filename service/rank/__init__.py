"""Every ranking of every face goes through `rank`: down the ladder of strategies, fused with the
prior, always complete."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal, Protocol, cast

from service.errors import InvalidOutput, ModelError, ModelTimeout
from service.prompts import Prompt
from service.rank.fusion import Terms, fused_order, z_scores
from service.rank.latency import LatencyEstimator
from service.schema import (
    Candidate,
    Choice,
    Degraded,
    DegradedReason,
    PromptRef,
    Repairs,
    Tried,
    Usage,
    UserState,
)

__all__ = ["Context", "Order", "Scores", "Strategy", "rank", "reason_to_skip", "slots"]

SAFETY = 1.25
"""An estimate is trusted to be this much too short."""
HOPELESS = {"overload", "unreachable", "budget", "not_allowed"}
"""Why a model that failed so for one strategy isn't asked for another of the same request."""
LEAST_TRY = 0.1
"""A strategy gets at least this share of the time that is left, whatever those after it need."""


@dataclass(frozen=True)
class Context:
    """What a strategy may know beside the person and the candidates. `prompt`, `score`: templates
    of a question and of a list of titles; `deadline`: the event loop's time to be done by; the rest
    as in the configuration of `rank`."""

    prompt: Prompt
    score: Prompt | None
    deadline: float
    window: int
    line_tokens: int
    depth: int = 20
    orderings: int = 2
    titles: int = 10
    shown: Literal["prior", "reversed", "shuffled"] = "prior"
    popularity: float = 0
    diversity: float = 0
    instruction: str | None = None
    locale: str | None = None


@dataclass(frozen=True)
class Scores:
    """One finite value a candidate, higher is better, in the candidates' order. `signals`: other
    values behind it, by name; `prompt`: the template, if it isn't the context's `prompt`."""

    values: Sequence[float]
    usage: Usage = Usage()
    repairs: Repairs = Repairs()
    signals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    prompt: PromptRef | None = None


class Strategy(Protocol):
    """`model`: alias of the model it asks; `weight`: its share against the prior; `in_letters`: it
    shows candidates by letter, no more than a window at once. `score` raises only `ModelError`s;
    `tokens`: what so many candidates may cost."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def in_letters(self) -> bool: ...
    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores: ...
    def tokens(self, count: int, context: Context) -> Usage: ...


@dataclass(frozen=True)
class Order:
    """Candidates best first with strictly falling scores in (0, 1), and how they came to be."""

    candidates: list[Candidate]
    scores: list[float]
    signals: list[dict[str, float]]
    strategy: str
    model: str | None = None
    prompt: PromptRef | None = None
    choice: Choice | None = None
    degraded: Degraded | None = None
    usage: Usage = Usage()
    repairs: Repairs = Repairs()


def slots(candidates: Sequence[Candidate], context: Context) -> list[int]:
    """Places of the judged candidates in the order in which the model sees them; blank ones are not
    judged."""
    places = list(range(min(len(candidates) - _blanks(candidates), context.depth)))
    if context.shown == "shuffled":
        return sorted(places, key=lambda place: sha256(candidates[place].item.id.encode()).digest())
    return places[::-1] if context.shown == "reversed" else places


def reason_to_skip(
    state: UserState, candidates: Sequence[Candidate], least_history: int, clear_prior: float
) -> str:
    """Why no model needs to be asked; empty if one may help."""
    if len([entry for entry in state.recent if entry.item is not None]) < least_history:
        return "hardly any history"
    if len(candidates) < 2:
        return "nothing to order"
    first = z_scores([candidate.prior for candidate in candidates])
    return "the prior is clear" if first[0] - first[1] > clear_prior else ""


async def rank(
    state: UserState,
    candidates: Sequence[Candidate],
    context: Context,
    ladder: Sequence[Strategy],
    pace: LatencyEstimator,
    *,
    asked: str,
    why: str = "",
) -> Order:
    """The first strategy of the ladder that answers in time, fused with the prior; the prior alone
    if none does.

    `candidates` come by falling prior; the model judges the first `context.depth`, the rest follow
    behind them. With `asked` auto a strategy that is not expected to be done in time is passed
    over; a named one is tried, for as long as one after it would still be in time. One that is
    expected to be done has all of the time. `why`: the reason for this ladder.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    tried: list[Tried] = []
    places = slots(candidates, context)
    judged = [candidates[place] for place in places]
    steps = list(ladder) if len(judged) > 1 else []
    for n, strategy in enumerate(steps):
        if any(
            one.strategy.endswith(f":{strategy.model}") and one.reason in HOPELESS for one in tried
        ):
            continue
        expected = strategy.tokens(len(judged), context)
        estimate = pace.seconds(strategy.model, expected)
        began = loop.time()
        left = context.deadline - began
        if left <= 0 or (asked == "auto" and estimate is not None and SAFETY * estimate > left):
            tried.append(_tried(strategy, ModelTimeout.code))
            continue
        in_time = estimate is not None and SAFETY * estimate <= left
        kept = 0 if in_time else _reserved(left, steps[n + 1 :], len(judged), context, pace)
        try:
            async with asyncio.timeout(left - kept):
                scores = _whole(await _judged(strategy, state, judged, context), len(judged))
        except TimeoutError:
            pace.record_timeout(strategy.model, expected, loop.time() - began)
            tried.append(_tried(strategy, ModelTimeout.code, loop.time() - began))
            continue
        except ModelError as error:
            tried.append(_tried(strategy, error.code, loop.time() - began))
            continue
        return replace(
            _order(candidates, places, scores, strategy.weight, context),
            strategy=strategy.name,
            model=strategy.model,
            prompt=scores.prompt or context.prompt.ref,
            choice=_choice(asked, why, tried, loop.time() - start, estimate),
            degraded=_degraded(tried, f"{strategy.name}:{strategy.model}"),
            usage=scores.usage,
            repairs=scores.repairs,
        )
    order = _order(candidates, [], Scores([]), 0, context)
    return replace(
        order,
        choice=_choice(asked, why, tried, loop.time() - start),
        degraded=_degraded(tried, "prior"),
    )


def _whole(scores: Scores, count: int) -> Scores:
    """Raises `InvalidOutput` unless there is one finite value a candidate: from anything else no
    order follows."""
    if len(scores.values) != count or not all(map(math.isfinite, scores.values)):
        raise InvalidOutput(
            f"{sum(map(math.isfinite, scores.values))} finite scores for {count} candidates"
        )
    return scores


def _reserved(
    left: float, later: Sequence[Strategy], count: int, context: Context, pace: LatencyEstimator
) -> float:
    """Seconds kept for the first later strategy whose pace is known and that would fit."""
    for strategy in later:
        estimate = pace.seconds(strategy.model, strategy.tokens(count, context))
        if estimate is not None and SAFETY * estimate <= left * (1 - LEAST_TRY):
            return SAFETY * estimate
    return 0.0


async def _judged(
    strategy: Strategy, state: UserState, judged: Sequence[Candidate], context: Context
) -> Scores:
    """Scores of all; more than a window are dealt out to several, as at cards, so that each holds
    good and bad ones, and every window's scores are made comparable by their mean and spread."""
    windows = -(-len(judged) // context.window) if strategy.in_letters else 1
    if windows == 1:
        return await strategy.score(state, judged, context)
    hands = [list(range(first, len(judged), windows)) for first in range(windows)]
    values = [0.0] * len(judged)
    usage, repairs = Usage(), Repairs()
    for hand in hands:
        scores = await strategy.score(state, [judged[place] for place in hand], context)
        usage, repairs = usage + scores.usage, repairs + scores.repairs
        for place, value in zip(hand, z_scores(scores.values), strict=True):
            values[place] = float(value)
    return Scores(values, usage, repairs)


def _order(
    candidates: Sequence[Candidate],
    judged: Sequence[int],
    scores: Scores,
    weight: float,
    context: Context,
) -> Order:
    """`judged`: the places that the scores belong to."""
    model = _by_place(judged, scores.values)
    blanks = _blanks(candidates)
    diverse = (
        candidates[: min(context.depth, len(candidates) - blanks)] if context.diversity else []
    )
    places, values, signals = fused_order(
        [candidate.prior for candidate in candidates],
        model,
        Terms(weight, context.popularity, context.diversity),
        popularity=[candidate.popularity for candidate in candidates],
        vectors=[candidate.vector for candidate in diverse],
        last=blanks,
    )
    more = {name: _by_place(judged, found) for name, found in scores.signals.items()}
    signals = [
        shown | {name: found[place] for name, found in more.items() if place < len(found)}
        for place, shown in zip(places, signals, strict=True)
    ]
    return Order([candidates[place] for place in places], values, signals, strategy="prior")


def _blanks(candidates: Sequence[Candidate]) -> int:
    """How many there are; they are the last ones."""
    return sum(candidate.blank for candidate in candidates)


def _by_place(places: Sequence[int], values: Sequence[float]) -> list[float]:
    found = dict(zip(places, values, strict=False))
    return [found[place] for place in range(len(found))]


def _choice(
    asked: str, why: str, tried: Sequence[Tried], took_s: float, estimate_s: float | None = None
) -> Choice:
    estimate = None if estimate_s is None else round(1000 * estimate_s, 1)
    return Choice(
        asked=asked,
        why=why,
        estimate_ms=estimate,
        took_ms=round(1000 * took_s, 1),
        tried=tuple(tried),
    )


def _tried(strategy: Strategy, code: str, waited_s: float = 0) -> Tried:
    reason = cast(DegradedReason, code)  # each ModelError's code is one of the allowed reasons
    return Tried(
        strategy=f"{strategy.name}:{strategy.model}",
        reason=reason,
        waited_ms=round(1000 * waited_s, 1),
    )


def _degraded(tried: Sequence[Tried], to: str) -> Degraded | None:
    """By the first that failed."""
    return Degraded(from_=tried[0].strategy, to=to, reason=tried[0].reason) if tried else None
