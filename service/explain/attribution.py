"""Measures how much each liked item raises the likelihood of a chosen one, by leaving each out."""

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

    `by`: for each chosen item, in order, the effect in nats by the liked item's id; empty if it
    could not be measured.
    """

    by: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True)
class Attributor:
    """Scores the chosen items with the whole list of liked items, and without each of them.

    The effect of a liked item on log P(title | history), with the last `titles` items as history,
    is the mean of two differences: for the history in order, and reversed. In a single order, a
    small model reacts so strongly to an item's position that another model often finds no such
    effect (`make verify`).

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
        """Measures the effects. Returns an empty attribution if the model fails or isn't done by
        `until` (time of the event loop)."""
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
            return Attribution()
        if len(likelihoods.values) != len(asked) or not all(map(isfinite, likelihoods.values)):
            return Attribution()
        return Attribution(_moved_by(ids, likelihoods.values, len(texts)))


def _moved_by(ids: Sequence[str], values: Sequence[float], count: int) -> list[dict[str, float]]:
    """Computes the effect of each liked item on each of `count` chosen ones.

    `values`: log-likelihoods, `count` for each history: the whole one, then without each liked
    item; first in order, then reversed.
    """
    rows = [values[start : start + count] for start in range(0, len(values), count)]
    forwards, backwards = rows[: len(ids) + 1], rows[len(ids) + 1 :]
    moved = []
    for n in range(count):
        gains = {
            item_id: (forwards[0][n] - forwards[row][n] + backwards[0][n] - backwards[row][n]) / 2
            for row, item_id in enumerate(ids, 1)
        }
        moved.append(gains)
    return moved
