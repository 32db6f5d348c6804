"""Finds private data by its form, whoever wrote it: e-mail addresses, phone numbers, payment cards,
IBANs.

Patterns match on a plain copy of the text, which has one character for each of the text's: digits
of other alphabets, wide letters, accents, odd blanks and invisible characters hide nothing there.
Whatever isn't private stays in the text as it was written.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache, partial
from itertools import accumulate
from typing import NewType

from phonenumbers import SUPPORTED_REGIONS, Leniency, PhoneNumberMatcher
from stdnum import iban, numdb

from service.errors import ConfigError

Outgoing = NewType("Outgoing", str)
"""A text that may be sent to its model: the only type that a model's adapter takes."""
KINDS = ("email", "phone", "card", "iban", "address", "name", "id")
LONGEST_NAME = 320
"""Longest part of an e-mail address before the `@` that is looked for, in characters."""
LONGEST_CARD = 19
REMEMBERED = 16_384
"""How many redacted texts the cache holds: the same titles are sent again and again."""

Span = tuple[int, int]
Finder = Callable[[str], Iterable[Span]]


# ── a plain copy ──────────────────────────────────────────────────────────────────────────────────

HIDDEN = "\u200b"
"""Replaces every invisible character in a plain copy."""


_BY_CATEGORY = {
    **dict.fromkeys(("Cf", "Mn", "Me"), HIDDEN),
    **dict.fromkeys(("Zs", "Zl", "Zp"), " "),
    "Pd": "-",
}
"""What replaces characters of these Unicode categories, if they are no digits."""


class _Plain(dict[int, str]):
    """A table for `str.translate` from characters to plain ones. It works each out on first use."""

    def __missing__(self, code: int) -> str:
        self[code] = _plain_char(chr(code))
        return self[code]


def _plain_char(char: str) -> str:
    digit, category = unicodedata.digit(char, None), unicodedata.category(char)
    if digit is not None:
        return str(digit)
    if category in _BY_CATEGORY:
        return _BY_CATEGORY[category]
    parts = unicodedata.normalize("NFKD", char)
    letters = "".join(part for part in parts if unicodedata.category(part) != "Mn")
    return letters if len(letters) == 1 else char


_PLAIN = _Plain({ord("\n"): "\n", ord("。"): ".", ord("｡"): "."})


def plain_copy(text: str) -> str:
    return text if text.isascii() else text.translate(_PLAIN)


def masked(text: str, finders: Iterable[tuple[str, Finder]]) -> str:
    """Replaces what each finder finds by `⟦kind⟧`. Making a prompt leaves these brackets as they
    are; `PatternRedactor` turns them into `[kind]`."""
    plain, places = _compact(text)
    for kind, find in finders:
        if spans := _merged(find(plain)):
            for start, end in reversed(spans):
                text = f"{text[: places[start]]}⟦{kind}⟧{text[places[end] :]}"
            plain, places = _compact(text)
    return text


def _compact(text: str) -> tuple[str, Sequence[int]]:
    """Returns the plain copy without invisible characters, and the place in `text` of each of its
    characters and of its end."""
    plain = plain_copy(text)
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
    """Finds e-mail addresses: from each `@` forward the domain, backward the name. One pattern for
    both would be very slow on texts like `a.a.a.a`."""
    for sign in _EMAIL_HINT.finditer(plain):
        domain = _DOMAIN.match(plain, sign.start())
        name = _LOCAL.match(plain[max(0, sign.start() - LONGEST_NAME) : sign.start()][::-1])
        if domain and name:
            yield sign.start() - name.end(), domain.end()


def _ibans(plain: str) -> Iterator[Span]:
    """Finds IBANs: before each number it looks for a country's code, which tells the IBAN's
    length."""
    for number in _NUMBER.finditer(plain):
        start = max(0, number.start() - 3)
        country = _COUNTRY.search(plain[start : number.start()])
        if country and (size := _iban_size(country[1].upper())):
            whole = _spread(size).match(plain, start + country.start())
            if whole and iban.is_valid(re.sub(r"[\W_]", "", whole[0]), check_country=False):
                yield whole.span()


@cache
def _spread(size: int) -> re.Pattern[str]:
    """A pattern for `size` letters or digits, with up to three other characters between two of
    them."""
    return re.compile(rf"[A-Z0-9](?:{_GAP}{{0,3}}[A-Z0-9]){{{size - 1}}}", re.IGNORECASE)


