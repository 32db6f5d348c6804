"""Has rankers learned from what people chose, judged on people they have not seen, and promoted if
they order better than what serves: one for each kind of history, since what helps somebody with a
single like is not what helps somebody with a hundred."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval import stats
from eval.cases import Data
from eval.learners import Kind, across_folds, kinds_to_try, learn, name_of
from eval.lists import KNOWN_LIKES, FeatureList, Lists, ServedList, Tell, feature_names, protocol_of
from eval.run import now
from eval.store import Make
from service.config import History, RankerHistory, RankerRecord, Settings, history_of
from service.errors import BadRequest

FEWEST = 100
"""Fewer lists than this teach nothing that lasts."""


@dataclass(frozen=True)
class RankerTarget:
    """What to learn from: a case folder. `refresh`: promote a ranker also if it is only as good as
    what serves."""

    folder: Path
    kind: Kind = "auto"
    refresh: bool = False


@dataclass(frozen=True)
class FoundRanker:
    """`number`: under which it is kept; `versus`: nDCG@10 less that of what served, over people of
    its kind of history."""

    number: int
    record: RankerRecord
    versus: stats.Paired


@dataclass(frozen=True)
class _Task:
    """What is known of people with one kind of history: `lists` to learn from, `tests` to be judged
    by."""

    history: History
    lists: Sequence[FeatureList]
    tests: Sequence[ServedList]


async def fit_ranker(
    target: RankerTarget, settings: Settings, out: Path, make: Make, tell: Tell
) -> list[FoundRanker]:
    """Learns, judges and keeps the rankers of the configured domain, one for each kind of history
    of which there are enough lists. Raises `BadRequest` where there are too few of all, and says
    how many there are."""
    data = Data.read(target.folder)
    data.audit()
    lists = Lists(settings, out, make, tell)
    cuts = [each async for each in lists.of_cuts(data)]
    tests = await lists.of_cases(data)
    strangers = await lists.of_strangers(data)
    tasks = list(_tasks([*cuts, *(each.features for each in strangers)], [*tests, *strangers]))
    able = [task for task in tasks if len(task.lists) >= FEWEST and task.tests]
    if not able:
        count = max((len(task.lists) for task in tasks), default=0)
        raise BadRequest(
            f"{target.folder}: {count} lists hold something that was liked later; a ranker needs "
            f"{FEWEST}"
        )
    history = RankerHistory(settings.rankers_folder / settings.service.domain)
    about = {
        "data": {"folder": str(target.folder), "sha": data.sha},
        "protocol": protocol_of(target.folder)["protocol"],
    }
    found = []
    for task in able:
        tell(
            f"{task.history}: {len(task.lists)} lists to learn from, {len(task.tests)} to judge by"
        )
        record, versus = await asyncio.to_thread(
            _learned, task, target, lists.embedder, about, tell
        )
        found.append(FoundRanker(history.add(record), record, versus))
    return found


def is_better(versus: stats.Paired, *, refresh: bool) -> bool:
    """Is a ranker to be promoted? By its whole interval; for a refresh by the mean."""
    return versus.low > 0 or (refresh and versus.difference >= 0)


def _tasks(lists: Iterable[FeatureList], tests: Iterable[ServedList]) -> Iterable[_Task]:
    """By kind of history. Who likes nothing is left to the prior."""
    learnable: dict[History, list[FeatureList]] = {}
    for each in lists:
        if each.likes and each.chosen.any():
            learnable.setdefault(history_of(each.likes), []).append(each)
    judged: dict[History, list[ServedList]] = {}
    for test in tests:
        if test.features.likes:
            judged.setdefault(history_of(test.features.likes), []).append(test)
    return [_Task(name, found, judged.get(name, [])) for name, found in sorted(learnable.items())]


def _learned(
    task: _Task, target: RankerTarget, embedder: str, about: Mapping[str, Any], tell: Tell
) -> tuple[RankerRecord, stats.Paired]:
    """A ranker, and how much better it orders than what serves."""
    tests = [test.features for test in task.tests]
    names = feature_names([*task.lists, *tests])
    kinds = kinds_to_try(target.kind, len(task.lists))
    scores, winners = across_folds(task.lists, tests, names, kinds, tell)
    served = [test.served for test in task.tests]
    users = [test.user for test in tests]
    versus = stats.paired(_by_person(users, scores), _by_person(users, served))
    kind = winners.most_common(1)[0][0]
    model = learn(kind, task.lists, names)
    record = RankerRecord(
        history=task.history,
        kind=name_of(kind),
        embedder=embedder,
        features=names,
        weights=model.weights,
        trees=model.trees,
        at=now(),
        promoted=is_better(versus, refresh=target.refresh),
        why=f"nDCG@10 {versus} against what served, {versus.cases} people",
        found={
            **about,
            "lists": len(task.lists),
            "served": _percent(np.mean(_by_person(users, served))),
            "learned": _percent(np.mean(_by_person(users, scores))),
            "by likes": _by_likes(tests, served, scores),
            "chosen in folds": dict(winners),
        },
    )
    return record, versus


def _by_likes(
    tests: Sequence[FeatureList], served: Sequence[float], scores: Sequence[float]
) -> dict[str, dict[str, float]]:
    """After each number of likes that strangers are asked at: what serves, and what was learned."""
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
    """The mean of each person's lists: several of one person say less than those of several."""
    own: dict[str, list[float]] = {}
    for user, value in zip(users, values, strict=True):
        own.setdefault(user, []).append(value)
    return [float(np.mean(each)) for each in own.values()]


def _percent(value: Any) -> float:
    return round(100 * float(value), 3)
