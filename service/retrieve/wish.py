"""Source `query`."""

from service.retrieve.fusion import Scores, by_place
from service.retrieve.lookup import Lookup


async def wish(lookup: Lookup) -> Scores:
    """Items that match an instruction by its words and by its meaning."""
    query = lookup.query
    if not query.instruction:
        return {}
    return by_place(
        await lookup.catalog.search.by_text(
            query.instruction, query.depth, query.scope, meant=query.meant
        )
    )
