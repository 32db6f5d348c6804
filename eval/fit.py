"""Learns the weights of fusion on one half of the people, and reports once on the other half.

The weights of the prior's sources are learned listwise (`eval.listwise`), by how much people have
liked. Then one weight after the other is set to the value with the best mean nDCG@10: what
popularity takes off, what likeness takes off and, for likelihoods, how much of the title's own
likelihood is taken off. The model's share against that prior is set for each kind of history, to
the best value if the interval of what it adds lies above zero, else to 0: then it is not asked for
such people. A model that does not beat a shuffle of its window gets the share 0 everywhere.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import yaml

from eval import listwise, stats
from eval.cases import Case
from eval.leaderboard import weight_in_words
from eval.metrics import metric
from eval.results import SHUFFLES
from eval.rows import RunJob, RunRow, rows
from eval.run import Allowance, Run, now
from eval.store import Make
from eval.suite import Arm, Suite
from service.build import Service
from service.config import (
    HISTORIES,
    SOURCES,
    History,
    Settings,
    WeightByHistory,
    Weights,
    at_history,
)
from service.errors import BadRequest
from service.pipeline import Recommender
from service.schema import Ranked

WIDE = 400
"""Candidates fetched per person, so that any weighting of the sources finds its own best among
them."""
POPULARITY = (-0.2, -0.1, 0.0, 0.05, 0.1, 0.2, 0.3)
DIVERSITY = (0.0, 0.05, 0.1, 0.2, 0.4)
MODEL = tuple(n / 20 for n in range(21))
NULL = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RIDGE = 1.0
"""How strongly a history's weights are drawn to those of all people, and these to equal ones."""
START = 3.0
"""The equal weight: softmax of scores from 0 to 1 needs weights of this size to tell items
apart."""
HEADLINE = metric("nDCG@10")
FEWEST = 20
"""The fewest cases that each half must have, and a kind of history to be fitted by itself."""

Tell = Callable[[str], None]
"""A function that takes a line of text about the progress."""
Cases = npt.NDArray[np.bool_]
"""A mask over the cases: true for those that belong to a group."""


@dataclass(frozen=True)
class FitTarget:
    """What to fit. `folder`: the case folder to learn from; `alias`: the model whose share is
    fitted; `strategy`: how it is asked."""

    folder: Path
    alias: str
    strategy: str = "listwise"


@dataclass(frozen=True)
class Fit:
    """`record`: data, run and figures, as they stand in the file under `found`."""

    weights: Weights
    record: dict[str, Any]
    file: Path


@dataclass(frozen=True)
class Pool:
    """One person's candidates. `scores`: by item, its score in each source that found it;
    `relevant`: the answers; `likes`: how many items the person likes."""

    scores: dict[str, dict[str, float]]
    relevant: frozenset[str]
    likes: int


async def fit(
    target: FitTarget,
    settings: Settings,
    out: Path,
    make: Make,
    tell: Tell,
    allowance: Allowance,
) -> Fit:
    """Fits the weights of a domain and a model, and writes them. A killed fit pays for no case
    twice. Once the allowance's dollars are spent, the model's answers so far must do.

    Raises `BadRequest` when there are too few people, or the model does not answer.
    """
    plain = settings.changed({"rank": {"fitted": False}})
    strategies = [f"{target.strategy}:{target.alias}"]
    suite = Suite(data=[target.folder], strategies=strategies, probes=0)
    async with Run.open(suite, plain, out / "sources", make, allowance.limit) as run:
        work = _Fitting(run, target, tell)
        sources = await work.sources()
        terms = await work.terms(sources)
    changes: dict[str, dict[str, Any]] = {"retrieve": {**sources}, "rank": {**terms}}
    better = plain.changed(changes)
    learned = sha256(repr(changes).encode()).hexdigest()[:8]
    async with Run.open(suite, better, out / f"model-{learned}", make, allowance.limit) as run:
        work = _Fitting(run, target, tell)
        share, null, validation = await work.share(allowance)
        test = await work.test(plain, changes, share, null)
    weights = Weights(**sources, model=share, null=null, **terms)
    record = {
        "data": {"folder": str(target.folder), "sha": run.data[target.folder].sha},
        "run": str(out),
        "at": now(),
        "people": {"validation": len(work.validation), "test": len(work.tested)},
        "validation": validation,
        "test": test,
    }
    file = settings.weights_folder / f"{settings.service.domain}.{target.alias}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    head = "# written by whyrank fit; the service reads it when it starts\n"
    content = {"weights": weights.model_dump(), "found": record}
    file.write_text(head + yaml.safe_dump(content, sort_keys=False))
    return Fit(weights, record, file)


