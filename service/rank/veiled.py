"""A strategy whose model is outside: it sees what may leave, and its scores are everybody's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from service.rank import Context, Scores, Strategy
from service.schema import Candidate, Usage, UserState


class Redacts(Protocol):
    """What may leave of a person, candidates and an instruction; the candidates in the same
    order."""

    def over(
        self, state: UserState, candidates: Sequence[Candidate], instruction: str | None
    ) -> tuple[UserState, list[Candidate], str | None]: ...


class RedactedStrategy:
    """Stands before a strategy under its name."""

    def __init__(self, strategy: Strategy, veil: Redacts) -> None:
        self._strategy = strategy
        self._veil = veil
        self.name = strategy.name
        self.model = strategy.model
        self.weight = strategy.weight
        self.in_letters = strategy.in_letters

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        state, shown, instruction = self._veil.over(state, candidates, context.instruction)
        return await self._strategy.score(state, shown, replace(context, instruction=instruction))

    def tokens(self, count: int, context: Context) -> Usage:
        return self._strategy.tokens(count, context)
