"""Ranks candidates: tries the strategies of a ladder in turn and fuses the model's scores with the
prior. Every ranking of the service goes through `rank` and contains all candidates."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal, Protocol, cast

from service.context import CallContext
from service.errors import InvalidOutput, ModelError, ModelNotAllowed, ModelTimeout, PromptError
from service.llm import LLM, OutputConstraint
from service.privacy.redaction import View
from service.prompts import Prompt
from service.rank.fusion import Terms, fused_order, z_scores
from service.schema import (
    Candidate,
    Capabilities,
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
    "GuardedStrategy",
    "Ladder",
    "Latency",
    "Order",
    "Scores",
    "Strategy",
    "StrategySpec",
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
    event loop; `wanted`, `avoided`: what the instruction was understood to ask for; `call`: who
    pays for model calls. The rest is as in the settings of `rank`."""

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
    wanted: Sequence[str] = ()
    avoided: Sequence[str] = ()
    locale: str | None = None
    call: CallContext = field(default_factory=CallContext)


@dataclass(frozen=True)
class Scores:
    """One finite score for each candidate, in the candidates' order; higher is better. `signals`:
    values that the scores were computed from, by name. `prompt`: the template used, if it isn't
    `Context.prompt`."""

    values: Sequence[float]
    repairs: Repairs = Repairs()
    signals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    prompt: PromptRef | None = None


class Strategy(Protocol):
    """A way to score candidates with a model.

    `model`: the model's alias. `in_letters`: whether prompts label candidates with letters and so
    hold at most one window. `score` raises only `ModelError`s and `PromptError`s. `tokens`
    estimates the usage for `count` candidates.
    """

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def in_letters(self) -> bool: ...
    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores: ...
    def tokens(self, count: int, context: Context) -> Usage: ...


@dataclass(frozen=True)
class StrategySpec:
    """Describes a strategy; the strategy's own module defines it.

    `needs`: whether a model with these capabilities can run the strategy. `fast`: whether the
    strategy may answer requests for `whyrank-fast`. `answer`: the form of answer that its prompt
    asks for; empty where it asks for none. `make(llm, constraint)`: creates the strategy; None for
    one that only needs likelihoods.
    """

    name: str
    needs: Callable[[Capabilities], bool]
    answer: str = ""
    fast: bool = False
    make: Callable[[LLM, OutputConstraint], Strategy] | None = None


class GuardedStrategy:
    """Wraps a strategy under its name, and shows it only what its model's `view` allows. If `view`
    allows nothing, or `why` says why the model can't run the strategy, `score` raises an error at
    once, so that the ladder's next strategy answers and the failure is reported."""

    def __init__(
        self, strategy: Strategy, view: View = View(allowed=True), why: ModelError | None = None
    ) -> None:
        self._strategy = strategy
        self._view = view
        self._why = (
            why
            if view.allowed
            else ModelNotAllowed("this person may not be shown to a hosted model")
        )
        self.name = strategy.name
        self.model = strategy.model
        self.in_letters = strategy.in_letters

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        if self._why is not None:
            raise self._why
        state, candidates, instruction = self._view.shown(state, candidates, context.instruction)
        seen = replace(
            context,
            instruction=instruction,
            wanted=[*map(self._view.words, context.wanted)],
            avoided=[*map(self._view.words, context.avoided)],
        )
        return await self._strategy.score(state, candidates, seen)

    def tokens(self, count: int, context: Context) -> Usage:
        return self._strategy.tokens(count, context) if self._why is None else Usage()


class Latency(Protocol):
    """Estimates how long a call of a model takes, in seconds."""

    def seconds(self, alias: str, expected: Usage) -> float | None: ...
    def record_timeout(self, alias: str, expected: Usage, after_s: float) -> None: ...


