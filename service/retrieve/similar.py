"""Source `similar`: items near the person's interests in the embedding space."""

from collections.abc import Sequence

from service.catalog import Catalog, Vectors
from service.retrieve.fusion import fused_ids
from service.retrieve.spec import Lookup, RetrievalQuery, SourceSpec

Weighted = Sequence[tuple[Sequence[float] | Vectors, float]]
"""Vectors, each with its weight."""


async def nearest(catalog: Catalog, query: RetrievalQuery, vectors: Weighted) -> Sequence[str]:
    """Ids of the items near any of several vectors: one list for each vector, fused by their
    weights."""
    lists = await catalog.search.similar(
        [vector for vector, _ in vectors], query.depth, query.scope
    )
    weighted = [(weight, ids) for ids, (_, weight) in zip(lists, vectors, strict=True)]
    return fused_ids(weighted)[: query.depth]


async def find(lookup: Lookup) -> Sequence[str]:
    interests = [(interest.vector, interest.weight) for interest in lookup.state.interests]
    return await nearest(lookup.catalog, lookup.query, interests)


SPEC = SourceSpec("similar", find)
