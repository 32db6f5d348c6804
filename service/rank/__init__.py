"""Every ranking of every face goes through `rank`: down the ladder of strategies, fused with the
prior, always complete."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal, Protocol, cast

from service.context import CallContext
from service.errors import InvalidOutput, ModelError, ModelTimeout
from service.prompts import Prompt
from service.rank.fusion import Terms, fused_order, z_scores
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

__all__ = [
    "Context",
    "Ladder",
    "Latency",
    "Order",
    "Scores",
    "Strategy",
    "rank",
    "reason_to_skip",
    "slots",
]

SAFETY = 1.25
"""An estimate is trusted to be this much too short."""
HOPELESS = {"overload", "unreachable", "budget", "not_allowed"}
"""Why a model that failed so for one strategy isn't asked for another of the same request."""
LEAST_TRY = 0.1
"""A strategy gets at least this share of the time that is left, whatever those after it need."""


@dataclass(frozen=True)
class Context:
    """What a strategy may know beside the person and the candidates. `prompt`, `score`: templates
    of a question and of a list of titles; `deadline`: the event loop's time to be done by; `call`:
    on whose behalf models are asked; the rest as in the configuration of `rank`."""

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
    call: CallContext = field(default_factory=CallContext)


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


class Latency(Protocol):
    """How long a model may take, by alias."""

    def seconds(self, alias: str, expected: Usage) -> float | None: ...
    def record_timeout(self, alias: str, expected: Usage, after_s: float) -> None: ...


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


@dataclass(frozen=True)
class Ladder:
    """Strategies to try, in order; below the last stands the prior, which needs no model. `asked`:
    the strategy that was asked for, `auto` for any; `why`: the reason for this ladder."""

    steps: Sequence[Strategy]
    asked: str = "auto"
    why: str = ""


async def rank(
    state: UserState,
    candidates: Sequence[Candidate],
    context: Context,
    ladder: Ladder,
    latency: Latency,
) -> Order:
    """The first strategy of the ladder that answers in time, fused with the prior; the prior alone
    if none does.

    `candidates` come by falling prior; the model judges the first `context.depth`, the rest follow
    behind them. A ladder for `auto` passes over a strategy that is not expected to be done in time;
    a named one is tried for as long as one after it would still be in time. A strategy that is
    expected to be done has all of the time.
    """
    start = asyncio.get_running_loop().time()
    places = slots(candidates, context)
    attempts = _Attempts(state, [candidates[place] for place in places], context, ladder, latency)
    answer = await attempts.first_answer() if len(places) > 1 else None
    scores = answer.scores if answer is not None else Scores([])
    weight = answer.strategy.weight if answer is not None else 0
    order = _order(candidates, places if answer is not None else [], scores, weight, context)
    took_s = asyncio.get_running_loop().time() - start
    choice = _choice(ladder, attempts.failed, took_s, answer.estimate_s if answer else None)
    if answer is None:
        return replace(order, choice=choice, degraded=_degraded(attempts.failed, "prior"))
    strategy = answer.strategy
    return replace(
        order,
        strategy=strategy.name,
        model=strategy.model,
        prompt=scores.prompt or context.prompt.ref,
        choice=choice,
        degraded=_degraded(attempts.failed, f"{strategy.name}:{strategy.model}"),
        usage=scores.usage,
        repairs=scores.repairs,
    )


@dataclass(frozen=True)
class _Answer:
    strategy: Strategy
    scores: Scores
    estimate_s: float | None


