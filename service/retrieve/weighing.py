"""Items as candidates, with what a ranking may weigh beside their prior."""

from __future__ import annotations

from collections.abc import Mapping

from service.catalog import Catalog
from service.retrieve.fusion import prior_of
from service.retrieve.spec import RetrievalQuery
from service.schema import Candidate, Item
from service.store import Store


def blank(item: Item) -> Candidate:
    """A candidate of which nothing is known."""
    return Candidate.model_construct(item=item, prior=0.0, blank=True)


def candidate_of(item: Item, ranks: dict[str, int], weights: Mapping[str, float]) -> Candidate:
    """`ranks`: the item's rank in each source that names it."""
    return Candidate.model_construct(item=item, prior=prior_of(ranks, weights), sources=ranks)


async def weighed(
    store: Store, catalog: Catalog, candidates: list[Candidate], query: RetrievalQuery
) -> list[Candidate]:
    """With popularity and vectors where the query wants them. An item that nobody liked is as
    popular as the least popular one."""
    ids = [candidate.item.id for candidate in candidates]
    if query.popularity:
        votes = await store.popularity.votes(ids)
        least = min(votes.values(), default=0.0)
        candidates = [
            candidate.model_copy(update={"popularity": votes.get(candidate.item.id, least)})
            for candidate in candidates
        ]
    if query.vectors:
        vectors = {
            item_id: tuple(vector.tolist())
            for item_id, vector in (await catalog.vectors(ids)).items()
        }
        candidates = [
            candidate.model_copy(update={"vector": vectors.get(candidate.item.id)})
            for candidate in candidates
        ]
    return candidates
