"""Finds what a text names: the catalogue's values, in any of the languages, and things that the
catalogue has no value for."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from service.catalog import Facets
from service.language import HAN, KANA, language_of
from service.wish.wordings import LANGUAGES, Thing, plain, stopped, things

KEYS: Mapping[str, frozenset[str]] = {
    "price": frozenset(
        {"price", "cost", "amount", "msrp", "preis", "precio", "prix", "价格", "値段"}
    ),
    "year": frozenset({"year", "released", "release_year", "publication_year", "jahr", "年份"}),
    "minutes": frozenset(
        {"duration", "runtime", "minutes", "length", "running_time", "length_min"}
    ),
    "pages": frozenset({"pages", "page_count", "num_pages", "number_of_pages", "length"}),
    "tempo": frozenset({"tempo", "bpm"}),
}
"""By what it measures: the keys under which catalogues keep a number."""
LETTER = "[a-zß-ɏѐ-ӿа-яё]"
"""A small letter of a script in which spaces part words; letters of others may follow a name at
once."""


@dataclass(frozen=True)
class Named:
    """Something that a text names, from `start` to `end`. `values`: (key, value) of the catalogue
    that it means; `all_`: whether it means all of them at once. `mood`: whether it only describes
    it. `forms`: its spellings in running text."""

    start: int
    end: int
    said: str
    values: tuple[tuple[str, str], ...] = ()
    all_: bool = False
    mood: bool = False
    forms: tuple[str, ...] = ()


@dataclass
class _Form:
    expression: re.Pattern[str]
    text: str
    values: tuple[tuple[str, str], ...]
    all_: bool
    mood: bool
    thing: Thing | None


@dataclass
class Vocabulary:
    """What the facets of a catalogue can be called. `numbers`: by what it measures, the key of a
    number."""

    facets: Facets
    numbers: dict[str, str] = field(default_factory=dict)
    _keys: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _spellings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _forms: dict[str, list[_Form]] = field(default_factory=lambda: defaultdict(list))
    """By their first letter."""

    def __post_init__(self) -> None:
        for measure, names in KEYS.items():
            keys = [key for key in self.facets.ends if plain_key(key) in names]
            if keys:
                self.numbers.setdefault(measure, keys[0])
        if "length" in self.facets.ends and "minutes" not in self.numbers:
            self.numbers["minutes"] = "length"
        by_plain: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for key, listed in self.facets.values.items():
            for value in listed:
                by_plain[plain(value)].append((key, value))
                self._keys[value].append(key)
        linked = {
            name: tuple(pair for value in thing.values for pair in by_plain.get(value, ()))
            for name, thing in things().items()
        }
        for name, thing in things().items():
            pairs = linked[name]
            if thing.both:
                both = [linked[one] for one in thing.both]
                pairs = tuple(pair for each in both for pair in each) if all(both) else ()
            self._add(thing, pairs)
            for _, value in () if thing.both else pairs:
                self._spellings[value] = _spelled(thing, value)
        hints = {value for thing in things().values() if not thing.names for value in thing.values}
        for name, same in by_plain.items():
            value = same[0][1]
            if re.search(r"[^\W\d]", value) and len(value) > 1:
                mood = name in hints
                self._put(_Form(_flexible(value), value, tuple(same), False, mood, None))
        for forms in self._forms.values():
            forms.sort(key=lambda form: (-len(form.text), form.mood, not form.values))

    def _add(self, thing: Thing, values: tuple[tuple[str, str], ...]) -> None:
        for moods, named in ((False, thing.names), (True, thing.moods)):
            for language in LANGUAGES:
                for text in named.get(language, ()):
                    form = _Form(_starred(text), text, values, bool(thing.both), moods, thing)
                    self._put(form)

    def _put(self, form: _Form) -> None:
        self._forms[form.text[:1].lower()].append(form)

    def keys_of(self, value: str) -> list[str]:
        """The keys under which the catalogue has a value."""
        return self._keys.get(value, [])

    def value_of(self, word: str) -> str | None:
        """The catalogue's value that a word is, whatever its case and plural; None if there is
        none."""
        return next((value for value in self._keys if plain(value) == plain(word)), None)

    def spellings(self, value: str) -> tuple[str, ...]:
        """What a value of the catalogue can be called in running text."""
        return self._spellings.get(value, (value,))

    def find(self, text: str) -> list[Named]:
        """What a text names, in order, without overlaps; of names that overlap, the one that begins
        first, and of these the longest."""
        stop = stopped(language_of(text))
        lower = text.lower()
        folded = lower if len(lower) == len(text) else text
        found: list[Named] = []
        last = 0
        for start in _starts(folded):
            if start < last:
                continue
            best: Named | None = None
            for form in self._forms.get(folded[start], ()):
                match = form.expression.match(folded, start)
                if match is None or match[0].casefold() in stop:
                    continue
                if best is None or _better(match.end(), form, best):
                    best = _named(match, form, text)
            if best is not None:
                found.append(best)
                last = best.end
        return found


def plain_key(key: str) -> str:
    return key.casefold().replace("-", "_").replace(" ", "_")


def _better(end: int, form: _Form, than: Named) -> bool:
    """Whether a match says more than another that begins at the same place: it means values of the
    catalogue and the other doesn't, or it is longer."""
    return (bool(form.values), end, not form.mood) > (bool(than.values), than.end, not than.mood)


