"""The reader believes what the data bear out, and nothing else."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from eval.evidence import Evidence
from eval.falsehoods import Planter
from eval.reader import read
from service.config import MEANINGS
from service.samples import shop
from service.schema import Event, Item

CORE = {"id", "title", "text", "available", "url", "published_at"}


def item(item_id: str, title: str, text: str = "", **attributes: Any) -> Item:
    return Item(id=item_id, title=title, text=text, attributes=attributes)


def event(
    who: str, item_id: str | None, kind: str, value: float | None = None, text: str = ""
) -> Event:
    return Event(user_id=who, item_id=item_id, type=kind, value=value, text=text or None)


def evidence_of(items: Sequence[Item], log: Sequence[Event]) -> Evidence:
    return Evidence({each.id: each for each in items}, MEANINGS, log)


FILMS = [
    item("alien", "Alien", "A crew in space is hunted.", year=1979, genre=["Horror", "Sci-Fi"]),
    item(
        "thing",
        "The Thing",
        "A creature that takes any shape stalks an Antarctic research station.",
        year=1982,
        genre=["Horror", "Sci-Fi"],
    ),
    item("solaris", "Solaris", year=1972, genre=["Drama", "Sci-Fi"]),
    item("heat", "Heat", "A detective and a thief.", year=1995, genre=["Action", "Crime"]),
    item("notting", "Notting Hill", year=1999, genre=["Comedy", "Romance"]),
    item(
        "spirited",
        "Spirited Away",
        "少女误入神灵的世界,在澡堂打工救父母,没有反派。",
        year=2001,
        genre=["Animation", "Fantasy"],
        studio="Ghibli",
    ),
]
SEEN = [
    event("ann", "alien", "rating", 5),
    event("ann", "heat", "rating", 2),
    event("ann", "solaris", "play"),
    event("ann", "notting", "like"),
    event("ann", None, "search", text="lonely in space"),
]
OTHERS_SAW = [
    event(who, film, "rating", 5) for who in ("bo", "cy", "di") for film in ("alien", "thing")
]
BOOKS = [
    item("chamber", "The Chamber", author="John Grisham", year=1995),
    item("client", "The Client", author="John Grisham", year=1993),
    item("nile", "Death on the Nile", author="Agatha Christie", year=1937),
    item("orient", "Murder on the Orient Express", author="Agatha Christie", year=1934),
    item("carrie", "Carrie", author="Stephen King", year=1974),
]
READ = [
    event("eva", "chamber", "rating", 4),
    event("eva", "nile", "like"),
    event("eva", "carrie", "view"),
]
OTHERS_READ = [
    *(event(who, book, "rating", 5) for who in ("fay", "gil") for book in ("nile", "orient")),
    *(event(who, book, "like") for who in ("hal",) for book in ("nile", "client")),
]


def shop_items() -> list[Item]:
    return [
        Item(
            id=str(row["id"]),
            title=str(row["title"]),
            text=str(row["text"]),
            published_at=row["published_at"],
            attributes={
                key: list(value) if isinstance(value, tuple) else value
                for key, value in row.items()
                if key not in CORE and value is not None
            },
        )
        for row in shop.tables(0)["products.csv"]
    ]


def shop_events() -> list[Event]:
    return [Event.model_validate(row) for row in shop.tables(0)["events.csv"]]


@dataclass(frozen=True)
class World:
    """A catalogue with what people did, and true reasons: for whom, of which item, in words, and
    what was asked for."""

    evidence: Evidence
    reasons: Sequence[tuple[str, str, str, str]]

    def events(self, who: str) -> list[Event]:
        return [event for event in self.evidence.log if event.user_id == who]


GRINDER = "Hand grinder, steel burrs · 钢芯手摇磨豆机"
YIRGACHEFFE = "Yirgacheffe beans 250 g · 耶加雪菲咖啡豆"
YUNNAN = "Yunnan Baoshan beans 250 g · 云南保山咖啡豆"


def films() -> World:
    reasons = [
        ('You rated "Alien" 5: this one is horror in Antarctica from 1982.', ""),
        ('You rated "Alien" 5; both share Horror and Sci-Fi.', ""),
        ('Shares Sci-Fi with "Solaris", which you played.', ""),
        ('3 people who liked "Alien" liked this too.', ""),
        ('You searched for "lonely in space": a creature stalks a research station.', ""),
        ("You asked for horror: this is horror from 1982.", "horror, but no comedy"),
        ("Popular with others.", ""),
        ("Not seen by you yet.", ""),
        ('You liked "Notting Hill" and played "Solaris".', ""),
        ("A creature of any shape, from the 1980s.", ""),
        ("你给《Alien》打了5分,两者都有:Horror、Sci-Fi。", ""),
        ("你喜欢《Notting Hill》和《Alien》。", ""),
        ("有3位喜欢《Alien》的人也喜欢它。", ""),
        ("你想要恐怖片:这是1982年的Horror电影。", "恐怖片"),
        ("很受其他人欢迎。", ""),
    ]
    evidence = evidence_of(FILMS, [*SEEN, *OTHERS_SAW])
    chinese = [
        ("ann", "spirited", "你播放过《Solaris》:这一部讲述少女误入神灵的世界。", ""),
        ("ann", "spirited", "来自Ghibli的Animation,2001年。", ""),
        ("ann", "spirited", "少女在澡堂打工,没有反派。", ""),
    ]
    return World(evidence, [*(("ann", "thing", *rest) for rest in reasons), *chinese])


def books() -> World:
    return World(
        evidence_of(BOOKS, [*READ, *OTHERS_READ]),
        [
            ("eva", "client", 'You rated "The Chamber" 4; this one is by John Grisham, too.', ""),
            ("eva", "client", "By John Grisham, from 1993.", ""),
            ("eva", "client", '1 person who liked "Death on the Nile" liked this too.', ""),
            ("eva", "orient", 'You liked "Death on the Nile"; both share Agatha Christie.', ""),
            ("eva", "orient", '2 people who liked "Death on the Nile" liked this too.', ""),
            ("eva", "orient", "A murder on an express, by Agatha Christie, from 1934.", ""),
            ("eva", "orient", 'You viewed "Carrie" and liked "Death on the Nile".', ""),
            ("eva", "orient", "You asked for a murder: this one has it in the title.", "a murder"),
            ("eva", "orient", "你喜欢《Death on the Nile》,共同点:Agatha Christie。", ""),
            ("eva", "client", "你给《The Chamber》打了4分:同样是John Grisham的书。", ""),
            ("eva", "client", "作者John Grisham,1993年出版。", ""),
            ("eva", "orient", "有2位喜欢《Death on the Nile》的人也喜欢它。", ""),
        ],
    )


def goods() -> World:
    reasons = [
        ("maya", "gooseneck-kettle", f'You bought "{GRINDER}"; both share coffee and pour-over.'),
        ("maya", "gooseneck-kettle", f'You rated "{GRINDER}" 5: a thin spout for pour-over.'),
        ("maya", "gooseneck-kettle", 'You searched for "kettle with a thin spout": this is one.'),
        ("maya", "gooseneck-kettle", "Good for pour-over and green tea, brand Steady Hand."),
        ("maya", "gooseneck-kettle", "Published lately."),
        ("maya", "gooseneck-kettle", "Holds any temperature from 40 to 100 °C, price 299."),
        ("maya", "yunnan-250", f'2 people who bought "{YIRGACHEFFE}" bought this too.'),
        ("maya", "yunnan-250", "Brown sugar and dried plum, with hardly any acid."),
        ("maya", "yunnan-250", f'You bought "{YIRGACHEFFE}"; both are from Cloudgate.'),
        ("maya", "earl-grey-50", "Black tea with oil of bergamot, without plastic."),
        ("maya", "moka-pot", 'You put "Electric burr grinder · 电动磨豆机" in the cart: coffee.'),
        ("maya", "moka-pot", 'You took "Electric burr grinder · 电动磨豆机" out of the cart.'),
        ("maya", "moka-pot", "As strong as a bar's, with a walnut handle."),
        ("maya", "hand-grinder", "Quiet at six, and slim enough for a rucksack."),
        (
            "chenhao",
            "gooseneck-kettle",
            "你买过《Moka pot, 3 cups · 三杯摩卡壶》,两者都有:coffee。",
        ),
        (
            "chenhao",
            "gooseneck-kettle",
            "你把《Gas canister 230 g · 露营气罐》加入了购物车:壶嘴细如铅笔。",
        ),
        ("chenhao", "gooseneck-kettle", f"你给《{YUNNAN}》打了5分:适合pour-over,底座任意定温。"),
        ("chenhao", "gooseneck-kettle", "你搜索过《云南咖啡豆》:适合手冲。"),
        ("chenhao", "yirgacheffe-250", f"有3位买过《{YUNNAN}》的人也买了它。"),
        ("chenhao", "yirgacheffe-250", "留住茉莉、柠檬和红茶般的香气,浅烘。"),
        ("chenhao", "yunnan-250", "喝得到红糖和话梅,几乎不酸。"),
        ("chenhao", "earl-grey-50", "祁门红茶配天然佛手柑油,不含塑料。"),
        ("chenhao", "hand-grinder", "粗细均匀,清晨六点也不吵人。"),
        ("chenhao", "gaiwan", "最近发布。"),
    ]
    asked = [
        ("maya", "hand-grinder", "You asked for something quiet: quiet at six.", "a quiet one"),
        ("chenhao", "hand-grinder", "你想要安静的磨豆机:清晨六点也不吵人。", "安静的磨豆机"),
    ]
    return World(
        evidence_of(shop_items(), shop_events()), [*((*each, "") for each in reasons), *asked]
    )


WORLDS = {"films": films, "books": books, "goods": goods}


@pytest.mark.parametrize("name", WORLDS)
def test_true_reasons_hold_no_false_statement(name: str) -> None:
    world = WORLDS[name]()
    for who, item_id, reason, asked in world.reasons:
        found = read(
            world.evidence, reason, world.evidence.catalogue[item_id], world.events(who), asked
        )
        assert [one for one in found if not one.true] == [], reason
        assert found, reason


def said(
    world: World, who: str, item_id: str, reason: str, asked: str = ""
) -> set[tuple[str, bool]]:
    about = world.evidence.catalogue[item_id]
    found = read(world.evidence, reason, about, world.events(who), asked)
    return {(one.said, one.true) for one in found}


@pytest.mark.parametrize(
    ("reason", "claims"),
    [
        (
            "A dramatic Crime film of 1995.",
            {("dramatic", False), ("crime", False), ("1995", False)},
        ),
        ("Horrors from 1982.", {("horrors", True), ("1982", True)}),
        ("Like The Client, from the 1970s.", {("client", False), ("1970", False)}),
        ("A shapeless creature.", {("shapeless", False), ("creature", True)}),
        ("No creature in it.", {("creature", False)}),
        ("Not only horror.", {("horror", True)}),
        (
            'You rated "Heat" 2; both share Sci-Fi.',
            {("Heat", True), ("rating: Heat 2", True), ("sci fi", False)},
        ),
        (
            'You rated "Alien" 4: horror.',
            {("Alien", True), ("rating: Alien 4", False), ("horror", True)},
        ),
        ('You liked "Alien".', {("Alien", True), ("like: Alien", True)}),
        ('You liked "Heat".', {("Heat", True), ("like: Heat", False)}),
        ('You played "Alien".', {("Alien", True), ("play: Alien", False)}),
        ('Like "Gattaca", it is horror.', {("Gattaca", False), ("horror", True)}),
        ('4 people who liked "Alien" liked this too.', {("Alien", True), ("4: Alien", False)}),
        ('People who liked "Heat" liked this too.', {("Heat", True), ("People: Heat", False)}),
        (
            'You searched for "love in space": a creature.',
            {("love in space", False), ("creature", True)},
        ),
        ("You asked for comedy: horror.", {("comedy", False), ("horror", True)}),
        ("有4位喜欢《Alien》的人也喜欢它。", {("Alien", True), ("4: Alien", False)}),
        (
            "你给《Alien》打了3分:Horror。",
            {("Alien", True), ("rating: Alien 3", False), ("horror", True)},
        ),
        (
            "你给《Alien》5星:Horror。",
            {("Alien", True), ("rating: Alien 5", True), ("horror", True)},
        ),
        ("你评《Alien》为4分。", {("Alien", True), ("rating: Alien 4", False)}),
        ("3人喜欢《Alien》,也喜欢它。", {("Alien", True), ("like: Alien", True), ("3", False)}),
        ("3人喜欢《Alien》也喜欢它。", {("Alien", True), ("3: Alien", True)}),
        ("4人喜欢《Alien》也喜欢它。", {("Alien", True), ("4: Alien", False)}),
        ("你买过《Alien》。", {("Alien", True), ("purchase: Alien", False)}),
        ("你不喜欢《Alien》。", {("Alien", True), ("dislike: Alien", False)}),
        ("和《Heat》一样,它也是Horror电影。", {("Heat", True), ("horror", False)}),
        ("它是一部恐怖电影。", {("恐怖", False)}),
    ],
)
def test_each_claim_is_found_and_looked_up(reason: str, claims: set[tuple[str, bool]]) -> None:
    assert said(films(), "ann", "thing", reason, "horror, but no comedy") == claims


@pytest.mark.parametrize(
    ("item_id", "reason", "claims"),
    [
        (
            "yunnan-250",
            "Brown sugar and acidity.",
            {("brown", True), ("sugar", True), ("acidity", False)},
        ),
        ("yunnan-250", "Dried, without sugar.", {("dried", True), ("sugar", False)}),
        ("earl-grey-50", "茶包含塑料。", {("茶包", True), ("含塑料", False)}),
        ("earl-grey-50", "茶包不含塑料。", {("茶包不含塑料", True)}),
        ("hand-grinder", "You were not seen.", set()),
        ("hand-grinder", "Not seen by you yet.", {("Not seen by you yet", False)}),
        ("gaiwan", "Not seen by you yet.", {("Not seen by you yet", True)}),
    ],
)
def test_what_an_item_denies_and_what_was_seen_is_known(
    item_id: str, reason: str, claims: set[tuple[str, bool]]
) -> None:
    assert said(goods(), "maya", item_id, reason) == claims


def test_planted_falsehoods_are_found() -> None:
    planted, missed = Counter[str](), set[str]()
    for seed in range(3):
        for make in WORLDS.values():
            world = make()
            for who, item_id, reason, asked in world.reasons:
                about, events = world.evidence.catalogue[item_id], world.events(who)
                planter = Planter(world.evidence, events, Random(f"{seed} {reason}"))
                for falsehood in planter.plant(reason, about):
                    planted[falsehood.kind] += 1
                    found = read(world.evidence, falsehood.text, about, events, asked)
                    if all(one.true for one in found):
                        missed.add(f"{falsehood.kind}: {falsehood.text}")
    assert planted.total() >= 200
    assert set(planted) == {
        *("title", "verb", "stars", "count", "value", "foreign", "asked", "denied", "borrowed")
    }
    assert len(missed) <= 0.05 * planted.total(), missed
