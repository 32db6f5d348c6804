"""An invented shop that sells in English and Chinese: `products.csv`, `people.csv` and
`events.csv`.

Sixty products in six categories, thirty people, and what they did in the six weeks before `END`.
Products, people, what people buy, look for and say are written by hand in `shop_products.yaml` and
`shop_people.yaml`, so that a reader can tell what a good list for somebody would be. Chance, from a
seed, decides when they come and what else they look at.

- A title is short and in both languages, so that a line of a prompt holds all of it; a text has a
  paragraph in each. Attributes are in English, one name for a thing: filters and reasons use them.
- Some products go together (dripper, filters, grinder, beans), some are nearly the same (two nibs,
  two sizes of a bag). What has no stock is not available.
- What is used up is bought again after about `lasts_days`. Whoever is disappointed says so, returns
  it and does not buy it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter

HOLDS = (
    "60 products in English and Chinese (prices in yuan), 30 people, six weeks of events; "
    "all invented"
)
CHINA = timezone(timedelta(hours=8))
END = datetime(2026, 6, 1, tzinfo=CHINA)
"""No event is later; a Monday. Fixed, so that a seed always gives the same bytes."""
DAYS = 42
"""The events lie in so many days before `END`."""
OPENED = date(2025, 5, 6)
TRIED_AFTER = timedelta(days=2)
"""People rate and comment on a product no sooner than this after they bought it."""
SOLD_OUT_FOR = timedelta(days=10)
"""Products that are sold out now could still be bought until so long before `END`."""
BASE_APPEAL = 0.05
"""How much a product appeals that meets no taste; a taste counts 1 to 6."""
IMPULSE_RATE = 0.3
"""The share of visits on which something is bought on impulse, if something tempts."""
IMPULSE_LIMIT = 100
"""The most that anybody spends on impulse, in yuan."""
TOO_DEAR = 0.25
"""The factor on the appeal of a product above somebody's budget."""
OUTGROWN = {"diapers-nb": "diapers-s"}
"""The first is not bought again once the second was."""

Cell = str | int | bool | tuple[str, ...] | None
Row = dict[str, Cell]
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Product:
    """`price` in yuan. `stock`: pieces; 0: sold out. `lasts_days`: of what is used up and bought
    again. `since`: when it came into the shop; most of it opened with the shop."""

    id: str
    title: str
    category: str
    kind: str
    brand: str
    price: int
    stock: int
    good_for: tuple[str, ...]
    english: str
    chinese: str
    lasts_days: int | None = None
    since: date = OPENED

    @property
    def words(self) -> tuple[str, ...]:
        """What a taste may name."""
        return self.category, self.kind, *self.good_for

    @property
    def published_at(self) -> datetime:
        return datetime(self.since.year, self.since.month, self.since.day, 10, tzinfo=CHINA)


@dataclass(frozen=True)
class Shopper:
    """A person and what they do. Products are named by their ids.

    `tastes`: how much a product appeals for each of its words, 1 to 6. `visits`: how many.
    `budget` in yuan. `buys`: in this order. `asks`: what they search for. `drops`: what they put
    into the cart and take out again. `says`: stars and words about what they bought. `only`: all
    that a newcomer did, each as an event type and its product or words.
    """

    user_id: str
    locale: str
    city: str
    household: str
    interests: tuple[str, ...] = ()
    tastes: Mapping[str, int] = field(default_factory=dict)
    visits: int = 0
    budget: int = 0
    buys: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()
    says: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    only: tuple[tuple[str, str], ...] = ()
    allow_hosted: bool = True


@cache
def products() -> dict[str, Product]:
    """By id. Read at the first use, since most commands need no sample."""
    return {
        product.id: product
        for product in TypeAdapter(list[Product]).validate_python(_read("shop_products.yaml"))
    }


@cache
def shoppers() -> list[Shopper]:
    """In the order of the file. Read at the first use."""
    return TypeAdapter(list[Shopper]).validate_python(_read("shop_people.yaml"))


