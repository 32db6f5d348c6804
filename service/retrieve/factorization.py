"""Matrix factorisation of likes (implicit ALS: Hu, Koren & Volinsky, ICDM 2008).

A person gets a vector x and an item a vector y, such that x·y is near 1 if the person likes the
item and near 0 otherwise; an error on a like counts c = 1 + alpha · weight, any other 1. Items'
vectors are trained now and then. A person's vector is computed at each request, so that the latest
like counts at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.catalog import Catalog, UserFactors
from service.schema import UserState
from service.store import Store

FEWEST = 20
"""Fewest people with likes, and fewest liked items, for a training."""

LIKE_DECAY = 0.9
"""Each like weighs this share of the next later one when a person's vector is computed."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Factors:
    """Result of a training. `items`: vectors of shape [factors], by item id. `gram`: Σ y yᵀ over
    them, [factors, factors]. `regularization`: the λ that the training used."""

    items: Mapping[str, npt.NDArray[np.float32]]
    gram: Values
    regularization: float


def train(
    liked: Mapping[tuple[str, str], float],
    *,
    factors: int,
    alpha: float,
    regularization: float,
    iterations: int,
    seed: int = 0,
) -> Factors | None:
    """Learns factors of all liked items. `liked`: weight in (0, 1] of each (person, item).

    `regularization`: λ divided by the mean confidence that an item's likes sum to, so that one
    value suits logs of any size. Deterministic. Returns None if too few people or items are liked.
    Computes for seconds: call it on a thread.
    """
    people = {who: n for n, who in enumerate(sorted({who for who, _ in liked}))}
    items = {item_id: n for n, item_id in enumerate(sorted({item_id for _, item_id in liked}))}
    if len(people) < FEWEST or len(items) < FEWEST:
        return None
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    cells = [people[who] for who, _ in liked], [items[item_id] for _, item_id in liked]
    confidence = 1 + alpha * np.fromiter(liked.values(), dtype=np.float32, count=len(liked))
    matrix = csr_matrix((confidence, cells), shape=(len(people), len(items)))
    regularization *= float(confidence.sum()) / len(items)
    with threadpool_limits(1, "blas"):  # its threads and the solver's own would fight
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularization,
            iterations=iterations,
            num_threads=1,
            random_state=seed,
        )
        model.fit(matrix, show_progress=False)
    precise = model.item_factors.astype(np.float64)
    return Factors(
        {item_id: model.item_factors[n] for item_id, n in items.items()},
        precise.T @ precise,
        regularization,
    )


def likes(opinions: Iterable[tuple[str, str, float]]) -> dict[tuple[str, str], float]:
    """Returns the weight in (0, 1] of each liked (person, item): the greatest of its likes since
    its last dislike. The order is that of each pair's last opinion. `opinions`: (person, item,
    opinion in [-1, 1]), oldest first."""
    liked: dict[tuple[str, str], float] = {}
    for who, item_id, opinion in opinions:
        before = liked.pop((who, item_id), 0.0)
        weight = max(opinion, before)
        if opinion >= 0 and weight > 0:
            liked[who, item_id] = weight
    return liked


def fold_in(
    vectors: Values, weights: Values, gram: Values, *, alpha: float, regularization: float
) -> Values:
    """Computes a person's vector, shape [factors]. `vectors`: factors of the items they like, [n,
    factors]. `weights`: how much they like each, [n] in (0, 1].

    x = (YᵀY + Σ (c − 1) y yᵀ + λI)⁻¹ Σ c y with c = 1 + alpha · weight: the paper's equation 4.
    """
    extra = alpha * weights
    left = gram + (vectors.T * extra) @ vectors + regularization * np.eye(len(gram))
    return np.asarray(np.linalg.solve(left, vectors.T @ (1 + extra)), dtype=np.float64)


async def taste(store: Store, catalog: Catalog, state: UserState) -> UserFactors | None:
    """Returns a person's vector, computed from all their likes so far; None if no item that they
    like has factors."""
    version, factors = await catalog.factors(item_id for item_id, _ in state.likes)
    training = await store.trainings.get(version) if factors else None
    last = len(state.likes) - 1
    known = [
        (factors[item_id], weight * LIKE_DECAY ** (last - n))
        for n, (item_id, weight) in enumerate(state.likes)
        if item_id in factors
    ]
    if training is None or training.gram.shape[0] != len(known[0][0]):
        return None
    vector = fold_in(
        np.array([factor for factor, _ in known], dtype=np.float64),
        np.array([weight for _, weight in known]),
        training.gram,
        alpha=training.alpha,
        regularization=training.regularization,
    )
    return UserFactors(tuple(vector.tolist()), version)
