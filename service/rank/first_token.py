"""One prefill, one token: the log-probabilities of the candidates' letters as the answer (FIRST,
Reddy et al., EMNLP 2024).

What a letter gets because of its slot is measured with candidates that say nothing (contextual
calibration, Zhao et al., ICML 2021) and taken off. Asked forward and reversed; once more both ways
only if the two disagree about the best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from service.errors import InvalidOutput
from service.llm import LLM, OutputConstraint
from service.prompts import LETTERS
from service.rank import Context, Scores
from service.rank.ask import AskingStrategy, PromptQuestion, ask, averaged, prompted
from service.rank.spec import StrategySpec
from service.schema import Candidate, Item, Repairs, Usage, UserState

LEAST_MASS = 0.2
"""If less probability than this lies on the letters, the model isn't answering the question."""
AGREE = 3
"""Two orderings agree when their first so many are the same set."""


class FirstToken(AskingStrategy):
    """Scores are log-probabilities less those of the slot. Raises `InvalidOutput` when the letters'
    mass is below 0.2."""

    name = "first_token"

    def __init__(
        self, llm: LLM, weight: float, held: OutputConstraint = OutputConstraint()
    ) -> None:
        super().__init__(llm, weight, held)
        self._slots: dict[tuple[str, int], list[float]] = {}

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        count = len(candidates)
        ids = tuple([await self._llm.token(letter) for letter in LETTERS[:count]])
        by_slot = await self._slot_prior(ids, context)
        question = PromptQuestion(state, context, "letter")
        seen: list[list[int]] = []

        async def one(order: list[int]) -> Scores:
            call = replace(question.call([candidates[place] for place in order], 1), tokens=ids)
            answer = await ask(self._llm, call)
            if (mass := sum(map(math.exp, answer.logs))) < LEAST_MASS:
                raise InvalidOutput(f"the letters have {mass:.2f} of the probability")
            values = [log - prior for log, prior in zip(answer.logs, by_slot, strict=True)]
            best = sorted(range(count), key=lambda slot: -values[slot])[:AGREE]
            seen.append(sorted(order[slot] for slot in best))
            return Scores(values, answer.usage)

        found = await averaged(count, range(min(2, context.orderings)), one)
        if len(seen) == 2 and seen[0] != seen[1] and context.orderings > 2:
            more = await averaged(count, range(2, 4), one)
            values = [(a + b) / 2 for a, b in zip(found.values, more.values, strict=True)]
            found = Scores(values, found.usage + more.usage, Repairs())
        return found

    async def _slot_prior(self, ids: tuple[int, ...], context: Context) -> list[float]:
        """The letters' log-probabilities for candidates that say nothing, less their mean; asked
        once."""
        key = context.prompt.ref.sha, len(ids)
        if key not in self._slots:
            blank = Candidate.model_construct(
                item=Item.model_construct(id="", title="an item"), prior=0.0
            )
            question = PromptQuestion(UserState(), replace(context, instruction=None), "letter")
            logs = (
                await ask(self._llm, replace(question.call([blank] * len(ids), 1), tokens=ids))
            ).logs
            mean = sum(logs) / len(logs)
            self._slots[key] = [log - mean for log in logs]
        return self._slots[key]

    def tokens(self, count: int, context: Context) -> Usage:
        return prompted(count, 1, replace(context, orderings=min(2, context.orderings)))


SPEC = StrategySpec(
    "first_token",
    needs=lambda able: able.token_logprobs,
    answer="letter",
    fast=True,
    make=FirstToken,
)
