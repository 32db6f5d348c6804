"""What a wish demands, in the catalogue's own values and in numbers."""

import re

from service.catalog import Facets
from service.chat.patterns import AGE, COUNT, DECADE, DECADES, ITEM_NOUN, NUMBERS, PICK_NOUN, YEAR
from service.schema import Filter


def counted(text: str, facets: Facets) -> tuple[int | None, str]:
    """How many picks a wish asks for (None if it doesn't say), and the wish without that number.

    "Ten please", "12 comedies" and "two more" ask for so many picks; "Ten", "12 Monkeys" and
    "2 hours" don't.
    """
    for match in COUNT.finditer(text):
        group = "n" if match["n"] else "zh"
        digits = match[group]
        number = int(digits) if digits.isdigit() else NUMBERS[digits.casefold()]
        if number and (group == "zh" or _counts(digits, match["what"].strip(), facets)):
            rest = text[: match.start(group)] + text[match.end(group) :]
            return number, " ".join(rest.split())
    return None, text


def _counts(number: str, after: str, facets: Facets) -> bool:
    """Whether a number counts the picks that the words after it speak of. Without such words a
    capitalised number may be a title: "recommend Seven"."""
    if not after or after.casefold() in {"please", "instead", "now"}:
        return number.isdigit() or number.islower()
    near = " ".join(after.split()[:3])
    return bool(PICK_NOUN.match(near) or ITEM_NOUN.search(near) or named(near, facets))


def topic(words: str, facets: Facets) -> str:
    """The catalogue's value that the words name, else the words themselves, shortened."""
    return next(iter(named(words, facets)), " ".join(words.split())[:60])


def named(text: str, facets: Facets) -> list[str]:
    """The catalogue's values that a text names, whatever their case, hyphens and plural."""
    words = re.findall(r"[\w'’-]+", text.casefold())
    phrases = {_bare("".join(words[n : n + size])) for size in (1, 2, 3) for n in range(len(words))}
    every = [value for values in facets.values.values() for value in values]
    return [value for value in every if _bare(value.casefold()) in phrases]


def _bare(word: str) -> str:
    """A word without hyphens and blanks, in the singular."""
    plain = re.sub(r"[\W_]", "", word)
    for plural, singular in (("ies", "y"), ("es", "e"), ("s", "")):
        if len(plain) > 4 and plain.endswith(plural):
            return plain.removesuffix(plural) + singular
    return plain


def demands(text: str, facets: Facets) -> dict[str, Filter]:
    """Filters that a wish states: the catalogue's own values by name and, where items have a
    `year`, a decade, a year, or how old they are among the others."""
    filters = {}
    for key, values in facets.values.items():
        if wished := named(text, Facets({key: values})):
            filters[key] = Filter(any=wished)
    years = _years(text, facets) if "year" in facets.ends else None
    if years is not None:
        filters["year"] = years
    return filters


def _years(text: str, facets: Facets) -> Filter | None:
    """The years that a wish states. "Old" and "new" are the catalogue's own ends."""
    if decade := DECADE.search(text):
        start = int(decade[1]) if decade[1] else DECADES[decade[2].lower()]
        first = (1900 if start >= 30 else 2000) + start
        return Filter(gte=first, lt=first + 10)
    if year := YEAR.search(text):
        value = int(year[2])
        bounds = {
            "before": {"lt": value},
            "until": {"lte": value},
            "after": {"gt": value},
            "since": {"gte": value},
        }
        exactly = {"gte": value, "lte": value}
        return Filter.model_validate(bounds.get(year[1].lower(), exactly))
    low, high = facets.ends["year"]
    for age in AGE.finditer(text):
        if ITEM_NOUN.search(age["what"]) or named(age["what"], facets):
            return Filter(lte=low) if age["old"] else Filter(gte=high)
    return None


def choosable(facets: Facets) -> list[str]:
    """The catalogue's values that a model may choose from: those that can stand in a grammar and in
    a list. Years are left to the rules."""
    words = [value for key, values in facets.values.items() if key != "year" for value in values]
    return [value for value in words if re.fullmatch(r"[\w '&-]{2,40}", value)]


def choice(facets: Facets) -> str:
    """A grammar (llguidance) for one or two of the choosable values, or "none"."""
    values = " | ".join(f'"{value}"' for value in choosable(facets))
    return f'start: "none" | value ("," value)?\nvalue: {values}\n'
