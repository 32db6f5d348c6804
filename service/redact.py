"""What may leave for a model outside: a net that nothing private passes, and a veil over what a
person wrote.

`PatternRedactor` knows what is private by its form, whoever wrote it: e-mail addresses, phone
numbers, payment cards, IBANs. It hangs before every text that leaves. `Redaction` comes before a
prompt is made and knows who wrote what: of a person's own words it also takes addresses, listed
names and ids, of items and people the attributes that are not on a list.

Matching is done on a plain copy of a text, character by character as long as the text itself, so
that no other alphabet's digits, wide letters, accents, odd blanks or invisible characters hide
anything; what is not private stays as it was written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import accumulate

from phonenumbers import SUPPORTED_REGIONS, Leniency, PhoneNumberMatcher
from stdnum import iban, numdb

from service.catalog import Catalog
from service.errors import ConfigError
from service.schema import Candidate, Item, Recent, UserState

KINDS = ("email", "phone", "card", "iban", "address", "name", "id")
LONGEST = 2_100
"""A prompt shows at most 2,000 characters of one text; what begins before that is looked at
whole."""
LONGEST_NAME = 320
"""Characters of an e-mail address."""
LONGEST_CARD = 19
LEAST_ID = 3
"""Shorter ids are words that mean anything."""
REMEMBERED = 16_384
"""So many texts are kept with what was taken out of them: titles come again and again."""

Span = tuple[int, int]
Finder = Callable[[str], Iterable[Span]]


# ── a plain copy ──────────────────────────────────────────────────────────────────────────────────

HIDDEN = "\u200b"
"""Stands for whatever is not seen."""


class _Plain(dict[int, str]):
    """For `str.translate`: one character for one, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _plain_char(chr(code))
        return found


def _plain_char(char: str) -> str:
    kind, digit = unicodedata.category(char), unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    if kind in {"Cf", "Mn", "Me"}:
        return HIDDEN
    if kind in {"Zs", "Zl", "Zp"}:
        return " "
    if kind == "Pd":
        return "-"
    letters = "".join(
        part for part in unicodedata.normalize("NFKD", char) if unicodedata.category(part) != "Mn"
    )
    return letters if len(letters) == 1 else char


_PLAIN = _Plain({ord("\n"): "\n", ord("。"): ".", ord("｡"): "."})


def _plain(text: str) -> str:
    return text if text.isascii() else text.translate(_PLAIN)


def _masked(text: str, finders: Iterable[tuple[str, Finder]]) -> str:
    """The text with what each finds as `⟦kind⟧`: brackets that survive the making of a prompt;
    `PatternRedactor` makes them plain."""
    plain, places = _compact(text)
    for kind, find in finders:
        if spans := _merged(find(plain)):
            for start, end in reversed(spans):
                text = f"{text[: places[start]]}⟦{kind}⟧{text[places[end] :]}"
            plain, places = _compact(text)
    return text


def _compact(text: str) -> tuple[str, Sequence[int]]:
    """The plain copy without what is not seen, and where in the text each of its characters and its
    end stand."""
    plain = _plain(text)
    if HIDDEN not in plain:
        return plain, range(len(text) + 1)
    places = [n for n, char in enumerate(plain) if char != HIDDEN]
    return plain.replace(HIDDEN, ""), [*places, len(text)]


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


# ── private by form ───────────────────────────────────────────────────────────────────────────────

