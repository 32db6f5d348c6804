"""Learns rankers from lists, and what each is worth on people it has not seen.

A linear ranker (`eval.listwise`), or its sum with LightGBM's trees (rank_xendcg, Bruch et al., WWW
2021), which need more lists: five folds of people decide. For each fold, rankers are learned on
three others, the one that is best on the fourth is learned from all four, and asked about the
fold's own lists.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
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
MIDDLE_RIDGE = 100.0
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
    """A way to learn a ranker. `ridge`: of its linear part; `everybody`: from the lists of people
    with any history, not only of those whom it is for."""

    kind: Literal["linear", "trees", "both"]
    ridge: float
    everybody: bool = False

    def __str__(self) -> str:
        ridge = "" if self.kind == "trees" else f" {self.ridge:g}"
        return f"{self.kind}{ridge}, {'all' if self.everybody else 'own'} lists"


def ways_to_learn(kind: Kind, own: int, everybody: int) -> list[WayToLearn]:
    """What validation chooses from. `own`: how many lists there are of the people whom the ranker
    is for; `everybody`: of all."""
    linear = [WayToLearn("linear", ridge) for ridge in RIDGES]
    linear.append(WayToLearn("linear", MIDDLE_RIDGE, everybody=True))
    if kind == "linear":
        return linear
    counts = {False: own, True: everybody}
    if kind == "auto":
        enough = [which for which, count in counts.items() if count >= FEWEST_FOR_TREES]
        return linear + [WayToLearn("both", MIDDLE_RIDGE, everybody=which) for which in enough]
    return [WayToLearn(kind, MIDDLE_RIDGE, everybody=which) for which in counts]


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
    for fold in range(FOLDS):
        known = _of_folds(lists, {*range(FOLDS)} - {fold})
        best = _best(known, history, names, tried, (fold + 1) % FOLDS)
        winners[str(best)] += 1
        model = learn(best, known, history, names)
        for place, test in enumerate(tests):
            if _fold(test.user) == fold:
                scores[place] = test.ndcg(model.scores_of(test.table(names)))
        tell(f"fold {fold + 1} of {FOLDS}: {best}")
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
    if not held or not others[history]:
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
    """A ranker for people with this history, as it will serve."""
    used = [*chain(*lists.values())] if way.everybody else lists[history]
    weights = _weights(used, names, way.ridge) if way.kind != "trees" else ()
    trees = _trees(used, names) if way.kind != "linear" else ""
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
