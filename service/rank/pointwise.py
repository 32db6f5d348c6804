"""Asks about each candidate alone whether it fits, and compares the probabilities of yes and no.

K candidates take K short questions. No other candidate is shown, so no order can bias the answer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from service.llm.asking import ask
from service.rank import Context, Scores, StrategySpec
from service.rank.ask import AskingStrategy, prompted, question, together
from service.schema import Candidate, Usage, UserState

AT_ONCE = 8
"""How many questions of one request are at the server at a time."""


class Pointwise(AskingStrategy):
    """Scores are the log-odds of yes against no."""

    name = "pointwise"
    in_letters = False

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        ids = tuple([await self._llm.token(word) for word in ("Yes", "yes", "No", "no")])
        free = asyncio.Semaphore(AT_ONCE)

        async def log_odds(candidate: Candidate) -> float:
            async with free:
                call = question(state, [candidate], context, "yes or no", tokens=ids)
                yes, other_yes, no, other_no = (await ask(self._llm, call)).logs
            return float(np.logaddexp(yes, other_yes) - np.logaddexp(no, other_no))

        return Scores(await together([log_odds(candidate) for candidate in candidates]))

    def tokens(self, count: int, context: Context) -> Usage:
        single = prompted(1, 1, replace(context, orderings=1))
        return Usage(
            prompt_tokens=count * single.prompt_tokens,
            completion_tokens=count,
            total_tokens=count * single.total_tokens,
        )


SPEC = StrategySpec(
    "pointwise", needs=lambda able: able.token_logprobs, answer="yes or no", make=Pointwise
)
