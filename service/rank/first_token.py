"""Ranks by one prefill and one token: the log-probability of each candidate's letter as the answer
(FIRST, Reddy et al., EMNLP 2024).

What a letter gets because of its slot is measured with candidates that say nothing (contextual
calibration, Zhao et al., ICML 2021) and subtracted. The list is shown forwards and backwards; two
more orderings are asked only if these two disagree about the best.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from service.errors import InvalidOutput
from service.llm import LLM, OutputConstraint
from service.llm.asking import ask
from service.prompts import LETTERS
from service.rank import Context, Scores, StrategySpec
from service.rank.ask import AskingStrategy, averaged, prompted, question
from service.schema import Candidate, Item, Usage, UserState

LEAST_MASS = 0.2
"""If the letters have less probability in all, the model isn't answering the question."""
AGREE = 3
"""Two orderings agree if their first `AGREE` candidates are the same, in any order."""


class FirstToken(AskingStrategy):
    """Scores are log-probabilities, less what the slot adds to them. Raises `InvalidOutput` if the
    letters have less than `LEAST_MASS` of the probability."""

    name = "first_token"

    def __init__(self, llm: LLM, held: OutputConstraint = OutputConstraint()) -> None:
        super().__init__(llm, held)
        self._slots: dict[tuple[str, int], list[float]] = {}

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        count = len(candidates)
        ids = tuple([await self._llm.token(letter) for letter in LETTERS[:count]])
        by_slot = await self._slot_prior(ids, context)
        best: list[set[str]] = []  # of each ordering

        async def ask_in(shown: list[Candidate]) -> Scores:
            call = question(state, shown, context, "letter", tokens=ids)
            logs = (await ask(self._llm, call)).logs
            mass = sum(map(math.exp, logs))
            if mass < LEAST_MASS:
                raise InvalidOutput(f"the letters have {mass:.2f} of the probability")
            values = [log - prior for log, prior in zip(logs, by_slot, strict=True)]
            slots = sorted(range(count), key=lambda slot: -values[slot])[:AGREE]
            best.append({shown[slot].item.id for slot in slots})
            return Scores(values)

        scores = await averaged(candidates, range(min(2, context.orderings)), ask_in)
        if len(best) == 2 and best[0] != best[1] and context.orderings > 2:
            again = await averaged(candidates, range(2, 4), ask_in)
            return Scores([(a + b) / 2 for a, b in zip(scores.values, again.values, strict=True)])
        return scores

    async def _slot_prior(self, ids: tuple[int, ...], context: Context) -> list[float]:
        """Returns what each slot adds to a log-probability: that of its letter for candidates that
        say nothing, less the mean of all letters. The model is asked once for each prompt and
        number of letters."""
        key = context.prompt.ref.sha, len(ids)
        if key not in self._slots:
            blank = Candidate.model_construct(
                item=Item.model_construct(id="", title="an item"), prior=0.0
            )
            call = question(
                UserState(),
                [blank] * len(ids),
                replace(context, instruction=None),
                "letter",
                tokens=ids,
            )
            logs = (await ask(self._llm, call)).logs
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
