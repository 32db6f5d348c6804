"""Source `popular`."""

from service.retrieve.fusion import Scores, by_place
from service.retrieve.lookup import Lookup


async def popular(lookup: Lookup) -> Scores:
    """Items that many people liked lately."""
    query, catalog, popularity = lookup.query, lookup.catalog, lookup.store.popularity
    if query.given is not None:
        known = await popularity.among(list(query.given))
        return by_place(await catalog.search.admitted(known, query.scope))
    ids: list[str] = []
    page, offset = query.depth + len(query.scope.exclude), 0
    while len(ids) < query.depth and (most_popular := await popularity.top(page, offset)):
        ids += await catalog.search.admitted(most_popular, query.scope)
        offset += page
    return by_place(ids[: query.depth])
