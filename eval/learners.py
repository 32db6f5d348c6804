"""Learns rankers from lists, and measures each on people whom it has not seen.

A ranker is linear (`eval.listwise`); where there are enough lists, it is the sum of a linear ranker
and LightGBM's trees (rank_xendcg, Bruch et al., WWW 2021), which was at least as good for every
kind of history on films, groceries and books. People are in five folds: a ranker that was learned
on four folds orders the lists of the fifth. Where there are several ways to learn a ranker, each is
tried on three of the four folds, and the fourth decides between them."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import Literal, Protocol

import numpy as np

from eval import listwise
from eval.lists import FeatureList, Tell, Values
from service.config import History
from service.pipeline import Recommender

FEWEST_FOR_TREES = 1_000
FOLDS = 5
RIDGES = (10.0, 100.0, 1_000.0)
RIDGE = 100.0
"""The ridge of the linear part of a ranker that may have trees."""
OTHERS = 0.2
"""The weight of a list of somebody with another kind of history; lists of the same kind have 1."""
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
        """Returns the scores, shape [candidates], of a list's features, shape [candidates,
        features]."""


@dataclass(frozen=True)
class WayToLearn:
    """A way to learn a ranker. `ridge`: of its linear part."""

    kind: Literal["linear", "trees", "both"]
    ridge: float

    def __str__(self) -> str:
        return self.kind if self.kind == "trees" else f"{self.kind} {self.ridge:g}"


def ways_to_learn(kind: Kind, count: int) -> list[WayToLearn]:
    """Returns the ways to learn that validation chooses from. `count`: the number of lists, which
    decides what `auto` means."""
    if kind == "auto":
        kind = "both" if count >= FEWEST_FOR_TREES else "linear"
    return [WayToLearn(kind, ridge) for ridge in (RIDGES if kind == "linear" else (RIDGE,))]


def across_folds(
    lists: Mapping[History, Sequence[FeatureList]],
    tests: Sequence[FeatureList],
    history: History,
    names: tuple[str, ...],
    tried: Sequence[WayToLearn],
    tell: Tell,
) -> tuple[list[float], Counter[str]]:
    """Returns nDCG@10 of each test list, as ordered by a ranker that saw nothing of its person, and
    in how many folds each way was the best. `tests`: lists of people with this `history`; `tried`:
    the ways to choose from."""
    scores = [0.0] * len(tests)
    winners: Counter[str] = Counter()

    def of_fold(fold: int) -> tuple[WayToLearn, dict[int, float]]:
        known = _of_folds(lists, {*range(FOLDS)} - {fold})
        best = _best(known, history, names, tried, (fold + 1) % FOLDS)
        model = learn(best, known, history, names)
        own = [place for place, test in enumerate(tests) if _fold(test.user) == fold]
        ndcg = {
            place: tests[place].ndcg(model.scores_of(tests[place].table(names))) for place in own
        }
        return best, ndcg

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # trees are learned without Python's lock
        for fold, (best, ndcg) in enumerate(pool.map(of_fold, range(FOLDS)), 1):
            winners[str(best)] += 1
            for place, value in ndcg.items():
                scores[place] = value
            tell(f"fold {fold} of {FOLDS}: {best}")
    return scores, winners


def _best(
    lists: Mapping[History, Sequence[FeatureList]],
    history: History,
    names: tuple[str, ...],
    tried: Sequence[WayToLearn],
    validation: int,
) -> WayToLearn:
    """Returns the way with the best mean nDCG@10 on the fold `validation` when it is learned on the
    other folds; the first way if these can't be compared."""
    held = _of_folds(lists, {validation})[history]
    others = _of_folds(lists, {*range(FOLDS)} - {validation})
    if len(tried) == 1 or not held or not others[history]:
        return tried[0]

    def mean(way: WayToLearn) -> float:
        model = learn(way, others, history, names)
        return float(np.mean([each.ndcg(model.scores_of(each.table(names))) for each in held]))

    return max(tried, key=mean)


def _of_folds(
    lists: Mapping[History, Sequence[FeatureList]], folds: Set[int]
) -> dict[History, list[FeatureList]]:
    """Returns the lists of people in these folds, by kind of history."""
    return {
        history: [each for each in some if _fold(each.user) in folds]
        for history, some in lists.items()
    }


def _fold(user: str) -> int:
    """Returns a person's fold. A hash of the user id decides, so that it is the same in every
    run."""
    return sha256(user.encode()).digest()[1] % FOLDS


def learn(
    way: WayToLearn,
    lists: Mapping[History, Sequence[FeatureList]],
    history: History,
    names: tuple[str, ...],
) -> Learned:
    """Learns a ranker for people with this `history`, and returns it as it will serve. It learns
    from everybody's lists; those of people with another kind of history have the weight
    `OTHERS`."""
    used = [*chain(*lists.values())]
    counts = np.repeat(
        [1.0 if kind == history else OTHERS for kind in lists], [*map(len, lists.values())]
    )
    weights = _weights(used, counts, names, way.ridge) if way.kind != "trees" else ()
    trees = _trees(used, counts, names) if way.kind != "linear" else ""
    return Recommender.learned(names, weights, trees)


def _weights(
    lists: Sequence[FeatureList], counts: Values, names: tuple[str, ...], ridge: float
) -> tuple[float, ...]:
    judged = [
        listwise.JudgedList(Recommender.z_scores(each.table(names)), each.chosen, count)
        for each, count in zip(lists, counts, strict=True)
    ]
    weights = listwise.learn(judged, np.zeros(len(names)), ridge, positive=False)
    return tuple(np.round(weights, 6).tolist())


def _trees(lists: Sequence[FeatureList], counts: Values, names: tuple[str, ...]) -> str:
    """Learns LightGBM trees; returns the model in LightGBM's text form."""
    import lightgbm

    sizes = [len(each.ids) for each in lists]
    rows = lightgbm.Dataset(
        np.vstack([each.table(names) for each in lists]),
        np.concatenate([each.chosen for each in lists]).astype(int),
        group=sizes,
        weight=np.repeat(counts, sizes),
        feature_name=[name.replace(".", "_") for name in names],
    )
    return str(lightgbm.train(TREES, rows, ROUNDS).model_to_string())
