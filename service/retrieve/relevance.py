"""How relevant a text is to a query, as a probability: a logistic of the cosine of their vectors
and of the share of the query's terms that the text holds.

The weights were fitted on judged queries in four languages over the sample shop's products, half of
them; docs/ranking.md shows how reliable the values are on the other half. Cosines of another
embedder mean something else, so with one that nothing was fitted for only terms count."""

import math
from collections.abc import Mapping, Sequence

from service.catalog import Vectors, asked_terms, terms_of
from service.schema import MIN_GAP

FITTED: Mapping[str, tuple[float, float, float]] = {
    "use-multilingual": (-5.23, 13.53, 4.47),
}
"""By the beginning of an embedder's name: the bias, the weight of the cosine, and that of the share
of terms."""
BY_TERMS = (-3.91, 7.41)
"""The bias, and the weight of the share of terms, where there is no cosine."""
REFUSED = 0.01
"""The relevance of a text that holds what a wish refuses is at most this."""


def relevances(
    query: str,
    texts: Mapping[str, str],
    vectors: Mapping[str, Vectors],
    meant: Vectors | None,
    embedder: str,
) -> dict[str, float]:
    """The relevance of each text to the words of a query that say something, in (0, 1), by id.
    `vectors`: unit vectors of texts, by id; `meant`: the query's."""
    asked = {*asked_terms(query)}
    fitted = next((row for name, row in FITTED.items() if embedder.startswith(name)), None)
    found = {}
    for item_id, text in texts.items():
        share = len(asked & {*terms_of(text)}) / len(asked) if asked else 0.0
        if meant is not None and fitted is not None and item_id in vectors:
            bias, by_cosine, by_share = fitted
            logit = bias + by_cosine * float(vectors[item_id] @ meant) + by_share * share
        else:
            logit = BY_TERMS[0] + BY_TERMS[1] * share
        found[item_id] = 1 / (1 + math.exp(-min(max(logit, -13), 13)))
    return found


def calibrated(embedder: str) -> bool:
    """Whether weights were fitted for an embedder's cosines."""
    return any(embedder.startswith(name) for name in FITTED)


def logits(relevances: Mapping[str, float]) -> dict[str, float]:
    """The log-odds of relevances, highest first; ties by id."""
    found = {item_id: math.log(value / (1 - value)) for item_id, value in relevances.items()}
    return {name: found[name] for name in sorted(found, key=lambda name: (-found[name], name))}


def falling(values: Sequence[float]) -> list[float]:
    """The values in (0, 1), strictly falling: pooled where they rise, and apart by `MIN_GAP` where
    they would be equal."""
    found: list[float] = []
    for n, value in enumerate(pooled(values)):
        least = MIN_GAP * (len(values) - n)  # enough below for those still to come
        most = found[-1] - MIN_GAP if found else 1 - MIN_GAP
        found.append(min(max(value, least), most))
    return [round(value, 7) for value in found]


def pooled(values: Sequence[float]) -> list[float]:
    """The values made falling by replacing neighbours in the wrong order with their mean, as often
    as needed (pool adjacent violators, Ayer et al., 1955): of all falling sequences the nearest."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        blocks.append((value, 1))
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (last, size), (before, earlier) = blocks.pop(), blocks.pop()
            blocks.append(((last * size + before * earlier) / (size + earlier), size + earlier))
    return [value for value, size in blocks for _ in range(size)]