class _Attempts:
    """The descent of a ladder. `failed`: what was tried without an answer, in order."""

    def __init__(
        self,
        state: UserState,
        judged: Sequence[Candidate],
        context: Context,
        ladder: Ladder,
        latency: Latency,
    ) -> None:
        self.failed: list[Tried] = []
        self._state = state
        self._judged = judged
        self._context = context
        self._ladder = ladder
        self._latency = latency

    async def first_answer(self) -> _Answer | None:
        steps = self._ladder.steps
        for n, strategy in enumerate(steps):
            if not self._hopeless(strategy.model):
                answer = await self._attempt(strategy, steps[n + 1 :])
                if answer is not None:
                    return answer
        return None

    def _hopeless(self, model: str) -> bool:
        """Did the model fail in a way that no other strategy would mend?"""
        return any(
            tried.strategy.endswith(f":{model}") and tried.reason in HOPELESS
            for tried in self.failed
        )

    async def _attempt(self, strategy: Strategy, later: Sequence[Strategy]) -> _Answer | None:
        loop = asyncio.get_running_loop()
        expected = strategy.tokens(len(self._judged), self._context)
        estimate_s = self._latency.seconds(strategy.model, expected)
        began = loop.time()
        left_s = self._context.deadline - began
        in_time = estimate_s is not None and SAFETY * estimate_s <= left_s
        too_slow = self._ladder.asked == "auto" and estimate_s is not None and not in_time
        if left_s <= 0 or too_slow:
            self.failed.append(_tried(strategy, ModelTimeout.code))
            return None
        reserved_s = 0 if in_time else self._reserved_s(left_s, later)
        try:
            async with asyncio.timeout(left_s - reserved_s):
                scores = await _judged(strategy, self._state, self._judged, self._context)
                return _Answer(strategy, _whole(scores, len(self._judged)), estimate_s)
        except TimeoutError:
            self._latency.record_timeout(strategy.model, expected, loop.time() - began)
            self.failed.append(_tried(strategy, ModelTimeout.code, loop.time() - began))
        except ModelError as error:
            self.failed.append(_tried(strategy, error.code, loop.time() - began))
        return None

    def _reserved_s(self, left_s: float, later: Sequence[Strategy]) -> float:
        """Seconds kept for the first later strategy whose speed is known and that would fit."""
        for strategy in later:
            expected = strategy.tokens(len(self._judged), self._context)
            estimate_s = self._latency.seconds(strategy.model, expected)
            if estimate_s is not None and SAFETY * estimate_s <= left_s * (1 - LEAST_TRY):
                return SAFETY * estimate_s
        return 0.0


def _whole(scores: Scores, count: int) -> Scores:
    """Raises `InvalidOutput` unless there is one finite value a candidate: from anything else no
    order follows."""
    finite = sum(map(math.isfinite, scores.values))
    if len(scores.values) != count or finite != count:
        raise InvalidOutput(f"{finite} finite scores for {count} candidates")
    return scores


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
    own = {name: _by_place(judged, values) for name, values in scores.signals.items()}
    signals = [
        fused | {name: values[place] for name, values in own.items() if place < len(values)}
        for place, fused in zip(places, signals, strict=True)
    ]
    return Order([candidates[place] for place in places], values, signals, strategy="prior")


def _blanks(candidates: Sequence[Candidate]) -> int:
    """How many there are; they are the last ones."""
    return sum(candidate.blank for candidate in candidates)


def _by_place(places: Sequence[int], values: Sequence[float]) -> list[float]:
    """Values in the order of the candidates, given the place that each belongs to."""
    by_place = dict(zip(places, values, strict=False))
    return [by_place[place] for place in range(len(by_place))]


def _choice(
    ladder: Ladder, failed: Sequence[Tried], took_s: float, estimate_s: float | None
) -> Choice:
    return Choice(
        asked=ladder.asked,
        why=ladder.why,
        estimate_ms=None if estimate_s is None else round(1000 * estimate_s, 1),
        took_ms=round(1000 * took_s, 1),
        tried=tuple(failed),
    )


def _tried(strategy: Strategy, code: str, waited_s: float = 0) -> Tried:
    reason = cast(DegradedReason, code)  # each ModelError's code is one of the allowed reasons
    return Tried(
        strategy=f"{strategy.name}:{strategy.model}",
        reason=reason,
        waited_ms=round(1000 * waited_s, 1),
    )


def _degraded(failed: Sequence[Tried], to: str) -> Degraded | None:
    """From the first strategy that failed to what answered instead; None if none failed."""
    return Degraded(from_=failed[0].strategy, to=to, reason=failed[0].reason) if failed else None