class _Fitting:
    """The steps of a fit. `validation`: cases of the people to learn from; `tested`: of others."""

    def __init__(self, run: Run, target: FitTarget, tell: Tell) -> None:
        self.run = run
        self.folder = target.folder
        self.alias = target.alias
        self.tell = tell
        cases = run.data[self.folder].cases[: run.limit]
        self.validation = [case for case in cases if not _tested(case)]
        self.tested = [case for case in cases if _tested(case)]
        if min(len(self.validation), len(self.tested)) < FEWEST:
            raise BadRequest(
                f"{self.folder}: {len(cases)} cases are too few to fit on one half and test on the "
                f"other"
            )

    @property
    def _configured(self) -> Weights:
        return self.run.base.configured(self.run.base.service.domain, self.alias)

    def arm(self, changes: Mapping[str, Any]) -> Arm:
        return Arm(name="fit", data=self.folder, strategy="prior", changes=dict(changes))

    async def sources(self) -> dict[str, WeightByHistory]:
        """Learns the weight of each source in the prior, by history. A source that never finds a
        candidate keeps its configured weight."""
        configured = self.run.base.retrieve.of(self.run.base.service.domain)
        pools = [await self._pool(case) for case in self.validation]
        present = [
            name
            for name in SOURCES
            if any(name in scores for pool in pools for scores in pool.scores.values())
        ]
        before = _mean_ndcg(pools, configured)
        self.tell(f"sources as configured: {100 * before:.2f}")
        learned = {**configured, **learn_sources(pools, present)}
        after = _mean_ndcg(pools, learned)
        if after < before:
            learned = configured
        named = ", ".join(f"{name} {weight_in_words(learned[name])}" for name in present)
        self.tell(f"sources fitted: {100 * max(after, before):.2f} with {named}")
        return learned

    async def _pool(self, case: Case) -> Pool:
        changes = {
            "retrieve": {"k": WIDE, **dict.fromkeys(SOURCES, 1.0)},
            "limits": {"top_n": WIDE},
        }
        service = await self.run.service(self.arm(changes))
        request = self.run.request(RunJob(self.arm(changes), case)).model_copy(
            update={"explain": "full"}
        )
        items = (await service.recommender.recommend(request)).items
        depth = 4 * self.run.base.retrieve.k  # as deep as serving looks
        return Pool(_scores(items, depth), frozenset(case.relevant), len(case.history))

    async def terms(self, sources: Mapping[str, WeightByHistory]) -> dict[str, float]:
        """Returns how much `popularity` and `diversity` (likeness) take off: the values with the
        best mean nDCG@10 on the validation cases, as the service itself ranks them."""
        terms = {"popularity": 0.0, "diversity": 0.0}
        best = float(np.mean(await self._measure(self.validation, sources, terms)))
        self.tell(f"the same, served: {100 * best:.2f}")
        for name, grid in (("popularity", POPULARITY), ("diversity", DIVERSITY)):
            for value in grid:
                if value:
                    tried = {**terms, name: value}
                    mean = float(np.mean(await self._measure(self.validation, sources, tried)))
                    self.tell(f"{name} {value:g}: {100 * mean:.2f}")
                    if mean > best + 1e-12:
                        best, terms = mean, tried
        return terms

    async def _measure(
        self,
        cases: Sequence[Case],
        sources: Mapping[str, WeightByHistory],
        terms: Mapping[str, float],
    ) -> list[float]:
        arm = self.arm({"retrieve": dict(sources), "rank": {**terms, "fitted": False}})
        service = await self.run.service(arm)
        return [await _served(service, self.run, RunJob(arm, case)) for case in cases]

    async def share(self, allowance: Allowance) -> tuple[WeightByHistory, float, dict[str, Any]]:
        """Fits the model's share against the prior, by history, and `null`, the weight of a title's
        own likelihood. Returns both, and the figures that decided."""
        kept = await self._ask_model(allowance)
        cases = [case for case in self.validation if case.case_id in kept]
        floor = [_shuffled(kept[case.case_id], case) for case in cases]
        likely = any(kept[case.case_id].likelihoods for case in cases)
        nulls = NULL if likely else (self._configured.null,)

        def curve(share: WeightByHistory, null: float) -> list[float]:
            return [_fused(kept[case.case_id], case, share, null) for case in cases]

        null = max(nulls, key=lambda null: float(np.mean(curve(1.0, null))))
        alone = stats.paired(curve(1.0, null), floor)
        share: WeightByHistory = 0.0
        gains: dict[str, dict[str, float]] = {}
        if alone.low > 0:
            pairs = product(MODEL, nulls)
            means = {pair: float(np.mean(curve(*pair))) for pair in pairs}
            _, null = max(means, key=lambda pair: (means[pair], -pair[0]))
            curves = {value: np.array(curve(value, null)) for value in MODEL}
            kinds = [_kind(case) for case in cases]
            share, gains = earned_shares(curves, kinds), gains_by_history(curves, kinds)
        figures = {
            "prior": _percent(np.mean(curve(0.0, null))),
            "model alone": _percent(np.mean(curve(1.0, null))),
            "shuffled window": _percent(np.mean(floor)),
            "model alone - shuffled": _gap(alone),
            "fused": _percent(np.mean(curve(share, null))),
            **gains,
        }
        verdict = "beats" if alone.low > 0 else "does not beat"
        self.tell(
            f"{self.alias} alone {verdict} the shuffled floor; its share: {weight_in_words(share)}"
            + (f", null {null:g}" if likely else "")
        )
        return share, null, figures

    async def _ask_model(self, allowance: Allowance) -> dict[str, RunRow]:
        """Asks the model as far as the allowance goes; returns its rows by case id. Raises
        `BadRequest` if it answered too few validation cases."""
        done = await self.run.go(
            lambda done: self.tell(f"asking {self.alias}: {done.done} of {done.total}"),
            allowance.concurrency,
            allowance.spend,
        )
        if done.unpaid:
            self.tell(
                f"${done.cost:.4f} are spent: {done.unpaid} questions not asked; a higher "
                f"--spend asks them"
            )
        kept = self._answered()
        answered = sum(case.case_id in kept for case in self.validation)
        if answered < FEWEST:
            raise BadRequest(
                f"{self.alias} answered {answered} of {len(self.validation)} validation "
                f"cases: too few to weigh it"
                + ("; what it said is kept, a higher --spend goes on" if done.unpaid else "")
            )
        return kept

    def _answered(self) -> dict[str, RunRow]:
        """Rows that this model answered, by case; not those of a fallback."""
        return {row.case: row for row in rows(self.run.out) if row.model == self.alias}

    async def test(
        self,
        plain: Settings,
        changes: Mapping[str, Mapping[str, Any]],
        share: WeightByHistory,
        null: float,
    ) -> dict[str, Any]:
        """Returns figures on the other half of the people: nDCG@10 × 100 of equal, configured and
        fitted weights, and the differences that fitted weights and the model's share make."""
        weights = plain.retrieve.of(plain.service.domain)
        terms = {"popularity": plain.rank.popularity, "diversity": plain.rank.diversity}
        equal = await self._measure(self.tested, dict.fromkeys(SOURCES, 1.0), {})
        configured = await self._measure(self.tested, weights, terms)
        fitted = await self._measure(self.tested, changes["retrieve"], changes["rank"])
        kept = self._answered()
        answered = [case for case in self.tested if case.case_id in kept]
        alone = [_fused(kept[case.case_id], case, 0.0, null) for case in answered]
        fused = [_fused(kept[case.case_id], case, share, null) for case in answered]
        return {
            "equal weights": _percent(np.mean(equal)),
            "fitted - equal": _gap(stats.paired(fitted, equal)),
            "prior as configured": _percent(np.mean(configured)),
            "prior as fitted": _percent(np.mean(fitted)),
            "fitted - configured": _gap(stats.paired(fitted, configured)),
            "fused - prior": _gap(stats.paired(fused, alone)),
        }


