"""Which of a person's liked items moved an item's score: how likely is it without one of them?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from service.context import CallContext
from service.errors import ModelError, PromptError
from service.llm import Asked, Scorer
from service.prompts import Prompt
from service.schema import Candidate, Usage, UserState


@dataclass(frozen=True)
class Attribution:
    """By how many nats each liked item moves each of the chosen: by the liked item's id, for the
    first of the chosen; empty where that is not known."""

    by: Sequence[Mapping[str, float]] = ()
    usage: Usage = Usage()


@dataclass(frozen=True)
class Attributor:
    """What a liked item adds to log P(title | liked), over the last `titles` liked items of a
    `score` prompt: the mean of what is lost without it in the list as it was lived and in the same
    list backwards. In one order a small model hears so much of an item's place that another model
    often sees no such effect (`make verify`).

    One call: the lists share their beginnings. Each of the chosen is scored apart: what speaks for
    it depends on the person and the item alone, not on what it was chosen beside.
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
        """Nothing if the model fails or is not done by `until`, a time of the event loop."""
        try:
            head, lines = self.prompt.document(state, self.titles, line_tokens)
            texts = [self.prompt.line(candidate.item, line_tokens) for candidate in chosen]
        except PromptError:
            return Attribution()
        whose = {
            n: entry.item.id for n, entry in enumerate(state.recent, 1) if entry.item is not None
        }
        ids = list(dict.fromkeys(whose[label] for label in lines))
        if not ids or not texts:
            return Attribution()
        orders = [list(lines.items()), list(lines.items())[::-1]]
        contexts = [
            (head, *(line for label, line in order if whose[label] != one))
            for order in orders
            for one in (None, *ids)
        ]
        asked = [Asked(context, text) for context in contexts for text in texts]
        try:
            async with asyncio.timeout_at(until):
                found = await self.scorer.loglikelihoods(asked, context=context, apart=True)
        except (ModelError, TimeoutError):
            return Attribution()
        if len(found.values) != len(asked) or not all(map(isfinite, found.values)):
            return Attribution(usage=found.usage)
        lists = [
            found.values[start : start + len(texts)] for start in range(0, len(asked), len(texts))
        ]
        ahead, back = lists[: len(ids) + 1], lists[len(ids) + 1 :]
        by = [
            {
                one: (ahead[0][n] - ahead[m][n] + back[0][n] - back[m][n]) / 2
                for m, one in enumerate(ids, 1)
            }
            for n in range(len(texts))
        ]
        return Attribution(by, found.usage)
