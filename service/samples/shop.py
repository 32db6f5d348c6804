"""An invented shop that sells in English and Chinese: `products.csv`, `people.csv` and
`events.csv`.

Sixty products in six categories, thirty people, and what they did in the six weeks before `END`.
Products, people, what people buy, look for and say are written by hand in the tables below, so that
a reader can tell what a good list for somebody would be. Chance, from a seed, decides when they
come and what else they look at.

- A title is short and in both languages, so that a line of a prompt holds all of it; a text has a
  paragraph in each. Attributes are in English, one name for a thing: filters and reasons use them.
- Some products go together (dripper, filters, grinder, beans), some are nearly the same (two nibs,
  two sizes of a bag). What has no stock is not available.
- What is used up is bought again after about `lasts_days`. Whoever is disappointed says so, sends
  it
  back and does not buy it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from random import Random
from typing import NamedTuple, TypeVar

from service.samples.table import Row

HOLDS = (
    "60 products in English and Chinese (prices in yuan), 30 people, six weeks of events; "
    "all invented"
)
CHINA = timezone(timedelta(hours=8))
END = datetime(2026, 6, 1, tzinfo=CHINA)
"""Nothing happens later; a Monday. Fixed, so that a seed always gives the same bytes."""
DAYS = 42
RESTED = timedelta(days=2)
"""So long after a purchase somebody may know what to say of it."""
CLEARED = timedelta(days=10)
"""What is sold out now was so for as long."""
ANYTHING = 0.05
"""How much a product appeals that meets no taste; a taste counts 1 to 6."""
TEMPTED = 0.3
"""On how many visits something is bought on a whim, if there is something for it."""
WHIM = 100
"""Nobody spends more yuan on one."""
TOO_DEAR = 0.25
"""What is left of a product's appeal above somebody's budget."""

Thing = TypeVar("Thing")


class Facts(NamedTuple):
    """`price` in yuan. `stock`: pieces; 0: sold out. `lasts_days`: of what is used up and bought
    again."""

    category: str
    kind: str
    brand: str
    price: int
    stock: int
    good_for: tuple[str, ...]
    lasts_days: int | None = None
    since: date | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What a taste may name."""
        return self.category, self.kind, *self.good_for


class Product(NamedTuple):
    id: str
    facts: Facts
    title: str
    english: str
    chinese: str


@dataclass(frozen=True)
class Shopper:
    """`tastes`: how much a word of a product's facts speaks for it, 1 to 6. `visits`: in all.

    `buys`: in this order. `asks`: what is searched for. `drops`: what is put in the cart and taken
    out again. `says`: stars and words about what was bought. `only`: all that a newcomer did, each
    as an event type and its product or words.
    """

    user_id: str
    locale: str
    city: str
    household: str
    interests: tuple[str, ...]
    tastes: Mapping[str, int] = field(default_factory=dict)
    visits: int = 0
    budget: int = 0
    buys: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()
    says: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    only: tuple[tuple[str, str], ...] = ()
    allow_hosted: bool = True


def tables(seed: int) -> dict[str, list[Row]]:
    """Rows by file name. Needs no clock: the times of events lie in the `DAYS` before `END`."""
    events = [event for person in PEOPLE for event in _events(person, seed)]
    return {
        "products.csv": [_product(product) for product in PRODUCTS.values()],
        "people.csv": [_person(person) for person in PEOPLE],
        "events.csv": sorted(events, key=lambda event: str(event["occurred_at"])),
    }


def _product(product: Product) -> Row:
    facts = product.facts
    return {
        "id": product.id,
        "title": product.title,
        "text": f"{product.english}\n{product.chinese}",
        "category": facts.category,
        "kind": facts.kind,
        "brand": facts.brand,
        "price": facts.price,
        "stock": facts.stock,
        "good_for": facts.good_for,
        "lasts_days": facts.lasts_days,
        "available": facts.stock > 0,
        "url": f"https://shop.example/{product.id}",
        "published_at": _published(product).isoformat(),
    }


def _published(product: Product) -> datetime:
    """Most of the shop opened with it, a year ago."""
    since = product.facts.since or OPENED
    return datetime(since.year, since.month, since.day, 10, tzinfo=CHINA)


def _person(person: Shopper) -> Row:
    return {
        "user_id": person.user_id,
        "locale": person.locale,
        "allow_hosted": person.allow_hosted,
        "city": person.city,
        "household": person.household,
        "interests": person.interests,
    }


# ── what people did ───────────────────────────────────────────────────────────────────────────────


class Visit:
    """One person in the shop, from `at` on; every step takes them some seconds."""

    def __init__(self, person: Shopper, number: int, at: datetime, random: Random) -> None:
        self.at = at
        self.events: list[Row] = []
        self._who = person.user_id
        self._session = f"{person.user_id}-{number}"
        self._random = random

    def does(
        self,
        *types: str,
        product: str | None = None,
        value: int | None = None,
        text: str | None = None,
    ) -> None:
        """One event of each type, in this order."""
        for type_ in types:
            self.at += timedelta(seconds=self._random.randint(10, 150))
            self.events.append(
                {
                    "user_id": self._who,
                    "item_id": product,
                    "type": type_,
                    "value": value,
                    "text": text,
                    "occurred_at": self.at.isoformat(),
                    "session_id": self._session,
                }
            )


def _events(person: Shopper, seed: int) -> list[Row]:
    """All that a person did, by chances of their own: a new row in the table changes no other's."""
    random = Random(f"{seed} {person.user_id}")
    if person.only:
        return _newcomer(person, random)
    starts = _starts(person, random)
    asks, buys, drops = (
        _spread(things, len(starts)) for things in (person.asks, person.buys, person.drops)
    )
    bought: dict[str, datetime] = {}
    wanted, unsaid, events = list[str](), dict(person.says), list[Row]()
    for number, start in enumerate(starts):
        visit = Visit(person, number + 1, start, random)
        for text in asks.get(number, []):
            visit.does("search", text=text)
        seen = _looked_at(person, start, random)
        for product in seen:
            visit.does("view", product=product)
        for product in drops.get(number, []):
            visit.does("view", "add_to_cart", "remove_from_cart", product=product)
        whims = _tempting(person, seen, bought)[:1] if random.random() < TEMPTED else []
        wanted += [*buys.get(number, []), *whims]
        for product in [*_on_sale(wanted, start), *_used_up(person, bought, start)]:
            _buy(visit, product, random)
            bought[product] = start
        wanted = [product for product in wanted if product not in bought]
        for product in [one for one, at in bought.items() if one in unsaid and at + RESTED < start]:
            _say(visit, product, *unsaid.pop(product))
        events += visit.events
    return events


def _newcomer(person: Shopper, random: Random) -> list[Row]:
    start = END - timedelta(days=random.randint(1, 6), hours=random.randint(3, 10))
    visit = Visit(person, 1, start, random)
    for type_, what in person.only:
        if type_ == "search":
            visit.does(type_, text=what)
        else:
            visit.does(type_, product=what)
    return visit.events


def _starts(person: Shopper, random: Random) -> list[datetime]:
    """When somebody comes: mostly at their own hour, and once more in the end, to say what is left
    to say."""
    if not person.visits:
        return []
    hour = random.choice((8, 12, 19, 20, 21))
    days = sorted(random.sample(range(DAYS - 6), person.visits - 1))
    days.append(DAYS - random.randint(1, 3))
    return [
        END - timedelta(days=DAYS - day) + timedelta(hours=hour, minutes=random.randint(0, 90))
        for day in days
    ]


