"""A learned ranker: orders candidates by their features, as people chose before.

It replaces the part of the prior that the person's history makes, in its range, so that the weights
of a wish and of a model mean what they meant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from service.retrieve.features import FeatureTable, Values, own_prior
from service.schema import Candidate


@dataclass(frozen=True, eq=False)
class LearnedRanker:
    """`names`: of the features that it was trained on. `weights`: of each feature's z-score within
    a list; `trees`: a model of LightGBM in its text form, on the features as they are. With both,
    the z-scores of their scores are summed."""

    names: tuple[str, ...]
    weights: tuple[float, ...] = ()
    trees: str = ""

    def scores(self, table: FeatureTable) -> Values:
        """A score for each row, shape [candidates], higher is better. A feature that the table
        lacks is 0."""
        places = {name: place for place, name in enumerate(table.names)}
        columns = [
            table.values[:, places[name]] if name in places else np.zeros(len(table.values))
            for name in self.names
        ]
        return self.scores_of(np.stack(columns, axis=1))

    def scores_of(self, values: Values) -> Values:
        """The same of features in the order of `names`."""
        opinions = []
        if self.weights:
            opinions.append(z_scores(values) @ np.array(self.weights))
        if self.trees:
            opinions.append(self._booster.predict(values, num_threads=1))
        return np.asarray(z_scores(np.stack(opinions, axis=1)).sum(axis=1), dtype=np.float64)

    @cached_property
    def _booster(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.trees)


def z_scores(values: Values) -> Values:
    """Each column less its mean, over its deviation; 0 where all are alike. Shape [n, m]."""
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread < 1e-9, 1, spread))


def reordered(
    candidates: Sequence[Candidate],
    scores: Values,
    weights: Mapping[str, float],
) -> list[Candidate]:
    """The candidates with priors by a ranker's scores, highest first; ties by id. `weights`: of the
    sources in the prior; those of a wish are added as before."""
    own = [own_prior(each, weights) for each in candidates]
    low, high = float(scores.min()), float(scores.max())
    spread = (high - low) or 1.0
    bottom, top = min(own), max(own)
    ranked = [
        each.model_copy(
            update={
                "prior": bottom
                + (top - bottom) * (float(score) - low) / spread
                + each.prior
                - before
            }
        )
        for each, score, before in zip(candidates, scores, own, strict=True)
    ]
    return sorted(ranked, key=lambda each: (-each.prior, each.item.id))
