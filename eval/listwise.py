"""Learns weights of features such that the items that people chose come first in their lists.

The loss is the listwise softmax cross entropy (ListNet's top-one form: Cao et al., ICML 2007): of a
list with features X, shape [items, features], and weights w, the mean over its relevant items of
-log softmax(X w); and a ridge towards given weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class JudgedList:
    """One person's candidates. `features`: shape [items, features]; `relevant`: which items were
    chosen, at least one; `weight`: how much it counts."""

    features: Values
    relevant: npt.NDArray[np.bool_]
    weight: float = 1.0


def learn(
    lists: Sequence[JudgedList], towards: Values, ridge: float, *, positive: bool = True
) -> Values:
    """Returns the weights, shape [features], that minimise the loss: summed over the lists by their
    weight, plus `ridge` · |w - towards|². `positive`: no weight is below 0."""
    from scipy.optimize import minimize

    flat = np.concatenate([one.features for one in lists])
    starts = np.cumsum([0, *(len(one.features) for one in lists)])[:-1]
    whose = np.repeat(np.arange(len(lists)), [len(one.features) for one in lists])
    counts = np.array([one.weight for one in lists])
    shares = np.concatenate([one.weight * one.relevant / one.relevant.sum() for one in lists])

    def loss(weights: Values) -> tuple[float, Values]:
        scores = flat @ weights
        scores -= np.maximum.reduceat(scores, starts)[whose]
        masses = np.exp(scores)
        sums = np.add.reduceat(masses, starts)
        error = float(counts @ np.log(sums) - shares @ scores)
        gradient = flat.T @ (masses * (counts / sums)[whose] - shares)
        away = weights - towards
        return error + ridge * float(away @ away), gradient + 2 * ridge * away

    bounds = [(0 if positive else None, None)] * len(towards)
    return np.asarray(minimize(loss, towards, jac=True, method="L-BFGS-B", bounds=bounds).x)
