"""How wishes are worded: the phrases of each language, and what things are called in it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from service.language import HAN, KANA
from service.schema import Value

LANGUAGES = ("en", "de", "es", "fr", "ru", "zh", "ja")
UNSPACED = frozenset({"zh", "ja"})
CYRILLIC = re.compile("[\u0400-\u04ff]")
CURRENCIES = (
    r"[$€£¥₽￥]|(?:usd|eur|gbp|cny|rmb|jpy|rub)\b|yuans?\b|yuán\b|юан\w*|元|块钱?|円|圆|人民币|euros?\b|евро\b|"
    r"dollars?\b|dólares\b|dollar\b|bucks\b|pounds?\b|руб\w*|yen\b|renminbi\b"
)
UNITS = {
    "price": CURRENCIES,
    "minutes": r"min\.?\b|mins?\b|minut\w*|минут\w*|мин\b|分钟?|分間?",
    "hours": r"h\b|hrs?\b|hours?\b|stunden?\b|horas?\b|heures?\b|час\w*|小时|個?時間",
    "pages": r"pages?\b|seiten?\b|páginas?\b|страниц\w*|页|頁|ページ",
    "tempo": r"bpm\b|beats\w*",
}
"""By what it measures: the names of a number's unit."""
NUMBER = (
    rf"(?:(?P<before>{CURRENCIES}) ?)?(?P<n>\d{{1,3}}(?:[ ,.']\d{{3}})+(?!\d)|\d+(?:[.,]\d+)?)"
    r"(?: ?(?:" + "|".join(f"(?P<{name}>{units})" for name, units in UNITS.items()) + r"))?"
)
YEAR = r"(?P<y>1[89]\d\d|20\d\d)"


class Wording(Value):
    """Phrases of one language, as regular expressions.

    `before`, `after`: say that what follows, or what precedes, is not wanted. `idle`: look like one
    of these but refuse nothing. `rather`: the same, its group `cue` the word before what is not
    wanted. `other`: ask for something else than what precedes; `same`: say that what was said holds
    for another thing, too. `contrast`: end what is refused. `wants`: begin what is wanted. `or`,
    `and`: join the things of a list; `articles`: begin a new thing; `lists`: may stand between the
    things of a list. `like`, `like_after`: stand before, or after, the title of an item that others
    shall be like.

    `under`, `over`, `between`, `around`: bounds of a number; `before_year`, `since_year`,
    `until_year`, `after_year`, `in_year`, `decade`: of a year; `decades`: the first year of each
    decade that is a word. `cheap`, `dear`, `short`, `long`, `old`, `new`, `slow`, `fast`: low and
    high numbers; `cheaper`, `dearer`, `shorter`, `longer`, `newer`, `older`: than what was shown.
    `different`: something other than usual. `soft`: what is said with it is no condition.

    `stop`: what is a name of something in another language and an ordinary word in this one.
    `filler`: words, parted by spaces, that say nothing about what is wanted.
    """

    before: list[str]
    after: list[str]
    rather: list[str]
    idle: list[str]
    contrast: list[str]
    wants: list[str]
    or_: list[str]
    and_: list[str]
    articles: list[str]
    other: list[str]
    same: list[str]
    lists: list[str]
    like: list[str]
    like_after: list[str]
    numbers: dict[str, list[str]]
    decades: dict[str, int]
    adjectives: dict[str, list[str]]
    different: list[str]
    soft: list[str]
    stop: list[str]
    filler: frozenset[str]


NUMBERS = (
    *("under", "over", "between", "around"),
    *("before_year", "since_year", "until_year", "after_year", "in_year", "decade"),
)
ADJECTIVES = (
    *("cheaper", "dearer", "cheap", "dear", "shorter", "longer", "short", "long"),
    *("newer", "older", "old", "new", "slow", "fast"),
)


@lru_cache
def wording(language: str) -> Wording:
    """The phrases of a language, from `languages/LANGUAGE.yaml`."""
    file = files("service.wish") / "languages" / f"{language}.yaml"
    fields: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    renamed = {"or_": fields.pop("or"), "and_": fields.pop("and")}
    grouped = {
        "numbers": {name: fields.pop(name) for name in NUMBERS},
        "adjectives": {name: fields.pop(name) for name in ADJECTIVES},
    }
    return Wording.model_validate(
        {**fields, **renamed, **grouped, "filler": fields["filler"].split()}
    )


