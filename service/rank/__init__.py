"""Ranks candidates: tries the strategies of a ladder in turn and fuses the model's scores with the
prior. Every ranking of the service goes through `rank` and contains all candidates."""

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
"""Estimated times are multiplied by this before they are compared with the deadline."""
HOPELESS = {"overload", "unreachable", "budget", "not_allowed"}
"""Error codes after which a model is not tried with another strategy in the same request."""
LEAST_TRY = 0.1
"""Least share of the remaining time that a strategy gets, whatever later ones need."""


@dataclass(frozen=True)
class Context:
    """What a strategy knows besides the person and the candidates.

    `prompt`: template of a question; `score`: template of a list of titles; `deadline`: time of the
    event loop; `call`: who pays for model calls. The rest is as in the settings of `rank`.
    """

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
    """One finite score for each candidate, in the candidates' order; higher is better. `signals`:
    values that the scores were computed from, by name. `prompt`: the template used, if it isn't
    `Context.prompt`."""

    values: Sequence[float]
    usage: Usage = Usage()
    repairs: Repairs = Repairs()
    signals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    prompt: PromptRef | None = None


class Strategy(Protocol):
    """A way to score candidates with a model.

    `model`: the model's alias. `weight`: of the model's scores against the prior. `in_letters`:
    whether prompts label candidates with letters and so hold at most one window. `score` raises
    only `ModelError`s. `tokens` estimates the usage for `count` candidates.
    """

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
    """Estimates how long a call of a model takes, in seconds."""

    def seconds(self, alias: str, expected: Usage) -> float | None: ...
    def record_timeout(self, alias: str, expected: Usage, after_s: float) -> None: ...


@dataclass(frozen=True)
class Order:
    """All candidates, best first, with strictly decreasing scores in (0, 1), and how they were
    ranked."""

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
    """Places of the candidates that the model judges, in the order in which it sees them. Blank
    candidates are not judged."""
    places = list(range(min(len(candidates) - _blanks(candidates), context.depth)))
    if context.shown == "shuffled":
        return sorted(places, key=lambda place: sha256(candidates[place].item.id.encode()).digest())
    return places[::-1] if context.shown == "reversed" else places


def reason_to_skip(
    state: UserState, candidates: Sequence[Candidate], least_history: int, clear_prior: float
) -> str:
    """Says why asking a model would not help; empty if it may."""
    if len([entry for entry in state.recent if entry.item is not None]) < least_history:
        return "hardly any history"
    if len(candidates) < 2:
        return "nothing to order"
    first = z_scores([candidate.prior for candidate in candidates])
    return "the prior is clear" if first[0] - first[1] > clear_prior else ""


@dataclass(frozen=True)
class Ladder:
    """Strategies to try in order. If all fail, the prior alone ranks. `asked`: the requested
    strategy; `auto`: any. `why`: why the ladder is as it is."""

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
    """Ranks by the first strategy that answers in time, fused with the prior; by the prior alone if
    none does.

    `candidates` come with the highest prior first. The model judges the first `context.depth`; the
    others follow them. With `auto`, a strategy that is expected to miss the deadline is skipped; a
    named one is tried, but leaves enough time for a later one. A strategy that is expected to meet
    the deadline may use all the time that is left.
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
    """Tries the strategies of a ladder in turn. `failed`: those that gave no answer, in order."""

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
        """Whether the model failed before in a way that another strategy wouldn't fix."""
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
        """Seconds to keep for a later strategy: the first one whose estimate fits into the time
        left."""
        for strategy in later:
            expected = strategy.tokens(len(self._judged), self._context)
            estimate_s = self._latency.seconds(strategy.model, expected)
            if estimate_s is not None and SAFETY * estimate_s <= left_s * (1 - LEAST_TRY):
                return SAFETY * estimate_s
        return 0.0


def _whole(scores: Scores, count: int) -> Scores:
    """Returns the scores. Raises `InvalidOutput` unless there is one finite score for each
    candidate."""
    finite = sum(map(math.isfinite, scores.values))
    if len(scores.values) != count or finite != count:
        raise InvalidOutput(f"{finite} finite scores for {count} candidates")
    return scores


async def _judged(
    strategy: Strategy, state: UserState, judged: Sequence[Candidate], context: Context
) -> Scores:
    """Scores all judged candidates. If they don't fit into one window, window i of n gets
    candidates i, i + n, i + 2n, …, so that each holds good and bad ones, and each window's scores
    become z-scores, to be comparable."""
    windows = -(-len(judged) // context.window) if strategy.in_letters else 1
    if windows == 1:
        return await strategy.score(state, judged, context)
    dealt = [list(range(first, len(judged), windows)) for first in range(windows)]
    values = [0.0] * len(judged)
    usage, repairs = Usage(), Repairs()
    for places in dealt:
        scores = await strategy.score(state, [judged[place] for place in places], context)
        usage, repairs = usage + scores.usage, repairs + scores.repairs
        for place, value in zip(places, z_scores(scores.values), strict=True):
            values[place] = float(value)
    return Scores(values, usage, repairs)


def _order(
    candidates: Sequence[Candidate],
    judged: Sequence[int],
    scores: Scores,
    weight: float,
    context: Context,
) -> Order:
    """Fuses scores with the prior. `judged`: the places of the candidates that have a score."""
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
    """Counts the blank candidates, which are always the last ones."""
    return sum(candidate.blank for candidate in candidates)


def _by_place(places: Sequence[int], values: Sequence[float]) -> list[float]:
    """Sorts values by place. `places`: the candidate that each value belongs to."""
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
    """Reports the first strategy that failed and what answered instead; None if none failed."""
    return Degraded(from_=failed[0].strategy, to=to, reason=failed[0].reason) if failed else None
