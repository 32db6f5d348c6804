"""Learns rankers from lists, and what each is worth on people it has not seen.

A linear ranker (`eval.listwise`), or its sum with LightGBM's trees (rank_xendcg, Bruch et al., WWW
2021), which need more lists: five folds of people decide. For each fold, rankers are learned on
three others, the one that is best on the fourth is learned from all four, and asked about the
fold's own lists.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Literal, Protocol

import numpy as np

from eval import listwise
from eval.lists import FeatureList, Tell, Values
from service.pipeline import Recommender

FEWEST_FOR_TREES = 1_000
FOLDS = 5
RIDGES = (10.0, 100.0, 1_000.0)
RIDGE_BESIDE_TREES = 100.0
TREES = {
    "objective": "rank_xendcg",
    "num_leaves": 15,
    "learning_rate": 0.03,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "seed": 0,
    "verbose": -1,
}
ROUNDS = 300

Kind = Literal["auto", "linear", "trees", "both"]


class Learned(Protocol):
    """A ranker as the service serves it (`Recommender.learned`)."""

    @property
    def weights(self) -> tuple[float, ...]: ...
    @property
    def trees(self) -> str: ...
    def scores_of(self, values: Values) -> Values:
        """Of a list's features, shape [candidates, features], the scores, shape [candidates]."""


def kinds_to_try(kind: Kind, lists: int) -> list[str]:
    """What validation chooses from: a kind, and the ridge of its linear part."""
    linear = [f"linear {ridge:g}" for ridge in RIDGES]
    both = f"both {RIDGE_BESIDE_TREES:g}"
    if kind == "auto":
        return [*linear, both] if lists >= FEWEST_FOR_TREES else linear
    return linear if kind == "linear" else ["trees"] if kind == "trees" else [both]


def name_of(kind: str) -> Literal["linear", "trees", "both"]:
    name = kind.partition(" ")[0]
    return "both" if name == "both" else "trees" if name == "trees" else "linear"


def across_folds(
    lists: Sequence[FeatureList],
    tests: Sequence[FeatureList],
    names: tuple[str, ...],
    kinds: Sequence[str],
    tell: Tell,
) -> tuple[list[float], Counter[str]]:
    """nDCG@10 of each test list, by a ranker that saw nothing of its person, and how often each
    kind was the best."""
    scores = [0.0] * len(tests)
    winners: Counter[str] = Counter()
    for fold in range(FOLDS):
        known = [each for each in lists if _fold(each.user) != fold]
        best = kinds[0] if len(kinds) == 1 else _best(known, names, kinds, (fold + 1) % FOLDS)
        winners[best] += 1
        model = learn(best, known, names)
        for place, each in enumerate(tests):
            if _fold(each.user) == fold:
                scores[place] = each.ndcg(model.scores_of(each.table(names)))
        tell(f"fold {fold + 1} of {FOLDS}: {best}")
    return scores, winners


def _best(
    lists: Sequence[FeatureList], names: tuple[str, ...], kinds: Sequence[str], validation: int
) -> str:
    """The kind that is best on each fold when it is learned on the others."""
    held = [each for each in lists if _fold(each.user) == validation]
    others = [each for each in lists if _fold(each.user) != validation]
    if not held or not others:
        return kinds[0]

    def mean(kind: str) -> float:
        model = learn(kind, others, names)
        return float(np.mean([each.ndcg(model.scores_of(each.table(names))) for each in held]))

    return max(kinds, key=mean)


def _fold(user: str) -> int:
    """The same for a person in every run."""
    return sha256(user.encode()).digest()[1] % FOLDS


def learn(kind: str, lists: Sequence[FeatureList], names: tuple[str, ...]) -> Learned:
    """A ranker as it will serve."""
    name, _, ridge = kind.partition(" ")
    weights = _weights(lists, names, float(ridge)) if name != "trees" else ()
    trees = _trees(lists, names) if name != "linear" else ""
    return Recommender.learned(names, weights, trees)


def _weights(
    lists: Sequence[FeatureList], names: tuple[str, ...], ridge: float
) -> tuple[float, ...]:
    judged = [
        listwise.JudgedList(Recommender.z_scores(each.table(names)), each.chosen) for each in lists
    ]
    weights = listwise.learn(judged, np.zeros(len(names)), ridge, positive=False)
    return tuple(np.round(weights, 6).tolist())


def _trees(lists: Sequence[FeatureList], names: tuple[str, ...]) -> str:
    """LightGBM's model in its text form."""
    import lightgbm

    rows = lightgbm.Dataset(
        np.vstack([each.table(names) for each in lists]),
        np.concatenate([each.chosen for each in lists]).astype(int),
        group=[len(each.ids) for each in lists],
        feature_name=[name.replace(".", "_") for name in names],
    )
    return str(lightgbm.train(TREES, rows, ROUNDS).model_to_string())