def _read(name: str) -> Any:
    return yaml.safe_load(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def tables(seed: int) -> dict[str, list[Row]]:
    """Rows by file name. Needs no clock: the times of events lie in the `DAYS` before `END`."""
    return {
        "products.csv": [
            {
                "id": product.id,
                "title": product.title,
                "text": f"{product.english}\n{product.chinese}",
                "category": product.category,
                "kind": product.kind,
                "brand": product.brand,
                "price": product.price,
                "stock": product.stock,
                "good_for": product.good_for,
                "lasts_days": product.lasts_days,
                "available": product.stock > 0,
                "url": f"https://shop.example/{product.id}",
                "published_at": product.published_at.isoformat(),
            }
            for product in products().values()
        ],
        "people.csv": [
            {
                "user_id": person.user_id,
                "locale": person.locale,
                "allow_hosted": person.allow_hosted,
                "city": person.city,
                "household": person.household,
                "interests": person.interests,
            }
            for person in shoppers()
        ],
        "events.csv": sorted(
            (event for person in shoppers() for event in _events(person, seed)),
            key=lambda event: str(event["occurred_at"]),
        ),
    }


# ── what people did ───────────────────────────────────────────────────────────────────────────────


@dataclass
class Visit:
    """One person in the shop, from `at` on; every step takes them some seconds."""

    person: Shopper
    number: int
    at: datetime
    random: Random
    events: list[Row] = field(default_factory=list)

    def does(
        self,
        *types: str,
        product: str | None = None,
        value: int | None = None,
        text: str | None = None,
    ) -> None:
        """Adds one event of each type, in this order."""
        for type_ in types:
            self.at += timedelta(seconds=self.random.randint(10, 150))
            self.events.append(
                {
                    "user_id": self.person.user_id,
                    "item_id": product,
                    "type": type_,
                    "value": value,
                    "text": text,
                    "occurred_at": self.at.isoformat(),
                    "session_id": f"{self.person.user_id}-{self.number}",
                }
            )


def _events(person: Shopper, seed: int) -> list[Row]:
    """All that a person did. Everybody has a random generator of their own, so that another person
    in the data changes nobody else's events."""
    random = Random(f"{seed} {person.user_id}")
    if person.only:
        return _newcomer_events(person, random)
    starts = _visit_times(person, random)
    asks, buys, drops = (
        _spread(things, len(starts)) for things in (person.asks, person.buys, person.drops)
    )
    bought: dict[str, datetime] = {}
    wanted, unsaid, events = list[str](), dict(person.says), list[Row]()
    for number, start in enumerate(starts):
        visit = Visit(person, number + 1, start, random)
        for text in asks.get(number, []):
            visit.does("search", text=text)
        viewed = _viewed_products(person, start, random)
        for product in viewed:
            visit.does("view", product=product)
        for product in drops.get(number, []):
            visit.does("view", "add_to_cart", "remove_from_cart", product=product)
        wanted += buys.get(number, [])
        if random.random() < IMPULSE_RATE:
            wanted += _tempting_products(person, viewed, bought)[:1]
        for product in [*_on_sale(wanted, start), *_used_up(person, bought, start)]:
            _buy(visit, product, random)
            bought[product] = start
        wanted = [product for product in wanted if product not in bought]
        for product, at in bought.items():
            if product in unsaid and at + TRIED_AFTER < start:
                _review(visit, product, *unsaid.pop(product))
        events += visit.events
    return events


def _newcomer_events(person: Shopper, random: Random) -> list[Row]:
    visit = Visit(
        person,
        1,
        END - timedelta(days=random.randint(1, 6), hours=random.randint(3, 10)),
        random,
    )
    for type_, words in person.only:
        if type_ == "search":
            visit.does(type_, text=words)
        else:
            visit.does(type_, product=words)
    return visit.events


def _visit_times(person: Shopper, random: Random) -> list[datetime]:
    """When a person comes: near an hour of their own, the last time in the last three days, so that
    nearly everything bought can still be reviewed."""
    if not person.visits:
        return []
    hour = random.choice((8, 12, 19, 20, 21))
    days = [
        *sorted(random.sample(range(DAYS - 6), person.visits - 1)),
        DAYS - random.randint(1, 3),
    ]
    return [
        END - timedelta(days=DAYS - day) + timedelta(hours=hour, minutes=random.randint(0, 90))
        for day in days
    ]


def _spread(things: Sequence[Thing], visits: int) -> dict[int, list[Thing]]:
    """Distributes things evenly over the visits, in order; returns them by the visit's number, from
    0. The last visit gets none: what is bought there could not be reviewed."""
    spread: dict[int, list[Thing]] = {}
    for place, thing in enumerate(things):
        spread.setdefault(place * (visits - 1) // len(things), []).append(thing)
    return spread


def _viewed_products(person: Shopper, now: datetime, random: Random) -> list[str]:
    """Ids of some products that are out by `now`, drawn by how much they appeal, each once."""
    published = [product for product in products().values() if product.published_at < now]
    drawn = random.choices(
        published,
        [_appeal(person, product) for product in published],
        k=random.randint(2, 6),
    )
    return list(dict.fromkeys(product.id for product in drawn))


def _appeal(person: Shopper, product: Product) -> float:
    taste = BASE_APPEAL + sum(person.tastes.get(word, 0) for word in product.words)
    return taste * (TOO_DEAR if product.price > person.budget else 1)


def _tempting_products(
    person: Shopper, viewed: Sequence[str], bought: Mapping[str, datetime]
) -> list[str]:
    """Those of the viewed products that a person may buy on impulse: cheap, to their taste, and not
    planned anyway."""
    planned, limit = {*bought, *person.buys, *person.drops}, min(person.budget, IMPULSE_LIMIT)
    candidates = [products()[product_id] for product_id in viewed if product_id not in planned]
    return [
        product.id
        for product in candidates
        if product.price <= limit and person.tastes.keys() & {*product.words}
    ]


def _on_sale(wanted: Sequence[str], now: datetime) -> list[str]:
    """Those of the wanted products that are published by `now` and not yet sold out."""
    candidates = [products()[product_id] for product_id in wanted]
    return [
        product.id
        for product in candidates
        if product.published_at < now and (product.stock or now < END - SOLD_OUT_FOR)
    ]


def _used_up(person: Shopper, bought: Mapping[str, datetime], now: datetime) -> list[str]:
    """What is bought again: used up, in stock, no disappointment, and not outgrown."""
    return [
        product_id
        for product_id, at in bought.items()
        if _needs_another(products()[product_id], at, now)
        and person.says.get(product_id, (5, ""))[0] > 3
        and OUTGROWN.get(product_id) not in bought
    ]


def _needs_another(product: Product, bought_at: datetime, now: datetime) -> bool:
    """Is it used up by `now`, and in stock?"""
    if product.lasts_days is None or not product.stock:
        return False
    return bought_at + timedelta(days=product.lasts_days) <= now


def _buy(visit: Visit, product_id: str, random: Random) -> None:
    """Adds a purchase to a visit, after a view of the product and often of others of its kind."""
    wanted = products()[product_id]
    for product in products().values():
        alternative = (
            (product.category, product.kind) == (wanted.category, wanted.kind)
            and product is not wanted
            and product.published_at < visit.at
        )
        if alternative and random.random() < 0.5:
            visit.does("view", product=product.id)
    visit.does("view", "add_to_cart", "purchase", product=product_id)


def _review(visit: Visit, product: str, stars: int, words: str) -> None:
    visit.does("comment", product=product, text=words)
    visit.does("rating", product=product, value=stars)
    if stars <= 2:
        visit.does("return", product=product)
