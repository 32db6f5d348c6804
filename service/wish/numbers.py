"""Reads the numbers of a wish: prices, years and lengths, exact, as bounds, or as "cheap" and
"newer"."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from service.schema import Filter
from service.wish.vocabulary import Vocabulary
from service.wish.wordings import ADJECTIVES, UNITS, Phrases

AROUND = 0.2
"""How far from "about 100" a number may be, as a share."""
HOUR = 60
Way = Literal["less", "more"]
MEASURED: Mapping[str, tuple[tuple[str, ...], Way]] = {
    "cheap": (("price",), "less"),
    "dear": (("price",), "more"),
    "short": (("minutes", "pages"), "less"),
    "long": (("minutes", "pages"), "more"),
    "old": (("year",), "less"),
    "new": (("year",), "more"),
    "slow": (("tempo",), "less"),
    "fast": (("tempo",), "more"),
}
"""By adjective: what it says something about, and which way."""
COMPARED = {
    "cheaper": "cheap",
    "dearer": "dear",
    "shorter": "short",
    "longer": "long",
    "newer": "new",
    "older": "old",
}
YEARS = {
    "before_year": ("lt", "gte"),
    "after_year": ("gt", "lte"),
    "since_year": ("gte", "lt"),
    "until_year": ("lte", "gt"),
}
"""By wording: the bound that a year is, and the one it is if that is not wanted."""
LIMITS = {
    ("under", True): ("lt", "gte"),
    ("under", False): ("lte", "gt"),
    ("over", True): ("gt", "lte"),
    ("over", False): ("gte", "lt"),
}
STRICT = re.compile(
    r"\b(?:under|below|(?<!or )less|cheaper|over|above|(?<!no )(?<!not )(?<!or )more|unter"
    r"|weniger|billiger|mehr als|más de|plus de|больше|более"
    r"|günstiger|über(?!steig|schreit)|menos de|debajo|inferior|encima|superior|moins|dessous|sous"
    r"|supérieur|dessus|меньше|менее|дешевле|ниже|выше|свыше)\b"
    r"|低于|少于|小于|高于|大于|(?<!不)超过|未満|より安|より高|を超|超え",
    re.IGNORECASE,
)
"""What tells that a bound itself is outside."""


@dataclass(frozen=True)
class Bound:
    """A condition on a number, said from `start` to `end`. `filter`: what a number must meet;
    `soft`: whether it is only a direction, `aged`: by a word such as "old"; `than`: less or more
    than what was shown."""

    start: int
    end: int
    key: str
    filter: Filter
    refused: Filter
    soft: bool = False
    than: Way | None = None
    aged: bool = False


def bounds(text: str, phrases: Phrases, vocabulary: Vocabulary) -> list[Bound]:
    """The conditions on numbers that a text states, without overlaps: of those that overlap, the
    longest."""
    found = [*_years(text, phrases, vocabulary), *_ranges(text, phrases, vocabulary)]
    found += _adjectives(text, phrases, vocabulary)
    kept: list[Bound] = []
    for one in sorted(found, key=lambda bound: (bound.start - bound.end, bound.soft)):
        if all(one.end <= other.start or other.end <= one.start for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda bound: bound.start)


def _years(text: str, phrases: Phrases, vocabulary: Vocabulary) -> Iterator[Bound]:
    key = vocabulary.numbers.get("year")
    if key is None:
        return
    for expression in phrases.numbers["decade"]:
        for match in expression.finditer(text):
            first = _decade(match.groupdict(), phrases)
            if first is not None:
                years = [first + n for n in range(10)]
                wanted = Filter(gte=first, lt=first + 10)
                yield Bound(*match.span(), key, wanted, Filter(none=[*years]))
    for name, (way, other) in YEARS.items():
        for expression in phrases.numbers[name]:
            for match in expression.finditer(text):
                year = int(match["y"])
                yield Bound(
                    *match.span(),
                    key,
                    Filter.model_validate({way: year}),
                    Filter.model_validate({other: year}),
                )
    for expression in phrases.numbers["in_year"]:
        for match in expression.finditer(text):
            year = int(match["y"])
            yield Bound(*match.span(), key, Filter(gte=year, lte=year), Filter(none=[year]))


def _decade(groups: Mapping[str, str | None], phrases: Phrases) -> int | None:
    """The first year of a decade, from its digits or its word."""
    digits, word = groups.get("d"), groups.get("word")
    if word is not None:
        return phrases.decades.get(word.casefold())
    if digits is None:
        return None
    number = int(re.sub(r"\D", "", digits))
    if number >= 1000:
        return number
    return number + (2000 if number < 30 else 1900)


def _ranges(text: str, phrases: Phrases, vocabulary: Vocabulary) -> Iterator[Bound]:
    for expression in phrases.numbers["between"]:
        for match in expression.finditer(text):
            groups = match.groupdict()
            low, high = _number(groups["n"]), _number(groups["n2"])
            unit = _unit(groups, "2") or _unit(groups)
            key = _key(unit, max(low, high), vocabulary)
            if key is not None and low < high:
                low = _of_kind(_in_unit(low, unit), key, vocabulary)
                high = _of_kind(_in_unit(high, unit), key, vocabulary)
                yield Bound(*match.span(), key, Filter(gte=low, lte=high), Filter(gt=high))
    for name in ("under", "over", "around"):
        for expression in phrases.numbers[name]:
            for match in expression.finditer(text):
                groups = match.groupdict()
                unit, number = _unit(groups), _number(groups["n"])
                key = _key(unit, number, vocabulary)
                if key is None:
                    continue
                number = _of_kind(_in_unit(number, unit), key, vocabulary)
                if name == "around":
                    low = _of_kind(number * (1 - AROUND), key, vocabulary)
                    high = _of_kind(number * (1 + AROUND), key, vocabulary)
                    yield Bound(*match.span(), key, Filter(gte=low, lte=high), Filter(gt=high))
                    continue
                strict = bool(STRICT.search(match[0]))
                way, other = LIMITS[name, strict]
                yield Bound(
                    *match.span(),
                    key,
                    Filter.model_validate({way: number}),
                    Filter.model_validate({other: number}),
                )


def _number(digits: str) -> float:
    """A number as it is written; a mark before exactly three digits parts thousands."""
    plain = re.sub(r"[ ,.'](?=\d{3}(?:\D|$))", "", digits).replace(",", ".")
    value = float(plain)
    return int(value) if value.is_integer() else value


def _unit(groups: Mapping[str, str | None], suffix: str = "") -> str | None:
    if groups.get(f"before{suffix}"):
        return "price"
    return next((name for name in UNITS if groups.get(f"{name}{suffix}")), None)


def _in_unit(number: float, unit: str | None) -> float:
    return number * HOUR if unit == "hours" else number


def _of_kind(number: float, key: str, vocabulary: Vocabulary) -> float:
    """A number of the kind that a key has: whole where all of them are."""
    return round(number) if isinstance(vocabulary.facets.ends[key][0], int) else number


def _key(unit: str | None, number: float, vocabulary: Vocabulary) -> str | None:
    """The key that a number belongs to: by its unit, else that of years if it may be a year, else
    that of prices, else the only one left."""
    numbers = vocabulary.numbers
    if unit is not None:
        return numbers.get("minutes" if unit == "hours" else unit)
    if "year" in numbers and 1880 <= number <= 2100 and float(number).is_integer():
        return numbers["year"]
    others = [key for measure, key in numbers.items() if measure != "year"]
    return numbers.get("price") or next(iter(others), None)


def _adjectives(text: str, phrases: Phrases, vocabulary: Vocabulary) -> Iterator[Bound]:
    for name in ADJECTIVES:
        expression = phrases.adjectives[name]
        measures, way = MEASURED[COMPARED.get(name, name)]
        keys = [vocabulary.numbers[one] for one in measures if one in vocabulary.numbers]
        if not keys or expression is None:
            continue
        low, high = vocabulary.facets.ends[keys[0]]
        wanted, refused = Filter(lte=low), Filter(gt=low)
        if way == "more":
            wanted, refused = Filter(gte=high), Filter(lt=high)
        for match in expression.finditer(text):
            than = way if name in COMPARED else None
            yield Bound(
                *match.span(),
                keys[0],
                wanted,
                refused,
                soft=True,
                than=than,
                aged=measures == ("year",),
            )
