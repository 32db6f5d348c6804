"""Ranked lists of several sources as one: weighted reciprocal rank fusion (Cormack et al., SIGIR
2009)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RRF = 60
"""The constant of reciprocal rank fusion."""


def fuse(lists: Mapping[str, tuple[float, Sequence[str]]]) -> dict[str, dict[str, int]]:
    """Ids by falling Σ weight / (60 + rank) over the lists that name them, ties by id; for each its
    rank in every list."""
    ranks: dict[str, dict[str, int]] = {}
    priors: dict[str, float] = {}
    for name, (weight, ids) in lists.items():
        for rank, item_id in enumerate(ids, 1):
            ranks.setdefault(item_id, {})[name] = rank
            priors[item_id] = priors.get(item_id, 0.0) + weight / (RRF + rank)
    order = sorted(ranks, key=lambda item_id: (-priors[item_id], item_id))
    return {item_id: ranks[item_id] for item_id in order}


def fused_ids(lists: Sequence[tuple[float, Sequence[str]]]) -> list[str]:
    """Ids of several weighted lists as one."""
    return list(fuse({str(n): weighted for n, weighted in enumerate(lists)}))


def prior_of(ranks: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """Σ weight / (60 + rank) over the sources that name an item."""
    return sum(weights[name] / (RRF + rank) for name, rank in ranks.items())
