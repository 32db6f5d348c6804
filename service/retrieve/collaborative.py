"""Source `collaborative`: items that people with similar likes liked."""

from collections.abc import Sequence

from service.retrieve.spec import Lookup, SourceSpec


async def find(lookup: Lookup) -> Sequence[str]:
    query = lookup.query
    if query.factors is None:
        return []
    return await lookup.catalog.search.favoured(query.factors, query.depth, query.scope)


SPEC = SourceSpec("collaborative", find)
