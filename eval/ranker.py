"""Learns a ranker from what people chose, judges it on people it has not seen, and promotes it if
it orders better than what serves.

Lists to learn from are made as the cases were: the folder's own protocol is applied to its log
again and again, each time to what the last cut left, and the sources are trained anew on each of
these logs, so that nothing later than a list's answers is known to it. A list is the candidates
that the service retrieves then, with their features.

A linear ranker (`eval.listwise`), or its sum with LightGBM's trees (rank_xendcg, Bruch et al., WWW
2021), which need more lists: five folds of people decide. For each fold, rankers are learned on
three others, the one that is best on the fourth is learned from all four, and asked about the
fold's own cases.
"""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from eval import listwise, protocols, stats
from eval.cases import Case, Data
from eval.metrics import metric
from eval.run import DEADLINE_MS, now
from eval.store import Make, fill, housed
from service.build import Service
from service.config import RankerHistory, RankerRecord, Settings
from service.errors import BadRequest
from service.pipeline import Recommender
from service.schema import Ranked, RecommendRequest

LISTS = 2_000
"""No more cuts are made once there are so many lists."""
CUTS = 8
"""The most cuts."""
FEWEST = 100
"""Fewer lists than this teach nothing that lasts."""
FEWEST_FOR_TREES = 1_000
FOLDS = 5
RIDGES = (10.0, 100.0)
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
AT_ONCE = 4
HEADLINE = metric("nDCG@10")

Kind = Literal["auto", "linear", "trees", "both"]
Values = npt.NDArray[np.float64]


class Learned(Protocol):
    """A ranker as the service serves it (`Recommender.learned`)."""

    @property
    def weights(self) -> tuple[float, ...]: ...
    @property
    def trees(self) -> str: ...
    def scores_of(self, values: Values) -> Values:
        """Of a list's features, shape [candidates, features], the scores, shape [candidates]."""


@dataclass(frozen=True)
class RankerTarget:
    """What to learn from: a case folder. `refresh`: promote the ranker also if it is only as good
    as what serves."""

    folder: Path
    kind: Kind = "auto"
    refresh: bool = False


@dataclass(frozen=True)
class FoundRanker:
    """`number`: under which it is kept; `versus`: nDCG@10 less that of what served, over the
    cases."""

    number: int
    record: RankerRecord
    versus: stats.Paired


@dataclass(frozen=True, eq=False)
class FeatureList:
    """The candidates of a person: `ids`, highest prior first, and their features by `names`."""

    user: str
    ids: Sequence[str]
    names: tuple[str, ...]
    values: Values
    relevant: frozenset[str]

    @property
    def rankable(self) -> bool:
        """Does a ranker order it? The service gives people with few likes no features."""
        return "likes" in self.names

    @property
    def chosen(self) -> npt.NDArray[np.bool_]:
        return np.array([item_id in self.relevant for item_id in self.ids], dtype=np.bool_)

    @property
    def prior_ndcg(self) -> float:
        return HEADLINE.of(list(self.ids), self.relevant)

    def ndcg(self, scores: Values) -> float:
        order = np.argsort(-scores, kind="stable")
        return HEADLINE.of([self.ids[place] for place in order], self.relevant)


async def fit_ranker(
    target: RankerTarget, settings: Settings, out: Path, make: Make, tell: Callable[[str], None]
) -> FoundRanker:
    """Learns, judges and keeps a ranker of the configured domain. Raises `BadRequest` where there
    are too few lists, and says how many there are."""
    data = Data.read(target.folder)
    data.audit()
    home = _Home(settings, out, make)
    lists = [one async for one in _lists(data, home, tell)]
    served, tests, embedder = await home.judged(data, tell)
    names = _names([*lists, *tests])
    learnable = [one for one in lists if one.rankable and one.chosen.any()]
    if len(learnable) < FEWEST:
        raise BadRequest(
            f"{target.folder}: {len(learnable)} lists hold something that was liked later; a "
            f"ranker needs {FEWEST}"
        )
    tell(f"{len(learnable)} lists to learn from, {len(tests)} cases to be judged by")
    kinds = _kinds(target.kind, len(learnable))
    scores, winners = await asyncio.to_thread(_across_folds, learnable, tests, names, kinds, tell)
    versus = stats.paired(scores, served)
    kind = winners.most_common(1)[0][0]
    model = await asyncio.to_thread(_learn, kind, learnable, names)
    record = RankerRecord(
        kind=_name(kind),
        embedder=embedder,
        features=names,
        weights=model.weights,
        trees=model.trees,
        at=now(),
        promoted=is_better(versus, refresh=target.refresh),
        why=f"nDCG@10 {versus} against what served, {versus.cases} cases",
        found={
            "data": {"folder": str(target.folder), "sha": data.sha},
            "protocol": _protocol(target.folder)["protocol"],
            "lists": len(learnable),
            "served": _percent(np.mean(served)),
            "learned": _percent(np.mean(scores)),
            "chosen in folds": dict(winners),
        },
    )
    number = RankerHistory(settings.rankers_folder / settings.service.domain).add(record)
    return FoundRanker(number, record, versus)


