"""Source `query`, and what a wish does to items that other sources found."""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

from service.catalog import words_of
from service.errors import ModelError
from service.language import HAN, KANA
from service.retrieve.fusion import Scores, by_place, summed, unit
from service.retrieve.lookup import Lookup
from service.retrieve.relevance import REFUSED, calibrated, relevances
from service.schema import Candidate, Item, Scalar, Wish

MET = 3.0
"""How much more it counts that an item meets all of a wish's soft conditions than that it is the
first by words and meaning: more than all sources together say of a person."""
RESCORED = 60
"""How many of the items that match by words or meaning are put in order by their relevance."""
READ = 2_000
"""How many characters of an item's text are looked through for what is not wanted."""
_FREE = re.compile(
    r"(?:\b(?:no|not|non|never|without|n['’]t|kein\w*|nicht|ohne|sin|pas|sans|без|не)\b[^.;!?]{0,15}$"
    r"|[不无無没非]\S{0,2}$)",
    re.IGNORECASE,
)
"""What before a word says that it is not so."""
_LESS = re.compile(
    r"^[\s-]?(?:free|frei\w*|less|los)\b|^(?:以外|なし|不使用|フリー)", re.IGNORECASE
)
"""The same after it."""


async def wish(lookup: Lookup) -> Scores:
    """Items that match a wish by its words and its meaning, and above them those that meet its soft
    conditions."""
    query = lookup.query
    text, soft = query.instruction, query.wish.soft
    by_text = await _by_text(lookup) if text else {}
    if not soft:
        return by_text
    hard = query.scope.wish or {}
    narrowed = [
        replace(lookup, query=replace(query, scope=replace(query.scope, wish={**hard, key: one})))
        for key, one in soft.items()
        if key not in hard
    ]
    found = [await _by_text(each) if text else await _any(each) for each in narrowed]
    return summed([(1.0, by_text), *((1.0, scores) for scores in found)])


async def _by_text(lookup: Lookup) -> Scores:
    """Items that match by words or by meaning. Of the first, those that are more probably relevant
    come first: that ranks alike score in words only may say little, as of items in the language of
    the wish that share its commonest words."""
    query, search = lookup.query, lookup.catalog.search
    ids = await search.by_text(query.instruction, query.depth, query.scope, meant=query.meant)
    first = ids[:RESCORED]
    relevant = await relevance_of(lookup, [*(await lookup.catalog.get(first)).values()])
    if calibrated(lookup.catalog.embedder.name):
        first.sort(key=lambda item_id: -relevant.get(item_id, 0.0))
    return by_place([*first, *ids[RESCORED:]])


async def relevance_of(lookup: Lookup, items: Sequence[Item]) -> dict[str, float]:
    """How relevant items of the catalogue are to the words of the wish, by id; empty if it has
    none."""
    query, catalog = lookup.query, lookup.catalog
    text = query.instruction or (query.wish.text if query.given is not None else "")
    if not text:
        return {}
    meant = None
    with suppress(ModelError):
        meant = await catalog.embedder.embed_one(query.meant) if query.meant else None
    texts = {item.id: words_of(item) for item in items}
    vectors = await catalog.vectors(texts)
    words = query.wish.content or text
    return await asyncio.to_thread(relevances, words, texts, vectors, meant, catalog.embedder.name)


async def _any(lookup: Lookup) -> Scores:
    return by_place(await lookup.catalog.search.some(lookup.query.depth, lookup.query.scope))


async def met(lookup: Lookup, ids: Sequence[str]) -> Scores:
    """Of the soft conditions of the wish, the share that each item meets; items that meet none are
    left out."""
    soft = lookup.query.wish.soft
    lists = [
        dict.fromkeys(
            await lookup.catalog.search.admitted(
                ids, replace(lookup.query.scope, wish={key: condition})
            ),
            1.0,
        )
        for key, condition in soft.items()
    ]
    return summed((1 / len(lists), scores) for scores in lists)


def raised(
    lists: Mapping[str, Scores], weights: Mapping[str, float], met: Scores, depth: int
) -> tuple[dict[str, Scores], dict[str, float]]:
    """Adds to the source `query` how far items meet the soft conditions of the wish (`met`), and to
    its weight what that counts. `lists`: scores from 0 to 1, by source."""
    if not met:
        return {**lists}, {**weights}
    own = unit(lists.get("query", {}), depth)
    both = summed([(1 / (1 + MET), own), (MET / (1 + MET), met)])
    heavier = max(weights.get("query", 0.0), 1.0) * (1 + MET)
    return {**lists, "query": both}, {**weights, "query": heavier}


def last_refused(candidates: Sequence[Candidate], wish: Wish) -> list[Candidate]:
    """The candidates, those that the wish refuses marked and last among those with content. Of
    retrieved ones there are none: only a caller's list holds what nobody wants. A question refuses
    nothing: "how to brew coffee without a grinder" is about grinders, too."""
    if wish.question or not (wish.filters or wish.words):
        return [*candidates]
    marked = [
        each.model_copy(
            update={
                "refused": True,
                "relevance": None if each.relevance is None else min(each.relevance, REFUSED),
            }
        )
        if not each.blank and refused(each.item, wish)
        else each
        for each in candidates
    ]
    return sorted(marked, key=lambda each: (each.blank, each.refused))


def refused(item: Item, wish: Wish) -> bool:
    """Whether a wish excludes an item that no filter holds back: an attribute of it has an avoided
    value, or its words name an avoided thing."""
    if any(_holds(item, key, one.none or ()) for key, one in wish.filters.items()):
        return True
    nameless = wish.nameless
    things = (forms for name, forms in wish.words.items() if name not in nameless or len(forms) > 1)
    return any(names(item, forms) for forms in things)


def names(item: Item, spellings: Iterable[str]) -> bool:
    """Whether the words of an item name something, and not as what it is without."""
    values = ", ".join(str(value) for _, value in item.facts())
    text = f"{item.title}. {values}. {item.text[:READ]}"
    return any(
        not _FREE.search(text[max(match.start() - 30, 0) : match.start()])
        and not _LESS.search(text[match.end() : match.end() + 12])
        for match in _spelled(tuple(spellings)).finditer(text)
    )


@lru_cache(maxsize=1_024)
def _spelled(spellings: tuple[str, ...]) -> re.Pattern[str]:
    parts = []
    for spelling in spellings:
        unspaced = bool(HAN.search(spelling) or KANA.search(spelling))
        words = [re.escape(word) for word in re.split(r"[\s-]+", spelling.replace("*", "")) if word]
        joined = r"[\s\-‐]?".join(words)
        ending = "" if unspaced else (r"\w*" if spelling.endswith("*") else r"(?:e?s|n|en)?(?!\w)")
        parts.append(joined + ending if unspaced else rf"(?<!\w){joined}{ending}")
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)


def _holds(item: Item, key: str, values: Iterable[Scalar]) -> bool:
    """Whether an item's attribute, or one of its elements, is one of these values."""
    value = item.id if key == "id" else item.attributes.get(key)
    held = value if isinstance(value, list) else [] if value is None else [value]
    return not {*map(_folded, held)}.isdisjoint(map(_folded, values))


def _folded(value: Scalar) -> Scalar:
    return value.casefold() if isinstance(value, str) else value
