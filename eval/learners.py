"""Learns rankers from lists, and what each is worth on people it has not seen.

A linear ranker (`eval.listwise`); where there are lists enough, its sum with LightGBM's trees
(rank_xendcg, Bruch et al., WWW 2021), which was better for every kind of history on films,
groceries and books. People are in five folds: of each, a ranker that was learned on the four others
is asked about the lists. Where there are several ways to learn one, they are learned on three of
the four, and the fourth decides.
"""

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
"""Of the linear part beside trees."""
OTHERS = 0.2
"""How much a list of somebody with another kind of history counts."""
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


@dataclass(frozen=True)
class WayToLearn:
    """A way to learn a ranker. `ridge`: of its linear part."""

    kind: Literal["linear", "trees", "both"]
    ridge: float

    def __str__(self) -> str:
        return self.kind if self.kind == "trees" else f"{self.kind} {self.ridge:g}"


def ways_to_learn(kind: Kind, count: int) -> list[WayToLearn]:
    """What validation chooses from, if there are so many lists."""
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
    """nDCG@10 of each test list, by a ranker that saw nothing of its person, and how often each
    way was the best. `tests`: of people with this `history`."""
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
    """The way that is best on one fold when it is learned on the others."""
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
    """Those of people in these folds."""
    return {
        history: [each for each in some if _fold(each.user) in folds]
        for history, some in lists.items()
    }


def _fold(user: str) -> int:
    """The same for a person in every run."""
    return sha256(user.encode()).digest()[1] % FOLDS


def learn(
    way: WayToLearn,
    lists: Mapping[History, Sequence[FeatureList]],
    history: History,
    names: tuple[str, ...],
) -> Learned:
    """A ranker for people with this history, as it will serve. It learns from everybody's lists,
    from those of others with the weight `OTHERS`."""
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
    """LightGBM's model in its text form."""
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
