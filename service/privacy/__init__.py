"""What may leave for a model outside, decided once a request: `Views`, one `View` a model.

Every text to a model is redacted by `Privacy.outgoing` last thing before its adapter, which takes
no other. A `View` comes earlier, before a prompt is made, and knows who wrote what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service.config import Settings
from service.privacy.patterns import Outgoing, PatternRedactor, count_redactions
from service.privacy.redaction import Redaction, possible_ids
from service.privacy.view import EMBEDDER, View, Views

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
