"""One order from several opinions: `w · model + (1 − w) · prior − g · log popularity`, each as
z-scores within the list, then maximal marginal relevance among the first (Carbonell & Goldstein,
SIGIR 1998)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.schema import MIN_GAP

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Terms:
    """`model`: w in [0, 1]; `popularity`: g in [-1, 1]; `diversity`: what a cosine of 1 to a
    better-placed item costs, as a share of the spread between scores, in [0, 1]."""

    model: float = 0
    popularity: float = 0
    diversity: float = 0


def fused_order(
    prior: Sequence[float],
    model: Sequence[float],
    terms: Terms,
    *,
    popularity: Sequence[float] = (),
    vectors: Sequence[Sequence[float] | None] = (),
    last: int = 0,
) -> tuple[list[int], list[float], list[dict[str, float]]]:
    """Places of the candidates best first, their scores, their raw signals.

    `prior`: falling, one value a candidate. `model`: one value for each of the first `len(model)`
    candidates; the others stay behind them. `popularity`: log-votes of each, or none. `vectors`:
    unit vectors of the first, which are diversified. `last`: so many at the end that nothing lifts.
    Ties keep prior order. Scores lie in (0, 1) and fall by at least `MIN_GAP`.
    """
    seen = len(model)
    share = terms.model if seen else 0.0
    fused = (1 - share) * z_scores(prior)
    if seen:
        fused[:seen] = share * z_scores(model) + (1 - share) * z_scores(prior[:seen])
    if terms.popularity and len(popularity):
        fused = fused - terms.popularity * z_scores(popularity)
    if last:
        fused[-last:] = fused.min() - 1
    first, rest = (
        np.argsort(-fused[:seen], kind="stable"),
        seen + np.argsort(-fused[seen:], kind="stable"),
    )
    places: list[int] = [*first.tolist(), *rest.tolist()]
    if terms.diversity and len(vectors):
        fused, places = _diversified(fused, places, vectors, terms.diversity)
    signals = [
        {"prior": prior[place], "fused": float(fused[place])}
        | ({"model": model[place]} if place < seen else {})
        | ({"popularity": popularity[place]} if terms.popularity and len(popularity) else {})
        for place in places
    ]
    return places, falling([float(fused[place]) for place in places]), signals


def _diversified(
    fused: Values, places: list[int], vectors: Sequence[Sequence[float] | None], weight: float
) -> tuple[Values, list[int]]:
    """Takes, of the first `len(vectors)`, one after the other who is best less its greatest cosine
    to those taken."""
    size = len(vectors)
    head = [place for place in places if place < size]
    width = max((len(vector) for vector in vectors if vector is not None), default=0)
    matrix = np.array(
        [vector if vector is not None else [0.0] * width for vector in vectors], dtype=np.float64
    )
    alike = matrix @ matrix.T
    value, nearest = fused.copy(), np.zeros(size)
    taken: list[int] = []
    left = list(head)
    while left:
        best = max(
            left, key=lambda place: value[place] - weight * nearest[place]
        )  # ties: the first in order
        value[best] -= weight * nearest[best]
        taken.append(best)
        left.remove(best)
        nearest = np.maximum(nearest, alike[best])
    return value, taken + [place for place in places if place >= size]


def z_scores(values: Sequence[float]) -> Values:
    """Zeros when all values are equal."""
    found = np.asarray(values, dtype=np.float64)
    if not len(found):
        return found
    spread = found.std()
    return (found - found.mean()) / spread if spread > 1e-12 else np.zeros_like(found)


def falling(values: Sequence[float]) -> list[float]:
    """Any finite values, in the order wanted, as scores in (0, 1) that fall by at least `MIN_GAP`:
    a logistic, squeezed away from 0 and 1, then lowered where a later one would not be lower. Up to
    5,000 values."""
    floor = 2 * MIN_GAP * (len(values) + 1)
    scores: list[float] = []
    for n, value in enumerate(values):
        score = floor + (1 - 2 * floor) / (1 + np.exp(-np.clip(value, -30, 30)))
        ceiling = scores[-1] - 2 * MIN_GAP if scores else 1 - MIN_GAP
        room = 2 * MIN_GAP * (len(values) - n)  # enough below for those still to come
        scores.append(float(max(min(score, ceiling), min(room, ceiling))))
    return [round(score, 7) for score in scores]
