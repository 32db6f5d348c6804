"""What a model outside may be shown of a person and of items: somebody's own words without
addresses, names and ids, and only the attributes that are on a list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from service.privacy.patterns import (
    HIDDEN,
    Finder,
    Outgoing,
    PatternRedactor,
    Span,
    masked,
    plain_copy,
)
from service.schema import Candidate, Item, Recent, UserState

LONGEST = 2_100
"""A prompt shows at most 2,000 characters of one text; what begins before that is looked at
whole."""
LEAST_ID = 3
"""Shorter ids are words that mean anything."""

_NO_STREET = (
    r"(?!(?:years?|days?|hours?|minutes?|times?|films?|movies?|songs?|books?"
    r"|the|an?|on|at|of|in|to|for|by|and|or)\b)"
)
_ADDRESS = re.compile(
    "|".join(
        (
            rf"\b\d{{1,5}}[a-z]?,? (?:{_NO_STREET}[\w'.-]+ ){{1,3}}"
            r"(?:street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|court|square|sq"
            r"|terrace|crescent|highway|hwy)\b\.?",
            r"\b[\w'-]{0,30}[^\W\d_]{2}[ -]?(?:stra(?:ß|ss)e|str\.|gasse|allee|platz|ufer|damm"
            r"|straat|laan|gracht|kade|gatan)"
            r" ?\d{1,4}(?: ?[a-z]\b)?",
            r"\b(?!um)[^\W\d_]{3,}weg \d{1,4}(?: ?[a-z]\b)?",
            r"\b\d{1,4}(?: ?(?:bis|ter))?,? "
            r"(?:rue|avenue|boulevard|bd|place|chemin|all[eé]e|impasse|quai) "
            r"(?:(?:de la|de|du|des) |d'|l'|de l')?[\w'-]+(?: [A-Z][\w'-]+)*",
            r"\b(?:calle|avenida|avda\.?|plaza|paseo|rua|pra[cç]a|viale|piazza|corso"
            r"|ulica|ul\.|ул\.|улица|(?-i:Via|Av\.)) "
            r"(?:[\w'.-]+ ){0,3}[\w'.-]+,? (?:n[ºo°]?\.? ?|д\. ?)?\d{1,4}\b",
            r"[\u4e00-\u9fff]{1,12}(?:路|街|大道|巷|弄) ?\d{1,5} ?[号號弄](?:楼|樓)?"
            r"(?: ?\d{1,5} ?[室楼樓])?",
        )
    ),
    re.IGNORECASE,
)
_HAS_DIGIT = re.compile(r"\d")
_HAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def _addresses(plain: str) -> Iterator[Span]:
    if _HAS_DIGIT.search(plain):
        for address in _ADDRESS.finditer(plain):
            yield address.span()


def _mentions(words: Sequence[str]) -> Finder:
    """Where any of these stands as whole words, in any case; between their parts may stand any few
    marks."""

    def find(plain: str) -> Iterator[Span]:
        folded = plain.casefold()
        for word in words:
            if word.split()[0] in folded:
                for mention in _whole(word).finditer(plain):
                    yield mention.span()

    return find


@lru_cache(maxsize=4_096)
def _whole(word: str) -> re.Pattern[str]:
    """Letters that stand without blanks between words have no borders."""
    parts = r"[\W_]{1,3}".join(map(re.escape, word.split()))
    before, after = (
        "" if _HAN.match(char) else border
        for char, border in ((word[0], r"(?<!\w)"), (word[-1], r"(?!\w)"))
    )
    return re.compile(f"{before}{parts}{after}", re.IGNORECASE)


def _folded(words: Iterable[str]) -> tuple[str, ...]:
    """As they are looked for, the longest first; without those that hold nothing to look for."""
    plain = {" ".join(plain_copy(word).replace(HIDDEN, "").casefold().split()) for word in words}
    return tuple(
        sorted(
            (word for word in plain if re.search(r"\w", word)), key=lambda word: (-len(word), word)
        )
    )


@dataclass(frozen=True)
class Redaction:
    """`names`, `own`: names and ids that are taken out of a person's own words; attributes of items
    and people: only of these keys."""

    patterns: PatternRedactor
    item_attributes: frozenset[str]
    user_attributes: frozenset[str]
    names: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    def for_request(self, names: Sequence[str], own: Iterable[str | None]) -> Redaction:
        """With the names that a request lists and the ids of who asks."""
        ids = (one for one in own if one is not None and len(one) >= LEAST_ID)
        return replace(self, names=_folded([*self.names, *names]), own=_folded(ids))

    def shown(
        self, state: UserState, candidates: Sequence[Candidate], instruction: str | None
    ) -> tuple[UserState, list[Candidate], str | None]:
        """A person, candidates in their order and an instruction as a prompt may be made of."""
        items = [
            *(entry.item for entry in state.recent if entry.item is not None),
            *(candidate.item for candidate in candidates),
        ]
        ids = _folded(item.id for item in items if len(item.id) >= LEAST_ID and not _titled(item))
        allowed = {
            key: value for key, value in state.attributes.items() if key in self.user_attributes
        }
        declared = {
            key: [self._value(part, ids) for part in value]
            if isinstance(value, list)
            else self._value(value, ids)
            for key, value in allowed.items()
        }
        recent = tuple(self._entry(entry, ids) for entry in state.recent)
        shown = [
            candidate.model_copy(update={"item": self.item(candidate.item)})
            for candidate in candidates
        ]
        words = self.words(instruction, ids) if instruction is not None else None
        return state.model_copy(update={"recent": recent, "attributes": declared}), shown, words

    def words(self, text: str, ids: Sequence[str] = ()) -> str:
        """What a prompt may say of a person's own words."""
        return masked(
            self.patterns.marked(_line(text)),
            (
                ("id", _mentions((*self.own, *ids))),
                ("address", _addresses),
                ("name", _mentions(self.names)),
            ),
        )

    def sent(self, text: str) -> Outgoing:
        """What may be sent of a person's own words as they are, without a prompt around them."""
        return self.patterns(self.words(text))

    def facets(self, values: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Values of items by key, those that may be shown."""
        return {
            key: [value for value in listed if self.patterns.marked(value) == value]
            for key, listed in values.items()
            if key in self.item_attributes
        }

    def item(self, item: Item) -> Item:
        """Its title, or without one its text, and the attributes on the list."""
        shown = {
            key: value for key, value in item.attributes.items() if key in self.item_attributes
        }
        attributes = {
            key: [self._fact(part) for part in value]
            if isinstance(value, list)
            else self._fact(value)
            for key, value in shown.items()
        }
        text = "" if item.title else self.patterns.marked(_line(item.text))
        return item.model_copy(
            update={
                "title": self.patterns.marked(_line(item.title)),
                "text": text,
                "attributes": attributes,
                "url": None,
                "image_url": None,
            }
        )

    def _entry(self, entry: Recent, ids: Sequence[str]) -> Recent:
        item = self.item(entry.item) if entry.item is not None else None
        event = entry.event.model_copy(
            update={"text": self.words(entry.event.text, ids) if entry.event.text else None}
        )
        return entry.model_copy(update={"item": item, "event": event})

    def _value(
        self, value: str | int | float | bool, ids: Sequence[str]
    ) -> str | int | float | bool:
        return self.words(value, ids) if isinstance(value, str) else value

    def _fact(self, value: str | int | float | bool) -> str | int | float | bool:
        return self.patterns.marked(_line(value)) if isinstance(value, str) else value


_WORDS = re.compile(r"[\w.:-]+"), re.compile(r"\S*/\S*")
"""Plain ones, and those that are a path or a URL."""
_AROUND = ".:-,;!?'\"()[]<>"
_LETTER, _MARK = re.compile(r"[^\W\d_]"), re.compile(r"[\d_/-]")


def possible_ids(texts: Iterable[str]) -> list[str]:
    """Words of texts that look like ids: with letters, and digits, hyphens or slashes. Numbers and
    plain words mean too much else."""
    words = {
        word.strip(_AROUND)
        for text in texts
        for kind in _WORDS
        for word in kind.findall(text[:LONGEST])
    }
    return [word for word in words if _LETTER.search(word) and _MARK.search(word)]


def _line(text: str) -> str:
    """As much of it as a prompt may show, on one line, as a prompt has it."""
    return " ".join(text[:LONGEST].split())


def _titled(item: Item) -> bool:
    """Does an item's title hold its id? Then the id tells nothing that isn't shown."""
    title, name = (" ".join(re.findall(r"\w+", one.casefold())) for one in (item.title, item.id))
    return bool(name) and f" {name} " in f" {title} "
