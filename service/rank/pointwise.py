"""Each candidate alone: how much likelier than no is yes? K short answers, no slots, no order to be
biased by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from service.rank import Context, Scores
from service.rank.ask import AskingStrategy, PromptQuestion, ask, prompted, together
from service.rank.spec import StrategySpec
from service.schema import Candidate, Usage, UserState

AT_ONCE = 8
"""So many questions of one request are at the server at a time."""


class Pointwise(AskingStrategy):
    """Scores are log-odds of yes."""

    name = "pointwise"
    in_letters = False

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        ids = tuple([await self._llm.token(word) for word in ("Yes", "yes", "No", "no")])
        question, free = PromptQuestion(state, context, "yes or no"), asyncio.Semaphore(AT_ONCE)

        async def one(candidate: Candidate) -> tuple[float, Usage]:
            async with free:
                answer = await ask(self._llm, replace(question.call([candidate], 1), tokens=ids))
            yes, other_yes, no, other_no = answer.logs
            return float(np.logaddexp(yes, other_yes) - np.logaddexp(no, other_no)), answer.usage

        found = await together([one(candidate) for candidate in candidates])
        return Scores([value for value, _ in found], sum((usage for _, usage in found), Usage()))

    def tokens(self, count: int, context: Context) -> Usage:
        one = prompted(1, 1, replace(context, orderings=1))
        return Usage(
            prompt_tokens=count * one.prompt_tokens,
            completion_tokens=count,
            total_tokens=count * one.total_tokens,
        )


SPEC = StrategySpec(
    "pointwise", needs=lambda able: able.token_logprobs, answer="yes or no", make=Pointwise
)