_GAP = r"(?:[^\w\n]|_)"
_AT = r" ?(?:@|%40|[(\[{] ?at ?[)\]}]) ?"
_DOT = r"(?: ?\. ?| ?[(\[{] ?dot ?[)\]}] ?)"
_EMAIL_HINT = re.compile(r"@|%40|[(\[{] ?at ?[)\]}]", re.IGNORECASE)
_LOCAL = re.compile(r" ?[\w.!#$%&'*+/=?^`{|}~-]+")
_DOMAIN = re.compile(rf"(?:@[\w-]+|{_AT}[\w-]+(?:{_DOT}[\w-]+)+)(?:\.[\w-]+)*", re.IGNORECASE)
_COUNTRY = re.compile(rf"([A-Z]{{2}}){_GAP}?$", re.IGNORECASE)
_CARD = re.compile(rf"\d(?:{_GAP}{{0,3}}\d){{12,}}")
_PHONE = re.compile(rf"\d(?:{_GAP}{{0,4}}\d){{6,}}")
_NUMBER = re.compile(r"\d+")
_YEAR = re.compile(r"(?:1[89]|20)\d\d")
_PRICE = re.compile(r"[1-9]\d{0,2}(?:[., ]\d{3})+(?:[.,]\d{1,2})?")
_ZEROS = re.compile(r"(?<!\d)00(?=[1-9]\d)")
_NO_PHONE_CHAR = re.compile(r"[^\w\s+()./,;:'\"-]|_")


def _emails(plain: str) -> Iterator[Span]:
    """From each sign forward for the domain and backward for the name: a pattern of both takes
    forever for `a.a.a.a`."""
    for sign in _EMAIL_HINT.finditer(plain):
        domain = _DOMAIN.match(plain, sign.start())
        name = _LOCAL.match(plain[max(0, sign.start() - LONGEST_NAME) : sign.start()][::-1])
        if domain and name:
            yield sign.start() - name.end(), domain.end()


def _ibans(plain: str) -> Iterator[Span]:
    """From each number backward for the country, which says how long it is."""
    for number in _NUMBER.finditer(plain):
        start = max(0, number.start() - 3)
        country = _COUNTRY.search(plain[start : number.start()])
        if country and (size := _iban_size(country[1].upper())):
            whole = _spread(size).match(plain, start + country.start())
            if whole and iban.is_valid(re.sub(r"[\W_]", "", whole[0]), check_country=False):
                yield whole.span()


@cache
def _spread(size: int) -> re.Pattern[str]:
    """So many letters and digits with a few marks between them."""
    return re.compile(rf"[A-Z0-9](?:{_GAP}{{0,3}}[A-Z0-9]){{{size - 1}}}", re.IGNORECASE)


@cache
def _iban_size(country: str) -> int:
    """Characters of a country's IBAN; 0 if it has none."""
    form = numdb.get("iban").info(country)[0][1].get("bban", "")
    return 4 + sum(map(int, re.findall(r"(\d+)!", form))) if form else 0


def _cards(plain: str) -> Iterator[Span]:
    """13 to 19 digits that begin and end where groups do and pass Luhn's check. A card begins with
    2 to 9, a list of years with a year, an ISBN with 9."""
    for run in _CARD.finditer(plain):
        groups = [found.span() for found in _NUMBER.finditer(plain, *run.span())]
        digits = "".join(plain[start:end] for start, end in groups)
        ends = [*accumulate(end - start for start, end in groups)]
        passes = _luhn(digits)
        for n, (start, end) in enumerate(groups):
            first = ends[n] - (end - start)
            if digits[first] in "01" or (len(groups) > 1 and _YEAR.fullmatch(plain, start, end)):
                continue
            for (_, end_of), last in zip(groups[n:], ends[n:], strict=True):
                if last - first > LONGEST_CARD:
                    break
                if last - first > (13 if digits[first] == "9" else 12) and passes(first, last):
                    yield start, end_of


def _luhn(digits: str) -> Callable[[int, int], bool]:
    """Does a part pass Luhn's check? By sums from the beginning: a text of nothing but digits has
    thousands of parts."""
    twice = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
    sums = [
        [
            0,
            *accumulate(
                int(one) if n % 2 == odd else twice[int(one)] for n, one in enumerate(digits)
            ),
        ]
        for odd in (0, 1)
    ]
    return lambda first, last: (sums[(last - 1) % 2][last] - sums[(last - 1) % 2][first]) % 10 == 0


