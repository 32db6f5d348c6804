"""Retrieves candidates: several sources each score items, and the weighted sum of their scores is
one prior."""

import asyncio
from collections.abc import Awaitable, Callable

from service.retrieve.closest import closest
from service.retrieve.collaborative import collaborative
from service.retrieve.context import context
from service.retrieve.documents import documents, load_bm25
from service.retrieve.features import features
from service.retrieve.fresh import fresh
from service.retrieve.fusion import Fusion, Scores, blank, prior_of, unit
from service.retrieve.item_item import item_item
from service.retrieve.learned import LearnedRanker, reordered, z_scores
from service.retrieve.lexical import lexical
from service.retrieve.lookup import Lookup, RetrievalQuery
from service.retrieve.popular import popular
from service.retrieve.sequence import sequence
from service.retrieve.similar import similar
from service.retrieve.trending import trending
from service.retrieve.wish import wish
from service.schema import Candidate, Item

__all__ = [
    "LearnedRanker",
    "Lookup",
    "RetrievalQuery",
    "blank",
    "documents",
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


async def retrieve(lookup: Lookup) -> list[Candidate]:
    """Returns candidates, highest prior first; ties by id, so that the order of `given` never
    matters.

    With `given`, each of its ids is returned exactly once; ids that the catalogue doesn't have come
    last, without a title.
    """
    query = lookup.query
    if not query.k:
        return []
    used = {name: weight for name, weight in query.weights.items() if weight > 0}
    lists = await asyncio.gather(*(SOURCES[name](lookup) for name in used))
    found = {name: unit(scores, query.depth) for name, scores in zip(used, lists, strict=True)}
    fusion = Fusion(found, used)
    items = await lookup.catalog.get(await _kept(lookup, fusion.priors))
    candidates = await _learned(lookup, [fusion.candidate(item) for item in items.values()])
    unknown = sorted(set(query.given or ()) - set(items))
    candidates += [blank(Item.model_construct(id=item_id)) for item_id in unknown]
    return await lookup.weighed(candidates)


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
    """Returns `ids` without items that have an attribute value in `query.avoid`. With
    `query.given`, returns all."""
    avoided = {word.casefold() for word in lookup.query.avoid}
    if not avoided or lookup.query.given is not None:
        return ids
    unwanted = {
        item_id
        for item_id, item in (await lookup.catalog.get(ids)).items()
        if avoided & {str(value).casefold() for _, value in item.facts()}
    }
    return [item_id for item_id in ids if item_id not in unwanted]
