"""Metrics as values that print as typed: `nDCG@10`. Relevance is binary; all are means over cases
unless another mean is named.

A case without an answer, or with a degraded one, counts as what was served. Formulas: nDCG
(Järvelin & Kekäläinen, TOIS 2002; gain 1, discount log2(rank + 1)), recall, MRR and HR as in TREC;
novelty, ILD and coverage as in Castells et al., "Novelty and Diversity in Recommender Systems",
2015.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import combinations

from service.errors import BadRequest

Facts = frozenset[tuple[str, object]]


@dataclass(frozen=True)
class World:
    """What metrics beyond relevance are measured against. `facts`: the attribute values of each
    item; `actors`: how many people acted on each item; `people`: how many people the log knows."""

    facts: Mapping[str, Facts]
    actors: Mapping[str, int]
    people: int
    _distances: dict[tuple[str, str], float] = field(default_factory=dict, compare=False)

    def distance(self, first: str, second: str) -> float:
        """1 − Jaccard of the two items' attribute values, in [0, 1]; 1 where either has none."""
        pair = (first, second) if first < second else (second, first)
        if pair not in self._distances:
            a, b = self.facts.get(first, frozenset()), self.facts.get(second, frozenset())
            self._distances[pair] = 1 - len(a & b) / len(a | b) if a and b else 1.0
        return self._distances[pair]

    def surprise(self, item: str) -> float:
        """Self-information −log2 p(item), p by the share of people who acted on it (add-one
        smoothed)."""
        return self._surprise.get(item, math.log2(self.people + 2))

    @cached_property
    def _surprise(self) -> dict[str, float]:
        return {
            item: -math.log2((count + 1) / (self.people + 2)) for item, count in self.actors.items()
        }


@dataclass(frozen=True)
class Metric:
    """`nDCG@10` and its like: one number a ranking. `k`: the depth, None for the whole list."""

    name: str
    k: int | None = None

    def __str__(self) -> str:
        return self.name if self.k is None else f"{self.name}@{self.k}"

    def of(
        self, ranking: Sequence[str], relevant: Collection[str], world: World | None = None
    ) -> float:
        """Returns the metric of a ranking: in bits for novelty, else in [0, 1]. Raises `ValueError`
        if the metric needs a `World` and there is none."""
        if self.name in RELEVANCE:
            hits = tuple(place for place, item in enumerate(ranking[: self.k]) if item in relevant)
            return RELEVANCE[self.name](
                hits, len(relevant), max(len(relevant), len(ranking)) if self.k is None else self.k
            )
        if world is None:
            raise ValueError(f"{self} needs to know the items and the log")
        return BEYOND[self.name](ranking[: self.k], world)


def metric(text: str) -> Metric:
    """Parses a metric as typed, `nDCG@10`, in upper or lower case. Raises `BadRequest` naming the
    known metrics."""
    match = re.fullmatch(r"([a-zA-Z]+)(?:@([1-9]\d{0,3}))?", text.strip())
    known = {name.casefold(): name for name in [*RELEVANCE, *BEYOND]}
    if match is None or match[1].casefold() not in known:
        raise BadRequest(f"no metric {text!r}; known: {', '.join(known.values())}, each with @k")
    return Metric(known[match[1].casefold()], int(match[2]) if match[2] else None)


def _ndcg(hits: Sequence[int], relevant: int, k: int) -> float:
    ideal = _ideal(min(relevant, k))
    return sum(1 / math.log2(place + 2) for place in hits) / ideal if ideal else 0.0


def graded_ndcg(gains: Sequence[float], all_gains: Iterable[float], k: int) -> float | None:
    """nDCG@k of items by their gains, each at least 0 (Järvelin & Kekäläinen, 2002). `gains`: of a
    ranking, in order; `all_gains`: of all that could have been ranked. None if nothing gains."""
    ideal = _discounted(sorted(all_gains, reverse=True)[:k])
    return _discounted(gains[:k]) / ideal if ideal else None


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


@cache
def _ideal(count: int) -> float:
    return sum(1 / math.log2(place + 2) for place in range(count))


def _recall(hits: Sequence[int], relevant: int, k: int) -> float:
    return len(hits) / relevant if relevant else 0.0


def _mrr(hits: Sequence[int], relevant: int, k: int) -> float:
    return 1 / (hits[0] + 1) if hits else 0.0


def _hr(hits: Sequence[int], relevant: int, k: int) -> float:
    return float(bool(hits))


def _novelty(items: Sequence[str], world: World) -> float:
    return sum(map(world.surprise, items)) / len(items) if items else 0.0


def _ild(items: Sequence[str], world: World) -> float:
    distances = [world.distance(*pair) for pair in combinations(items, 2)]
    return sum(distances) / len(distances) if distances else 0.0


RELEVANCE: dict[str, Callable[[Sequence[int], int, int], float]] = {
    "nDCG": _ndcg,
    "recall": _recall,
    "MRR": _mrr,
    "HR": _hr,
}
BEYOND: dict[str, Callable[[Sequence[str], World], float]] = {"novelty": _novelty, "ILD": _ild}


def coverage(rankings: Collection[Sequence[str]], k: int, catalogue: int) -> float:
    """`coverage@k`: the share of the catalogue that stands in the first k of at least one
    ranking."""
    return (
        len({item for ranking in rankings for item in ranking[:k]}) / catalogue
        if catalogue
        else 0.0
    )


def kendall(first: Sequence[str], second: Sequence[str]) -> float:
    """Kendall's τ of two orders, over the items of both, in [−1, 1]; 1 for fewer than two items."""
    from scipy.stats import kendalltau  # takes a second to import

    places = {item: place for place, item in enumerate(second)}
    order = [places[item] for item in first if item in places]
    tau = kendalltau(range(len(order)), order).statistic if len(order) > 1 else 1
    # it is the quotient of a root: a list would agree with itself by a little less than 1
    return round(float(tau), 12)


def overlap(first: Sequence[str], second: Sequence[str], k: int) -> float:
    """The share of the first k, or of the shorter list, that both name, whatever their order; 1 for
    empty lists."""
    size = min(k, len(first), len(second))
    return len({*first[:size]} & {*second[:size]}) / size if size else 1.0


def spearman(first: Sequence[str], second: Sequence[str]) -> float:
    """Spearman's ρ of two orders of the same items, in [−1, 1]; 0 for fewer than two items."""
    places = {item: place for place, item in enumerate(second)}
    gaps = sum((place - places[item]) ** 2 for place, item in enumerate(first))
    n = len(first)
    return 1 - 6 * gaps / (n * (n * n - 1)) if n > 1 else 0.0
