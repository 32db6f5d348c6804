"""Weighted reciprocal rank fusion of the sources' ranked lists (Cormack et al., SIGIR 2009), and
candidates with the prior that it gives them."""

from collections.abc import Mapping, Sequence

from service.schema import Candidate, Item

RRF = 60
"""The constant of reciprocal rank fusion."""


def fuse(lists: Mapping[str, tuple[float, Sequence[str]]]) -> dict[str, dict[str, int]]:
    """Fuses weighted lists. Returns each id's rank in every list that has it, ordered by Σ weight /
    (60 + rank), highest first, ties by id."""
    ranks: dict[str, dict[str, int]] = {}
    priors: dict[str, float] = {}
    for name, (weight, ids) in lists.items():
        for rank, item_id in enumerate(ids, 1):
            ranks.setdefault(item_id, {})[name] = rank
            priors[item_id] = priors.get(item_id, 0.0) + weight / (RRF + rank)
    order = sorted(ranks, key=lambda item_id: (-priors[item_id], item_id))
    return {item_id: ranks[item_id] for item_id in order}


def fused_ids(lists: Sequence[tuple[float, Sequence[str]]]) -> list[str]:
    """Fuses several weighted lists of ids into one list."""
    return list(fuse({str(n): weighted for n, weighted in enumerate(lists)}))


def prior_of(ranks: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """Σ weight / (60 + rank) over an item's ranks in the sources."""
    return sum(weights[name] / (RRF + rank) for name, rank in ranks.items())


def blank(item: Item) -> Candidate:
    """Makes a candidate of an item without content; its prior is 0, and no model judges it."""
    return Candidate.model_construct(item=item, prior=0.0, blank=True)


def candidate_of(item: Item, ranks: dict[str, int], weights: Mapping[str, float]) -> Candidate:
    """Makes a candidate of an item. `ranks`: its rank in each source that found it."""
    return Candidate.model_construct(item=item, prior=prior_of(ranks, weights), sources=ranks)