def is_better(versus: stats.Paired, *, refresh: bool) -> bool:
    """Is a ranker to be promoted? By its whole interval; for a refresh by the mean."""
    return versus.low > 0 or (refresh and versus.difference >= 0)


# ── lists ─────────────────────────────────────────────────────────────────────────────────────────


class _Home:
    """Services on the logs of several cuts. They share the items' vectors: only what is learned
    from the log differs."""

    def __init__(self, settings: Settings, out: Path, make: Make) -> None:
        self.out = out
        self._served = settings
        self._plain = settings.changed({"rank": {"fitted": False}})
        self._make = make
        self._catalog: Path | None = None
        self.meanings = settings.events.of(settings.service.domain)

    async def lists(self, data: Data, cases: Sequence[Case]) -> tuple[list[FeatureList], str]:
        """The lists of these cases, and the embedder's name."""
        service = await self._service(self._plain, data)
        try:
            rankings = await _recommended(service, self._plain, cases)
            embedder = service.embeddings.name
        finally:
            await service.close()
        return [_list(case, items) for case, items in zip(cases, rankings, strict=True)], embedder

    async def judged(
        self, data: Data, tell: Callable[[str], None]
    ) -> tuple[list[float], list[FeatureList], str]:
        """nDCG@10 of what serves on the folder's cases, the cases' lists, and the embedder's
        name."""
        lists, embedder = await self.lists(data, data.cases)
        tell(f"{len(data.cases)} cases retrieved")
        if self._served.service.domain not in self._served.rankers():
            return [one.prior_ndcg for one in lists], lists, embedder
        service = await self._service(self._served, data)
        try:
            rankings = await _recommended(service, self._served, data.cases)
        finally:
            await service.close()
        served = [
            HEADLINE.of([item.item_id for item in items], frozenset(case.relevant))
            for case, items in zip(data.cases, rankings, strict=True)
        ]
        return served, lists, embedder

    async def _service(self, settings: Settings, data: Data) -> Service:
        home = housed(settings, data, self.out / "stores")
        if self._catalog is not None and not home.data.exists():
            await asyncio.to_thread(shutil.copytree, self._catalog, home.data / "catalog")
        service = await self._make(home)
        await fill(service, data, home.data)
        self._catalog = home.data / "catalog"
        return service


async def _lists(
    data: Data, home: _Home, tell: Callable[[str], None]
) -> AsyncIterator[FeatureList]:
    """Yields the lists of earlier and earlier cuts."""
    about = _protocol(data.folder)
    name = about["protocol"]
    if name not in protocols.PROTOCOLS or name == "given":
        raise BadRequest(
            f"{data.folder}: cases of protocol {name!r} can't be cut again: make some by 'whyrank "
            "eval cases', as --protocol temporal or global-time"
        )
    options = protocols.Options(
        home.meanings,
        share=about.get("share", protocols.SHARE),
        cut=about.get("cut", protocols.CUT),
    )
    count = 0
    for n in range(1, CUTS + 1):
        folder = home.out / f"cut-{n}"
        try:
            protocols.make(data, name, folder, options)
        except BadRequest:
            return  # nothing is left to ask for
        data = Data.read(folder)
        found, _ = await home.lists(data, data.cases[: LISTS - count])
        tell(f"cut {n}: {len(found)} lists from {len(data.events):,} events")
        for one in found:
            yield one
        count += len(found)
        if count >= LISTS:
            return


async def _recommended(
    service: Service, settings: Settings, cases: Sequence[Case]
) -> list[list[Ranked]]:
    """What each case's person is shown, with signals, in the order of the cases."""
    slots = asyncio.Semaphore(AT_ONCE)
    size = min(settings.retrieve.k, settings.limits.top_n)

    async def ask(case: Case) -> list[Ranked]:
        request = RecommendRequest(
            user_id=case.user_id,
            exclude=case.exclude,
            candidates=case.candidates,
            top_n=len(case.candidates) if case.candidates is not None else size,
            strategy="prior",
            explain="full",
            deadline_ms=DEADLINE_MS,
        )
        async with slots:
            return (await service.recommender.recommend(request)).items

    return await asyncio.gather(*map(ask, cases))


def _list(case: Case, items: Sequence[Ranked]) -> FeatureList:
    rows = [_features(item.signals) for item in items]
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    values = np.array([[row.get(name, 0.0) for name in names] for row in rows], dtype=np.float64)
    ids = [item.item_id for item in items]
    return FeatureList(case.user_id, ids, names, values, frozenset(case.relevant))