def languages_of(text: str) -> tuple[str, ...]:
    """The languages whose phrases a text is read by, told by its letters. Texts in Latin letters
    are read by all of these languages at once: a few words don't tell which it is."""
    if KANA.search(text):
        return ("ja",)
    if HAN.search(text):
        return ("zh",)
    if CYRILLIC.search(text):
        return ("ru",)
    return ("en", "de", "es", "fr")


class Phrases:
    """The phrases of several languages, compiled."""

    def __init__(self, languages: Sequence[str]) -> None:
        words = [wording(language) for language in languages]
        self.spaced = not UNSPACED.intersection(languages)
        self.filler = frozenset[str]().union(*(one.filler for one in words))
        self.decades = {name: year for one in words for name, year in one.decades.items()}
        names = ("idle", "contrast", "wants", "or_", "and_", "articles", "like", "like_after")
        self._one = {
            name: self._union(part for one in words for part in getattr(one, name))
            for name in (*names, "different", "soft", "other", "same", "lists")
        }
        self._each = {
            name: [self._bounded(part) for one in words for part in getattr(one, name)]
            for name in ("before", "after", "rather")
        }
        self.numbers = {
            name: [self._number(part) for one in words for part in one.numbers[name]]
            for name in NUMBERS
        }
        self.adjectives = {
            name: self._union(part for one in words for part in one.adjectives[name])
            for name in ADJECTIVES
        }

    def all(self, name: str, text: str) -> Iterator[re.Match[str]]:
        """The matches of a field's phrases; of what says "no", each phrase's own."""
        if name in self._each:
            return (found for one in self._each[name] for found in one.finditer(text))
        expression = self._one[name]
        return expression.finditer(text) if expression is not None else iter(())

    def _union(self, parts: Iterable[str]) -> re.Pattern[str] | None:
        """One expression for any of `parts`; None if there are none."""
        alternatives = "|".join(f"(?:{part})" for part in sorted(parts, key=len, reverse=True))
        return self._bounded(alternatives) if alternatives else None

    def _number(self, part: str) -> re.Pattern[str]:
        named = part.replace("{y}", YEAR).replace("{n}", NUMBER, 1)
        second = re.sub(r"\?P<(\w+)>", r"?P<\g<1>2>", NUMBER)
        return self._bounded(named.replace("{n}", second))

    def _bounded(self, expression: str) -> re.Pattern[str]:
        bounded = (
            rf"(?<!\w)(?:{expression})(?:(?!\w)|(?<=[\s'’]))"
            if self.spaced
            else f"(?:{expression})"
        )
        return re.compile(bounded, re.IGNORECASE)


@lru_cache
def stopped(language: str) -> frozenset[str]:
    """What is a name in another language and an ordinary word in this one."""
    return frozenset(wording(language).stop if language in LANGUAGES else ())


@lru_cache
def phrases(languages: tuple[str, ...]) -> Phrases:
    return Phrases(languages)


# ── names of things ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Thing:
    """Something that catalogues have. `values`: how they may write it; `names`: what people call
    it, by language; `moods`: words of people who want it without naming it, by language; `both`:
    the things that it is at once."""

    name: str
    values: frozenset[str]
    names: Mapping[str, Sequence[str]]
    moods: Mapping[str, Sequence[str]]
    both: Sequence[str] = ()


@lru_cache
def things() -> Mapping[str, Thing]:
    """The things of `names.yaml`, by name."""
    table: dict[str, dict[str, Any]] = yaml.safe_load(
        (files("service.wish") / "names.yaml").read_text(encoding="utf-8")
    )
    found = {}
    for name, row in table.items():
        moods = row.get("mood", {})
        found[name] = Thing(
            name,
            frozenset(map(plain, [name, *row.get("is", [])])),
            {language: row[language].split("|") for language in LANGUAGES if language in row},
            {language: moods[language].split("|") for language in LANGUAGES if language in moods},
            row.get("both", ()),
        )
    return found


def plain(value: str) -> str:
    """A value without case, hyphens and marks, in the singular of English."""
    bare = re.sub(r"[\W_]", "", value.casefold())
    for plural, singular in (("ies", "y"), ("s", "")):
        if len(bare) > 4 and bare.endswith(plural):
            return bare.removesuffix(plural) + singular
    return bare
