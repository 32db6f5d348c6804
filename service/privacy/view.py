"""What each model may see of one request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.privacy.redaction import Redaction
from service.schema import Candidate, UserState

EMBEDDER = ""
"""Stands for the embedder where a model's alias is expected."""


@dataclass(frozen=True)
class View:
    """What one model may see of one request.

    `allowed`: whether it may see anything of the person. `redaction`: what changes the data before
    the model sees it; None for a model in the house, which sees everything.
    """

    allowed: bool
    redaction: Redaction | None = None

    def shown(
        self, state: UserState, candidates: Sequence[Candidate], instruction: str | None
    ) -> tuple[UserState, Sequence[Candidate], str | None]:
        """Returns the person, the candidates (in their order) and the instruction as the model may
        see them."""
        if self.redaction is None:
            return state, candidates, instruction
        return self.redaction.shown(state, candidates, instruction)

    def words(self, text: str) -> str:
        """Returns a person's own words as a prompt for this model may contain them."""
        return text if self.redaction is None else self.redaction.words(text)

    def sent(self, text: str) -> str:
        """Returns a person's own words as they may be sent alone, without a prompt around them."""
        return text if self.redaction is None else self.redaction.sent(text)

    def form(self, text: str) -> str:
        """Removes what is private by its form from a text that isn't a person's own words."""
        return text if self.redaction is None else self.redaction.patterns(text)

    def facets(self, values: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
        """Returns the catalogue's attribute values, by key, that the model may see."""
        return values if self.redaction is None else self.redaction.facets(values)


@dataclass(frozen=True)
class Views:
    """What each model may see of one request.

    `outside`: aliases of the models outside the house. `allowed`: whether the person lets those see
    anything.
    """

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
