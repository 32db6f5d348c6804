"""Retrieves candidates: several sources each rank items, and weighted reciprocal rank fusion makes
one prior of their lists."""

import asyncio
from collections.abc import Mapping, Sequence

from service.catalog import Catalog
from service.retrieve import collaborative, context, popular, similar, wish
from service.retrieve.documents import documents, load_bm25
from service.retrieve.fusion import fuse, fused_ids, prior_of
from service.retrieve.spec import Lookup, RetrievalQuery
from service.retrieve.weighing import blank, candidate_of, weighed
from service.schema import Candidate, Item

__all__ = [
    "SOURCES",
    "Lookup",
    "RetrievalQuery",
    "blank",
    "documents",
    "fuse",
    "fused_ids",
    "load_bm25",
    "prior_of",
    "retrieve",
]

SOURCES = {
    source.SPEC.name: source.SPEC for source in (similar, collaborative, context, wish, popular)
}


async def retrieve(lookup: Lookup) -> list[Candidate]:
    """Returns candidates, highest prior first; ties by id, so that the order of `given` never
    matters.

    With `given`, each of its ids is returned exactly once; ids that the catalogue doesn't have come
    last, without a title.
    """
    query, catalog = lookup.query, lookup.catalog
    if not query.k:
        return []
    used = {name: weight for name, weight in query.weights.items() if weight > 0}
    lists = await asyncio.gather(*(SOURCES[name].find(lookup) for name in used))
    ranks = fuse({name: (used[name], ids) for name, ids in zip(used, lists, strict=True)})
    ids = await _kept(lookup, ranks)
    items = await catalog.get(ids)
    candidates = [candidate_of(items[item_id], ranks.get(item_id, {}), used) for item_id in items]
    unknown = sorted(set(query.given or ()) - set(items))
    candidates += [blank(Item.model_construct(id=item_id)) for item_id in unknown]
    return await weighed(lookup.store, catalog, candidates, query)


async def _kept(lookup: Lookup, ranks: Mapping[str, object]) -> list[str]:
    """Ids of the first `k` items that the sources found; if they found fewer, other admissible
    items are added. A given list is returned whole."""
    query, catalog = lookup.query, lookup.catalog
    ids = (await _without_avoided(catalog, list(ranks), query))[: query.k]
    if query.given is not None:
        return ids + sorted(set(query.given) - set(ids))
    if len(ids) < query.k:
        others = await catalog.search.some(query.depth, query.scope)
        unnamed = [item_id for item_id in others if item_id not in ranks]
        ids += await _without_avoided(catalog, unnamed, query)
    return ids[: query.k]


async def _without_avoided(
    catalog: Catalog, ids: Sequence[str], query: RetrievalQuery
) -> list[str]:
    """Removes items with an attribute value that the person avoids. A given list stays whole."""
    if not query.avoid or query.given is not None:
        return list(ids)
    avoided = {word.casefold() for word in query.avoid}
    items = await catalog.get(ids)
    kept = []
    for item_id in ids:
        facts = items[item_id].facts() if item_id in items else ()
        if not avoided & {str(value).casefold() for _, value in facts}:
            kept.append(item_id)
    return kept
