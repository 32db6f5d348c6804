"""Source `context`."""

from service.retrieve.fusion import Scores
from service.retrieve.lookup import Lookup
from service.retrieve.similar import nearest


async def context(lookup: Lookup) -> Scores:
    """Items whose vectors are near those of the items that the person is looking at now."""
    vectors = await lookup.catalog.vectors(lookup.query.context_items)
    return await nearest(lookup, [(vector, 1.0) for vector in vectors.values()])