@dataclass(frozen=True)
class Order:
    """All candidates, best first, with strictly decreasing scores in (0, 1), and how they were
    ranked. `usage`: of all model calls, if it was counted."""

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
    candidates, and those that the wish refuses, are not judged."""
    places = list(range(min(len(candidates) - _last(candidates), context.depth)))
    if context.shown == "shuffled":
        return sorted(places, key=lambda place: sha256(candidates[place].item.id.encode()).digest())
    return places[::-1] if context.shown == "reversed" else places


def reason_to_skip(
    state: UserState, candidates: Sequence[Candidate], least_history: int, clear_prior: float
) -> str:
    """Returns why asking a model would not help; empty if it may help. `least_history`: the fewest
    items that a history needs; `clear_prior`: a greater lead of the first prior over the second, in
    standard deviations, is clear."""
    if sum(entry.item is not None for entry in state.recent) < least_history:
        return "hardly any history"
    if len(candidates) < 2:
        return "nothing to order"
    first = z_scores([candidate.prior for candidate in candidates])
    return "the prior is clear" if first[0] - first[1] > clear_prior else ""


@dataclass(frozen=True)
class Ladder:
    """Strategies to try in order. If all fail, the prior alone ranks. `asked`: the requested
    strategy, or `auto` for any. `why`: why these strategies, or none, were chosen. `shares`: by
    model, the weight of its scores in [0, 1]; the prior gets the rest."""

    steps: Sequence[Strategy]
    asked: str = "auto"
    why: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)


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
    now = asyncio.get_running_loop().time
    start = now()
    judged = slots(candidates, context)
    attempts = _Attempts(state, [candidates[place] for place in judged], context, ladder, latency)
    answer = await attempts.first_answer() if len(judged) > 1 else UNASKED
    places, values, signals = _fused(candidates, judged, answer, context)
    to = f"{answer.strategy}:{answer.model}" if answer.model else answer.strategy
    return Order(
        [candidates[place] for place in places],
        values,
        signals,
        strategy=answer.strategy,
        model=answer.model,
        prompt=answer.scores.prompt or (context.prompt.ref if answer.model else None),
        choice=Choice(
            asked=ladder.asked,
            why=ladder.why,
            estimate_ms=None if answer.estimate_s is None else _ms(answer.estimate_s),
            took_ms=_ms(now() - start),
            tried=tuple(attempts.failed),
        ),
        degraded=Degraded(
            from_=attempts.failed[0].strategy, to=to, reason=attempts.failed[0].reason
        )
        if attempts.failed
        else None,
        repairs=answer.scores.repairs,
    )


@dataclass(frozen=True)
class _Answer:
    """The scores of a strategy, or none. `share`: the weight of the scores in [0, 1]; the prior
    gets the rest."""

    strategy: str
    model: str | None
    share: float
    scores: Scores
    estimate_s: float | None


UNASKED = _Answer("prior", None, 0, Scores([]), None)
"""The answer if no model was asked or none answered: the prior alone ranks."""


@dataclass(frozen=True)
class _Attempts:
    """Tries the strategies of a ladder in turn. `failed`: those that gave no answer, in order."""

    state: UserState
    judged: Sequence[Candidate]
    context: Context
    ladder: Ladder
    latency: Latency
    failed: list[Tried] = field(default_factory=list)

    async def first_answer(self) -> _Answer:
        for n, strategy in enumerate(self.ladder.steps):
            if not self._hopeless(strategy.model):
                answer = await self._attempt(strategy, self.ladder.steps[n + 1 :])
                if answer is not None:
                    return answer
        return UNASKED

    def _hopeless(self, model: str) -> bool:
        """Whether the model failed before in a way that another strategy wouldn't fix."""
        return any(
            tried.strategy.endswith(f":{model}") and tried.reason in HOPELESS
            for tried in self.failed
        )

    async def _attempt(self, strategy: Strategy, later: Sequence[Strategy]) -> _Answer | None:
        now = asyncio.get_running_loop().time
        expected = strategy.tokens(len(self.judged), self.context)
        estimate_s = self.latency.seconds(strategy.model, expected)
        began = now()
        left_s = self.context.deadline - began
        in_time = estimate_s is not None and SAFETY * estimate_s <= left_s
        too_slow = self.ladder.asked == "auto" and estimate_s is not None and not in_time
        if left_s <= 0 or too_slow:
            self._fail(strategy, ModelTimeout.code)
            return None
        reserved_s = 0 if in_time else self._reserved_s(left_s, later)
        try:
            async with asyncio.timeout(left_s - reserved_s):
                scores = await self._scores(strategy)
                share = self.ladder.shares[strategy.model]
                return _Answer(strategy.name, strategy.model, share, scores, estimate_s)
        except TimeoutError:
            self.latency.record_timeout(strategy.model, expected, now() - began)
            self._fail(strategy, ModelTimeout.code, now() - began)
        except PromptError:
            self._fail(strategy, InvalidOutput.code, now() - began)
        except ModelError as error:
            self._fail(strategy, error.code, now() - began)
        return None

    def _fail(self, strategy: Strategy, code: str, waited_s: float = 0) -> None:
        self.failed.append(
            Tried(
                strategy=f"{strategy.name}:{strategy.model}",
                # each ModelError's code is one of the allowed reasons
                reason=cast(DegradedReason, code),
                waited_ms=_ms(waited_s),
            )
        )

    def _reserved_s(self, left_s: float, later: Sequence[Strategy]) -> float:
        """Seconds to keep for a later strategy: the first one whose estimate fits into the time
        left."""
        for strategy in later:
            estimate_s = self.latency.seconds(
                strategy.model, strategy.tokens(len(self.judged), self.context)
            )
            if estimate_s is not None and SAFETY * estimate_s <= left_s * (1 - LEAST_TRY):
                return SAFETY * estimate_s
        return 0.0

    async def _scores(self, strategy: Strategy) -> Scores:
        """Scores all judged candidates. If they don't fit into one window, window i of n gets
        candidates i, i + n, i + 2n, …, so that each holds good and bad ones, and each window's
        scores become z-scores, to be comparable. Raises `InvalidOutput` unless there is one finite
        score for each candidate."""
        count = len(self.judged)
        windows = -(-count // self.context.window) if strategy.in_letters else 1
        if windows == 1:
            scores = await strategy.score(self.state, self.judged, self.context)
        else:
            values = [0.0] * count
            repairs = Repairs()
            for n in range(windows):
                part = await strategy.score(self.state, self.judged[n::windows], self.context)
                repairs += part.repairs
                values[n::windows] = z_scores(part.values).tolist()
            scores = Scores(values, repairs)
        finite = sum(map(math.isfinite, scores.values))
        if len(scores.values) != count or finite != count:
            raise InvalidOutput(f"{finite} finite scores for {count} candidates")
        return scores


def _fused(
    candidates: Sequence[Candidate], judged: Sequence[int], answer: _Answer, context: Context
) -> tuple[list[int], list[float], list[dict[str, float]]]:
    """Returns places, scores and signals as `fused_order` does, and adds the signals that the
    answer's scores were computed from. `judged`: the places of the candidates that `answer`
    scores."""
    places, values, signals = fused_order(
        [candidate.prior for candidate in candidates],
        _by_place(judged, answer.scores.values),
        Terms(answer.share, context.popularity, context.diversity),
        popularity=[candidate.popularity for candidate in candidates],
        vectors=[candidate.vector for candidate in candidates[: len(judged)]],
        last=_last(candidates),
    )
    own = {name: _by_place(judged, raw) for name, raw in answer.scores.signals.items()}
    for place, row in zip(places, signals, strict=True):
        row.update({name: raw[place] for name, raw in own.items() if place < len(raw)})
    return places, values, signals


def _last(candidates: Sequence[Candidate]) -> int:
    """Counts the candidates that the wish refuses and the blank ones, which are always the last."""
    return sum(candidate.refused or candidate.blank for candidate in candidates)


def _by_place(places: Sequence[int], values: Sequence[float]) -> list[float]:
    """Sorts values by place. `places`: the candidate that each value belongs to."""
    return [value for _, value in sorted(zip(places, values, strict=False))]


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
