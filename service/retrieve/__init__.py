"""Retrieves candidates: several sources each score items, and the weighted sum of their scores is
one prior."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from service.retrieve.closest import closest
from service.retrieve.collaborative import collaborative
from service.retrieve.context import context
from service.retrieve.documents import documents, load_bm25
from service.retrieve.features import WISHED, features
from service.retrieve.fresh import fresh
from service.retrieve.fusion import Fusion, Scores, blank, prior_of, unit
from service.retrieve.item_item import item_item
from service.retrieve.learned import LearnedRanker, reordered, z_scores
from service.retrieve.lexical import lexical
from service.retrieve.lookup import Lookup, RetrievalQuery
from service.retrieve.popular import popular
from service.retrieve.relevance import falling
from service.retrieve.sequence import sequence
from service.retrieve.similar import similar
from service.retrieve.trending import trending
from service.retrieve.wish import last_refused, met, names, raised, relevance_of, wish
from service.schema import Candidate, Item

__all__ = [
    "LearnedRanker",
    "Lookup",
    "RetrievalQuery",
    "blank",
    "documents",
    "falling",
    "load_bm25",
    "prior_of",
    "retrieve",
    "unit",
    "z_scores",
]

SOURCES: dict[str, Callable[[Lookup], Awaitable[Scores]]] = {
    "similar": similar,
    "closest": closest,
    "lexical": lexical,
    "collaborative": collaborative,
    "item_item": item_item,
    "sequence": sequence,
    "context": context,
    "query": wish,
    "popular": popular,
    "trending": trending,
    "fresh": fresh,
}
"""The sources of candidates, by their names in the configuration."""
Lists = Mapping[str, Scores]
"""What sources found, by their names."""


async def retrieve(lookup: Lookup, wished: Awaitable[Lookup] | None = None) -> list[Candidate]:
    """Returns candidates, highest prior first; ties by id, so that the order of `given` never
    matters.

    With `given`, each of its ids is returned exactly once; ids that the catalogue doesn't have come
    last, without a title. `wished`: the lookup with the wish, as soon as that is read. The sources
    that need no wish don't wait for it: what they find is filtered then, and they are asked again
    only if too few of it remain.
    """
    if not lookup.query.k:
        return []
    plain = lookup
    own, (lookup, asked) = await asyncio.gather(
        _lists(plain, without=WISHED), _asked(lookup, wished)
    )
    if lookup.query.scope != plain.query.scope:
        own = {name: await _admitted(lookup, scores) for name, scores in own.items()}
        found = {item_id for scores in own.values() for item_id in scores}
        if len(found) < lookup.query.k:
            own = await _lists(lookup, without=WISHED)
    return await _fused(lookup, {**own, **asked})


async def _asked(lookup: Lookup, wished: Awaitable[Lookup] | None) -> tuple[Lookup, Lists]:
    """The lookup with its wish, and what the sources found that answer it."""
    lookup = await wished if wished is not None else lookup
    return lookup, await _lists(lookup, among=WISHED)


async def _lists(
    lookup: Lookup, *, among: frozenset[str] | None = None, without: frozenset[str] = frozenset()
) -> Lists:
    """What the sources with a weight find, by their names: scores from 0 to 1."""
    names = [
        name
        for name, weight in lookup.query.weights.items()
        if weight > 0 and name not in without and (among is None or name in among)
    ]
    lists = await asyncio.gather(*(SOURCES[name](lookup) for name in names))
    return {
        name: unit(scores, lookup.query.depth) for name, scores in zip(names, lists, strict=True)
    }


async def _admitted(lookup: Lookup, scores: Scores) -> Scores:
    """Of what a source found before the wish was read, what that admits."""
    admitted = await lookup.catalog.search.admitted(scores, lookup.query.scope)
    return {item_id: scores[item_id] for item_id in admitted}


async def _fused(lookup: Lookup, lists: Lists) -> list[Candidate]:
    query = lookup.query
    weights = {name: weight for name, weight in query.weights.items() if weight > 0}
    if query.wish.soft:
        ids = list(dict.fromkeys(item_id for scores in lists.values() for item_id in scores))
        lists, weights = raised(lists, weights, await met(lookup, ids), query.depth)
    found = {name: lists.get(name, {}) for name in weights}
    fusion = Fusion(found, weights)
    items = await lookup.catalog.get(await _kept(lookup, fusion.priors))
    candidates = await _learned(lookup, [fusion.candidate(item) for item in items.values()])
    unknown = sorted(set(query.given or ()) - set(items))
    candidates += [blank(Item.model_construct(id=item_id)) for item_id in unknown]
    return await lookup.weighed(last_refused(await _judged(lookup, candidates), query.wish))


async def _judged(lookup: Lookup, candidates: list[Candidate]) -> list[Candidate]:
    """The candidates with how relevant they are to the words of the wish, if it has any."""
    known = [each.item for each in candidates if not each.blank]
    found = await relevance_of(lookup, known)
    return [each.model_copy(update={"relevance": found.get(each.item.id)}) for each in candidates]


async def _learned(lookup: Lookup, candidates: list[Candidate]) -> list[Candidate]:
    """Returns the candidates in the order of `query.ranker`, if there is one, and with their
    features, if `query.features` is true. If the person liked nothing, returns them unchanged."""
    query, catalog, likes = lookup.query, lookup.catalog, lookup.state.likes
    if not candidates or not likes or not (query.ranker or query.features):
        return candidates
    liked = await catalog.get(item_id for item_id, _ in likes)
    table = features(
        candidates,
        [*liked.values()],
        likes=len(likes),
        votes=await lookup.store.popularity.votes([each.item.id for each in candidates]),
        weights=query.weights,
        numbers=catalog.numbers,
    )
    if query.features:
        candidates = [
            each.model_copy(update={"features": dict(zip(table.names, row, strict=True))})
            for each, row in zip(candidates, table.values.tolist(), strict=True)
        ]
    if query.ranker is None:
        return candidates
    return reordered(candidates, query.ranker.scores(table), query.weights)


async def _kept(lookup: Lookup, priors: Scores) -> list[str]:
    """Ids of the first `k` items that the sources found; if they found fewer, other admissible
    items are added. A given list is returned whole."""
    query = lookup.query
    ids = (await _without_avoided(lookup, list(priors)))[: query.k]
    if query.given is not None:
        return ids + sorted(set(query.given) - set(ids))
    if len(ids) < query.k:
        others = await lookup.catalog.search.some(query.depth, query.scope)
        unnamed = [item_id for item_id in others if item_id not in priors]
        ids += await _without_avoided(lookup, unnamed)
    return ids[: query.k]


async def _without_avoided(lookup: Lookup, ids: list[str]) -> list[str]:
    """Returns `ids` without items that have an attribute value in `query.avoid`, or that the wish
    refuses by their words. With `query.given`, returns all."""
    query = lookup.query
    avoided = {word.casefold() for word in query.avoid}
    spellings = [*query.wish.nameless.values()]
    if not (avoided or spellings) or query.given is not None:
        return ids
    unwanted = {
        item_id
        for item_id, item in (await lookup.catalog.get(ids)).items()
        if avoided & {str(value).casefold() for _, value in item.facts()}
        or any(names(item, forms) for forms in spellings)
    }
    return [item_id for item_id in ids if item_id not in unwanted]