def _named(match: re.Match[str], form: _Form, text: str) -> Named:
    start, end = match.span()
    said = text[start:end]
    forms = _spelled(form.thing, said) if form.thing is not None else (form.text,)
    return Named(start, end, said, form.values, form.all_, form.mood, forms)


def _spelled(thing: Thing, said: str) -> tuple[str, ...]:
    names = (name for language in thing.names.values() for name in language)
    return tuple(dict.fromkeys([said, *names]))


def _starts(text: str) -> Iterator[int]:
    """Where a name may begin: at each word, and at each letter where spaces don't part words."""
    lower = LETTER[:-1] + r"\d]"
    starts = rf"{HAN.pattern}|{KANA.pattern}|(?<!{lower}){lower}|(?<![^\W_])[^\W_]"
    for match in re.finditer(starts, text):
        yield match.start()


@lru_cache(maxsize=16_384)  # every catalogue has the same names
def _starred(text: str) -> re.Pattern[str]:
    """The expression of a name in small letters: blanks may be hyphens or nothing; `*` is any
    ending, and none where spaces don't part words."""
    unspaced = bool(HAN.search(text) or KANA.search(text))
    ending = "" if unspaced else f"{LETTER}*"
    words = re.split(r"[\s-]+", text.lower())
    joined = r"[\s\-‐]?".join(re.escape(word).replace(r"\*", ending) for word in words)
    return re.compile(joined if unspaced else rf"{joined}(?!{LETTER}|\d)")


def _flexible(value: str) -> re.Pattern[str]:
    """The expression of a catalogue's own value in small letters: whatever its hyphens, singular or
    plural."""
    value = value.lower()
    words = re.findall(r"[^\W_]+(?:['’][^\W_]+)?", value)
    if not words or HAN.search(value) or KANA.search(value):
        return re.compile(re.escape(value))
    *others, last = words
    if last.endswith("y"):
        ending = re.escape(last[:-1]) + "(?:y|ies)"
    elif last.endswith("s"):
        ending = re.escape(last.removesuffix("s").removesuffix("'").removesuffix("’")) + "['’]?s?"
    else:
        ending = re.escape(last) + "(?:['’]?s|es|e|en|n)?"
    joined = r"[\W_]{0,3}".join([*map(re.escape, others), ending])
    return re.compile(rf"{joined}(?!{LETTER}|\d)")
