"""Makes wishes in words, in seven languages, from the facets of the service's own catalogue, and
measures whether what comes is what was asked for.

The truth is computed from the items' attributes by code that shares nothing with what reads wishes.
A wording is a sentence with places for what is wanted and what is not; a third of them, in
`wordings/heldout`, were written by others than the rules, and are reported apart."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args

import yaml

from eval.metrics import graded_ndcg
from eval.own import own_data
from eval.protocols import Options
from service.build import Service
from service.errors import BadRequest
from service.schema import Item, RecommendRequest, Understood

LANGUAGES = ("en", "de", "es", "fr", "ru", "zh", "ja")
TOP = 10
ENOUGH = 25
"""The fewest items that meet a case's conditions: some of them a person may have had."""
PAGE = 500
Kind = Literal[
    "wanted", "avoided", "both", "neither", "decade", "not_decade", "before", "since",
    "wanted_decade", "under", "over", "between", "like", "mood",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Condition:
    """What the first items must meet. Of a key of words: `values`, one of which an item has, or
    none of which if `refused`; of numbers: at least `low` and less than `high`, or not, if
    `refused`."""

    key: str
    values: frozenset[str] = frozenset()
    low: float = -math.inf
    high: float = math.inf
    refused: bool = False

    def met(self, item: Item) -> bool:
        held = item.attributes.get(self.key)
        if self.values:
            found = {*map(str, held if isinstance(held, list) else [held])} & self.values
            return bool(found) is not self.refused
        if not isinstance(held, int | float):
            return self.refused
        return (self.low <= held < self.high) is not self.refused


@dataclass(frozen=True)
class WishCase:
    """A wish, and what its answer must meet. `held_out`: whether its wording was not known to who
    wrote the rules."""

    case_id: str
    language: str
    kind: Kind
    text: str
    conditions: tuple[Condition, ...]
    held_out: bool

    def meets(self, item: Item) -> bool:
        return all(condition.met(item) for condition in self.conditions)

    def violates(self, item: Item) -> bool:
        """Whether an item has what the wish refuses."""
        return any(one.refused and not one.met(item) for one in self.conditions)


@dataclass(frozen=True)
class WishAnswer:
    """What came of a case. `satisfied`: the share of the first `TOP` items that meet all of it;
    `violations`: how many have what it refuses; `ndcg`: of how many people liked the items that
    meet it, against the best order of all that do; None without a log. `known`: whether the answer
    says of itself that it avoids all that it should."""

    case: WishCase
    satisfied: float
    violations: int
    ndcg: float | None
    known: bool
    source: str
    milliseconds: float


@dataclass(frozen=True)
class WishesTarget:
    """Which wishes to measure: so many a language, by lot. `rules`: whether they are read by rules
    alone; `repeat`: how often each wording is used; `concurrency`: requests at a time."""

    languages: Sequence[str] = LANGUAGES
    limit: int | None = None
    rules: bool = True
    kinds: Sequence[Kind] = KINDS
    seed: int = 0
    repeat: int = 2
    concurrency: int = 1


# ── cases ─────────────────────────────────────────────────────────────────────────────────────────


@lru_cache
def wordings(language: str, *, held_out: bool) -> Mapping[str, Any]:
    """The names, moods and wordings of one language."""
    folder = files("eval") / "wordings"
    file = (folder / "heldout" if held_out else folder) / f"{language}.yaml"
    table: Mapping[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return table


@dataclass(frozen=True, eq=False)
class Cases:
    """Makes cases of a catalogue. `words`: its keys of words; `year`, `price`: those of numbers, if
    it has any."""

    items: Sequence[Item]
    words: Sequence[str]
    year: str | None
    price: str | None
    seed: int = 0
    repeat: int = 2
    _values: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Finds the key of each value; of several, the one that most items have it under."""
        counts: Counter[tuple[str, str]] = Counter()
        for item in self.items:
            for key, value in item.facts():
                if key in self.words:
                    counts[key, str(value)] += 1
        for (key, value), _ in reversed(counts.most_common()):
            self._values[value] = key

    def of(self, language: str, kinds: Sequence[Kind] = KINDS) -> list[WishCase]:
        """The cases of a language, in random order: each wording `repeat` times, with values that
        enough items meet."""
        found: list[WishCase] = []
        for held_out in (False, True):
            told = wordings(language, held_out=held_out)
            for kind in kinds:
                made = islice(self._made(kind, told, language, held_out=held_out), 100_000)
                for n, (text, conditions) in enumerate(made):
                    case_id = f"{language}-{kind}-{'h' if held_out else 'o'}{n}"
                    found.append(WishCase(case_id, language, kind, text, conditions, held_out))
        Random(self.seed).shuffle(found)
        return found

    def _made(
        self, kind: Kind, told: Mapping[str, Any], language: str, *, held_out: bool
    ) -> Iterator[tuple[str, tuple[Condition, ...]]]:
        dice = Random(f"{self.seed} {language} {kind} {held_out}")
        if kind == "mood":
            for mood in told["moods"]:
                values = frozenset(mood["any"]) & self._values.keys()
                if values:
                    yield mood["text"], (Condition(self._values[min(values)], values),)
            return
        known = wordings(language, held_out=False)["wordings"][kind] if held_out else ()
        for wording in told["wordings"][kind]:
            if wording in known:  # two people had the same words
                continue
            for _ in range(self.repeat):
                for _ in range(60):  # until enough items meet the values that the lot gives
                    drawn = self._drawn(kind, wording, told, dice)
                    if drawn is not None:
                        yield drawn
                        break

    def _drawn(
        self, kind: Kind, wording: str, told: Mapping[str, Any], dice: Random
    ) -> tuple[str, tuple[Condition, ...]] | None:
        """A wording with values by lot; None if the catalogue has too little that meets them."""
        names = {value: name for value, name in told["names"].items() if value in self._values}
        if len(names) < 3:
            return None
        wanted, refused, other = dice.sample(sorted(names), 3)
        slots: dict[str, Any] = {
            "want": names[wanted]["want"],
            "no": names[refused]["no"],
            "no2": names[other]["no"],
        }
        conditions: list[Condition] = []
        if "{want}" in wording:
            conditions.append(Condition(self._values[wanted], frozenset({wanted})))
        if "{no}" in wording:
            conditions.append(Condition(self._values[refused], frozenset({refused}), refused=True))
        if "{no2}" in wording:
            conditions.append(Condition(self._values[other], frozenset({other}), refused=True))
        numbers = self._numbers(kind, told, dice)
        if numbers is None:
            return None
        slots |= numbers[0]
        conditions += numbers[1]
        meeting = sum(all(one.met(item) for one in conditions) for item in self.items)
        if meeting < min(ENOUGH, len(self.items) // 10):
            return None
        text = wording.format(**slots)
        return text[:1].upper() + text[1:], tuple(conditions)

    def _numbers(
        self, kind: Kind, told: Mapping[str, Any], dice: Random
    ) -> tuple[dict[str, Any], list[Condition]] | None:
        """The numbers and titles for a wording's places, and what they demand; None if the
        catalogue has none."""
        if kind in {"decade", "not_decade", "wanted_decade"}:
            first = dice.choice(sorted(told["decades"]))
            condition = Condition(
                self.year or "", low=first, high=first + 10, refused=kind == "not_decade"
            )
            return ({"decade": told["decades"][first]}, [condition]) if self.year else None
        if kind in {"before", "since"}:
            year = dice.randrange(1980, 1998)
            low, high = (-math.inf, year) if kind == "before" else (year, math.inf)
            condition = Condition(self.year or "", low=low, high=high)
            return ({"year": year}, [condition]) if self.year else None
        if kind in {"under", "over", "between"}:
            return self._prices(kind, dice) if self.price else None
        if kind == "like":
            titles = [
                item for item in self.items if item.title.isascii() and 4 < len(item.title) < 25
            ]
            return ({"title": dice.choice(titles).title}, []) if titles and self.year else None
        return {}, []

    def _prices(self, kind: Kind, dice: Random) -> tuple[dict[str, Any], list[Condition]]:
        numbers = sorted(
            float(value)
            for item in self.items
            if isinstance(value := item.attributes.get(self.price or ""), int | float)
        )
        low = int(numbers[dice.randrange(len(numbers) // 5, len(numbers) // 2)])
        high = int(numbers[dice.randrange(len(numbers) // 2, 4 * len(numbers) // 5)]) + 1
        key = self.price or ""
        if kind == "between":
            return {"low": low, "high": high}, [Condition(key, low=low, high=high + 1e-6)]
        number = high if kind == "under" else low
        bounds = {"high": number + 1e-6} if kind == "under" else {"low": number}
        return {"price": number}, [Condition(key, **bounds)]


# ── measuring ─────────────────────────────────────────────────────────────────────────────────────


async def cases_of(service: Service, target: WishesTarget) -> tuple[list[WishCase], list[Item]]:
    """The cases for the service's own catalogue, and its items. Raises `BadRequest` for a catalogue
    that declares nothing to filter by."""
    items: list[Item] = []
    while page := await service.records.list_items(items[-1].id if items else "", PAGE):
        items += page
    kinds = service.settings.catalog.filterable
    words = [key for key, kind in kinds.items() if kind in {"str", "list"}]
    if not items or not words:
        raise BadRequest(
            "no wishes can be made: the catalogue needs items, and words in catalog.filterable"
        )
    available = [item for item in items if item.available]
    year, price = ("year" if "year" in kinds else None), ("price" if "price" in kinds else None)
    maker = Cases(available, words, year, price, target.seed, target.repeat)
    made = [
        case
        for language in target.languages
        for case in maker.of(language, target.kinds)[: target.limit]
    ]
    return made, available


async def measure_wishes(
    service: Service, target: WishesTarget, step: Callable[[int, int], None]
) -> list[WishAnswer]:
    """Has the service answer every case, each for a person of its log by lot, by the prior: what is
    measured is the reading, and what it does to candidates. `step` takes how many cases are done,
    and of how many."""
    cases, items = await cases_of(service, target)
    known = [user.user_id for user in await service.records.list_users("", PAGE)]
    people: list[str | None] = [*known] or [None]
    likes = await _likes(service)
    measuring = _WishMeasuring(service, target, {item.id: item for item in items}, likes)
    turn, done = asyncio.Semaphore(target.concurrency), 0

    async def ask(case: WishCase) -> WishAnswer:
        nonlocal done
        async with turn:
            user_id = people[Random(f"{target.seed} {case.case_id}").randrange(len(people))]
            answer = await measuring.ask(case, user_id)
        done += 1
        step(done, len(cases))
        return answer

    step(0, len(cases))
    return [*await asyncio.gather(*map(ask, cases))]


async def _likes(service: Service) -> Counter[str]:
    """How many people liked each item."""
    options = Options(service.settings.events.of(service.settings.service.domain))
    try:
        events = (await own_data(service, Path("log"))).events
    except BadRequest:  # the log is empty
        return Counter()
    liked = {(event.user_id, event.item_id) for event in events if options.likes(event)}
    return Counter(item_id for _, item_id in liked if item_id)


@dataclass(frozen=True, eq=False)
class _WishMeasuring:
    service: Service
    target: WishesTarget
    items: Mapping[str, Item]
    likes: Counter[str]

    async def ask(self, case: WishCase, user_id: str | None) -> WishAnswer:
        ranking = await self.service.recommender.recommend(
            RecommendRequest(
                user_id=user_id,
                instruction=case.text,
                top_n=TOP,
                explain="none",
                strategy="prior" if self.target.rules else None,
            )
        )
        shown = [self.items[row.item_id] for row in ranking.items if row.item_id in self.items]
        meeting = [case.meets(item) for item in shown]
        understood = ranking.understood
        return WishAnswer(
            case,
            sum(meeting) / max(len(shown), 1) if shown else 0.0,
            sum(map(case.violates, shown)),
            self._ndcg(case, shown),
            understood is not None and all(_known(one, understood) for one in case.conditions),
            understood.source if understood else "",
            ranking.timings.retrieve_ms,
        )

    def _ndcg(self, case: WishCase, shown: Sequence[Item]) -> float | None:
        """nDCG@10 with the logarithm of how many people liked an item as its gain, if it meets the
        wish."""
        if not self.likes:
            return None

        def gain(item: Item) -> float:
            return math.log2(1 + self.likes[item.id]) if case.meets(item) else 0.0

        return graded_ndcg([*map(gain, shown)], map(gain, self.items.values()), TOP)


def _known(condition: Condition, understood: Understood) -> bool:
    """Whether an answer says of itself that it avoids what a condition refuses."""
    if not condition.refused:
        return True
    if condition.values:
        avoided = {word.casefold() for word in understood.avoided}
        return {value.casefold() for value in condition.values} <= avoided
    told = understood.filters.get(condition.key)
    return told is not None and bool(told.none)
