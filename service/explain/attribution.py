"""Measures by a model how much each liked item makes a chosen one likelier."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from service.context import CallContext
from service.errors import ModelError, PromptError
from service.llm import Asked, Scorer
from service.prompts import Prompt
from service.schema import Candidate, UserState

Attribution = Sequence[Mapping[str, float]]
"""How much each liked item moves each chosen one: for each chosen item, in order, the effect in
nats by the liked item's id; empty if it could not be measured."""


@dataclass(frozen=True)
class Attributor:
    """Scores the chosen items with the whole list of liked items, and without each of them.

    The effect of a liked item is log P(title | history) with it, less that without it; the history
    is the last `titles` items. It is the mean of two such differences: for the history in order,
    and reversed. In a single order, a small model reacts so strongly to an item's position that
    another model often finds no such effect (`make verify`).

    All is scored in one call, as the histories share prefixes. Each chosen item is scored alone, so
    that its evidence doesn't depend on the other chosen items.
    """

    scorer: Scorer
    prompt: Prompt
    titles: int

    async def attribute(
        self,
        state: UserState,
        chosen: Sequence[Candidate],
        *,
        context: CallContext,
        line_tokens: int,
        until: float,
    ) -> Attribution:
        """Measures the effect of each liked item on each chosen one. Returns an empty list if the
        model fails or isn't done by `until` (time of the event loop)."""
        try:
            head, lines = self.prompt.document(state, self.titles, line_tokens)
            texts = [self.prompt.line(candidate.item, line_tokens) for candidate in chosen]
        except PromptError:
            return []
        liked = {n: entry.item.id for n, entry in enumerate(state.recent, 1) if entry.item}
        ids = list(dict.fromkeys(liked[label] for label in lines))
        if not ids or not texts:
            return []
        history = list(lines.items())
        contexts = [
            (head, *(line for label, line in order if liked[label] != left_out))
            for order in (history, history[::-1])
            for left_out in (None, *ids)
        ]
        asked = [Asked(pieces, text) for pieces in contexts for text in texts]
        try:
            async with asyncio.timeout_at(until):
                likelihoods = await self.scorer.loglikelihoods(asked, context=context, apart=True)
        except (ModelError, TimeoutError):
            return []
        values = likelihoods.values
        measured = len(values) == len(asked) and all(map(isfinite, values))
        return _moved_by(ids, values, len(texts)) if measured else []


def _moved_by(ids: Sequence[str], values: Sequence[float], count: int) -> list[dict[str, float]]:
    """Computes the effect of each liked item on each of `count` chosen ones.

    `values`: log-likelihoods, `count` for each history: the whole one, then without each liked
    item; first in order, then reversed.
    """
    forwards, backwards = np.reshape(values, (2, len(ids) + 1, count))
    gains = (forwards[0] - forwards[1:] + backwards[0] - backwards[1:]) / 2
    return [dict(zip(ids, column, strict=True)) for column in gains.T.tolist()]
