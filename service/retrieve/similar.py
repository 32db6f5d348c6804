"""Source `similar`."""

from collections.abc import Sequence

from service.catalog import Vectors
from service.retrieve.fusion import Scores, summed, unit
from service.retrieve.lookup import Lookup


async def similar(lookup: Lookup) -> Scores:
    """Items near the person's interests in the embedding space."""
    interests = [(interest.vector, interest.weight) for interest in lookup.state.interests]
    return await nearest(lookup, interests)


async def nearest(
    lookup: Lookup, weighted: Sequence[tuple[Sequence[float] | Vectors, float]]
) -> Scores:
    """Items near any of several weighted vectors: cosines with each, brought to the range from 0 to
    1, weighted and summed."""
    query, vectors = lookup.query, [vector for vector, _ in weighted]
    lists = await lookup.catalog.search.similar(vectors, query.depth, query.scope)
    weights = [weight for _, weight in weighted]
    sums = summed((w, unit(scores, query.depth)) for w, scores in zip(weights, lists, strict=True))
    return dict([*sums.items()][: query.depth])
