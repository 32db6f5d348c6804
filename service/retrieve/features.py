"""Computes the numeric features of candidates by which a learned ranker orders them.

`score.SOURCE`: the candidate's score, from 0 to 1, in each source that needs no wish. `prior`: the
weighted sum of these scores. `votes`: log2 of the item's decayed votes, less that of the most
popular candidate. `likes`: log(1 + the number of items that the person liked).

A fact is a word among an item's attributes, with its key. `shared`: the share of the person's liked
items that have a fact, summed over the candidate's facts. `shared_latest`: the same among the
latest ten liked items. `shared_rare`: as `shared`, each share times the fact's rarity, the log of
how many candidates there are for each that has it. `rarity`: the mean rarity of the candidate's
facts.

For each number KEY that can be filtered by: `is.KEY`, the number; `gap.KEY`, minus its distance
from the mean of the liked items, over their standard deviation plus 1; `gap_latest.KEY`, the same
from the mean of the latest ten.
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
"""The least value of the feature `votes`; an item without votes gets it."""

Values = npt.NDArray[np.float64]
Fact = tuple[str, object]


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The features of a list of candidates. `names`: of the columns. `values`: shape [candidates,
    names]."""

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
    """Returns the features of `candidates`, one row each. `liked`: the liked items that the
    catalogue has, oldest first; `likes`: how many items the person liked in all. `votes`: log2 of
    the decayed votes, by item id. `weights`: of the sources, by name. `numbers`: keys of attributes
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
    """Returns the part of the prior that comes from the person's history: the weighted sum of the
    candidate's scores, without the sources of a wish."""
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
    """Returns, by fact, the share of `liked` items that have it."""
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
    """Returns the columns `is.KEY`, `gap.KEY` and `gap_latest.KEY`. `values`: the candidates'
    numbers; `liked`: the liked items' numbers, oldest first. NaN stands for an unknown number; its
    columns are 0."""
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
