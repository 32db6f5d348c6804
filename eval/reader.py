"""Reads what a reason claims, and looks each claim up in the item, the catalogue and the log.

Knows nothing of how reasons are made or checked: it reads them as a person would who has all data
at hand. What it can't account for counts as false."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from eval.evidence import Evidence
from eval.lexicon import (
    ASKED,
    FUNCTION_WORDS,
    GIVEN,
    HAN_COUNTS,
    HAN_STARS,
    HAN_VERB,
    HAN_VERBS,
    LIST,
    NUMBER,
    NUMERALS,
    ORIGINS,
    PLACES,
    QUOTED,
    SHARED,
    WHO,
    YOU,
    Q,
)
from eval.words import Material, Word, alike, bare, covered, numbers, phrase, plain, runs, words
from service.schema import Event, Item

LONGEST_VALUE = 6
"""Words of the longest attribute value that is looked for as such."""
HARDLY_SEEN = "impression"
"""The event type that leaves an item unseen."""


class Statement(NamedTuple):
    """A claim of a reason. `kind`: title, event, search, count, value, number, asked, origin, word
    or denied (a word that the item's texts deny); `said`: its words."""

    kind: str
    said: str
    true: bool


def read(
    evidence: Evidence,
    reason: str,
    item: Item,
    events: Sequence[Event] = (),
    instruction: str = "",
) -> list[Statement]:
    """Returns all that a reason claims of `item`, to the person who did `events` and asked for
    `instruction`."""
    reading = _Reading(evidence, item, events, instruction)
    return list(reading.statements(reason))


# ── what the person did, asked for, and what others did ───────────────────────────────────────────


@dataclass
class _Reading:
    """One reason while it is read. `rest`: its text with each quotation as one character of
    `PLACES` and with what was accounted for blanked out."""

    evidence: Evidence
    item: Item
    events: Sequence[Event]
    instruction: str
    quotes: list[str] = field(default_factory=list)
    rest: str = ""

    def statements(self, reason: str) -> Iterator[Statement]:
        self.rest = QUOTED.sub(self._quote, reason)
        shared = _shared(self.rest)
        yield from self._asked()
        yield from self._counts()
        yield from self._doings()
        yield from self._han_doings()
        yield from self._origins()
        yield from (self._title(n) for n in map(_place, re.findall(Q, self.rest)))
        cited = [items for items in map(self._named, self.quotes) if items]
        claims = _Claims(self.evidence, self.item, cited, shared)
        yield from claims.statements(re.sub(Q, ";", self.rest))

    def _quote(self, match: re.Match[str]) -> str:
        self.quotes.append(next(group for group in match.groups() if group is not None))
        return chr(PLACES[0] + len(self.quotes) - 1)

    def _blank(self, start: int, end: int) -> None:
        self.rest = self.rest[:start] + ";" + " " * (end - start - 1) + self.rest[end:]

    def _find(self, pattern: str | re.Pattern[str]) -> list[re.Match[str]]:
        """All matches in `rest` as it is now: what is found may then be blanked out."""
        return list(
            re.finditer(pattern, self.rest, 0 if isinstance(pattern, re.Pattern) else re.IGNORECASE)
        )

    def _named(self, quote: str) -> list[Item]:
        """The items of the person's events, and the reason's own, that have this title."""
        catalogue = self.evidence.catalogue
        ids = sorted({event.item_id for event in self.events if event.item_id is not None})
        known = [catalogue[item_id] for item_id in ids if item_id in catalogue]
        return [item for item in [*known, self.item] if _titled(quote, item.title)]

    def _title(self, n: int) -> Statement:
        quote = self.quotes[n]
        own_words = any(event.text and bare(event.text) == bare(quote) for event in self.events)
        return Statement("title", quote, own_words or bool(self._named(quote)))

    def _asked(self) -> Iterator[Statement]:
        for match in self._find(ASKED):
            what = match["what"] or match["han"]
            if not match["what"] and re.search(Q, what) and HAN_VERB.search(match[0]):
                continue
            for sign in re.findall(Q, what):
                quote = self.quotes[_place(sign)]
                yield Statement("asked", quote, plain(quote) in plain(self.instruction))
            yield from self._wanted(re.sub(Q, " ", what))
            self._blank(*match.span())

    def _wanted(self, what: str) -> Iterator[Statement]:
        wanted = [word.form for word in words(self.instruction) if not word.denied]
        for word in words(what):
            if word.form not in FUNCTION_WORDS:
                stands = any(alike(word.form, one) for one in wanted)
                yield Statement("asked", word.form, stands)
        for number, start, end in numbers(what):
            stands = any(number == one for one, *_ in numbers(self.instruction))
            yield Statement("asked", what[start:end], stands)
        wish = Material.of(Item.model_construct(id="", text=self.instruction))
        for run, _ in runs(what):
            for piece, own in covered(run, [wish]):
                if own is not None:
                    yield Statement("asked", piece, own or False in wish.places(piece))

    def _counts(self) -> Iterator[Statement]:
        """Claims such as "4 people who bought X bought this too"."""
        verbs = self.evidence.verbs
        for verb, types in verbs.items():
            for form in _forms(verb):
                for match in self._find(rf"{WHO}{form}(?P<then>[^.;:]*)"):
                    then = (types for verb, types in verbs.items() if _begins(verb, match["then"]))
                    yield from self._count(match, types, next(then, types))
                    self._blank(match.start(), match.start("then"))
        for pattern in HAN_COUNTS:
            for match in self._find(pattern):
                first, after = _han_types(match[0]), self.rest[match.end() :]
                if first and "也" in after:
                    yield from self._count(match, first, _han_types(after) or first)
                    self._blank(*match.span())

    def _count(
        self, match: re.Match[str], first: frozenset[str], then: frozenset[str]
    ) -> Iterator[Statement]:
        others = self.evidence.who(self.item.id, then) - _ids(self.events)
        for n in map(_place, re.findall(Q, match[0])):
            title = self._title(n)
            yield title
            if title.true:
                named = self._named(self.quotes[n])
                did = set[str]().union(*(self.evidence.who(item.id, first) for item in named))
                true = 1 <= _number(match["count"]) <= len(did & others)
                yield Statement("count", f"{match['count'] or 'People'}: {self.quotes[n]}", true)

    def _doings(self) -> Iterator[Statement]:
        """Claims such as "you rated X 5"."""
        for verb, types in self.evidence.verbs.items():
            for form in _forms(verb):
                for subject in (YOU, r"(?<=\S)[,;]? and", r"^"):
                    for match in self._find(rf"{subject} ?{form}"):
                        yield from self._doing(match, types)
            for match in self._find(
                rf"(?P<list>{LIST}),? (?:which |that |as )?{YOU} {re.escape(verb)}{GIVEN}"
            ):
                yield from self._doing(match, types, match[2])
            if "search" in types:
                for match in self._find(
                    rf"{YOU} {re.escape(verb)} (?P<what>[^\ue000-\uf8ff:;.,]+)"
                ):
                    yield Statement("search", match["what"], self._searched(match["what"]))
                    self._blank(*match.span())

    def _doing(
        self, match: re.Match[str], types: frozenset[str], value: str | None = None
    ) -> Iterator[Statement]:
        for sign, given in re.findall(f"({Q}){GIVEN}", match["list"]):
            number = given or value
            yield from self._did(_place(sign), types, float(number) if number else None)
        self._blank(*match.span())

    def _did(self, n: int, types: frozenset[str], value: float | None) -> Iterator[Statement]:
        quote = self.quotes[n]
        if types == {"search"}:
            yield Statement("search", quote, self._searched(quote))
            return
        title = self._title(n)
        yield title
        if title.true:
            ids = {item.id for item in self._named(quote)}
            did = any(
                self.evidence.does(event, types)
                and (event.item_id in ids or bare(event.text or "") == bare(quote))
                and value in (None, event.value)
                for event in self.events
            )
            stars = "" if value is None else f" {value:g}"
            yield Statement("event", f"{'/'.join(sorted(types))}: {quote}{stars}", did)

    def _searched(self, text: str) -> bool:
        return any(
            event.type == "search" and bare(event.text or "") == bare(text) for event in self.events
        )

    def _han_doings(self) -> Iterator[Statement]:
        """The same in Chinese: the verb and a number of stars stand in one clause with titles."""
        for clause in self._find(r"[^,，。;；:：!！?？]+"):
            signs = re.findall(Q, clause[0])
            stars = re.search(HAN_STARS, clause[0])
            types = _han_types(clause[0]) or frozenset({"rating"} if stars else ())
            if not signs or not types & {*self.evidence.meanings}:
                continue
            number = re.search(NUMBER, clause[0]) if "rating" in types else None
            for sign in signs:
                yield from self._did(_place(sign), types, float(number[0]) if number else None)
            told = [*re.finditer(f"{HAN_VERB.pattern}|{Q}", clause[0])]
            for part in [*told, *filter(None, [number])]:
                self._blank(clause.start() + part.start(), clause.start() + part.end())

    def _origins(self) -> Iterator[Statement]:
        others = bool(self.evidence.who(self.item.id) - _ids(self.events))
        seen = any(
            event.item_id == self.item.id and event.type != HARDLY_SEEN for event in self.events
        )
        new = self.item.published_at is not None
        holds = {"popular": others, "rising": others, "unseen": not seen, "new": new}
        for name, pattern in ORIGINS.items():
            for match in self._find(pattern):
                yield Statement("origin", match[0], holds[name])
                self._blank(*match.span())


def _shared(text: str) -> list[tuple[int, int]]:
    """Where a reason says what its item and the cited ones share, as spans of its text."""
    spans = []
    for match in SHARED.finditer(text):
        end = re.search(r"[.!;](?=\s|$)|[。；！]", text[match.end() :])
        spans.append((match.start(), match.end() + end.start() if end else len(text)))
    return spans


def _place(sign: str) -> int:
    """The place in `quotes` of the quotation that a character stands for."""
    return ord(sign) - PLACES[0]


def _titled(quote: str, title: str) -> bool:
    """Whether a quotation is a title, its beginning before "…", or a part of it beside a "·"."""
    if " · " in title and any(_titled(quote, part) for part in title.split(" · ")):
        return True
    said, whole = bare(quote), bare(title)
    cut = quote.rstrip().endswith(("…", "..."))
    return said == whole or (cut and bool(said) and whole.startswith(said))


def _forms(verb: str) -> Iterator[str]:
    """How a verb stands with a list of titles: "put in the cart X", "put X in the cart"."""
    head, *rest = verb.split()
    yield rf"{re.escape(verb)} (?P<list>{LIST})"
    if rest:
        yield rf"{re.escape(head)} (?P<list>{LIST}) {re.escape(' '.join(rest))}"


def _begins(verb: str, text: str) -> bool:
    return re.match(rf"\s*(?:also )?{re.escape(verb.split()[0])}\b", text.casefold()) is not None


def _han_types(text: str) -> frozenset[str]:
    """The event types that the first Chinese verb of a text stands for."""
    match = HAN_VERB.search(text)
    return frozenset(HAN_VERBS[match[0]]) if match else frozenset()


def _number(text: str | None) -> float:
    """A count in digits or words; 1 if the text is neither, as "Many"."""
    digits = (text or "").replace(",", "")
    return float(digits) if digits.isdigit() else NUMERALS.get(plain(digits), 1)


def _ids(events: Sequence[Event]) -> set[str]:
    return {event.user_id or event.session_id or "" for event in events}


# ── what is said of the item ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Claims:
    """Reads values, numbers and words. `cited`: for each title that the reason names, the items
    that have it; `shared`: where the text says that they have in common what it says."""

    evidence: Evidence
    item: Item
    cited: Sequence[Sequence[Item]]
    shared: Sequence[tuple[int, int]]

    def statements(self, text: str) -> Iterator[Statement]:
        found = list(words(text))
        place = 0
        while place < len(found):
            size = self._value_size(found[place:])
            if size:
                yield self._value(found[place : place + size])
            elif self._says_something(found[place]):
                yield self._word(found[place])
            place += size or 1
        for number, start, end in numbers(text):
            test = partial(_has_number, number, decade=text[end : end + 1] == "s")
            yield Statement("number", text[start:end], self._holds(start, test))
        for run, at in runs(text):
            yield from self._han(run, at)

    def _materials(self, at: int) -> list[list[Material]]:
        """What must bear out a claim at this place of the text: the item, and where it is said to
        be shared each cited one. Of items with the same title one is enough."""
        groups: list[Sequence[Item]] = [[self.item]]
        if any(start <= at < end for start, end in self.shared):
            groups += self.cited
        return [[self.evidence.material(item) for item in items] for items in groups]

    def _holds(self, at: int, test: Callable[[Material], bool]) -> bool:
        return all(any(map(test, group)) for group in self._materials(at))

    def _value_size(self, found: Sequence[Word]) -> int:
        """How many of the first words are a value of the catalogue; 0: none is."""
        for size in range(min(LONGEST_VALUE, len(found)), 0, -1):
            part = found[:size]
            near = all(b.at - a.at <= len(a.form) + 4 for a, b in pairwise(part))
            if near and _phrase(part) in self.evidence.values:
                return size
        return 0

    def _value(self, part: Sequence[Word]) -> Statement:
        if any(word.denied for word in part):
            return self._word(part[-1])
        named = _phrase(part)

        def has(material: Material) -> bool:
            return named in material.values or all(material.says(word.form) for word in part)

        said = " ".join(word.form for word in part)
        return Statement("value", said, self._holds(part[0].at, has))

    def _says_something(self, word: Word) -> bool:
        return word.form not in FUNCTION_WORDS and word.form not in self.evidence.keys

    def _word(self, word: Word) -> Statement:
        if word.denied:
            holds = self._holds(word.at, lambda material: material.denies(word.form))
            return Statement("denied", word.form, holds)
        holds = self._holds(word.at, lambda material: material.says(word.form))
        denied = not holds and self.evidence.material(self.item).denies(word.form)
        return Statement("denied" if denied else "word", word.form, holds)

    def _han(self, run: str, at: int) -> Iterator[Statement]:
        materials = [group[0] for group in self._materials(at)]
        for piece, own in covered(run, materials):
            if own is not None:
                denied = not own and bool(materials[0].places(piece))
                yield Statement("denied" if denied else "word", piece, own)


def _phrase(part: Sequence[Word]) -> tuple[str, ...]:
    return phrase(" ".join(word.form for word in part))


def _has_number(number: float, material: Material, *, decade: bool) -> bool:
    """Whether a number, or a year of a decade such as 1980 or 80, is among an item's."""
    if not decade:
        return number in material.numbers
    century = 100 if number < 100 else 10_000
    return any(0 <= known % century - number < 10 for known in material.numbers)
