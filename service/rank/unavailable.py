"""A strategy that can't be had: it fails at once, so that the next of the ladder answers openly."""

from collections.abc import Sequence

from service.errors import ModelError
from service.rank import Context, Scores, Strategy
from service.schema import Candidate, Usage, UserState


class UnavailableStrategy:
    """Stands in a strategy's place under its name; raises `why`."""

    weight = 0.0

    def __init__(self, strategy: Strategy, why: ModelError) -> None:
        self._why = why
        self.name = strategy.name
        self.model = strategy.model
        self.in_letters = strategy.in_letters

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        raise self._why

    def tokens(self, count: int, context: Context) -> Usage:
        return Usage()