@cache
def _iban_size(country: str) -> int:
    """Length of a country's IBANs in characters; 0 if the country has none."""
    form = numdb.get("iban").info(country)[0][1].get("bban", "")
    return 4 + sum(map(int, re.findall(r"(\d+)!", form))) if form else 0


def _cards(plain: str) -> Iterator[Span]:
    """Finds runs of 13 to 19 digits, made of whole groups, that pass the Luhn check.

    Runs that begin with 0 or 1 or with a year are no cards; those of 13 digits that begin with 9
    are taken for ISBNs.
    """
    for run in _CARD.finditer(plain):
        groups = [group.span() for group in _NUMBER.finditer(plain, *run.span())]
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
    """Returns a function that tells whether `digits[first:last]` passes the Luhn check. Prefix sums
    make each call cheap: a text of digits alone has thousands of such slices."""
    twice = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
    sums = [
        [
            0,
            *accumulate(
                int(digit) if n % 2 == odd else twice[int(digit)] for n, digit in enumerate(digits)
            ),
        ]
        for odd in (0, 1)
    ]
    return lambda first, last: (sums[(last - 1) % 2][last] - sums[(last - 1) % 2][first]) % 10 == 0


def _abroad(plain: str) -> Iterator[Span]:
    """Finds phone numbers with `+` and a country's code. This runs before `_cards`, as some of them
    pass the Luhn check."""
    for start, part in _dialled(plain):
        if "+" in part:
            for number in PhoneNumberMatcher(part, None, Leniency.POSSIBLE):
                yield start + number.start, start + number.end


def _phones(plain: str, regions: Sequence[str]) -> Iterator[Span]:
    """Finds phone numbers with 00 and a country's code, and national numbers of `regions`. This
    runs after `_cards`, as parts of card numbers look like them."""
    for start, part in _dialled(plain):
        if (changed := _ZEROS.sub(" +", part)) != part:
            for number in PhoneNumberMatcher(changed, None, Leniency.POSSIBLE):
                yield start + number.start - 1, start + number.end
        for region in regions:
            for number in PhoneNumberMatcher(part, region, Leniency.VALID):
                if not _counts(number.raw_string):
                    yield start + number.start, start + number.end


def _dialled(plain: str) -> Iterator[tuple[int, str]]:
    """Yields the parts of a text with at least seven digits close together, and where each begins.
    The slow `PhoneNumberMatcher` reads only these; characters it doesn't know become blanks."""
    for run in _PHONE.finditer(plain):
        start = max(0, run.start() - 4)
        yield start, _NO_PHONE_CHAR.sub(" ", plain[start : run.end() + 1])


def _counts(number: str) -> bool:
    """Whether a national phone number is more likely a list of years, a price, or a list of small
    numbers."""
    groups = _NUMBER.findall(number)
    if "+" in number or len(groups) < 2:
        return False
    small = sum(len(group) == 1 for group in groups) > len(groups) / 2
    return small or bool(_PRICE.fullmatch(number)) or all(map(_YEAR.fullmatch, groups))


class PatternRedactor:
    """Replaces everything private in a text by its kind in brackets, as `[email]`.

    `regions`: ISO codes of the countries whose national phone numbers are found too. Raises
    `ConfigError` for a region that has no phone numbers.
    """

    def __init__(self, regions: Sequence[str] = ()) -> None:
        if unknown := [region for region in regions if region not in SUPPORTED_REGIONS]:
            raise ConfigError(
                f"privacy.phone_regions: {unknown[0]!r} is no country with phone numbers; "
                "write ISO codes, as GB",
                param="privacy.phone_regions",
            )
        self._regions = tuple(regions)
        self.marked = lru_cache(maxsize=REMEMBERED)(self._marked)

    def __call__(self, text: str) -> Outgoing:
        return Outgoing(_MARKED.sub(r"[\1]", self._marked(text)))

    def _marked(self, text: str) -> str:
        """Replaces everything private by `⟦kind⟧`. Making a prompt leaves these brackets as they
        are."""
        return masked(
            text,
            (
                ("email", _emails),
                ("iban", _ibans),
                ("phone", _abroad),
                ("card", _cards),
                ("phone", partial(_phones, regions=self._regions)),
            ),
        )


_MARKED = re.compile(f"⟦({'|'.join(KINDS)})⟧")
_REDACTED = re.compile(rf"\[({'|'.join(KINDS)})\]")


def count_redactions(texts: Iterable[str]) -> dict[str, int]:
    """Counts, by kind, what a `PatternRedactor` has replaced in these texts."""
    kinds = [kind for text in texts for kind in _REDACTED.findall(text)]
    return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}
