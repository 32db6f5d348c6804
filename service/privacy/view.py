"""What one model, and all of them, may see of one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.privacy.redaction import Redaction
from service.schema import Candidate, UserState

EMBEDDER = ""
"""The embedder's place among the aliases of models."""


@dataclass(frozen=True)
class View:
    """What one model may see of one request. `allowed`: anything of the person at all? `redaction`:
    what is changed before it is shown; None for a model in the house, which sees all."""

    allowed: bool
    redaction: Redaction | None = None

    def shown(
        self, state: UserState, candidates: Sequence[Candidate], instruction: str | None
    ) -> tuple[UserState, Sequence[Candidate], str | None]:
        """A person, candidates in their order and an instruction, as the model may see them."""
        if self.redaction is None:
            return state, candidates, instruction
        return self.redaction.shown(state, candidates, instruction)

    def words(self, text: str) -> str:
        """A person's own words, for a prompt."""
        return text if self.redaction is None else self.redaction.words(text)

    def sent(self, text: str) -> str:
        """A person's own words, to be sent as they are."""
        return text if self.redaction is None else self.redaction.sent(text)

    def form(self, text: str) -> str:
        """A text that is nobody's own words: without what is private by its form."""
        return text if self.redaction is None else self.redaction.patterns(text)

    def facets(self, values: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
        """Values of the catalogue by key, those that may be shown."""
        return values if self.redaction is None else self.redaction.facets(values)


@dataclass(frozen=True)
class Views:
    """The views of all models on one request. `outside`: aliases of the models outside the house;
    `allowed`: does the person let those see anything?"""

    outside: frozenset[str]
    allowed: bool
    redaction: Redaction

    def of(self, alias: str) -> View:
        if alias not in self.outside:
            return View(allowed=True)
        return View(self.allowed, self.redaction)

    @property
    def embedder(self) -> View:
        return self.of(EMBEDDER)