def _tested(case: Case) -> bool:
    """Returns whether the case's user is in the tested half, the same in every run."""
    return sha256(case.user_id.encode()).digest()[0] % 2 == 1


def learn_sources(pools: Sequence[Pool], names: Sequence[str]) -> dict[str, WeightByHistory]:
    """Learns four weights from 0 to 1, one for each kind of history, for each source in `names`.
    Kinds of history with fewer than `FEWEST` pools get the weights of all people."""
    kinds: dict[int, list[listwise.JudgedList]] = {}
    for pool in pools:
        if pool.relevant & pool.scores.keys():
            kind = bisect_left(HISTORIES, pool.likes)
            kinds.setdefault(kind, []).append(_judged(pool, names))
    everybody = [judged for kind in sorted(kinds) for judged in kinds[kind]]
    shared = np.full(len(names), START)
    if everybody:
        shared = listwise.learn(everybody, shared, RIDGE)
    rows = [
        listwise.learn(kinds[kind], shared, RIDGE) if len(kinds.get(kind, ())) >= FEWEST else shared
        for kind in range(len(HISTORIES) + 1)
    ]
    scaled = np.round([row / max(row.max(), 1e-9) for row in rows], 3)
    return {name: tuple(scaled[:, place].tolist()) for place, name in enumerate(names)}


def _judged(pool: Pool, names: Sequence[str]) -> listwise.JudgedList:
    rows = [[scores.get(name, 0.0) for name in names] for scores in pool.scores.values()]
    chosen = [item in pool.relevant for item in pool.scores]
    return listwise.JudgedList(np.array(rows), np.array(chosen))