def _abroad(plain: str) -> Iterator[Span]:
    """Phone numbers with their country, before cards are looked for: some pass Luhn's check."""
    for start, part in _dialled(plain):
        if "+" in part:
            for found in PhoneNumberMatcher(part, None, Leniency.POSSIBLE):
                yield start + found.start, start + found.end


def _phones(plain: str, regions: Sequence[str]) -> Iterator[Span]:
    """With 00 before their country, and a country's own; after cards, which hold such numbers."""
    for start, part in _dialled(plain):
        if (changed := _ZEROS.sub(" +", part)) != part:
            for found in PhoneNumberMatcher(changed, None, Leniency.POSSIBLE):
                yield start + found.start - 1, start + found.end
        for region in regions:
            for found in PhoneNumberMatcher(part, region, Leniency.VALID):
                if not _counts(found.raw_string):
                    yield start + found.start, start + found.end


def _dialled(plain: str) -> Iterator[tuple[int, str]]:
    """Where seven digits stand near each other: with what is around them, written as the matcher
    knows it. The matcher is slow, so it sees no more."""
    for run in _PHONE.finditer(plain):
        start = max(0, run.start() - 4)
        yield start, _NO_PHONE_CHAR.sub(" ", plain[start : run.end() + 1])


def _counts(number: str) -> bool:
    """Years, a price or a list of small numbers, though a country may have such a phone number."""
    groups = _NUMBER.findall(number)
    if "+" in number or len(groups) < 2:
        return False
    small = sum(len(group) == 1 for group in groups) > len(groups) / 2
    return small or bool(_PRICE.fullmatch(number)) or all(map(_YEAR.fullmatch, groups))


class PatternRedactor:
    """Called with any text, returns what of it may leave. `regions`: ISO codes of the countries
    whose phone numbers are known without their international prefix. Raises `ConfigError` for a
    region that has none."""

    def __init__(self, regions: Sequence[str] = ()) -> None:
        if unknown := [one for one in regions if one not in SUPPORTED_REGIONS]:
            told = (
                f"privacy.phone_regions: {unknown[0]!r} is no country with phone numbers; "
                f"write ISO codes, as GB"
            )
            raise ConfigError(told, param="privacy.phone_regions")
        self._regions = tuple(regions)
        self.caught = lru_cache(maxsize=REMEMBERED)(self._caught)

    def __call__(self, text: str) -> str:
        return _OURS.sub(r"[\1]", self._caught(text))

    def _caught(self, text: str) -> str:
        """The text with marks that survive the making of a prompt."""
        phones = lambda plain: _phones(plain, self._regions)  # noqa: E731
        return _masked(
            text,
            (
                ("email", _emails),
                ("iban", _ibans),
                ("phone", _abroad),
                ("card", _cards),
                ("phone", phones),
            ),
        )


_OURS = re.compile(f"⟦({'|'.join(KINDS)})⟧")
_MARKS = re.compile(rf"\[({'|'.join(KINDS)})\]")


def counted(texts: Iterable[str]) -> dict[str, int]:
    """How many of which kind were taken out of texts that have passed the net."""
    found = [kind for text in texts for kind in _MARKS.findall(text)]
    return {kind: found.count(kind) for kind in KINDS if kind in found}


# ── a person's own words ──────────────────────────────────────────────────────────────────────────

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
        for found in _ADDRESS.finditer(plain):
            yield found.span()


def _said(words: Sequence[str]) -> Finder:
    """Where any of these stands as whole words, in any case; between their parts may stand any few
    marks."""

    def find(plain: str) -> Iterator[Span]:
        folded = plain.casefold()
        for word in words:
            if word.split()[0] in folded:
                for found in _whole(word).finditer(plain):
                    yield found.span()

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
    plain = {" ".join(_plain(word).replace(HIDDEN, "").casefold().split()) for word in words}
    return tuple(
        sorted(
            (word for word in plain if re.search(r"\w", word)), key=lambda word: (-len(word), word)
        )
    )


