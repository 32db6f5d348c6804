"""Source `query`: items that match an instruction by its words and by its meaning."""

from collections.abc import Sequence

from service.retrieve.spec import Lookup, SourceSpec


async def find(lookup: Lookup) -> Sequence[str]:
    query = lookup.query
    if not query.instruction:
        return []
    return await lookup.catalog.search.by_text(
        query.instruction, query.depth, query.scope, meant=query.meant
    )


SPEC = SourceSpec("query", find)