def _scores(items: Sequence[Ranked], depth: int) -> dict[str, dict[str, float]]:
    """Returns by item id its score in each source that has it among its first `depth`; a source's
    scores are scaled to 0 to 1 within those."""
    scores: dict[str, dict[str, float]] = {}
    for name in SOURCES:
        ranked = {
            item.item_id: item.signals[f"score.{name}"]
            for item in items
            if item.signals.get(f"source.{name}", depth + 1) <= depth
        }
        for item_id, score in Recommender.unit(ranked, depth).items():
            scores.setdefault(item_id, {})[name] = score
    return scores


def _mean_ndcg(pools: Sequence[Pool], weights: Mapping[str, WeightByHistory]) -> float:
    """Returns the mean nDCG@10 of the prior that `weights` make, close to that of what is served:
    there, of fewer candidates, a person's several tastes are merged from shorter lists."""

    def ndcg(pool: Pool) -> float:
        at = Weights(**weights, model=0).at(pool.likes)
        priors = {item: Recommender.prior_of(scores, at) for item, scores in pool.scores.items()}
        return HEADLINE.of(sorted(priors, key=lambda item: (-priors[item], item)), pool.relevant)

    return sum(map(ndcg, pools)) / len(pools)


async def _served(service: Service, run: Run, job: RunJob) -> float:
    ranking = await service.recommender.recommend(run.request(job))
    return HEADLINE.of([item.item_id for item in ranking.items], frozenset(job.case.relevant))


def earned_shares(
    curves: Mapping[float, npt.NDArray[np.float64]], kinds: Sequence[int]
) -> WeightByHistory:
    """Returns a model's share for each kind of history: the one with the best mean if the interval
    of its gain over share 0 lies above 0, else 0; of kinds with fewer than `FEWEST` cases, what all
    earn together. `curves`: by share, nDCG@10 of each case; `kinds`: of the cases."""
    of_case = np.array(kinds)

    def earned(among: Cases) -> float:
        share, gain = _best_share(curves, among)
        return share if gain.low > 0 else 0.0

    everybody = earned(np.ones(len(of_case), dtype=np.bool_))
    masks = [of_case == kind for kind in range(len(HISTORIES) + 1)]
    none, few, some, many = (earned(mask) if mask.sum() >= FEWEST else everybody for mask in masks)
    return none, few, some, many


def gains_by_history(
    curves: Mapping[float, npt.NDArray[np.float64]], kinds: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Returns what the model's best share adds to the prior, for each kind of history with at least
    two cases; the keys name share, kind and number of cases."""
    of_case, found = np.array(kinds), {}
    for kind, name in enumerate(get_args(History)):
        among = of_case == kind
        if among.sum() > 1:
            share, gain = _best_share(curves, among)
            found[f"share {share:g}, {name} likes ({gain.cases} cases)"] = _gap(gain)
    return found


def _best_share(
    curves: Mapping[float, npt.NDArray[np.float64]], among: Cases
) -> tuple[float, stats.Paired]:
    """Returns the share with the best mean over the cases in `among` (the smallest of several), and
    the difference that it makes to share 0."""
    best = max(curves, key=lambda share: (float(curves[share][among].mean()), -share))
    return best, stats.paired(curves[best][among].tolist(), curves[0.0][among].tolist())


def _kind(case: Case) -> int:
    """Returns the case's kind of history, as a place from 0 (no likes) to 3 (many)."""
    return bisect_left(HISTORIES, len(case.history))


def _fused(row: RunRow, case: Case, share: WeightByHistory, null: float) -> float:
    """Returns nDCG@10 of the case with this `share` of the model and this weight `null`, if nothing
    else were taken off. Items outside the window keep their places behind it."""
    values = [likely - null * alone for likely, alone in row.likelihoods] or row.model_values
    places = Recommender.fuse(row.prior_values, values, at_history(share, len(case.history)))
    window = [row.window[place] for place in places]
    return HEADLINE.of(row.behind(window), frozenset(case.relevant))


def _shuffled(row: RunRow, case: Case) -> float:
    """The mean nDCG@10 of ten shuffles of the window."""
    dice, relevant = Random(case.case_id), frozenset(case.relevant)
    orders = [dice.sample(row.window, len(row.window)) for _ in range(SHUFFLES)]
    return sum(HEADLINE.of(row.behind(order), relevant) for order in orders) / SHUFFLES


def _percent(value: Any) -> float:
    return round(100 * float(value), 3)


def _gap(gap: stats.Paired) -> dict[str, float]:
    numbers = {"difference": gap.difference, "low": gap.low, "high": gap.high}
    percents = {name: _percent(value) for name, value in numbers.items()}
    return {**percents, "p": round(gap.p, 5), "cases": gap.cases}