@dataclass(frozen=True)
class Redaction:
    """What a model outside may be shown of a person and of items. `names`: never, in the person's
    own words; `own`: ids of theirs, likewise; attributes: only of these keys."""

    net: PatternRedactor
    item_attributes: frozenset[str]
    user_attributes: frozenset[str]
    names: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    def of(self, names: Sequence[str], own: Iterable[str | None]) -> Redaction:
        """For a request that lists names, by somebody with these ids."""
        ids = (one for one in own if one is not None and len(one) >= LEAST_ID)
        return replace(self, names=_folded([*self.names, *names]), own=_folded(ids))

    def over(
        self, state: UserState, candidates: Sequence[Candidate], instruction: str | None
    ) -> tuple[UserState, list[Candidate], str | None]:
        """What a prompt may be made of."""
        items = [
            *(entry.item for entry in state.recent if entry.item is not None),
            *(one.item for one in candidates),
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
        shown = [one.model_copy(update={"item": self.item(one.item)}) for one in candidates]
        told = self.words(instruction, ids) if instruction is not None else None
        return state.model_copy(update={"recent": recent, "attributes": declared}), shown, told

    def words(self, text: str, ids: Sequence[str] = ()) -> str:
        """Of what a person wrote."""
        return _masked(
            self.net.caught(_line(text)),
            (
                ("id", _said((*self.own, *ids))),
                ("address", _addresses),
                ("name", _said(self.names)),
            ),
        )

    def sent(self, text: str) -> str:
        """Of what a person wrote, for an embedder outside: there is no prompt to be made."""
        return self.net(self.words(text))

    def facets(self, values: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Values of items by key, those that may be shown."""
        return {
            key: [one for one in said if self.net.caught(one) == one]
            for key, said in values.items()
            if key in self.item_attributes
        }

    def item(self, item: Item) -> Item:
        """Its title, or without one its text, and the attributes on the list."""
        shown = {
            key: value for key, value in item.attributes.items() if key in self.item_attributes
        }
        told = {
            key: [self._fact(part) for part in value]
            if isinstance(value, list)
            else self._fact(value)
            for key, value in shown.items()
        }
        title, text = (
            self.net.caught(_line(item.title)),
            "" if item.title else self.net.caught(_line(item.text)),
        )
        return item.model_copy(
            update={
                "title": title,
                "text": text,
                "attributes": told,
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
        return self.net.caught(_line(value)) if isinstance(value, str) else value


_WORDS = re.compile(r"[\w.:-]+"), re.compile(r"\S*/\S*")
"""Plain ones, and those that are a path or a URL."""
_AROUND = ".:-,;!?'\"()[]<>"
_LETTER, _MARK = re.compile(r"[^\W\d_]"), re.compile(r"[\d_/-]")


async def ids_in(catalog: Catalog, texts: Iterable[str]) -> list[str]:
    """Ids of the catalogue's items among the words of texts, of those that look like ids: with
    letters, and digits, hyphens or slashes. Numbers and plain words mean too much else."""
    words = {
        word.strip(_AROUND)
        for text in texts
        for kind in _WORDS
        for word in kind.findall(text[:LONGEST])
    }
    like = [word for word in words if _LETTER.search(word) and _MARK.search(word)]
    return [*await catalog.get(like)] if like else []


def _line(text: str) -> str:
    """As much of it as a prompt may show, on one line, as a prompt has it."""
    return " ".join(text[:LONGEST].split())


def _titled(item: Item) -> bool:
    """Does an item's title hold its id? Then the id tells nothing that isn't shown."""
    title, name = (" ".join(re.findall(r"\w+", one.casefold())) for one in (item.title, item.id))
    return bool(name) and f" {name} " in f" {title} "
