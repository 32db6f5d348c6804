"""Source `similar`."""

from collections.abc import Sequence

from service.catalog import Vectors
from service.retrieve.fusion import fused_ids
from service.retrieve.lookup import Lookup


async def similar(lookup: Lookup) -> list[str]:
    """Items near the person's interests in the embedding space."""
    interests = [(interest.vector, interest.weight) for interest in lookup.state.interests]
    return await nearest(lookup, interests)


async def nearest(
    lookup: Lookup, weighted: Sequence[tuple[Sequence[float] | Vectors, float]]
) -> list[str]:
    """Items near any of several weighted vectors: one list for each vector, fused by their
    weights."""
    query, vectors = lookup.query, [vector for vector, _ in weighted]
    lists = await lookup.catalog.search.similar(vectors, query.depth, query.scope)
    weights = [weight for _, weight in weighted]
    return fused_ids([*zip(weights, lists, strict=True)])[: query.depth]
