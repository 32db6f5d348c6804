"""What event types mean."""

from itertools import chain
from typing import Any

from pydantic import Field, field_serializer

from service.config.sections import Section
from service.schema import Label, Meaning

MEANINGS: dict[str, Meaning] = {
    "impression": Meaning(),
    "view": Meaning(weight=0.2, verb="viewed"),
    "click": Meaning(weight=0.3, verb="clicked"),
    "play": Meaning(weight=0.6, consumes=True, verb="played"),
    "like": Meaning(weight=1, consumes=True, verb="liked"),
    "unlike": Meaning(weight=-0.3, takes_back="like", verb="took back a like of"),
    "dislike": Meaning(weight=-1, consumes=True, verb="disliked"),
    "rating": Meaning(weight=1, consumes=True, scale=(1, 5), verb="rated"),
    "comment": Meaning(weight=0.4, verb="commented on"),
    "purchase": Meaning(weight=1, consumes=True, verb="bought"),
    "return": Meaning(weight=-0.8, consumes=True, verb="returned"),
    "add_to_cart": Meaning(weight=0.7, verb="put in the cart"),
    "remove_from_cart": Meaning(weight=-0.3, verb="took out of the cart"),
    "follow": Meaning(weight=0.8, consumes=True, verb="followed"),
    "subscribe": Meaning(weight=0.8, consumes=True, verb="subscribed to"),
    "share": Meaning(weight=0.8, verb="shared"),
    "skip": Meaning(weight=-0.4, verb="skipped"),
    "search": Meaning(verb="searched for"),
    "seen": Meaning(consumes=True, verb="has seen"),
    "block": Meaning(weight=-1, blocks=True, verb="blocked"),
    "unblock": Meaning(unblocks=True),
}
"""What the built-in event types mean, unless `DOMAIN_MEANINGS` changes it."""


DOMAIN_MEANINGS: dict[str, dict[str, Meaning]] = {
    "shop": {"like": Meaning(consumes=False)},
    "friends": {"like": Meaning(consumes=False)},
    "topics": {"like": Meaning(consumes=False)},
}
"""Changes to `MEANINGS` in a domain, field by field. Goods, friends and topics that somebody liked
may still be bought, met or followed, so there a like does not consume."""


class EventSettings(Section):
    """Changes to what the built-in event types mean, and meanings of new types. `types`: in every
    domain; `meanings`: by domain (`generic`: in every one). Fields that are not given stay as they
    are: `types: {rating: {scale: [1, 10]}}` changes only the scale of a rating.
    `future_tolerance_s`: how far in the future an event's time may lie.
    """

    future_tolerance_s: float = Field(300, ge=0)
    types: dict[Label, Meaning] = {}
    meanings: dict[Label, dict[Label, Meaning]] = {}

    @field_serializer("types")
    def _dump_types(self, types: dict[str, Meaning]) -> dict[str, dict[str, Any]]:
        """Dumps only the fields that were given: a default would overrule the built-in meaning when
        the dump is read again."""
        return {name: meaning.model_dump(exclude_unset=True) for name, meaning in types.items()}

    @field_serializer("meanings")
    def _dump_meanings(
        self, meanings: dict[str, dict[str, Meaning]]
    ) -> dict[str, dict[str, dict[str, Any]]]:
        return {domain: self._dump_types(types) for domain, types in meanings.items()}

    def of(self, domain: str) -> dict[str, Meaning]:
        """The meaning of every known event type in a domain."""
        meanings = dict(MEANINGS)
        for changes in (
            DOMAIN_MEANINGS.get(domain),
            self.types,
            self.meanings.get("generic"),
            self.meanings.get(domain),
        ):
            for name, change in (changes or {}).items():
                meanings[name] = change.over(meanings[name]) if name in meanings else change
        return meanings

    @property
    def known(self) -> frozenset[str]:
        """All event types that have a meaning in any domain."""
        return frozenset(
            chain(MEANINGS, self.types, *DOMAIN_MEANINGS.values(), *self.meanings.values())
        )
