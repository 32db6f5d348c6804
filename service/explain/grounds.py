"""What a reason can be true by: which of the person's items are related to a chosen one, and how
rare each attribute value is."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from service.catalog import Catalog, Facets, Scope
from service.explain.language import VALUE, name
from service.prompts import visible
from service.schema import Candidate, Fact, Item, Recent, UserState
from service.store import TOGETHER, Neighbours, Store

LOOKED_UP = 100
"""For so many chosen items the log and the texts are asked; what is shared is seen for all."""
WORDED = 40
"""A text of fewer characters says too little to be near another."""
NEAREST = 100
"""Two items' texts are near if each is among the nearest of the other: at most so many, and at
most √n / 2 in a catalogue of n."""
COMMON = 0.5
"""A value that more than this share of all items has relates no two of them."""
AGING = 0.98
"""How much less a deed counts than the next later one."""
LEAST_OTHERS = 3
"""Fewer people than this are not spoken of."""
WEIGHTS = {"shared": 1.0, "near": 1.0, "together": 0.5, "pull": 2.0}
"""How much each kind of relation counts among the person's items."""


@dataclass(frozen=True)
class Grounds:
    """What catalogue and log know of the chosen items.

    `counts`, `total`: in how many of `total` items a fact holds, as far as they were counted.
    `near`: by a chosen item's id, the cosines of those of the person's items whose text is near
    its own. `together`: by (the person's item, chosen item), an event type and how many people did
    that to both; `pull`: how much the learned sources draw the one to the other, in [0, 2].
    """

    counts: Mapping[Fact, int] = field(default_factory=dict)
    total: int = 1
    near: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    together: Mapping[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    pull: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def rarity(self, fact: Fact) -> float:
        """How much it says of an item that the fact holds, in [0, 1]: log(N / n) / log N."""
        count = max(1, self.counts.get(fact, 1))
        return math.log(max(self.total, count) / count) / math.log(max(self.total, 2))

    def relates(self, fact: Fact) -> bool:
        """Whether two items with the fact have something in common thereby."""
        return self.counts.get(fact, 1) <= max(1, COMMON * self.total)


async def gather(
    store: Store, catalog: Catalog, chosen: Sequence[Candidate], state: UserState
) -> Grounds:
    """Asks catalogue and log what reasons for the chosen items need to know."""
    items = [candidate.item for candidate in chosen[:LOOKED_UP]]
    liked = {entry.item.id: entry.item for entry in deeds(state) if entry.item is not None}
    facets, near, pull, tables = await asyncio.gather(
        catalog.facets_lately(),
        _near(catalog, _worded(items), _worded(liked.values())),
        _pull(store, catalog, [item.id for item in items], [*liked]),
        _tables(store, {entry.event.type for entry in deeds(state)} if items else set()),
    )
    counts, total = _counts(facets, [*items, *liked.values()])
    return Grounds(counts, total, near, _together(tables, items, liked), pull)


def deeds(state: UserState) -> list[Recent]:
    """The recent events that say that the person likes their item, one for each item that has a
    name: the strongest, of equal ones the latest. Oldest first."""
    best: dict[str, Recent] = {}
    for entry in state.recent:
        if entry.item is not None and entry.weight > 0 and name(entry.item):
            before = best.get(entry.item.id)
            if before is None or entry.weight >= before.weight:
                best.pop(entry.item.id, None)
                best[entry.item.id] = entry
    return [*best.values()]


def words(item: Item) -> list[Fact]:
    """The item's textual attributes that can be written in a sentence: on one line, without
    invisible characters, at most `VALUE` characters long, and no code or number."""
    return list(
        dict.fromkeys(
            (key, part)
            for key, part in item.facts()
            if isinstance(part, str)
            and part == visible(part)[:VALUE] != ""
            and any(char.isalpha() for char in part)
            and not ("_" in part or (any(map(str.isdigit, part)) and " " not in part))
        )
    )


@dataclass(frozen=True)
class Link:
    """A deed of the person that is related to a chosen item. `shared`: what both have, the rarest
    first; `near`: whether their texts are alike; `others`: an event type, and how many people did
    that to both; `strength`: how much the items have in common, above 0."""

    entry: Recent
    item: Item
    shared: Sequence[Fact] = ()
    near: bool = False
    others: tuple[str, int] | None = None
    strength: float = 0


def links(chosen: Item, state: UserState, grounds: Grounds) -> list[Link]:
    """The person's deeds that are related to a chosen item, the most related first."""
    own, near = words(chosen), grounds.near.get(chosen.id, {})
    found = []
    for age, entry in enumerate(reversed(deeds(state))):
        item = entry.item
        if item is None or item.id == chosen.id or _same_title(item, chosen):
            continue
        facts = {_same(fact) for fact in words(item)}
        shared = [fact for fact in own if _same(fact) in facts and grounds.relates(fact)]
        shared.sort(key=lambda fact: -grounds.rarity(fact))
        others = _without(grounds.together.get((item.id, chosen.id)), chosen, state)
        strength = (
            WEIGHTS["shared"] * sum(map(grounds.rarity, shared))
            + WEIGHTS["near"] * near.get(item.id, 0.0)
            + WEIGHTS["together"] * (math.log10(others[1]) if others else 0)
            + WEIGHTS["pull"] * grounds.pull.get((item.id, chosen.id), 0)
        )
        if shared or item.id in near or others:
            weight = strength * AGING**age * (0.5 + 0.5 * entry.weight)
            found.append(Link(entry, item, shared, item.id in near, others, weight))
    return sorted(found, key=lambda link: -link.strength)


def _same_title(item: Item, chosen: Item) -> bool:
    """Whether one may be another edition of the other, which is no reason for it."""
    return item.title.casefold() == chosen.title.casefold() != ""


def _without(
    others: tuple[str, int] | None, chosen: Item, state: UserState
) -> tuple[str, int] | None:
    """The people who did the same to both items, without the person, who may be one of them; None
    if too few are left."""
    if others is None:
        return None
    own = chosen.id in state.seen or any(chosen.id == item_id for item_id, _ in state.likes)
    return (others[0], others[1] - own) if others[1] - own >= LEAST_OTHERS else None


def _same(fact: Fact) -> Fact:
    """A fact in the form in which spellings of it are equal."""
    return fact[0], str(fact[1]).casefold()


def _counts(facets: Facets, items: Sequence[Item]) -> tuple[Mapping[Fact, int], int]:
    """How many of how many items have each fact: by the facets, and for keys that these don't
    count, as in the sample `items`."""
    sample = Counter(fact for item in items for fact in words(item))
    total = max(facets.total, len(items))
    estimated = {
        fact: round(count / len(items) * total)
        for fact, count in sample.items()
        if fact[0] not in facets.values
    }
    counted: dict[Fact, int] = {(key, value): n for (key, value), n in facets.counts.items()}
    return estimated | counted, total


def _worded(items: Iterable[Item]) -> list[str]:
    return [item.id for item in items if len(item.text) >= WORDED]


async def _near(
    catalog: Catalog, chosen: Sequence[str], liked: Sequence[str]
) -> dict[str, dict[str, float]]:
    vectors = await catalog.vectors([*chosen, *liked])
    ids = [item_id for item_id in chosen if item_id in vectors]
    known = [item_id for item_id in liked if item_id in vectors]
    if not ids or not known:
        return {}
    count = min(NEAREST, max(2, math.isqrt(await catalog.count()) // 2))
    both = list(dict.fromkeys([*ids, *known]))
    nearest = await catalog.search.similar([vectors[one] for one in both], count + 1, Scope())
    least = {
        one: min(scores.values(), default=1.0) for one, scores in zip(both, nearest, strict=True)
    }
    found: dict[str, dict[str, float]] = {}
    for item_id in ids:
        cosines = {one: float(vectors[one] @ vectors[item_id]) for one in known}
        found[item_id] = {
            one: cosine
            for one, cosine in cosines.items()
            if cosine >= max(least[item_id], least[one])
        }
    return found


async def _pull(
    store: Store, catalog: Catalog, chosen: Sequence[str], liked: Sequence[str]
) -> dict[tuple[str, str], float]:
    """How much each of the person's items draws each chosen one: by the weight that it has in
    `item_item`, of the greatest among them, and by the cosine of both items' factors."""
    table = await store.neighbours.get("item_item") if chosen and liked else None
    _, factors = await catalog.factors([*chosen, *liked])
    found: dict[tuple[str, str], float] = {}
    for one in chosen:
        weights = [_weight(table, own, one) if table is not None else 0.0 for own in liked]
        greatest = max([*weights, 0.0]) or 1.0
        for own, weight in zip(liked, weights, strict=True):
            cosine = 0.0
            if one in factors and own in factors:
                a, b = factors[one], factors[own]
                cosine = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b) or 1.0)
            found[own, one] = weight / greatest + max(0.0, cosine)
    return found


def _weight(table: Neighbours, item_id: str, other: str) -> float:
    """What a table says of another item in an item's row; 0 if nothing."""
    place, column = table.places.get(item_id), table.places.get(other)
    if place is None or column is None:
        return 0.0
    row = slice(table.starts[place], table.starts[place + 1])
    return float(table.weights[row][table.others[row] == column].sum())


async def _tables(store: Store, types: Iterable[str]) -> dict[str, Neighbours]:
    names = sorted(types)
    tables = await asyncio.gather(*(store.neighbours.get(f"{TOGETHER}{kind}") for kind in names))
    return {kind: table for kind, table in zip(names, tables, strict=True) if table is not None}


def _together(
    tables: Mapping[str, Neighbours], chosen: Sequence[Item], liked: Iterable[str]
) -> dict[tuple[str, str], tuple[str, int]]:
    found: dict[tuple[str, str], tuple[str, int]] = {}
    wanted = set(liked)
    for kind, table in tables.items():
        for item in chosen:
            place = table.places.get(item.id)
            if place is None:
                continue
            row = slice(table.starts[place], table.starts[place + 1])
            for other, count in zip(table.others[row], table.weights[row], strict=True):
                pair = table.items[other], item.id
                if pair[0] in wanted and int(count) > found.get(pair, ("", 0))[1]:
                    found[pair] = kind, int(count)
    return found
