"""Ranks titles by how much likelier they are after this person's titles than without them:
`log P(title | history) − a · log P(title)`.

Logarithms are summed over tokens, not averaged: a mean would reward titles whose end is easy to
guess. The second term depends on the item alone, so it is stored and used again.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import isfinite
from typing import Protocol

from service.errors import InvalidOutput
from service.llm import Asked, Scorer
from service.rank import Context, Scores, StrategySpec
from service.schema import Candidate, Usage, UserState

TITLE_TOKENS = 8
"""About how many tokens a title has, for estimates."""


class KeptNulls(Protocol):
    """A store of log P(title), by key."""

    async def get(self, keys: Sequence[str]) -> dict[str, float]: ...
    async def put(self, values: Mapping[str, float]) -> None: ...


class Likelihood:
    """Scores by one pass over history and titles; the model writes nothing. `null`: the factor a,
    in [0, 1]; `identity`: a text that changes when the model does, for the keys of `nulls`."""

    name = "likelihood"
    in_letters = False

    def __init__(self, scorer: Scorer, null: float, nulls: KeptNulls, identity: str = "") -> None:
        self._scorer = scorer
        self.model = scorer.alias
        self._null = null
        self._nulls = nulls
        self._identity = identity or scorer.alias

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        """Scores each title by log P(title | history) − `null` · log P(title), in nats. All scores
        are 0 for a person without a history."""
        prompt = context.score
        if prompt is None:
            raise InvalidOutput("no score prompt")
        head, lines = prompt.document(state, context.titles, context.line_tokens)
        texts = [prompt.line(candidate.item, context.line_tokens) for candidate in candidates]
        if not lines:
            return Scores([0.0] * len(candidates), prompt=prompt.ref)
        keys = [
            sha256(f"{self._identity}\n{prompt.ref.sha}\n{text}".encode()).hexdigest()[:32]
            for text in texts
        ]
        nulls = await self._nulls.get(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in nulls}
        after = [Asked((head, *lines.values()), text) for text in texts]
        alone = [Asked((head,), text) for text in missing.values()]
        likelihoods = await self._scorer.loglikelihoods([*after, *alone], context=context.call)
        given_history = likelihoods.values[: len(after)]
        fresh = dict(zip(missing, likelihoods.values[len(after) :], strict=True))
        await self._nulls.put({key: value for key, value in fresh.items() if isfinite(value)})
        nulls |= fresh
        null = [nulls[key] for key in keys]
        return Scores(
            [log - self._null * base for log, base in zip(given_history, null, strict=True)],
            signals={"likelihood": given_history, "null": null},
            prompt=prompt.ref,
        )

    def tokens(self, count: int, context: Context) -> Usage:
        """Estimates the tokens that `count` candidates cost when no log P(title) is stored."""
        read = (count + context.titles) * TITLE_TOKENS
        return Usage(prompt_tokens=read, total_tokens=read)


SPEC = StrategySpec("likelihood", needs=lambda able: able.prompt_logprobs, fast=True)
