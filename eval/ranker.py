"""Learns rankers from what people chose, judges them on people they have not seen, and promotes
those that order better than what serves. There is one for each kind of history, since what helps
somebody with a single like is not what helps somebody with a hundred."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from eval import stats
from eval.cases import Data
from eval.learners import Kind, across_folds, learn, ways_to_learn
from eval.lists import KNOWN_LIKES, FeatureList, Lists, ServedList, Tell, feature_names, protocol_of
from eval.run import now
from eval.store import Make
from service.config import History, RankerHistory, RankerRecord, Settings, history_of
from service.errors import BadRequest

FEWEST = 100
"""The fewest lists that a ranker for a kind of history is learned from."""


@dataclass(frozen=True)
class RankerTarget:
    """`folder`: the case folder to learn from; `kind`: the kind of ranker; `refresh`: promote a
    ranker also if it is only as good as what serves."""

    folder: Path
    kind: Kind = "auto"
    refresh: bool = False


@dataclass(frozen=True)
class FoundRanker:
    """A ranker that was learned. `number`: the number under which it is kept; `versus`: its nDCG@10
    less that of what served, over people of its kind of history."""

    number: int
    record: RankerRecord
    versus: stats.Paired


ByHistory = Mapping[History, Sequence[FeatureList]]


async def fit_ranker(
    target: RankerTarget, settings: Settings, out: Path, make: Make, tell: Tell
) -> list[FoundRanker]:
    """Learns, judges and keeps the rankers of the configured domain, one for each kind of history
    with at least `FEWEST` lists, and returns them. Raises `BadRequest` if no kind of history has so
    many, and says how many there are."""
    data = Data.read(target.folder)
    data.audit()
    lists = Lists(settings, out, make, tell)
    cuts = [each async for each in lists.of_cuts(data)]
    tests = await lists.of_cases(data)
    strangers = await lists.of_strangers(data)
    learnable = _learnable([*cuts, *(each.features for each in strangers)])
    able = sorted(name for name, found in learnable.items() if len(found) >= FEWEST)
    if not able:
        raise BadRequest(
            f"{target.folder}: {max(map(len, learnable.values()), default=0)} lists hold something "
            f"that was liked later; a ranker needs {FEWEST}"
        )
    history = RankerHistory(settings.rankers_folder / settings.service.domain)
    about = {
        "data": {"folder": str(target.folder), "sha": data.sha},
        "protocol": protocol_of(target.folder)["protocol"],
    }
    found = []
    for name in able:
        judged = [test for test in (*tests, *strangers) if history_of(test.features.likes) == name]
        if judged:
            tell(f"{name}: {len(learnable[name])} lists to learn from, {len(judged)} to judge by")
            job = _Job(target, name, lists.embedder, about, tell)
            record, versus = await asyncio.to_thread(_learned, job, learnable, judged)
            found.append(FoundRanker(history.add(record), record, versus))
    return found


def is_better(versus: stats.Paired, *, refresh: bool) -> bool:
    """Returns whether to promote a ranker: if the interval of `versus` lies above 0; for a refresh
    also if its mean is at least 0."""
    return versus.low > 0 or (refresh and versus.difference >= 0)


def _learnable(lists: Iterable[FeatureList]) -> dict[History, list[FeatureList]]:
    """Returns by kind of history the lists that hold an item that the person liked next. Lists of
    people without a like are left out: those people are left to the prior."""
    found: dict[History, list[FeatureList]] = {}
    for each in lists:
        if each.likes and each.chosen.any():
            found.setdefault(history_of(each.likes), []).append(each)
    return found


@dataclass(frozen=True)
class _Job:
    """What one ranker is learned from. `history`: the kind of history that it is for; `about`: what
    its record says of the data."""

    target: RankerTarget
    history: History
    embedder: str
    about: Mapping[str, Any]
    tell: Tell


def _learned(
    job: _Job, lists: ByHistory, judged: Sequence[ServedList]
) -> tuple[RankerRecord, stats.Paired]:
    """Learns a ranker; returns its record, and how much better it orders than what serves."""
    tests = [test.features for test in judged]
    names = feature_names([*chain(*lists.values()), *tests])
    own, everybody = len(lists[job.history]), sum(map(len, lists.values()))
    tried = ways_to_learn(job.target.kind, everybody)
    scores, winners = across_folds(lists, tests, job.history, names, tried, job.tell)
    served = [test.served for test in judged]
    users = [test.user for test in tests]
    versus = stats.paired(_by_person(users, scores), _by_person(users, served))
    best = winners.most_common(1)[0][0]
    way = next(each for each in tried if str(each) == best)
    model = learn(way, lists, job.history, names)
    record = RankerRecord(
        history=job.history,
        kind=way.kind,
        embedder=job.embedder,
        features=names,
        weights=model.weights,
        trees=model.trees,
        at=now(),
        promoted=is_better(versus, refresh=job.target.refresh),
        why=f"nDCG@10 {versus} against what served, {versus.cases} people",
        found={
            **job.about,
            "lists": own,
            "served": _percent(np.mean(_by_person(users, served))),
            "learned": _percent(np.mean(_by_person(users, scores))),
            "difference": str(versus),
            "by likes": _by_likes(tests, served, scores),
            "chosen in folds": dict(winners),
        },
    )
    return record, versus


def _by_likes(
    tests: Sequence[FeatureList], served: Sequence[float], scores: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Returns mean nDCG@10 × 100 of what serves and of what was learned, by number of likes, for
    the numbers in `KNOWN_LIKES`. Strangers are asked about after so many likes, and nearly all
    lists with so few are theirs."""
    found: dict[int, list[tuple[float, float]]] = {}
    for test, before, after in zip(tests, served, scores, strict=True):
        found.setdefault(test.likes, []).append((before, after))
    return {
        str(likes): {
            "served": _percent(np.mean([before for before, _ in pairs])),
            "learned": _percent(np.mean([after for _, after in pairs])),
        }
        for likes, pairs in sorted(found.items())
        if likes in KNOWN_LIKES
    }


def _by_person(users: Sequence[str], values: Sequence[float]) -> list[float]:
    """Returns the mean of each person's values: several lists of one person say less than lists of
    several people."""
    own: dict[str, list[float]] = {}
    for user, value in zip(users, values, strict=True):
        own.setdefault(user, []).append(value)
    return [float(np.mean(each)) for each in own.values()]


def _percent(value: Any) -> float:
    return round(100 * float(value), 3)
