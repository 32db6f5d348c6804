"""Which of a person's liked items moved an item's score: leave one out, and see how much less likely the item becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from service.errors import ModelError, PromptError
from service.llm import Asked, Scorer
from service.prompts import Prompt
from service.schema import Candidate, Usage, UserState


@dataclass(frozen=True)
class Moved:
    """By how many nats each liked item moves each of the chosen: by the liked item's id, for the first of the chosen; empty
    where that is not known."""

    by: Sequence[Mapping[str, float]] = ()
    usage: Usage = Usage()


@dataclass(frozen=True)
class Attribution:
    """log P(title | liked) − log P(title | liked without one), over the last `titles` liked items of a `score` prompt.

    One call: the lists share their beginnings, and the whole one, which comes first, is what a ranking by likelihood has read.
    """

    scorer: Scorer
    prompt: Prompt
    titles: int

    async def moved(self, state: UserState, chosen: Sequence[Candidate], *, line_tokens: int, until: float) -> Moved:
        """Nothing if the model fails or is not done by `until`, a time of the event loop."""
        try:
            head, lines = self.prompt.document(state, self.titles, line_tokens)
            texts = [self.prompt.line(candidate.item, line_tokens) for candidate in chosen]
        except PromptError:
            return Moved()
        whose = {n: entry.item.id for n, entry in enumerate(state.recent, 1) if entry.item is not None}
        left_out = list(dict.fromkeys(whose[label] for label in lines))
        if not left_out or not texts:
            return Moved()
        without = [(head, *(line for label, line in lines.items() if whose[label] != one)) for one in left_out]
        asked = [Asked(context, text) for context in [(head, *lines.values()), *without] for text in texts]
        try:
            async with asyncio.timeout_at(until):
                found = await self.scorer.loglikelihoods(asked)
        except (ModelError, TimeoutError):
            return Moved()
        if len(found.values) != len(asked) or not all(map(isfinite, found.values)):
            return Moved(usage=found.usage)
        whole, *rows = [found.values[start : start + len(texts)] for start in range(0, len(asked), len(texts))]
        by = [{one: whole[n] - row[n] for one, row in zip(left_out, rows, strict=True)} for n in range(len(texts))]
        return Moved(by, found.usage)
