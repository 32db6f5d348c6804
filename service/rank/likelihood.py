"""How much likelier a title is after this person's titles than without: `log P(title | history) − a
· log P(title)`.

Sums over tokens, not means: a mean would reward titles whose end is certain. The second term is the
item's own, so it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import isfinite
from typing import Protocol

from service.errors import InvalidOutput, PromptError
from service.llm import Asked, Scorer
from service.rank import Context, Scores
from service.rank.spec import StrategySpec
from service.schema import Candidate, Usage, UserState

TITLE_TOKENS = 8
"""About what a title costs; measured where it was asked before."""


class KeptNulls(Protocol):
    """Keeps what was computed once, by key."""

    async def get(self, keys: Sequence[str]) -> dict[str, float]: ...
    async def put(self, values: Mapping[str, float]) -> None: ...


class Likelihood:
    """Nothing is written: one pass over history and titles. `null`: the a above, in [0, 1]."""

    name = "likelihood"
    in_letters = False

    def __init__(
        self, scorer: Scorer, weight: float, null: float, nulls: KeptNulls, identity: str = ""
    ) -> None:
        self._scorer = scorer
        self.model = scorer.alias
        self.weight = weight
        self._null = null
        self._nulls = nulls
        self._identity = identity or scorer.alias

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        """All zeros for a person without a history: nothing is likelier after nothing."""
        prompt = context.score
        if prompt is None:
            raise InvalidOutput("no score prompt")
        try:
            head, lines = prompt.document(state, context.titles, context.line_tokens)
            texts = [prompt.line(candidate.item, context.line_tokens) for candidate in candidates]
        except PromptError as error:
            raise InvalidOutput(error.message) from error
        if not lines:
            return Scores([0.0] * len(candidates), prompt=prompt.ref)
        keys = [
            sha256(f"{self._identity}\n{prompt.ref.sha}\n{text}".encode()).hexdigest()[:32]
            for text in texts
        ]
        nulls = await self._nulls.get(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in nulls}
        after = [Asked((head, *lines.values()), text) for text in texts]
        found = await self._scorer.loglikelihoods(
            [*after, *(Asked((head,), text) for text in missing.values())],
            context=context.call,
        )
        fresh = dict(zip(missing, found.values[len(after) :], strict=True))
        await self._nulls.put({key: value for key, value in fresh.items() if isfinite(value)})
        nulls |= fresh
        likely, alone = found.values[: len(after)], [nulls[key] for key in keys]
        values = [one - self._null * other for one, other in zip(likely, alone, strict=True)]
        return Scores(
            values, found.usage, signals={"likelihood": likely, "null": alone}, prompt=prompt.ref
        )

    def tokens(self, count: int, context: Context) -> Usage:
        """What `count` candidates may cost when nothing is kept: for an estimate of the time."""
        read = (count + context.titles) * TITLE_TOKENS
        return Usage(prompt_tokens=read, total_tokens=read)


SPEC = StrategySpec("likelihood", needs=lambda able: able.prompt_logprobs, fast=True)
