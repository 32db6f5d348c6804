"""Decides what a model outside the house may be sent.

`Privacy.views` makes one `View` a model for each request: it redacts a person's own words and
attributes before a prompt is made from them. `Privacy.outgoing` redacts every finished text once
more, just before the model's adapter, which accepts only the type `Outgoing`.
"""

from collections.abc import Callable, Sequence

from service.config import Settings
from service.privacy.patterns import Outgoing, PatternRedactor, count_redactions
from service.privacy.redaction import EMBEDDER, Redaction, View, Views, possible_ids

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


class Privacy:
    """Decides by `settings` which models see which data."""

    def __init__(self, settings: Settings) -> None:
        privacy = settings.privacy
        models = {alias for alias, model in settings.models.items() if model.leaves_the_house}
        embedder = {EMBEDDER} if settings.embed.leaves_the_house else set()
        self.outside = frozenset(models | embedder)
        self._redaction = Redaction(
            PatternRedactor(privacy.phone_regions),
            frozenset(
                settings.catalog.filterable
                if privacy.item_attributes is None
                else privacy.item_attributes
            ),
            frozenset(privacy.user_attributes),
            tuple(privacy.names),
        )

    def leaves(self, alias: str) -> bool:
        """Whether texts to this model leave the house."""
        return alias in self.outside

    def outgoing(self, alias: str) -> Callable[[str], Outgoing]:
        """Returns the function that every text to this model passes last: a `PatternRedactor` for a
        model outside; for one in the house a function that changes nothing."""
        return self._redaction.patterns if self.leaves(alias) else Outgoing

    def views(
        self, *, allowed: bool, names: Sequence[str] = (), ids: Sequence[str | None] = ()
    ) -> Views:
        """Returns what each model may see of one request.

        `allowed`: whether the person lets models outside see anything. `names`, `ids`: what is
        removed from the person's own words.
        """
        redaction = self._redaction
        if self.outside:
            redaction = redaction.for_request(names, ids)
        return Views(self.outside, allowed, redaction)
