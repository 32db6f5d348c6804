"""Redacts what a model outside is shown: removes addresses, names and ids from a person's own
words, and every attribute that configuration doesn't list."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from service.privacy.patterns import (
    HIDDEN,
    Finder,
    Outgoing,
    PatternRedactor,
    Span,
    masked,
    plain_copy,
)
from service.schema import Attributes, Candidate, Item, Recent, Scalar, UserState

LONGEST = 2_100
"""How many characters of a text are searched: the 2,000 that a prompt shows, and 100 more, so that
an address that begins within the 2,000 is found whole."""
EMBEDDER = ""
"""Stands for the embedder where a model's alias is expected."""
LEAST_ID = 3
"""Ids of fewer characters are not removed: they are too often ordinary words."""

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
    """Returns a finder of these phrases as whole words, in any case. One to three blanks or marks
    may stand between a phrase's words."""

    def find(plain: str) -> Iterator[Span]:
        folded = plain.casefold()
        for word in words:
            if word.split()[0] in folded:
                for mention in _whole(word).finditer(plain):
                    yield mention.span()

    return find


@lru_cache(maxsize=4_096)
def _whole(word: str) -> re.Pattern[str]:
    """A pattern for a phrase. Where it begins or ends with a Chinese, Japanese or Korean character,
    no word border is required, as those scripts put no blanks between words."""
    parts = r"[\W_]{1,3}".join(map(re.escape, word.split()))
    before, after = (
        "" if _HAN.match(char) else border
        for char, border in ((word[0], r"(?<!\w)"), (word[-1], r"(?!\w)"))
    )
    return re.compile(f"{before}{parts}{after}", re.IGNORECASE)


def _folded(words: Iterable[str]) -> tuple[str, ...]:
    """Normalizes phrases for `_mentions` (plain characters, lower case), longest first. Leaves out
    those without a letter or digit."""
    plain = {" ".join(plain_copy(word).replace(HIDDEN, "").casefold().split()) for word in words}
    return tuple(
        sorted(
            (word for word in plain if re.search(r"\w", word)), key=lambda word: (-len(word), word)
        )
    )


@dataclass(frozen=True)
class Redaction:
    """Removes private data from what a model outside is shown.

    `names`, `own`: names and ids to remove from a person's own words. `item_attributes`,
    `user_attributes`: keys of the attributes that may be shown.
    """

    patterns: PatternRedactor
    item_attributes: frozenset[str]
    user_attributes: frozenset[str]
    names: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    def for_request(self, names: Sequence[str], own: Iterable[str | None]) -> Redaction:
        """Returns this redaction extended: it also removes the `names` that a request lists, and
        `own`, the person's ids of at least `LEAST_ID` characters."""
        ids = (own_id for own_id in own if own_id is not None and len(own_id) >= LEAST_ID)
        return replace(self, names=_folded([*self.names, *names]), own=_folded(ids))

    def shown(
        self, state: UserState, candidates: Sequence[Candidate], instruction: str | None
    ) -> tuple[UserState, list[Candidate], str | None]:
        """Redacts a person, candidates (in their order) and an instruction for a prompt."""
        items = [
            *(entry.item for entry in state.recent if entry.item is not None),
            *(candidate.item for candidate in candidates),
        ]
        ids = _folded(item.id for item in items if len(item.id) >= LEAST_ID and not _titled(item))
        declared = _redacted(state.attributes, self.user_attributes, partial(self.words, ids=ids))
        recent = tuple(self._entry(entry, ids) for entry in state.recent)
        shown = [
            candidate.model_copy(update={"item": self.item(candidate.item)})
            for candidate in candidates
        ]
        words = self.words(instruction, ids) if instruction is not None else None
        return state.model_copy(update={"recent": recent, "attributes": declared}), shown, words

    def words(self, text: str, ids: Sequence[str] = ()) -> str:
        """Redacts a person's own words for a prompt; leaves `⟦kind⟧` for what it removed."""
        return masked(
            self._form(text),
            (
                ("id", _mentions((*self.own, *ids))),
                ("address", _addresses),
                ("name", _mentions(self.names)),
            ),
        )

    def sent(self, text: str) -> Outgoing:
        """Redacts a person's own words to be sent alone, without a prompt around them."""
        return self.patterns(self.words(text))

    def facets(self, values: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Returns the attribute values, by key, that may be shown: values of the keys in
        `item_attributes` that hold nothing private by form."""
        return {
            key: [value for value in listed if self.patterns.marked(value) == value]
            for key, listed in values.items()
            if key in self.item_attributes
        }

    def item(self, item: Item) -> Item:
        """Reduces an item to its title (its text if it has none) and its listed attributes."""
        return item.model_copy(
            update={
                "title": self._form(item.title),
                "text": "" if item.title else self._form(item.text),
                "attributes": _redacted(item.attributes, self.item_attributes, self._form),
                "url": None,
                "image_url": None,
            }
        )

    def _entry(self, entry: Recent, ids: Sequence[str]) -> Recent:
        text = self.words(entry.event.text, ids) if entry.event.text else None
        return entry.model_copy(
            update={
                "item": self.item(entry.item) if entry.item is not None else None,
                "event": entry.event.model_copy(update={"text": text}),
            }
        )

    def _form(self, text: str) -> str:
        return self.patterns.marked(_line(text))


def _redacted(
    attributes: Attributes, shown: Container[str], redact: Callable[[str], str]
) -> Attributes:
    """Returns the attributes whose keys are in `shown`, with every text in them changed by
    `redact`."""

    def value_of(value: Scalar) -> Scalar:
        return redact(value) if isinstance(value, str) else value

    return {
        key: [value_of(part) for part in value] if isinstance(value, list) else value_of(value)
        for key, value in attributes.items()
        if key in shown
    }


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
        """Returns a text that a person wrote, redacted as this model's prompts have to be."""
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


_WORDS = re.compile(r"[\w.:-]+"), re.compile(r"\S*/\S*")
"""Patterns of words that may be ids: plain words, and paths or URLs."""
_AROUND = ".:-,;!?'\"()[]<>"
_LETTER, _MARK = re.compile(r"[^\W\d_]"), re.compile(r"[\d_/-]")


def possible_ids(texts: Iterable[str]) -> list[str]:
    """Words of the texts that look like ids: with a letter, and with a digit, hyphen, slash or
    underscore. Numbers and plain words have too many other meanings."""
    words = {
        word.strip(_AROUND)
        for text in texts
        for kind in _WORDS
        for word in kind.findall(text[:LONGEST])
    }
    return [word for word in words if _LETTER.search(word) and _MARK.search(word)]


def _line(text: str) -> str:
    """Returns the first `LONGEST` characters of a text on one line, as prompts show it."""
    return " ".join(text[:LONGEST].split())


def _titled(item: Item) -> bool:
    """Whether an item's title contains its id. Such an id needs no removal, as the title is
    shown."""
    title, item_id = (
        " ".join(re.findall(r"\w+", text.casefold())) for text in (item.title, item.id)
    )
    return bool(item_id) and f" {item_id} " in f" {title} "
