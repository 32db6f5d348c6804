"""Source `popular`: items that many people liked lately."""

from collections.abc import Sequence

from service.retrieve.spec import Lookup, SourceSpec


async def find(lookup: Lookup) -> Sequence[str]:
    query, catalog, popularity = lookup.query, lookup.catalog, lookup.store.popularity
    if query.given is not None:
        return await catalog.search.admitted(await popularity.among(list(query.given)), query.scope)
    ids: list[str] = []
    page, offset = query.depth + len(query.scope.exclude), 0
    while len(ids) < query.depth and (popular := await popularity.top(page, offset)):
        ids += await catalog.search.admitted(popular, query.scope)
        offset += page
    return ids[: query.depth]


SPEC = SourceSpec("popular", find)
