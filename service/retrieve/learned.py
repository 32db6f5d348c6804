"""A learned ranker: orders candidates by their features, as learned from what people chose.

Its scores replace the part of the prior that comes from the person's history. They are scaled to
that part's range, so that the weights of a wish and of a model keep their meaning.
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
    """Scores candidates by weights, trees or both. `names`: of the features that it was trained on.
    `weights`: one for each feature's z-score within a list. `trees`: a LightGBM model as text,
    which reads the features unscaled. With both, the z-scores of the two results are summed."""

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
        """Returns a score for each row, as `scores` does. `values`: shape [candidates, names], with
        the features in the order of `names`."""
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
    """Returns each column less its mean, divided by its standard deviation; 0 in a column of equal
    values. Shape [n, m]."""
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread < 1e-9, 1, spread))


def reordered(
    candidates: Sequence[Candidate],
    scores: Values,
    weights: Mapping[str, float],
) -> list[Candidate]:
    """Returns the candidates with new priors, highest first; ties by id. The ranker's `scores`,
    scaled to the range of `own_prior` in the list, replace `own_prior`; the rest of each prior
    stays. `weights`: of the sources, by name."""
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
