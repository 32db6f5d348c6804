"""One order from two opinions: `w · model + (1 − w) · prior`, both as z-scores within the list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.schema import MIN_GAP


def fused_order(
    prior: Sequence[float], model: Sequence[float], weight: float
) -> tuple[list[int], list[float], list[dict[str, float]]]:
    """Places of the candidates best first, their scores, their raw signals.

    `prior`: falling, one value a candidate. `model`: one value for each of the first `len(model)` candidates; the others
    stay behind them in prior order. Ties keep prior order. Scores lie in (0, 1) and fall by at least `MIN_GAP`.
    """
    seen = len(model)
    share = weight if seen else 0.0
    base = z_scores(prior)
    fused = (1 - share) * base
    if seen:
        fused[:seen] = share * z_scores(model) + (1 - share) * z_scores(prior[:seen])
    places = [*np.argsort(-fused[:seen], kind="stable").tolist(), *range(seen, len(prior))]
    signals = [
        {"prior": prior[place], "fused": float(fused[place])} | ({"model": model[place]} if place < seen else {})
        for place in places
    ]
    return places, falling([float(fused[place]) for place in places]), signals


def z_scores(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Zeros when all values are equal."""
    found = np.asarray(values, dtype=np.float64)
    if not len(found):
        return found
    spread = found.std()
    return (found - found.mean()) / spread if spread > 1e-12 else np.zeros_like(found)


def falling(values: Sequence[float]) -> list[float]:
    """Any finite values, in the order wanted, as scores in (0, 1) that fall by at least `MIN_GAP`: a logistic, squeezed
    away from 0 and 1, then lowered where a later one would not be lower. Up to 5,000 values."""
    floor = 2 * MIN_GAP * (len(values) + 1)
    scores: list[float] = []
    for n, value in enumerate(values):
        score = floor + (1 - 2 * floor) / (1 + np.exp(-np.clip(value, -30, 30)))
        ceiling = scores[-1] - 2 * MIN_GAP if scores else 1 - MIN_GAP
        room = 2 * MIN_GAP * (len(values) - n)  # enough below for those still to come
        scores.append(float(max(min(score, ceiling), min(room, ceiling))))
    return [round(score, 7) for score in scores]
