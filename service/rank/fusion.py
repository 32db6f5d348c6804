"""Makes one order of several opinions: `w · model + (1 − w) · prior − g · log popularity`, each as
z-scores within the list, then maximal marginal relevance among the first (Carbonell & Goldstein,
SIGIR 1998)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.schema import MIN_GAP

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Terms:
    """The weights of the opinions. `model`: w in [0, 1]; `popularity`: g in [-1, 1]; `diversity`:
    what a cosine of 1 to a better-placed item costs, as a share of the spread of the scores, in
    [0, 1]."""

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
    """The places of the candidates, best first, with their scores and raw signals.

    `prior`: one value for each candidate, falling. `model`: one value for each of the first
    candidates; those without one stay behind. `popularity`: log-votes of each candidate, or empty.
    `vectors`: unit vectors of the first candidates, which are diversified. `last`: how many at the
    end stay there, whatever their values. Ties keep the prior's order. Scores lie in (0, 1) and
    fall by at least `MIN_GAP`.
    """
    seen = len(model)
    share = terms.model if seen else 0.0
    fused = (1 - share) * z_scores(prior)
    fused[:seen] = share * z_scores(model) + (1 - share) * z_scores(prior[:seen])
    if terms.popularity and len(popularity):
        fused = fused - terms.popularity * z_scores(popularity)
    if last:
        fused[-last:] = fused.min() - 1
    places = sorted(range(len(fused)), key=lambda place: (place >= seen, -fused[place]))
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
    """Returns values and places after maximal marginal relevance among the first `len(vectors)`
    candidates: each step takes the candidate with the highest value less `weight` times its
    greatest cosine (at least 0) to the candidates taken before."""
    size = len(vectors)
    head = [place for place in places if place < size]
    width = max((len(vector) for vector in vectors if vector is not None), default=0)
    matrix = np.array(
        [vector if vector is not None else [0.0] * width for vector in vectors], dtype=np.float64
    )
    cosines = matrix @ matrix.T
    values, nearest = fused.copy(), np.zeros(size)
    diverse: list[int] = []
    while head:
        # of several with the same value, the first in order
        best = max(head, key=lambda place: values[place] - weight * nearest[place])
        values[best] -= weight * nearest[best]
        diverse.append(best)
        head.remove(best)
        nearest = np.maximum(nearest, cosines[best])
    return values, diverse + [place for place in places if place >= size]


def z_scores(values: Sequence[float]) -> Values:
    """Each value less the mean, in standard deviations; zeros if all are equal."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return array
    spread = array.std()
    return (array - array.mean()) / spread if spread > 1e-12 else np.zeros_like(array)


def falling(values: Sequence[float]) -> list[float]:
    """Returns scores in (0, 1) that fall by at least `MIN_GAP`, for at most 5,000 finite values in
    the order wanted: the logistic of each value, kept away from 0 and 1, and lowered where it isn't
    below the score before it."""
    floor = 2 * MIN_GAP * (len(values) + 1)
    scores: list[float] = []
    for n, value in enumerate(values):
        score = floor + (1 - 2 * floor) / (1 + np.exp(-np.clip(value, -30, 30)))
        ceiling = scores[-1] - 2 * MIN_GAP if scores else 1 - MIN_GAP
        room = 2 * MIN_GAP * (len(values) - n)  # enough below for those still to come
        scores.append(float(max(min(score, ceiling), min(room, ceiling))))
    return [round(score, 7) for score in scores]
