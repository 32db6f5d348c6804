"""Makes candidates of items, with their prior, popularity and vector."""

from collections.abc import Mapping

from service.catalog import Catalog
from service.retrieve.fusion import prior_of
from service.retrieve.spec import RetrievalQuery
from service.schema import Candidate, Item
from service.store import Store


def blank(item: Item) -> Candidate:
    """Makes a candidate of an item without content; its prior is 0, and no model judges it."""
    return Candidate.model_construct(item=item, prior=0.0, blank=True)


def candidate_of(item: Item, ranks: dict[str, int], weights: Mapping[str, float]) -> Candidate:
    """Makes a candidate of an item. `ranks`: its rank in each source that found it."""
    return Candidate.model_construct(item=item, prior=prior_of(ranks, weights), sources=ranks)


async def weighed(
    store: Store, catalog: Catalog, candidates: list[Candidate], query: RetrievalQuery
) -> list[Candidate]:
    """Adds popularity and vectors to candidates, if the query wants them. An item without likes
    gets the popularity of the least popular candidate."""
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
