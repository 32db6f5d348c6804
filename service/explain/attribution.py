"""Measures by how much each liked item makes a chosen item likelier: it is scored without each in
turn."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from service.context import CallContext
from service.errors import ModelError, PromptError
from service.llm import Asked, Scorer
from service.prompts import Prompt
from service.schema import Candidate, UserState


@dataclass(frozen=True)
class Attribution:
    """How much each liked item moves each chosen one.

    `by`: for each of the chosen items, in their order, nats by the liked item's id; empty where
    that could not be measured.
    """

    by: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True)
class Attributor:
    """Scores the chosen items with and without each liked item.

    What a liked item adds to log P(title | liked), over the last `titles` liked items of a `score`
    prompt, is the mean of two differences: with the list in the order in which it was lived, and
    backwards. In one order a small model reacts so much to an item's place in the list that another
    model often sees no such effect (`make verify`).

    One call for all, as the lists share their beginnings. Each chosen item is scored apart: what
    speaks for it depends on the person and the item alone, not on what else was chosen.
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
        """Empty if the model fails or is not done by `until`, a time of the event loop."""
        try:
            head, lines = self.prompt.document(state, self.titles, line_tokens)
            texts = [self.prompt.line(candidate.item, line_tokens) for candidate in chosen]
        except PromptError:
            return Attribution()
        liked = {
            label: entry.item.id
            for label, entry in enumerate(state.recent, 1)
            if entry.item is not None
        }
        ids = list(dict.fromkeys(liked[label] for label in lines))
        if not ids or not texts:
            return Attribution()
        lines_lived = list(lines.items())
        contexts = [
            (head, *(line for label, line in order if liked[label] != left_out))
            for order in (lines_lived, lines_lived[::-1])
            for left_out in (None, *ids)
        ]
        asked = [Asked(lines_told, text) for lines_told in contexts for text in texts]
        try:
            async with asyncio.timeout_at(until):
                likelihoods = await self.scorer.loglikelihoods(asked, context=context, apart=True)
        except (ModelError, TimeoutError):
            return Attribution()
        if len(likelihoods.values) != len(asked) or not all(map(isfinite, likelihoods.values)):
            return Attribution()
        return Attribution(_moved_by(ids, likelihoods.values, len(texts)))


def _moved_by(ids: Sequence[str], values: Sequence[float], count: int) -> list[dict[str, float]]:
    """For each of `count` chosen items, by how much each liked item moved it. `values`: of the
    whole list and of the list without each liked item, as it was lived and then backwards; of each
    list one value a chosen item."""
    rows = [values[start : start + count] for start in range(0, len(values), count)]
    lived, backwards = rows[: len(ids) + 1], rows[len(ids) + 1 :]
    moved = []
    for n in range(count):
        gains = {
            item_id: (lived[0][n] - lived[row][n] + backwards[0][n] - backwards[row][n]) / 2
            for row, item_id in enumerate(ids, 1)
        }
        moved.append(gains)
    return moved