def _features(signals: Mapping[str, float]) -> dict[str, float]:
    """By the names that a ranker knows them by."""
    return {
        name.removeprefix("feature."): value
        for name, value in signals.items()
        if name.startswith(("feature.", "score."))
    }


def _names(lists: Iterable[FeatureList]) -> tuple[str, ...]:
    """The features that differ within some list, and how much people liked."""
    seen: dict[str, bool] = {}
    for one in lists:
        varied = one.values.std(axis=0) > 0 if len(one.values) else []
        for name, varies in zip(one.names, varied, strict=False):
            seen[name] = seen.get(name, False) or bool(varies) or name == "likes"
    return tuple(sorted(name for name, varies in seen.items() if varies))


def _protocol(folder: Path) -> dict[str, Any]:
    file = folder / "protocol.json"
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return {"protocol": "given", **content}


# ── learning and judging ──────────────────────────────────────────────────────────────────────────


def _kinds(kind: Kind, lists: int) -> list[str]:
    """What validation chooses from: a kind, and the ridge of its linear part."""
    linear = [f"linear {ridge:g}" for ridge in RIDGES]
    both = f"both {RIDGES[-1]:g}"
    if kind == "auto":
        return [*linear, both] if lists >= FEWEST_FOR_TREES else linear
    return linear if kind == "linear" else ["trees"] if kind == "trees" else [both]


def _name(kind: str) -> Literal["linear", "trees", "both"]:
    name = kind.partition(" ")[0]
    return "both" if name == "both" else "trees" if name == "trees" else "linear"


def _across_folds(
    lists: Sequence[FeatureList],
    tests: Sequence[FeatureList],
    names: tuple[str, ...],
    kinds: Sequence[str],
    tell: Callable[[str], None],
) -> tuple[list[float], Counter[str]]:
    """nDCG@10 of each test list, by a ranker that saw nothing of its person, and how often each
    kind was the best."""
    scores = [0.0] * len(tests)
    winners: Counter[str] = Counter()
    for fold in range(FOLDS):
        known = [one for one in lists if _fold(one.user) != fold]
        best = kinds[0] if len(kinds) == 1 else _best(known, names, kinds, (fold + 1) % FOLDS)
        winners[best] += 1
        model = _learn(best, known, names)
        for place, one in enumerate(tests):
            if _fold(one.user) == fold:
                table = _table(one, names)
                scores[place] = one.ndcg(model.scores_of(table)) if one.rankable else one.prior_ndcg
        tell(f"fold {fold + 1} of {FOLDS}: {best}")
    return scores, winners


def _best(
    lists: Sequence[FeatureList], names: tuple[str, ...], kinds: Sequence[str], validation: int
) -> str:
    """The kind that is best on one fold when it is learned on the others."""
    held = [one for one in lists if _fold(one.user) == validation]
    others = [one for one in lists if _fold(one.user) != validation]
    if not held or not others:
        return kinds[0]

    def mean(kind: str) -> float:
        model = _learn(kind, others, names)
        return float(np.mean([one.ndcg(model.scores_of(_table(one, names))) for one in held]))

    return max(kinds, key=mean)


def _fold(user: str) -> int:
    """The same for a person in every run."""
    return sha256(user.encode()).digest()[1] % FOLDS


def _learn(kind: str, lists: Sequence[FeatureList], names: tuple[str, ...]) -> Learned:
    """A ranker as it will serve."""
    name, _, ridge = kind.partition(" ")
    weights = _weights(lists, names, float(ridge)) if name != "trees" else ()
    trees = _trees(lists, names) if name != "linear" else ""
    return Recommender.learned(names, weights, trees)


def _weights(
    lists: Sequence[FeatureList], names: tuple[str, ...], ridge: float
) -> tuple[float, ...]:
    judged = [
        listwise.JudgedList(Recommender.z_scores(_table(one, names)), one.chosen) for one in lists
    ]
    weights = listwise.learn(judged, np.zeros(len(names)), ridge, positive=False)
    return tuple(np.round(weights, 6).tolist())


def _trees(lists: Sequence[FeatureList], names: tuple[str, ...]) -> str:
    """LightGBM's model in its text form."""
    import lightgbm

    rows = lightgbm.Dataset(
        np.vstack([_table(one, names) for one in lists]),
        np.concatenate([one.chosen for one in lists]).astype(int),
        group=[len(one.ids) for one in lists],
        feature_name=[name.replace(".", "_") for name in names],
    )
    return str(lightgbm.train(TREES, rows, ROUNDS).model_to_string())


def _table(one: FeatureList, names: Sequence[str]) -> Values:
    """The list's features in the order of `names`; 0 where it lacks one."""
    places = {name: place for place, name in enumerate(one.names)}
    columns = [
        one.values[:, places[name]] if name in places else np.zeros(len(one.ids)) for name in names
    ]
    return np.stack(columns, axis=1)


def _percent(value: Any) -> float:
    return round(100 * float(value), 3)
