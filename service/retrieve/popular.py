"""Source `popular`."""

from service.retrieve.lookup import Lookup


async def popular(lookup: Lookup) -> list[str]:
    """Items that many people liked lately."""
    query, catalog, popularity = lookup.query, lookup.catalog, lookup.store.popularity
    if query.given is not None:
        return await catalog.search.admitted(await popularity.among(list(query.given)), query.scope)
    ids: list[str] = []
    page, offset = query.depth + len(query.scope.exclude), 0
    while len(ids) < query.depth and (most_popular := await popularity.top(page, offset)):
        ids += await catalog.search.admitted(most_popular, query.scope)
        offset += page
    return ids[: query.depth]
