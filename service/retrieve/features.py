"""What is known of each candidate beside the others of its list, in numbers: what a learned ranker
orders by.

By name: `score.SOURCE`, from 0 to 1, of the sources that need no wish; `prior`, their weighted sum;
`votes`, log2 of the decayed votes below the most popular candidate's; `likes`, log of how many
items the person liked. Of an item's facts (words of its attributes): `shared`, the sum of the
shares of the person's liked items that have each; `shared_latest`, of the latest ten;
`shared_rare`, each counted by how rare it is in the list; `rarity`, the mean of that. Of each
number that can be filtered by: `is.KEY`; `gap.KEY`, how many deviations it is from the mean of the
liked items; `gap_latest.KEY`, the same from the mean of the latest ten.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.schema import Candidate, Item

WISHED = frozenset({"context", "query"})
"""Sources that answer what the request asks for; no log says how much they count."""
LATEST = 10
LEAST_VOTES = -20.0
"""log2 of the votes of an item without any, below the most popular."""

Values = npt.NDArray[np.float64]
Fact = tuple[str, object]


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """`values`: shape [candidates, names]."""

    names: tuple[str, ...]
    values: Values


def features(
    candidates: Sequence[Candidate],
    liked: Sequence[Item],
    *,
    likes: int,
    votes: Mapping[str, float],
    weights: Mapping[str, float],
    numbers: Iterable[str],
) -> FeatureTable:
    """`liked`: the person's liked items, oldest first, of `likes` in all. `votes`: log2 of the
    decayed votes by item id. `weights`: of the sources in the prior. `numbers`: keys of attributes
    that are numbers."""
    sources = [name for name in weights if name not in WISHED]
    most = max(votes.values(), default=0.0)
    columns: dict[str, list[float]] = {
        f"score.{name}": [each.scores.get(name, 0.0) for each in candidates] for name in sources
    }
    columns["prior"] = [own_prior(each, weights) for each in candidates]
    columns["votes"] = [
        max(votes.get(each.item.id, -math.inf) - most, LEAST_VOTES) for each in candidates
    ]
    columns["likes"] = [math.log1p(likes)] * len(candidates)
    columns |= _of_facts([_facts(each.item) for each in candidates], [*map(_facts, liked)])
    for key in numbers:
        values = [_number(each.item, key) for each in candidates]
        columns |= _of_numbers(key, values, [_number(item, key) for item in liked])
    return FeatureTable(tuple(columns), np.array([*columns.values()], dtype=np.float64).T)


def own_prior(candidate: Candidate, weights: Mapping[str, float]) -> float:
    """The part of the prior that the person's own history makes: without a wish."""
    return sum(
        weights[name] * score for name, score in candidate.scores.items() if name not in WISHED
    )


def _facts(item: Item) -> list[Fact]:
    return [(key, value) for key, value in item.facts() if isinstance(value, str)]


def _of_facts(
    facts: Sequence[Sequence[Fact]], liked: Sequence[Sequence[Fact]]
) -> dict[str, list[float]]:
    shares, latest = _shares(liked), _shares(liked[-LATEST:])
    having = Counter(fact for each in facts for fact in {*each})
    rarity = {fact: math.log(len(facts) / count) for fact, count in having.items()}
    return {
        "shared": [sum(shares.get(fact, 0.0) for fact in each) for each in facts],
        "shared_latest": [sum(latest.get(fact, 0.0) for fact in each) for each in facts],
        "shared_rare": [
            sum(shares.get(fact, 0.0) * rarity[fact] for fact in each) for each in facts
        ],
        "rarity": [sum(rarity[fact] for fact in each) / max(len(each), 1) for each in facts],
    }


def _shares(liked: Sequence[Sequence[Fact]]) -> dict[Fact, float]:
    """By fact the share of the items that have it."""
    counts = Counter(fact for each in liked for fact in {*each})
    return {fact: count / len(liked) for fact, count in counts.items()}


def _number(item: Item, key: str) -> float:
    """The item's number under a key; NaN if it has none."""
    value = item.attributes.get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else math.nan  # type: ignore[arg-type]


def _of_numbers(
    key: str, values: Sequence[float], liked: Sequence[float]
) -> dict[str, list[float]]:
    """0 stands for what is not known."""
    known = np.array([value for value in liked if not math.isnan(value)])
    means = (
        known.mean() if len(known) else math.nan,
        known[-LATEST:].mean() if len(known) else math.nan,
    )
    spread = known.std() + 1 if len(known) else 1.0
    given = np.array(values)
    gaps = [-np.abs(given - mean) / spread for mean in means]
    return {
        name: np.nan_to_num(column).tolist()
        for name, column in zip(
            (f"is.{key}", f"gap.{key}", f"gap_latest.{key}"), [given, *gaps], strict=True
        )
    }
