"""Source `closest`."""

from service.retrieve.fusion import Scores
from service.retrieve.lookup import Lookup


async def closest(lookup: Lookup) -> Scores:
    """Items near a single one of the latest liked items: the greatest of the cosines. An interest,
    the mean of several, blurs what one item says sharply."""
    vectors = await lookup.catalog.vectors(item_id for item_id, _ in lookup.latest)
    return await lookup.catalog.search.near_any([*vectors.values()], lookup.query.depth, lookup.new)