def _spread(things: Sequence[Thing], visits: int) -> dict[int, list[Thing]]:
    """Things by number of visit, in order; none at the last one, after which nothing can be
    said."""
    spread: dict[int, list[Thing]] = {}
    for place, thing in enumerate(things):
        spread.setdefault(place * (visits - 1) // len(things), []).append(thing)
    return spread


def _looked_at(person: Shopper, now: datetime, random: Random) -> list[str]:
    """Some products, drawn by how much they appeal, each once."""
    products = [product for product in PRODUCTS.values() if _published(product) < now]
    drawn = random.choices(
        products, [_appeal(person, product.facts) for product in products], k=random.randint(2, 6)
    )
    return list(dict.fromkeys(product.id for product in drawn))


def _appeal(person: Shopper, facts: Facts) -> float:
    taste = ANYTHING + sum(person.tastes.get(word, 0) for word in facts.words)
    return taste * (TOO_DEAR if facts.price > person.budget else 1)


def _tempting(person: Shopper, seen: Sequence[str], bought: Mapping[str, datetime]) -> list[str]:
    """What they may buy on a whim: cheap, to their taste, and not planned anyway."""
    known, most = {*bought, *person.buys, *person.drops}, min(person.budget, WHIM)
    facts = {product: PRODUCTS[product].facts for product in seen if product not in known}
    fitting = {product for product, one in facts.items() if person.tastes.keys() & {*one.words}}
    return [product for product in facts if product in fitting and facts[product].price <= most]


def _on_sale(wanted: Sequence[str], now: datetime) -> list[str]:
    products = [PRODUCTS[product_id] for product_id in wanted]
    return [
        one.id
        for one in products
        if _published(one) < now and (one.facts.stock or now < END - CLEARED)
    ]


def _used_up(person: Shopper, bought: Mapping[str, datetime], now: datetime) -> list[str]:
    """What is bought again: used up, in stock, no disappointment, and not outgrown."""
    found = []
    for product, at in bought.items():
        facts, (stars, _) = PRODUCTS[product].facts, person.says.get(product, (5, ""))
        used_up = facts.lasts_days is not None and at + timedelta(days=facts.lasts_days) <= now
        if used_up and facts.stock and stars > 3 and OUTGROWN.get(product) not in bought:
            found.append(product)
    return found


def _buy(visit: Visit, product: str, random: Random) -> None:
    """After a look at it and, often, at what is much the same."""
    facts = PRODUCTS[product].facts
    for other in PRODUCTS.values():
        same = (other.facts.category, other.facts.kind) == (facts.category, facts.kind)
        if same and other.id != product and _published(other) < visit.at and random.random() < 0.5:
            visit.does("view", product=other.id)
    visit.does("view", "add_to_cart", "purchase", product=product)


def _say(visit: Visit, product: str, stars: int, words: str) -> None:
    visit.does("comment", product=product, text=words)
    visit.does("rating", product=product, value=stars)
    if stars <= 2:
        visit.does("return", product=product)


# ── the shop ──────────────────────────────────────────────────────────────────────────────────────

OPENED = date(2025, 5, 6)
OUTGROWN = {"diapers-nb": "diapers-s"}
"""What is not bought again once the other was."""

_GOODS = (
    Product(
        "yirgacheffe-250",
        Facts("coffee", "beans", "Cloudgate", 88, 140, ("pour-over",), 14),
        "Yirgacheffe beans 250 g · 耶加雪菲咖啡豆",
        "Washed beans from small farms in the Ethiopian highlands, roasted light so that the cup "
        "keeps its jasmine, lemon and black tea. Roasted on Tuesday, sent on Wednesday, at their "
        "best in the second week.",
        "埃塞俄比亚高地小农户的水洗豆，浅烘，留住茉莉、柠檬和红茶般的香气。周二烘焙，周三发货，第二周风味最好。",
    ),
    Product(
        "yirgacheffe-500",
        Facts("coffee", "beans", "Cloudgate", 158, 0, ("pour-over",), 28),
        "Yirgacheffe beans 500 g · 耶加雪菲大包装",
        "The same washed Yirgacheffe in the big bag, for households that brew every morning and "
        "would rather open a parcel once a month. A one-way valve and a zip keep the flowers in.",
        "同一款水洗耶加雪菲的家庭装，适合天天手冲、一个月只想拆一次包裹的人家。单向排气阀加密封条，花香不跑。",
    ),
    Product(
        "yunnan-250",
        Facts("coffee", "beans", "Cloudgate", 58, 210, ("pour-over", "espresso"), 14),
        "Yunnan Baoshan beans 250 g · 云南保山咖啡豆",
        "Grown at 1,600 metres above the Nu river and dried in the sun with the fruit on: brown "
        "sugar, dried plum, hardly any acid. The friendliest price on our coffee shelf, and no "
        "worse for it.",
        "怒江边海拔一千六百米，带果肉日晒，喝得到红糖和话梅，几乎不酸。本店咖啡里价格最亲民的一款，味道却不将就。",
    ),
    Product(
        "espresso-500",
        Facts("coffee", "beans", "Cloudgate", 98, 95, ("espresso",), 21),
        "Night Train espresso 500 g · 夜车意式拼配豆",
        "Brazil for body, Sumatra for smoke, a little robusta for a crema that holds a spoon of "
        "sugar. Made for milk, for moka pots and for people who find light roasts sour.",
        "巴西打底，苏门答腊添烟熏味，少许罗布斯塔让油脂厚得托住一勺糖。专为奶咖和摩卡壶调配，嫌浅烘太酸的人会爱上它。",
    ),
    Product(
        "gooseneck-kettle",
        Facts("coffee", "kettle", "Steady Hand", 299, 32, ("pour-over", "green tea")),
        "Gooseneck kettle 0.9 L · 控温手冲壶",
        "A spout as thin as a pencil puts the water exactly where you look, and the base holds "
        "any temperature from 40 to 100 °C for half an hour. Pour-over becomes easy with it, and "
        "so does green tea at 80 °C.",
        "壶嘴细如铅笔，水流想落哪里就落哪里；底座四十到一百度任意定温，保温半小时。手冲从此不慌，八十度泡绿茶也正好。",
    ),
    Product(
        "hand-grinder",
        Facts("coffee", "grinder", "Steady Hand", 399, 41, ("pour-over", "camp cooking")),
        "Hand grinder, steel burrs · 钢芯手摇磨豆机",
        "Thirty turns grind a cup's worth, evenly enough that you taste the bean and not the "
        "dust. It is quiet at six in the morning, slim enough for a rucksack, and comes apart "
        "for cleaning without a tool.",
        "摇三十圈磨好一杯，粗细均匀，喝到的是豆子而不是细粉。清晨六点也不吵人，塞得进背包，徒手拆开就能清洗。",
    ),
    Product(
        "electric-grinder",
        Facts("coffee", "grinder", "Steady Hand", 700, 9, ("espresso",)),
        "Electric burr grinder · 电动磨豆机",
        "Sixty-four millimetre flat burrs, forty steps from Turkish to French press, and a motor "
        "that lets the neighbours sleep. The most expensive thing in the shop, bought once and "
        "handed on.",
        "六十四毫米平刀，四十档从土耳其到法压全覆盖，电机安静不扰邻。全店最贵的一件，买一次，能传给下一代。",
    ),
    Product(
        "ceramic-dripper",
        Facts("coffee", "dripper", "Steady Hand", 69, 88, ("pour-over",)),
        "Ceramic dripper, 1–2 cups · 陶瓷滤杯",
        "Glazed in Jingdezhen, with spiral ribs that let the coffee breathe under the filter. "
        "Rinse it hot once and it keeps the brew warm to the last drop; it takes any cone filter "
        "of size 01.",
        "景德镇上釉烧制，内壁螺旋纹让滤纸下的咖啡能呼吸。先用热水温杯，直到最后一滴都不凉；通用01号锥形滤纸。",
    ),
    Product(
        "paper-filters",
        Facts("coffee", "filters", "Steady Hand", 22, 500, ("pour-over",), 20),
        "Cone filters 01, 100 pcs · 锥形滤纸100张",
        "Unbleached paper that leaves no taste of cardboard, if you rinse it as you should. A "
        "hundred cups in a box that fits beside the dripper.",
        "原浆未漂白，冲一遍热水就没有纸味。一盒一百张，刚好收在滤杯旁边。",
    ),
    Product(
        "moka-pot",
        Facts("coffee", "pot", "Steady Hand", 168, 60, ("espresso", "camp cooking")),
        "Moka pot, 3 cups · 三杯摩卡壶",
        "Cast aluminium, a walnut handle, and a valve that you can take apart. Four minutes on "
        "the gas, at home or on the camp stove, give three small cups as strong as a bar's.",
        "铸铝壶身，胡桃木手柄，阀门可拆洗。家里灶上或露营炉上四分钟，就是三小杯不输咖啡馆的浓咖啡。",
    ),
    Product(
        "longjing-100",
        Facts("tea", "leaf tea", "Old Pavilion", 168, 75, ("green tea",), 30),
        "Longjing green tea 100 g · 明前龙井茶",
        "Picked before Qingming on the hills behind West Lake and pressed flat by hand in an "
        "iron pan: chestnut, fresh peas, a long sweet end. Give it water of 80 °C and a tall "
        "glass to dance in.",
        "清明前采自西湖后山，铁锅手工压扁，栗香、豆香，回甘悠长。用八十度的水，配一只高玻璃杯，看它起舞。",
    ),
    Product(
        "longjing-50",
        Facts("tea", "leaf tea", "Old Pavilion", 92, 120, ("green tea", "gift"), 18),
        "Longjing gift tin 50 g · 龙井茶礼罐",
        "Half the leaf in a tin printed with lotus, for a first taste or for somebody's parents. "
        "The same pick as our big bag, sealed within a day.",
        "一半的量，装进印荷花的铁罐，自己尝鲜或送长辈都体面。与大袋同一批采摘，当日封罐。",
    ),
    Product(
        "tieguanyin-250",
        Facts("tea", "leaf tea", "Old Pavilion", 128, 64, ("oolong", "gongfu tea"), 28),
        "Tieguanyin oolong 250 g · 安溪铁观音",
        "Rolled as tight as peppercorns and half roasted over charcoal, it opens over seven "
        "infusions from orchid to baked pear. The one to keep on the desk from morning to "
        "evening.",
        "颗粒紧如椒实，半炭焙，七泡之间从兰花香走到烤梨香。放在案头，从早喝到晚也不腻。",
    ),
    Product(
        "puer-cake",
        Facts("tea", "leaf tea", "Old Pavilion", 268, 38, ("dark tea", "gongfu tea")),
        "Pu'er tea cake 357 g · 普洱熟茶饼",
        "Ripe pu'er from Menghai, pressed in 2018 and stored dry: dark as soy, smooth as rice "
        "soup, kind to the stomach after a heavy dinner. Break off a corner and steep it until "
        "you forget it.",
        "勐海熟普，二〇一八年压饼，干仓存放，汤色如酱，口感如米汤，饱餐之后最舒服。掰下一角，忘了它也泡不坏。",
    ),
    Product(
        "jasmine-100",
        Facts("tea", "leaf tea", "Old Pavilion", 48, 150, ("green tea",), 24),
        "Jasmine green tea 100 g · 茉莉花茶",
        "Green tea scented on seven summer nights with fresh buds from Hengxian, which were "
        "picked out again one by one. It smells like a courtyard in July and costs as much as a "
        "lunch.",
        "七个夏夜与横县鲜花同窨，再把花一朵朵拣净。闻着是七月的院子，花的是一顿午饭的钱。",
    ),
    Product(
        "earl-grey-50",
        Facts("tea", "tea bags", "Old Pavilion", 42, 180, ("black tea", "office"), 21),
        "Earl Grey, 50 bags · 伯爵红茶50包",
        "Keemun black tea with real oil of bergamot, in bags without any plastic. Takes milk, "
        "takes lemon, takes four minutes.",
        "祁门红茶配天然佛手柑油，茶包不含塑料。加奶也行，加柠檬也行，四分钟就好。",
    ),
    Product(
        "gaiwan",
        Facts("tea", "teaware", "Quiet Kiln", 59, 90, ("gongfu tea", "green tea")),
        "White porcelain gaiwan · 白瓷盖碗",
        "A hundred millilitres, a rim that stays cool, and a lid that pours without a strainer. "
        "The honest cup: whatever the tea is, it shows.",
        "一百毫升，碗沿不烫手，盖子一斜便是滤网。最诚实的茶具：茶好茶坏，一泡便知。",
    ),
    Product(
        "yixing-teapot",
        Facts("tea", "teaware", "Quiet Kiln", 520, 7, ("oolong", "gongfu tea", "gift")),
        "Yixing teapot 180 ml · 宜兴紫砂壶",
        "Purple clay from Huanglong hill, shaped by one potter, whose seal is under the lid. It "
        "drinks a little of every oolong that you brew in it, and pays it back after a year.",
        "黄龙山紫泥，一人一壶，印款藏在盖下。每泡一次乌龙它都喝一点，一年之后，悉数还给你。",
    ),
    Product(
        "glass-pitcher",
        Facts("tea", "teaware", "Quiet Kiln", 36, 130, ("gongfu tea",)),
        "Glass fairness pitcher · 玻璃公道杯",
        "It stands between the pot and the cups, so that the first guest does not get water and "
        "the last one ink. Heatproof, light, and easy to see through when you judge the colour.",
        "立在壶与杯之间，头一位客人不喝白水，末一位不喝浓墨。耐热轻巧，看汤色一目了然。",
    ),
    Product(
        "bamboo-tray",
        Facts("tea", "teaware", "Quiet Kiln", 189, 22, ("gongfu tea",)),
        "Bamboo tea tray · 竹制茶盘",
        "A drawer under the slats takes two litres of rinse water, and lacquer keeps the bamboo "
        "from going grey. Room for a pot, a pitcher and four cups, and for a long afternoon.",
        "竹条下的抽屉能接两升废水，生漆护面不发灰。放一壶、一公道、四只杯，还放得下一个长长的下午。",
    ),
    Product(
        "tent-2",
        Facts("camping", "tent", "Far Ridge", 599, 18, ("hiking",)),
        "Ridge tent for two, 1.9 kg · 双人徒步帐篷",
        "Up in three minutes, with poles that only fit where they belong, and dry inside when it "
        "rains all night in western Sichuan. Two doors, so that nobody climbs over anybody.",
        "三分钟搭好，撑杆插错孔都难；川西整夜下雨，帐内依旧干爽。两侧开门，半夜谁也不用跨过谁。",
    ),
    Product(
        "tent-3",
        Facts("camping", "tent", "Far Ridge", 690, 0, ("car camping", "family trips")),
        "Ridge tent for three, 2.6 kg · 三人家庭帐篷",
        "The two-person Ridge with another sleeping place and a porch for boots and a pram. "
        "Heavier by a bottle of water, roomier by a child.",
        "双人款加一个铺位，外加能停靴子和婴儿车的前厅。只重一瓶水，却多睡一个孩子。",
    ),
    Product(
        "sleeping-bag",
        Facts("camping", "sleeping", "Far Ridge", 329, 27, ("hiking",)),
        "Down sleeping bag 0 °C · 零度羽绒睡袋",
        "Six hundred grams of duck down, a collar that closes at the neck and a zip that does "
        "not bite. Warm at freezing, and no larger than a loaf of bread in the pack.",
        "六百克鸭绒，颈部可收紧，拉链不咬布。零度照样暖，收起来只有一条吐司大。",
    ),
    Product(
        "sleeping-mat",
        Facts("camping", "sleeping", "Far Ridge", 189, 44, ("hiking", "car camping")),
        "Self-inflating mat 5 cm · 自充气睡垫",
        "Open the valve, put the kettle on, and it has filled itself. Five centimetres between "
        "your hip and the stones; it rolls up with the tent.",
        "拧开气阀去烧水，回来它已自己鼓起。五厘米隔开胯骨和石子，收纳时与帐篷同卷。",
    ),
    Product(
        "gas-stove",
        Facts("camping", "stove", "Emberline", 129, 70, ("camp cooking",)),
        "Folding gas stove · 折叠气炉",
        "Boils half a litre in three minutes, in the wind too, and folds to the size of a fist. "
        "It screws onto any flat canister, and the lighter works with gloves on.",
        "风里三分钟烧开半升水，折起来只有拳头大。通用扁气罐接口，戴着手套也能一按点火。",
    ),
    Product(
        "gas-canister",
        Facts("camping", "gas", "Emberline", 25, 320, ("camp cooking",), 14),
        "Gas canister 230 g · 露营气罐",
        "Isobutane and propane for cold mornings: about twelve pots of noodles, or forty cups of "
        "coffee. Shake it to hear what is left.",
        "异丁烷加丙烷，冷天也点得着，一罐能煮十二锅面或四十杯咖啡。摇一摇，听听还剩多少。",
    ),
    Product(
        "pot-set",
        Facts("camping", "cookware", "Emberline", 159, 35, ("camp cooking", "car camping")),
        "Camp pot set for two · 双人野营套锅",
        "Two pots, a pan for a lid and two cups, all inside each other with room for a canister "
        "in the middle. Hard-anodised, so that the porridge lets go.",
        "两锅一盖煎两用，再加两只杯，套在一起正中还塞得下气罐。硬质氧化，煮粥不粘底。",
    ),
    Product(
        "headlamp",
        Facts("camping", "light", "Far Ridge", 89, 110, ("hiking",)),
        "Headlamp 400 lm, USB-C · 充电头灯",
        "A red light for the tent, a wide one for cooking, a beam for the path that you lost. "
        "Full again after an hour at a power bank; the strap goes into the washing machine.",
        "帐内用红光，做饭用泛光，找路用聚光。充电宝一小时充满，头带能进洗衣机。",
    ),
    Product(
        "folding-chair",
        Facts("camping", "furniture", "Far Ridge", 149, 52, ("car camping",)),
        "Folding camp chair · 露营折叠椅",
        "Holds a hundred and twenty kilos and a mug, and folds into a bag as long as an "
        "umbrella. Low enough for the fire, high enough for the knees.",
        "承重一百二十公斤，扶手带杯位，收起来像把雨伞。离火够近，膝盖也不遭罪。",
    ),
    Product(
        "trail-rice",
        Facts(
            "camping", "food", "Emberline", 32, 240, ("hiking", "camp cooking"), 8, date(2026, 5, 7)
        ),
        "Trail rice, spicy beef · 冻干牛肉饭",
        "New: freeze-dried beef, rice and a fair pinch of Sichuan pepper. Hot water in, ten "
        "minutes, dinner; a hundred and twenty grams in the pack and six hundred calories in you.",
        "新品：冻干牛肉、米饭，再加一撮花椒，倒热水焖十分钟就开饭。背在身上一百二十克，吃下去六百大卡。",
    ),
    Product(
        "diapers-nb",
        Facts("baby", "diapers", "Softcloud", 99, 160, ("newborn",), 9),
        "Newborn diapers, 84 pcs · 新生儿纸尿裤",
        "Cut low in front so that the navel heals in peace, with a stripe that turns blue when "
        "it is time. For the first five kilos, which go by faster than you think.",
        "前腰低开，给脐带留地方；尿显条变蓝就该换了。适合五公斤以内，这段日子比你想的短。",
    ),
    Product(
        "diapers-s",
        Facts("baby", "diapers", "Softcloud", 109, 190, ("nappy changing",), 12),
        "Diapers size S, 76 pcs · S码纸尿裤",
        "The next size, for four to eight kilos and for legs that have begun to kick. The same "
        "soft top sheet, a wider waistband, twelve hours through the night.",
        "大一号，四到八公斤，给开始蹬腿的小家伙。同样的绵柔面层，腰围更宽，一片撑过整夜。",
    ),
    Product(
        "baby-wipes",
        Facts("baby", "wipes", "Softcloud", 59, 260, ("newborn", "nappy changing"), 16),
        "Water wipes, 6 × 80 · 婴儿湿巾6包",
        "Pure water, a drop of glycerine and nothing that smells. So thick that one does the "
        "work of three, and gentle enough for a face.",
        "纯水加一点甘油，没有任何香味。厚到一张顶三张，柔到能擦脸。",
    ),
    Product(
        "bottle-glass",
        Facts("baby", "bottle", "Little Boat", 79, 58, ("feeding",)),
        "Glass bottle 240 ml · 玻璃奶瓶",
        "Borosilicate glass that goes from the fridge into hot water without a crack, and never "
        "smells of yesterday. With a silicone sleeve for the day when it falls.",
        "高硼硅玻璃，冷藏后直接温奶不炸裂，不留隔夜味。外套硅胶，哪天摔了也不怕。",
    ),
    Product(
        "bottle-ppsu",
        Facts("baby", "bottle", "Little Boat", 89, 83, ("feeding",), None, date(2026, 5, 4)),
        "PPSU bottle 240 ml · PPSU轻奶瓶",
        "New: the wide neck and the teat of our glass bottle at a third of the weight, so that "
        "small hands can hold it alone. It boils, it steams, it bounces.",
        "新品：与玻璃款同样的宽口和奶嘴，重量只有三分之一，小手自己握得住。能煮、能蒸、摔不坏。",
    ),
    Product(
        "bottle-brush",
        Facts("baby", "cleaning", "Little Boat", 29, 140, ("feeding",)),
        "Bottle brush set · 奶瓶刷套装",
        "A long one for the bottle, a small one for the teat, and a straw brush for later. The "
        "silicone bristles dry in minutes and leave no scratches.",
        "长刷刷瓶身，小刷刷奶嘴，还有以后用得上的吸管刷。硅胶刷毛几分钟就干，不刮花。",
    ),
    Product(
        "muslin-swaddles",
        Facts("baby", "cloth", "Softcloud", 69, 77, ("newborn", "bedtime")),
        "Muslin swaddles, 2 pcs · 纱布包巾两条",
        "Two layers of cotton that get softer with every wash: a swaddle at night, a shade on "
        "the pram, a bib when nothing else is clean.",
        "双层水洗棉纱，越洗越软：夜里当襁褓，出门遮推车，口水巾不够时也顶得上。",
    ),
    Product(
        "night-light",
        Facts("baby", "light", "Little Boat", 119, 0, ("bedtime", "feeding")),
        "Moon night light · 月亮小夜灯",
        "Warm as a candle, and dim enough to feed by at three in the morning without waking "
        "anybody. A pat turns it on, an hour turns it off.",
        "暖如烛光，凌晨三点喂奶也不会把谁晃醒。拍一下亮，一小时自己灭。",
    ),
    Product(
        "baby-carrier",
        Facts("baby", "carrier", "Little Boat", 458, 15, ("family trips",)),
        "Hip-seat carrier · 腰凳婴儿背带",
        "Takes the weight on your hips and lets your back forget it; they face in, face out or, "
        "from six months, ride behind. Both hands free for the first time this year.",
        "重量落在胯上，腰背轻松；面向里、面向外，六个月后还能背在身后。今年头一回腾出两只手。",
    ),
    Product(
        "board-book",
        Facts("baby", "book", "Paper Sparrow", 35, 98, ("bedtime", "gift")),
        "Board book: Good night, river · 晚安小河",
        "Twelve thick pages about a river that does not want to sleep, in English and in Chinese "
        "with pinyin. Round corners, chewed on by three children of ours.",
        "十二页厚纸板，讲一条不肯睡觉的小河，中英对照带拼音。圆角，我们家三个孩子都啃过。",
    ),
    Product(
        "fountain-pen-f",
        Facts("stationery", "pen", "Inkstone Lane", 168, 45, ("writing",)),
        "Fountain pen, F nib · 钢笔F尖",
        "A steel nib that starts on the first stroke after a week in the bag, and a barrel "
        "turned from one piece of resin. F draws the line for letters and diaries.",
        "钢尖在包里放一周，落笔照样出水；笔杆由整块树脂车成。F尖线条适中，写信写日记正好。",
    ),
    Product(
        "fountain-pen-ef",
        Facts("stationery", "pen", "Inkstone Lane", 168, 39, ("writing", "school")),
        "Fountain pen, EF nib · 钢笔EF尖",
        "The same pen with a needle of a nib, for the margins of textbooks, small grids and "
        "characters of many strokes. Takes cartridges, or the converter that is in the box.",
        "同款钢笔，针一般的细尖，写课本空白、小方格和笔画多的字都不糊。墨囊可用，盒内附上墨器。",
    ),
    Product(
        "ink-blue-black",
        Facts("stationery", "ink", "Inkstone Lane", 68, 88, ("writing",), 30),
        "Ink, blue-black 50 ml · 蓝黑墨水",
        "It goes on blue and is black by the evening, as in old letters, and water does not move "
        "it. One bottle writes about six notebooks.",
        "落笔是蓝，傍晚成黑，像从前的信；遇水不化。一瓶大约写满六本笔记。",
    ),
    Product(
        "ink-persimmon",
        Facts(
            "stationery",
            "ink",
            "Inkstone Lane",
            68,
            61,
            ("writing", "journaling"),
            30,
            date(2026, 5, 11),
        ),
        "Ink, persimmon 50 ml · 柿子橙墨水",
        "New: the orange of persimmons drying on a wall in October, with a shade of brown where "
        "the pen lingers. Made for headings, doodles and letters that want an answer.",
        "新品：十月墙上柿饼的橙，停笔处沉一点褐。写标题、画小画，或写一封盼回音的信。",
    ),
    Product(
        "dot-notebook",
        Facts("stationery", "notebook", "Paper Sparrow", 45, 150, ("journaling", "writing"), 25),
        "Dotted notebook A5 · A5点阵笔记本",
        "A hundred and sixty pages that take fountain-pen ink without a ghost on the back, sewn "
        "so that it lies flat. Dots, for those who draw and write on one page.",
        "一百六十页，钢笔写不洇不透，锁线装订可平摊。点阵给在同一页又写又画的人。",
    ),
    Product(
        "week-planner",
        Facts("stationery", "planner", "Paper Sparrow", 58, 0, ("journaling", "office")),
        "Weekly planner 2026 · 2026周计划本",
        "A week on the left, an empty page on the right, and the Chinese calendar in small print "
        "for the festivals that your boss forgets. No quotes, no stickers, no guilt.",
        "左页一周，右页留白，小字印着农历和节气。没有鸡汤，没有贴纸，也不催你。",
    ),
    Product(
        "washi-tape",
        Facts("stationery", "tape", "Paper Sparrow", 26, 200, ("journaling",), 18),
        "Washi tape, 6 rolls · 和纸胶带6卷",
        "Six rolls from moss to apricot that tear by hand, stick to nearly everything and come "
        "off again. For diaries, parcels and the backs of photographs.",
        "从苔绿到杏黄六卷，手撕即断，贴哪儿都牢，揭下也不留胶。写手账、包礼物、贴照片背面。",
    ),
    Product(
        "brush-pen",
        Facts("stationery", "pen", "Inkstone Lane", 18, 230, ("calligraphy",), 20),
        "Brush pen, soft tip · 软头秀丽笔",
        "Wolf hair it is not, but it swells and thins like the real thing and fits a shirt "
        "pocket. Begin with the three drops of the water radical and see.",
        "虽不是狼毫，提按之间粗细分明，还能别在衬衫口袋里。先写一个三点水试试。",
    ),
    Product(
        "xuan-paper",
        Facts("stationery", "paper", "Inkstone Lane", 32, 170, ("calligraphy",), 16),
        "Xuan practice paper, 70 pcs · 九宫格宣纸",
        "Half-sized rice paper printed with nine-square grids, forgiving to beginners and cheap "
        "enough to waste. From Jing county, where it has been made for a thousand years.",
        "半生熟宣，印好九宫格，对初学者宽容，写废了也不心疼。产自泾县，做纸千年的地方。",
    ),
    Product(
        "pencils-12",
        Facts("stationery", "pencils", "Paper Sparrow", 12, 400, ("school",)),
        "Cedar pencils HB, 12 pcs · 雪松铅笔12支",
        "A dozen pencils that sharpen in one long curl and smell of a cupboard in the country. "
        "The cheapest thing that we sell, and we keep our own books with it.",
        "一打铅笔，削出一条完整的木花，闻着像乡下的老柜子。本店最便宜的东西，我们自己也用它记账。",
    ),
    Product(
        "iron-skillet",
        Facts("kitchen", "pan", "Copper Ladle", 329, 26, ("searing",)),
        "Cast-iron skillet 26 cm · 铸铁煎锅",
        "Three kilos of iron, milled smooth and seasoned twice, so that the first egg slides. "
        "Steaks get a crust, corn bread gets an edge, and your grandchildren get the pan.",
        "三公斤铸铁，车光内面再养两遍锅，头一只蛋就不粘。煎牛排有壳，烤玉米饼有边，还能传给孙辈。",
    ),
    Product(
        "carbon-wok",
        Facts("kitchen", "pan", "Copper Ladle", 259, 31, ("stir-frying",)),
        "Carbon-steel wok 32 cm · 熟铁炒锅",
        "Hammered thin for a flame that licks up the sides, and round enough to toss for four. "
        "Season it on a Sunday, and by the mid-autumn feast nothing sticks.",
        "手工锤薄，火舌能舔上锅壁，一翻能炒四人份。挑个周日开锅，到中秋就什么都不粘了。",
    ),
    Product(
        "chef-knife",
        Facts("kitchen", "knife", "Copper Ladle", 398, 19, ("cutting",)),
        "Chef's knife 20 cm · 主厨刀",
        "Sixty layers of steel around a hard core, ground to fifteen degrees: onions fall apart "
        "before they can make you cry. Balanced at the bolster, for long Saturdays.",
        "六十层钢夹硬芯，十五度开刃，洋葱还没呛到你就散开了。重心在刀颈，切一整个周六也不累。",
    ),
    Product(
        "cleaver",
        Facts("kitchen", "knife", "Copper Ladle", 218, 0, ("cutting", "stir-frying")),
        "Chinese cleaver 18 cm · 桑刀菜刀",
        "One knife for everything: slice with the front, chop with the heel, scoop up with the "
        "side and crush garlic with the flat. Carbon steel, so dry it.",
        "一刀走天下：前切、后剁、刀面铲菜、拍蒜也用它。碳钢材质，用完请擦干。",
    ),
    Product(
        "whetstone",
        Facts("kitchen", "sharpening", "Copper Ladle", 139, 48, ("cutting",)),
        "Whetstone 1000/3000 · 双面磨刀石",
        "The coarse side wakes a tired edge, the fine side makes it shave. With an angle guide "
        "for the first time, and a bamboo foot that stays where it is put.",
        "粗面唤醒钝刃，细面磨到能剃毛。附角度导轨，新手也稳；竹座防滑，不跑位。",
    ),
    Product(
        "soy-sauce",
        Facts(
            "kitchen",
            "condiment",
            "Redgate Pantry",
            28,
            300,
            ("everyday cooking", "stir-frying"),
            18,
        ),
        "Soy sauce, 180 days 500 ml · 古法酱油",
        "Soy beans, wheat, salt and half a year in a clay jar under the sun of Foshan; nothing "
        "was added to hurry it. Light enough to dip in, deep enough to braise with.",
        "黄豆、小麦、盐，在佛山太阳下的陶缸里晒足半年，不加一样催熟的东西。蘸着清，烧着浓。",
    ),
    Product(
        "sichuan-pepper",
        Facts("kitchen", "spice", "Redgate Pantry", 24, 240, ("Sichuan cooking",), 20),
        "Red Sichuan pepper 80 g · 汉源红花椒",
        "From Hanyuan, dark red and open like small flowers, picked over by hand so that you "
        "bite on no seed. Toast it for a minute, and the whole stairwell knows what is for "
        "dinner.",
        "产自汉源，深红开口，人工去籽去梗。干锅焙一分钟，整个楼道都知道你家吃什么。",
    ),
    Product(
        "chili-crisp",
        Facts(
            "kitchen",
            "condiment",
            "Redgate Pantry",
            19,
            350,
            ("Sichuan cooking", "everyday cooking"),
            12,
        ),
        "Chili crisp 210 g · 香辣脆油辣子",
        "Fried shallots, black beans and three kinds of chili in cold-pressed rapeseed oil. On "
        "noodles, on eggs, on cucumbers, at midnight with a spoon.",
        "葱酥、豆豉、三种辣椒，浸在压榨菜籽油里。拌面、配蛋、拍黄瓜，半夜用勺子也行。",
    ),
    Product(
        "rice-cooker",
        Facts("kitchen", "appliance", "Copper Ladle", 499, 14, ("everyday cooking", "steaming")),
        "Rice cooker 3 L · 三升电饭煲",
        "Induction heat and a thick iron pot: every grain stands by itself, and the bottom turns "
        "golden if you ask it to. Set it at night, and there is porridge when you wake up.",
        "电磁加热配厚铁内胆，粒粒分明，想要锅巴也能要到。睡前预约，醒来就有粥。",
    ),
    Product(
        "bamboo-steamer",
        Facts("kitchen", "steamer", "Copper Ladle", 66, 67, ("steaming",)),
        "Bamboo steamer 24 cm · 竹蒸笼",
        "Two tiers and a woven lid that drinks the steam, so that no drop falls on the buns. It "
        "sits in our wok, and on any pot of its size.",
        "两层笼屉，竹编盖吸汽，不往包子上滴水。坐在本店炒锅里正好，同尺寸的锅也行。",
    ),
)
PRODUCTS = {product.id: product for product in _GOODS}


# ── the people ────────────────────────────────────────────────────────────────────────────────────

PEOPLE = (
    # who drink coffee
    Shopper(
        "maya",
        "en",
        "Shanghai",
        "single",
        ("pour-over coffee", "weekend hikes"),
        tastes={"pour-over": 6, "coffee": 2, "hiking": 1},
        visits=14,
        budget=420,
        buys=("ceramic-dripper", "paper-filters", "yirgacheffe-250", "hand-grinder"),
        asks=(
            "light roast beans for pour over",
            "quiet coffee grinder",
            "kettle with a thin spout",
        ),
        drops=("electric-grinder",),
        says={
            "hand-grinder": (
                5,
                "Quiet enough for six in the morning, and the cup is suddenly clear.",
            ),
            "yirgacheffe-250": (5, "Jasmine, really. I would drink this every day, and I do."),
            "ceramic-dripper": (4, "Pretty and warm. Needs a good rinse with hot water first."),
        },
    ),
    Shopper(
        "chenhao",
        "zh-CN",
        "昆明",
        "couple",
        ("云南咖啡", "摩卡壶"),
        tastes={"espresso": 5, "coffee": 2, "camp cooking": 1},
        visits=11,
        budget=300,
        buys=("yunnan-250", "moka-pot", "espresso-500"),
        asks=("云南咖啡豆", "摩卡壶"),
        drops=("gooseneck-kettle",),
        says={
            "moka-pot": (5, "小火四分钟，油脂很厚，比咖啡馆还香。"),
            "yunnan-250": (5, "家乡的豆子，话梅味明显，价格实在，回购。"),
        },
    ),
    Shopper(
        "oliver",
        "en",
        "Shenzhen",
        "couple",
        ("espresso",),
        tastes={"espresso": 6, "coffee": 1},
        visits=10,
        budget=800,
        buys=("yirgacheffe-250", "espresso-500", "electric-grinder"),
        asks=("dark roast without acidity", "burr grinder for espresso"),
        says={
            "yirgacheffe-250": (
                2,
                "Tastes of lemon tea. Far too sour for me, I want smoke and chocolate.",
            ),
            "espresso-500": (5, "This is it: thick, dark, sweet with milk."),
            "electric-grinder": (5, "Expensive, and worth every yuan. Espresso at the first try."),
        },
    ),
    Shopper(
        "xiaolin",
        "zh-CN",
        "杭州",
        "single",
        ("手冲咖啡", "手账"),
        tastes={"journaling": 5, "pour-over": 4, "stationery": 1},
        visits=13,
        budget=300,
        buys=("yirgacheffe-500", "dot-notebook", "washi-tape", "paper-filters", "ink-persimmon"),
        asks=("手账本 点阵", "手冲 滤纸", "好看的墨水"),
        drops=("hand-grinder",),
        says={
            "dot-notebook": (5, "纸好，钢笔不洇，咖啡馆里摊得平。"),
            "washi-tape": (4, "颜色很耐看，要是再窄一点就更好。"),
        },
    ),
    # who drink tea
    Shopper(
        "laowu",
        "zh-CN",
        "福州",
        "couple",
        ("乌龙茶", "工夫茶"),
        tastes={"gongfu tea": 5, "oolong": 5, "tea": 2},
        visits=12,
        budget=600,
        buys=("tieguanyin-250", "gaiwan", "glass-pitcher", "puer-cake"),
        asks=("炭焙铁观音", "盖碗", "熟普洱"),
        drops=("yixing-teapot",),
        says={
            "tieguanyin-250": (5, "炭火香足，七泡还有味，喝了一辈子茶，这个价钱值。"),
            "gaiwan": (5, "不烫手，出汤快，泡什么都清楚。"),
        },
        allow_hosted=False,
    ),
    Shopper(
        "emma",
        "en",
        "Beijing",
        "single",
        ("Chinese tea",),
        tastes={"green tea": 5, "leaf tea": 2, "gongfu tea": 2, "gift": 1},
        visits=12,
        budget=200,
        buys=("longjing-50", "gaiwan", "jasmine-100", "longjing-100"),
        asks=(
            "chinese green tea for beginners",
            "how to brew with a lidded cup",
            "tea as a present",
        ),
        drops=("puer-cake",),
        says={
            "longjing-50": (5, "Tastes of chestnuts. The tin is on my shelf now."),
            "gaiwan": (4, "Burnt my fingers twice, then learnt it. Now I use nothing else."),
        },
    ),
    Shopper(
        "yiran",
        "zh-CN",
        "苏州",
        "single",
        ("绿茶", "书法"),
        tastes={"calligraphy": 5, "green tea": 5},
        visits=12,
        budget=260,
        buys=("longjing-100", "brush-pen", "xuan-paper", "gaiwan"),
        asks=("明前龙井", "练字的纸", "软笔 入门"),
        says={
            "longjing-100": (5, "豆香清楚，写字前泡一杯，心就静了。"),
            "xuan-paper": (4, "格子印得准，偶尔有一两张边不齐。"),
        },
    ),
    Shopper(
        "priya",
        "en",
        "Guangzhou",
        "couple",
        ("black tea", "spicy food"),
        tastes={"black tea": 5, "Sichuan cooking": 4, "spice": 2},
        visits=11,
        budget=520,
        buys=("earl-grey-50", "chili-crisp", "sichuan-pepper", "rice-cooker"),
        asks=("tea bags to take with milk", "something really spicy"),
        says={
            "earl-grey-50": (5, "Proper bergamot. Four bags a day in this office."),
            "chili-crisp": (5, "On toast, on dal, on everything. Send more."),
        },
    ),
    Shopper(
        "tang",
        "zh-CN",
        "无锡",
        "couple",
        ("紫砂", "普洱"),
        tastes={"teaware": 5, "gongfu tea": 4, "dark tea": 2},
        visits=9,
        budget=900,
        buys=("glass-pitcher", "yixing-teapot", "bamboo-tray", "puer-cake"),
        asks=("紫砂壶 手工", "茶盘 储水"),
        says={
            "yixing-teapot": (5, "泥料对，出水利落，养了一个月已经润了。"),
            "glass-pitcher": (2, "壶嘴挂水，每次都滴一桌，退了。"),
        },
    ),
    # who camp
    Shopper(
        "jonas",
        "en",
        "Chengdu",
        "single",
        ("hiking", "camping"),
        tastes={"hiking": 6, "camp cooking": 3, "camping": 1},
        visits=12,
        budget=620,
        buys=("tent-2", "gas-stove", "gas-canister", "sleeping-mat", "trail-rice"),
        asks=("tent for two that survives rain", "light stove", "sleeping bag for cold nights"),
        drops=("sleeping-bag",),
        says={
            "tent-2": (5, "Two nights of rain near Siguniang, not a drop inside."),
            "gas-stove": (5, "Boils before I have found the cups."),
        },
    ),
    Shopper(
        "afei",
        "zh-CN",
        "成都",
        "single",
        ("徒步", "轻量化"),
        tastes={"hiking": 6, "food": 2, "light": 1},
        visits=12,
        budget=350,
        buys=("headlamp", "sleeping-bag", "gas-canister", "trail-rice"),
        asks=("轻量 睡袋", "徒步 头灯", "冻干饭"),
        drops=("tent-2",),
        says={
            "headlamp": (5, "夜里下撤全靠它，红光不晃队友。"),
            "sleeping-bag": (4, "零度够暖，就是收纳袋紧了点。"),
        },
    ),
    Shopper(
        "sofia",
        "en",
        "Dali",
        "couple",
        ("camping", "coffee outdoors"),
        tastes={"camp cooking": 5, "pour-over": 3, "car camping": 2},
        visits=12,
        budget=450,
        buys=("gas-stove", "hand-grinder", "yunnan-250", "gas-canister", "folding-chair"),
        asks=("coffee on a camping trip", "camp stove and gas", "comfortable chair for outside"),
        says={
            "hand-grinder": (
                5,
                "Ground beans above the lake at sunrise. Nothing else to wish for.",
            ),
            "folding-chair": (3, "Comfortable, but it sinks into wet grass."),
        },
    ),
    Shopper(
        "laoma",
        "zh-CN",
        "兰州",
        "family with a toddler",
        ("自驾露营", "亲子"),
        tastes={"car camping": 6, "family trips": 4, "camp cooking": 1},
        visits=11,
        budget=700,
        buys=("tent-3", "folding-chair", "pot-set", "gas-canister"),
        asks=("三人帐篷 前厅", "露营椅", "带娃露营"),
        drops=("baby-carrier",),
        says={
            "tent-3": (5, "一家三口刚好，前厅能放婴儿车，值。"),
            "pot-set": (4, "不粘，好收，把手再长点就完美。"),
        },
    ),
    # who have a baby
    Shopper(
        "lily",
        "en",
        "Shanghai",
        "family with a newborn",
        ("first baby",),
        tastes={"newborn": 6, "feeding": 4, "baby": 1},
        visits=15,
        budget=200,
        buys=(
            "diapers-nb",
            "baby-wipes",
            "bottle-glass",
            "bottle-brush",
            "muslin-swaddles",
            "diapers-s",
        ),
        asks=(
            "newborn diapers",
            "bottle that does not smell",
            "how to swaddle a baby",
            "diapers next size",
        ),
        drops=("baby-carrier",),
        says={
            "diapers-nb": (5, "No leaks in two weeks, and the navel stayed dry."),
            "bottle-glass": (4, "Clean and clear. A bit heavy at night."),
            "muslin-swaddles": (5, "Bib, blanket, sunshade. We need six more."),
        },
    ),
    Shopper(
        "wenjing",
        "zh-CN",
        "南京",
        "family with a newborn",
        ("新手妈妈",),
        tastes={"feeding": 6, "bedtime": 4, "newborn": 3},
        visits=14,
        budget=200,
        buys=(
            "night-light",
            "bottle-glass",
            "diapers-nb",
            "baby-wipes",
            "bottle-ppsu",
            "board-book",
        ),
        asks=("夜奶 小夜灯", "奶瓶 轻", "新生儿纸尿裤"),
        says={
            "night-light": (5, "夜里喂奶不刺眼，宝宝也不醒。"),
            "bottle-glass": (3, "不留味，但太重，手酸。"),
            "bottle-ppsu": (5, "轻多了，宝宝自己也抱得住。"),
        },
    ),
    Shopper(
        "david",
        "en",
        "Suzhou",
        "family with a baby",
        ("walks with the baby", "strong coffee"),
        tastes={"nappy changing": 4, "family trips": 4, "espresso": 3},
        visits=11,
        budget=480,
        buys=("diapers-s", "baby-carrier", "espresso-500", "baby-wipes"),
        asks=("baby carrier that is good for the back", "strong coffee"),
        says={
            "baby-carrier": (5, "Two hours along the canal, she slept, my back did not complain."),
            "espresso-500": (4, "Keeps a father of a six-month-old upright."),
        },
    ),
    Shopper(
        "guoguoma",
        "zh-CN",
        "武汉",
        "family of four",
        ("二胎", "实惠"),
        tastes={"nappy changing": 5, "bedtime": 3, "school": 3},
        visits=12,
        budget=120,
        buys=("diapers-s", "baby-wipes", "pencils-12", "board-book"),
        asks=("纸尿裤 S码", "湿巾 囤货", "儿童 铅笔"),
        drops=("bottle-glass",),
        says={
            "baby-wipes": (5, "厚实没味道，老大老二都用，囤。"),
            "board-book": (5, "老二每晚都要听小河，书角咬不坏。"),
        },
    ),
    # who write
    Shopper(
        "hana",
        "en",
        "Tianjin",
        "single",
        ("fountain pens", "letters"),
        tastes={"writing": 6, "ink": 2, "stationery": 1},
        visits=13,
        budget=200,
        buys=("fountain-pen-f", "ink-blue-black", "dot-notebook", "ink-persimmon"),
        asks=("fountain pen for letters", "ink that is waterproof", "paper for fountain pens"),
        drops=("fountain-pen-ef",),
        says={
            "fountain-pen-f": (5, "Starts at once after a week in the bag. My letters got longer."),
            "ink-blue-black": (4, "Lovely when dry, slow to get there."),
        },
        allow_hosted=False,
    ),
    Shopper(
        "muzi",
        "zh-CN",
        "西安",
        "single",
        ("书法", "普洱茶"),
        tastes={"calligraphy": 6, "dark tea": 2},
        visits=12,
        budget=280,
        buys=("brush-pen", "xuan-paper", "puer-cake"),
        asks=("秀丽笔", "九宫格 宣纸", "练字用什么墨"),
        says={
            "brush-pen": (5, "弹性好，提按分明，十八块钱还要什么。"),
            "xuan-paper": (5, "不洇，格子清楚，一周写完一刀。"),
        },
    ),
    Shopper(
        "leo",
        "en",
        "Xiamen",
        "shares a flat",
        ("studying", "cheap and good"),
        tastes={"school": 5, "stationery": 2, "everyday cooking": 3},
        visits=12,
        budget=60,
        buys=("pencils-12", "dot-notebook", "chili-crisp", "earl-grey-50"),
        asks=("cheap pencils", "notebook for lectures", "quick dinner under 30 yuan"),
        drops=("fountain-pen-ef", "week-planner"),
        says={
            "pencils-12": (5, "One yuan each and they smell nice. What more."),
            "chili-crisp": (5, "Turns instant noodles into a meal."),
        },
    ),
    Shopper(
        "qingqing",
        "zh-CN",
        "长沙",
        "shares a flat",
        ("手账", "拼贴"),
        tastes={"journaling": 6, "stationery": 2},
        visits=13,
        budget=90,
        buys=("week-planner", "washi-tape", "dot-notebook", "ink-persimmon"),
        asks=("周计划 手账", "和纸胶带 套装", "点阵本"),
        drops=("fountain-pen-f",),
        says={
            "washi-tape": (5, "六卷颜色互相都搭，撕起来不飞边。"),
            "week-planner": (5, "右页留白刚好贴票根，明年还买。"),
            "ink-persimmon": (4, "颜色太好看了，就是干得慢。"),
        },
    ),
    # who cook
    Shopper(
        "marco",
        "en",
        "Shanghai",
        "couple",
        ("home cooking", "knives"),
        tastes={"cutting": 5, "searing": 5, "kitchen": 1},
        visits=11,
        budget=450,
        buys=("chef-knife", "iron-skillet", "whetstone", "soy-sauce"),
        asks=("a sharp kitchen knife", "pan for steak", "how to sharpen a knife"),
        drops=("cleaver",),
        says={
            "chef-knife": (5, "Goes through tomatoes by its own weight."),
            "iron-skillet": (4, "The best crust I ever had. Weighs as much as my dog."),
        },
    ),
    Shopper(
        "zhou",
        "zh-CN",
        "重庆",
        "family of four",
        ("川菜",),
        tastes={"Sichuan cooking": 6, "stir-frying": 4},
        visits=13,
        budget=300,
        buys=("cleaver", "sichuan-pepper", "chili-crisp", "carbon-wok", "soy-sauce"),
        asks=("汉源花椒", "炒锅 不粘", "油辣子"),
        says={
            "sichuan-pepper": (5, "麻得正，香得远，邻居都来问。"),
            "carbon-wok": (5, "开锅以后越用越滑，火候上得快。"),
        },
    ),
    Shopper(
        "nina",
        "en",
        "Qingdao",
        "single",
        ("steamed food", "small kitchen"),
        tastes={"steaming": 6, "everyday cooking": 2},
        visits=11,
        budget=500,
        buys=("chili-crisp", "bamboo-steamer", "jasmine-100", "rice-cooker", "soy-sauce"),
        asks=("steamer for dumplings", "rice cooker with timer", "mild soy sauce"),
        says={
            "chili-crisp": (1, "I cried. Much too hot for me."),
            "bamboo-steamer": (5, "Buns like at the corner shop, and no water on them."),
        },
    ),
    Shopper(
        "dalei",
        "zh-CN",
        "沈阳",
        "single",
        ("一人食", "火锅"),
        tastes={"condiment": 5, "Sichuan cooking": 2, "camp cooking": 2},
        visits=11,
        budget=150,
        buys=("chili-crisp", "soy-sauce", "gas-stove", "gas-canister"),
        asks=("拌饭 辣酱", "在家涮火锅 小炉子"),
        drops=("rice-cooker",),
        says={
            "chili-crisp": (5, "一勺下去，米饭不够。"),
            "gas-stove": (4, "阳台涮锅正合适，火挺猛。"),
        },
    ),
    # who are new
    Shopper(
        "tom",
        "en",
        "Wuhan",
        "single",
        (),
        only=(("view", "hand-grinder"),),
    ),
    Shopper(
        "xiaoyu",
        "zh-CN",
        "广州",
        "couple",
        (),
        only=(("search", "送长辈的茶"), ("view", "longjing-50")),
    ),
    Shopper(
        "ines",
        "en",
        "Dali",
        "family with a toddler",
        ("camping",),
        only=(("view", "folding-chair"), ("add_to_cart", "folding-chair")),
    ),
    Shopper(
        "minmin",
        "zh-CN",
        "合肥",
        "family with a newborn",
        (),
        only=(("purchase", "diapers-nb"),),
    ),
    Shopper("ruth", "en", "Ningbo", "couple", ("calligraphy", "green tea")),
)
