"""The sources of candidates, and what each is given. One returns ids of items within the query's
scope, best first, at most `query.depth`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from service.catalog import Catalog, Scope, UserFactors, Vectors
from service.retrieve.fusion import fused_ids
from service.schema import Candidate, UserState
from service.store import Store


@dataclass(frozen=True)
class RetrievalQuery:
    """What to retrieve.

    `k`: how many candidates; `weights`: of the sources, by name; `given`: rank these ids instead of
    searching. `instruction`: the person's wish; `meant`: the same, redacted for the embedder;
    `embeds`: whether the embedder may see anything of this person. `context_items`: ids of the
    items that the person is looking at. `factors`: the person's collaborative vector. `avoid`:
    attribute values that no retrieved item may have. `popularity`, `vectors`: whether to add these
    to candidates.
    """

    k: int
    weights: Mapping[str, float]
    scope: Scope
    given: Sequence[str] | None = None
    instruction: str | None = None
    meant: str | None = None
    embeds: bool = True
    context_items: Sequence[str] = ()
    factors: UserFactors | None = None
    avoid: frozenset[str] = frozenset()
    popularity: bool = False
    vectors: bool = False

    @property
    def depth(self) -> int:
        """How many items each source returns. More than `k`, as an item far down in several lists
        may beat the first of one."""
        return 4 * self.k


@dataclass(frozen=True)
class Lookup:
    """Input of a source: the query, the person's state, and the data to search."""

    store: Store
    catalog: Catalog
    state: UserState
    query: RetrievalQuery

    async def weighed(self, candidates: list[Candidate]) -> list[Candidate]:
        """Adds popularity and vectors to candidates, if the query wants them. An item without
        likes gets the popularity of the least popular candidate."""
        query, ids = self.query, [candidate.item.id for candidate in candidates]
        votes = await self.store.popularity.votes(ids) if query.popularity else {}
        least = min(votes.values(), default=0.0)
        vectors = await self.catalog.vectors(ids) if query.vectors else {}
        tuples = {item_id: tuple(vector.tolist()) for item_id, vector in vectors.items()}
        return [
            candidate.model_copy(
                update={
                    "popularity": votes.get(candidate.item.id, least),
                    "vector": tuples.get(candidate.item.id),
                }
            )
            for candidate in candidates
        ]


async def similar(lookup: Lookup) -> list[str]:
    """Items near the person's interests in the embedding space."""
    interests = [(interest.vector, interest.weight) for interest in lookup.state.interests]
    return await _nearest(lookup, interests)


async def collaborative(lookup: Lookup) -> list[str]:
    """Items that people with similar likes liked."""
    query = lookup.query
    if query.factors is None:
        return []
    return await lookup.catalog.search.favoured(query.factors, query.depth, query.scope)


async def context(lookup: Lookup) -> list[str]:
    """Items near those that the person is looking at now."""
    vectors = await lookup.catalog.vectors(lookup.query.context_items)
    return await _nearest(lookup, [(vector, 1.0) for vector in vectors.values()])


async def wish(lookup: Lookup) -> list[str]:
    """Items that match an instruction by its words and by its meaning."""
    query = lookup.query
    if not query.instruction:
        return []
    return await lookup.catalog.search.by_text(
        query.instruction, query.depth, query.scope, meant=query.meant
    )


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


async def _nearest(
    lookup: Lookup, weighted: Sequence[tuple[Sequence[float] | Vectors, float]]
) -> list[str]:
    """Items near any of several weighted vectors: one list for each vector, fused by their
    weights."""
    query, vectors = lookup.query, [vector for vector, _ in weighted]
    lists = await lookup.catalog.search.similar(vectors, query.depth, query.scope)
    weights = [weight for _, weight in weighted]
    return fused_ids([*zip(weights, lists, strict=True)])[: query.depth]


SOURCES: dict[str, Callable[[Lookup], Awaitable[list[str]]]] = {
    "similar": similar,
    "collaborative": collaborative,
    "context": context,
    "query": wish,
    "popular": popular,
}
"""By their names in the configuration."""
