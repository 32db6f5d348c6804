"""Source `closest`."""

from service.retrieve.fusion import Scores, best_of
from service.retrieve.lookup import Lookup


async def closest(lookup: Lookup) -> Scores:
    """Items near a single one of the latest liked items: the greatest of the cosines. An interest,
    the mean of several, blurs what one item says sharply."""
    query = lookup.query
    vectors = await lookup.catalog.vectors(item_id for item_id, _ in lookup.latest)
    lists = await lookup.catalog.search.similar([*vectors.values()], query.depth, lookup.new)
    return dict([*best_of(lists).items()][: query.depth])
