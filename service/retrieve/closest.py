"""Source `closest`."""

from service.retrieve.fusion import Scores
from service.retrieve.lookup import Lookup


async def closest(lookup: Lookup) -> Scores:
    """Scores items by their greatest cosine with any one of the latest liked items. An interest is
    the mean of several liked items, which blurs what a single one says sharply."""
    vectors = await lookup.catalog.vectors(item_id for item_id, _ in lookup.latest)
    return await lookup.catalog.search.near_any([*vectors.values()], lookup.query.depth, lookup.new)
