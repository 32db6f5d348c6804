"""Makes candidates of items, with their prior, popularity and vector."""

from collections.abc import Mapping

from service.retrieve.fusion import prior_of
from service.retrieve.sources import Lookup
from service.schema import Candidate, Item


def blank(item: Item) -> Candidate:
    """Makes a candidate of an item without content; its prior is 0, and no model judges it."""
    return Candidate.model_construct(item=item, prior=0.0, blank=True)


def candidate_of(item: Item, ranks: dict[str, int], weights: Mapping[str, float]) -> Candidate:
    """Makes a candidate of an item. `ranks`: its rank in each source that found it."""
    return Candidate.model_construct(item=item, prior=prior_of(ranks, weights), sources=ranks)


async def weighed(lookup: Lookup, candidates: list[Candidate]) -> list[Candidate]:
    """Adds popularity and vectors to candidates, if the query wants them. An item without likes
    gets the popularity of the least popular candidate."""
    query, ids = lookup.query, [candidate.item.id for candidate in candidates]
    votes = await lookup.store.popularity.votes(ids) if query.popularity else {}
    least = min(votes.values(), default=0.0)
    vectors = await lookup.catalog.vectors(ids) if query.vectors else {}
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
