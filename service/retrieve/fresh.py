"""Source `fresh`."""

from service.retrieve.fusion import Scores, by_place
from service.retrieve.lookup import Lookup


async def fresh(lookup: Lookup) -> Scores:
    """Items that were published lately, by their `published_at`."""
    return by_place(await lookup.catalog.search.newest(lookup.query.depth, lookup.query.scope))
