"""Source `context`: items near those that the person is looking at now."""

from collections.abc import Sequence

from service.retrieve.similar import nearest
from service.retrieve.spec import Lookup, SourceSpec


async def find(lookup: Lookup) -> Sequence[str]:
    vectors = await lookup.catalog.vectors(lookup.query.context_items)
    weighted = [(vector, 1.0) for vector in vectors.values()]
    return await nearest(lookup.catalog, lookup.query, weighted)


SPEC = SourceSpec("context", find)
