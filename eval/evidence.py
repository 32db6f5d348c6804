"""What a reader of reasons can look up: the catalogue's items and words, and what people did."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from eval.lexicon import FUNCTION_WORDS, verbs_of
from eval.protocols import Options
from eval.words import Material, phrase, words
from service.schema import Event, Item, Meaning


@dataclass(frozen=True)
class Evidence:
    """`meanings`: what each type of event means. `log`: what everybody did, for counts of people;
    without it no count is true."""

    catalogue: Mapping[str, Item]
    meanings: Mapping[str, Meaning]
    log: Iterable[Event] = ()
    _materials: dict[str, Material] = field(default_factory=dict, init=False)

    def material(self, item: Item) -> Material:
        if item.id not in self._materials:
            self._materials[item.id] = Material.of(item)
        return self._materials[item.id]

    @cached_property
    def verbs(self) -> dict[str, frozenset[str]]:
        """English verbs, longest first, with the event types that they may stand for."""
        return verbs_of(self.meanings)

    @cached_property
    def values(self) -> frozenset[tuple[str, ...]]:
        """Attribute values of the whole catalogue that say something, as `phrase`s."""
        texts = {value for item in self.catalogue.values() for _, value in item.facts()}
        return frozenset(
            phrase(text)
            for text in texts
            if isinstance(text, str) and any(w.form not in FUNCTION_WORDS for w in words(text))
        )

    @cached_property
    def keys(self) -> frozenset[str]:
        """Words of the names of attributes that are not yes or no: a reason may name them."""
        names = {
            key
            for item in self.catalogue.values()
            for key, value in item.facts()
            if not isinstance(value, bool)
        }
        return frozenset(word.form for key in names for word in words(key.replace("_", " ")))

    @cached_property
    def _options(self) -> Options:
        return Options(self.meanings)

    @cached_property
    def _doings(self) -> dict[str, list[Event]]:
        """The log's events by item."""
        found: dict[str, list[Event]] = {}
        for event in self.log:
            if event.item_id is not None:
                found.setdefault(event.item_id, []).append(event)
        return found

    def does(self, event: Event, types: Iterable[str]) -> bool:
        """Whether an event is of one of the types. A rating that says so is a like, too."""
        rated = event.value is not None and self._options.likes(event)
        return event.type in types or ("like" in types and rated)

    def who(self, item_id: str, types: frozenset[str] = frozenset({"like"})) -> set[str]:
        """Everybody who did so with an item. Of others everything that says so is a like."""
        return {
            event.user_id or event.session_id or ""
            for event in self._doings.get(item_id, ())
            if self.does(event, types) or ("like" in types and self._options.likes(event))
        }
