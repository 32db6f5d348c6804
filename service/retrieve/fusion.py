"""Fuses what the sources say into one prior: each source's scores are brought to the range from 0
to 1, weighted and summed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from service.catalog import Scores as Scores
from service.schema import Candidate, Item

RRF = 60
"""The constant of reciprocal rank fusion (Cormack et al., SIGIR 2009)."""


def by_place(ids: Iterable[str]) -> Scores:
    """Returns scores for ids that have an order only: 1 / (60 + rank), the first rank being 1."""
    return {item_id: 1 / (RRF + rank) for rank, item_id in enumerate(ids, 1)}


def unit(scores: Scores, depth: int) -> Scores:
    """Scales the scores of one source to the range from 0 to 1; the best becomes 1.

    A list of `depth` items was cut off, so its lowest score becomes 0, as items beyond the cut
    have. A shorter list is complete, so a score of 0 stays 0.
    """
    if not scores:
        return {}
    best, least = max(scores.values()), min(scores.values())
    floor = least if len(scores) >= depth else min(0.0, least)
    spread = best - floor
    if spread <= 0:
        return dict.fromkeys(scores, 1.0)
    return {item_id: (score - floor) / spread for item_id, score in scores.items()}


def summed(weighted: Iterable[tuple[float, Scores]]) -> Scores:
    """Σ weight · score of each item over several sources, highest first, ties by id."""
    sums: Scores = {}
    for weight, scores in weighted:
        for item_id, score in scores.items():
            sums[item_id] = sums.get(item_id, 0.0) + weight * score
    return _by_score(sums)


def best_of(lists: Iterable[Scores]) -> Scores:
    """The greatest score of each item in several lists, highest first, ties by id."""
    best: Scores = {}
    for scores in lists:
        for item_id, score in scores.items():
            best[item_id] = max(score, best.get(item_id, score))
    return _by_score(best)


def _by_score(scores: Scores) -> Scores:
    """Returns the scores sorted, highest first; ties by id."""
    order = sorted(scores, key=lambda item_id: (-scores[item_id], item_id))
    return {item_id: scores[item_id] for item_id in order}


def prior_of(scores: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Σ weight · score over the sources that found an item."""
    return sum(weights[name] * score for name, score in scores.items())


@dataclass(frozen=True)
class Fusion:
    """The scores that the sources gave. `lists`: by source name, scores from 0 to 1, best first.
    `weights`: by source name, each above 0."""

    lists: Mapping[str, Scores]
    weights: Mapping[str, float]

    @cached_property
    def priors(self) -> Scores:
        """The priors of all items that a source found, by item id, highest first."""
        return summed((self.weights[name], scores) for name, scores in self.lists.items())

    @cached_property
    def _ranks(self) -> dict[str, dict[str, int]]:
        return {
            name: {item_id: rank for rank, item_id in enumerate(scores, 1)}
            for name, scores in self.lists.items()
        }

    def candidate(self, item: Item) -> Candidate:
        """An item as a candidate: its prior, and its rank and score in each source that found
        it."""
        finders = [name for name, scores in self.lists.items() if item.id in scores]
        return Candidate.model_construct(
            item=item,
            prior=self.priors.get(item.id, 0.0),
            sources={name: self._ranks[name][item.id] for name in finders},
            scores={name: self.lists[name][item.id] for name in finders},
        )


def blank(item: Item) -> Candidate:
    """Makes a candidate of an item without content; its prior is 0, and no model judges it."""
    return Candidate.model_construct(item=item, prior=0.0, blank=True)
