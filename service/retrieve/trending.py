"""Source `trending`."""

from service.retrieve.fusion import Scores
from service.retrieve.lookup import Lookup


async def trending(lookup: Lookup) -> Scores:
    """Items that are liked more lately than they used to be."""
    query, store = lookup.query, lookup.store
    given = list(query.given) if query.given is not None else None
    rising = await store.popularity.rising(query.depth + len(query.scope.exclude), given)
    admitted = await lookup.catalog.search.admitted(rising, query.scope)
    return {item_id: rising[item_id] for item_id in admitted[: query.depth]}
