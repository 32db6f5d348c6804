"""What may leave for a model outside, decided once a request: `Views`, one `View` a model.

Every text to a model is redacted by `Privacy.outgoing` last thing before its adapter, which takes
no other. A `View` comes earlier, before a prompt is made, and knows who wrote what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from service.config import Settings
from service.privacy.patterns import Outgoing, PatternRedactor, count_redactions
from service.privacy.redaction import Redaction, possible_ids
from service.schema import Candidate, UserState

__all__ = [
    "EMBEDDER",
    "Outgoing",
    "PatternRedactor",
    "Privacy",
    "Redaction",
    "View",
    "Views",
    "count_redactions",
    "possible_ids",
]

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


class Privacy:
    """What `settings` decide of who may see what."""

    def __init__(self, settings: Settings) -> None:
        privacy = settings.privacy
        outside = {alias for alias, model in settings.models.items() if model.leaves_the_house}
        if settings.embed.leaves_the_house:
            outside.add(EMBEDDER)
        self.outside = frozenset(outside)
        self._patterns = PatternRedactor(privacy.phone_regions)
        keys = privacy.item_attributes
        if keys is None:
            keys = list(settings.catalog.filterable)
        self._redaction = Redaction(
            self._patterns,
            frozenset(keys),
            frozenset(privacy.user_attributes),
            tuple(privacy.names),
        )

    def leaves(self, alias: str) -> bool:
        """Is a model outside the house?"""
        return alias in self.outside

    def outgoing(self, alias: str) -> Callable[[str], Outgoing]:
        """What every text to a model goes through."""
        return self._patterns if self.leaves(alias) else Outgoing

    def views(
        self, *, allowed: bool, names: Sequence[str] = (), ids: Sequence[str | None] = ()
    ) -> Views:
        """`allowed`: does the person let models outside see anything? `names`, `ids`: to be taken
        out of the person's own words."""
        redaction = self._redaction
        if self.outside:
            redaction = redaction.for_request(names, ids)
        return Views(self.outside, allowed, redaction)
