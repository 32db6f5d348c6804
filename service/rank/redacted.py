"""A strategy whose model is outside: it sees what may leave, and its scores are everybody's."""

from collections.abc import Sequence
from dataclasses import replace

from service.privacy.view import View
from service.rank import Context, Scores, Strategy
from service.schema import Candidate, Usage, UserState


class RedactedStrategy:
    """Stands before a strategy under its name, and shows it what its model's `view` allows."""

    def __init__(self, strategy: Strategy, view: View) -> None:
        self._strategy = strategy
        self._view = view
        self.name = strategy.name
        self.model = strategy.model
        self.weight = strategy.weight
        self.in_letters = strategy.in_letters

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        state, candidates, instruction = self._view.shown(state, candidates, context.instruction)
        context = replace(context, instruction=instruction)
        return await self._strategy.score(state, candidates, context)

    def tokens(self, count: int, context: Context) -> Usage:
        return self._strategy.tokens(count, context)
