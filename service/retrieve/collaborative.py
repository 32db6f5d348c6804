"""Source `collaborative`."""

from service.retrieve.fusion import Scores
from service.retrieve.lookup import Lookup


async def collaborative(lookup: Lookup) -> Scores:
    """Items that people with similar likes liked."""
    query = lookup.query
    if query.factors is None:
        return {}
    return await lookup.catalog.search.favoured(query.factors, query.depth, query.scope)
