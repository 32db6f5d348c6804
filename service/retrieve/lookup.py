"""What a source of candidates is given. Each source is a file of this package: it returns scores of
items within the query's scope, best first, at most `query.depth`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from service.catalog import Catalog, Scope, UserFactors
from service.retrieve.fusion import Scores
from service.retrieve.learned import LearnedRanker
from service.retrieve.neighbours import summed_rows
from service.schema import NO_WISH, Candidate, UserState, Wish
from service.store import Store

LATEST = 10
"""How many of the latest likes are compared with other items one by one."""


@dataclass(frozen=True)
class RetrievalQuery:
    """What to retrieve.

    `k`: how many candidates; `weights`: of the sources, by name; `given`: rank these ids instead of
    searching. `wish`: what the person asks for, once it is read; `meant`: the text of it, redacted
    for the embedder; `embeds`: whether the embedder may see anything of this person.
    `context_items`: ids of the items that the person is looking at. `factors`: the person's
    collaborative vector. `avoid`: attribute values that no retrieved item may have. `popularity`,
    `vectors`, `features`: whether to add these to candidates. `ranker`: orders the candidates by
    their features."""

    k: int
    weights: Mapping[str, float]
    scope: Scope
    given: Sequence[str] | None = None
    wish: Wish = NO_WISH
    meant: str | None = None
    embeds: bool = True
    context_items: Sequence[str] = ()
    factors: UserFactors | None = None
    avoid: frozenset[str] = frozenset()
    popularity: bool = False
    vectors: bool = False
    features: bool = False
    ranker: LearnedRanker | None = None

    @property
    def instruction(self) -> str:
        """What is searched for in words; empty for nothing."""
        return self.wish.sought

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

    @property
    def latest(self) -> Sequence[tuple[str, float]]:
        """(item id, weight) of the latest likes, oldest first."""
        return self.state.likes[-LATEST:]

    @property
    def new(self) -> Scope:
        """The query's scope without the latest liked items, as a search for items like them would
        find themselves first."""
        scope = self.query.scope
        return replace(scope, exclude=scope.exclude | {item_id for item_id, _ in self.latest})

    async def neighbours(self, source: str, likes: Sequence[tuple[str, float]]) -> Scores:
        """Sums the rows that the table of a learned source (`item_item` or `sequence`) has for the
        liked items, each times its weight. Returns the admitted items, best first, at most
        `query.depth`. `likes`: (item id, weight)."""
        table = await self.store.neighbours.get(source) if likes else None
        if table is None:
            return {}
        scores = summed_rows(table, likes)
        admitted = await self.catalog.search.admitted(scores, self.query.scope)
        return {item_id: scores[item_id] for item_id in admitted[: self.query.depth]}

    async def weighed(self, candidates: list[Candidate]) -> list[Candidate]:
        """Adds popularity and vectors to candidates, if the query wants them. An item without
        likes gets the popularity of the least popular candidate."""
        query, ids = self.query, [candidate.item.id for candidate in candidates]
        if not (query.popularity or query.vectors):
            return candidates
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
