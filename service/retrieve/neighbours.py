"""Learns from the log which items belong beside which: for each liked item a row of others with
weights.

`item_item`: what is liked together. For up to `CLOSED_FORM` items this is EASE^R (Steck, WWW 2019):
the ridge regression of each item's likes on those of all others, B = I - P diag(1 / diag P) with P
= (XᵀX + λI)⁻¹. Its cost grows with the cube of the items, so beyond that it is the cosine of two
items' likes, shrunk for pairs that few people like: n_ij / (sqrt(n_i n_j) + SHRINKAGE).

`together:TYPE`: how many people did the same to both: the numbers that a reason may tell.

`sequence`: what is liked soon after what. Each like adds 1 / distance to the pairs with the
`WINDOW` likes before it of the same person. A pair's sum over all people is divided by the number
of likes of its earlier item, plus `SHRINKAGE`.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from service.retrieve.fusion import Scores
from service.store import Neighbours

CLOSED_FORM = 5_000
"""The most items for which the closed form is computed: 5,000 take 10 s and 400 MB."""
KEPT = 200
"""How many neighbours a row keeps."""
SHRINKAGE = 10.0
RIDGE = 0.14
"""λ over the square of the mean number of likes that a person has."""
LEAST_RIDGE = 10.0
WINDOW = 4
METHOD = 2
"""The version of the learning method. Change it whenever the method changes: services then learn
the tables anew."""
LEAST_PEOPLE = 3
"""A pair of fewer people is not counted as chosen together."""
LEAST_LIFT = 1.5
"""Nor is one that is chosen less than so many times as often as by chance."""
BLOCK = 256
"""How many rows of cosines are computed at a time."""


def learn(liked: Mapping[tuple[str, str], float]) -> dict[str, Neighbours]:
    """Learns the tables of both sources. `liked`: weight in (0, 1] of each (person, item) that is
    liked, by time. Computes for seconds: call it on a thread."""
    items = sorted({item_id for _, item_id in liked})
    places = {item_id: place for place, item_id in enumerate(items)}
    histories: dict[str, list[int]] = {}
    for who, item_id in liked:
        histories.setdefault(who, []).append(places[item_id])
    rows = [np.array(history, dtype=np.int32) for history in histories.values()]
    tables = {"item_item": _item_item(rows, len(items)), "sequence": _sequence(rows, len(items))}
    return {name: _kept(table, items) for name, table in tables.items()}


def together(chosen: Iterable[tuple[str, str]]) -> Neighbours | None:
    """Counts for each pair of items how many people chose both, if they are at least `LEAST_PEOPLE`
    and the pair's lift is at least `LEAST_LIFT`; a row keeps the pairs with the greatest cosine.
    `chosen`: (person, item), each as often as it was chosen, read once. Returns None if no pair is
    left. Computes for seconds: call it on a thread."""
    from scipy.sparse import csr_matrix, vstack

    people: dict[str, int] = {}
    places: dict[str, int] = {}
    rows, columns = array("i"), array("i")
    for who, item_id in chosen:
        rows.append(people.setdefault(who, len(people)))
        columns.append(places.setdefault(item_id, len(places)))
    items = sorted(places)
    order = np.argsort(np.argsort(np.array([*places], dtype=object)))
    likes = csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (np.asarray(rows), order[np.asarray(columns)])),
        shape=(len(people), len(items)),
    )
    likes.data[:] = 1  # chosen twice is chosen
    by_item, times = likes.T.tocsr(), np.asarray(likes.sum(axis=0)).ravel()
    blocks = []
    for first in range(0, len(items), BLOCK):
        pairs = (by_item[first : first + BLOCK] @ likes).tocoo()
        expected = times[first + pairs.row] * times[pairs.col] / len(people)
        known = (pairs.data >= LEAST_PEOPLE) & (pairs.data >= LEAST_LIFT * expected)
        cosines = pairs.data / np.sqrt(expected * len(people))
        pairs.data = np.where(known & (pairs.row + first != pairs.col), cosines, 0)
        blocks.append(_first(pairs.tocsr()))
    if not any(block.nnz for block in blocks):
        return None
    kept = _kept(vstack(blocks, format="csr"), items)
    norms = np.repeat(times, np.diff(kept.starts)) * times[kept.others]
    return replace(kept, weights=np.rint(kept.weights * np.sqrt(norms)).astype(np.float32))


def summed_rows(table: Neighbours, likes: Sequence[tuple[str, float]]) -> Scores:
    """Sums the rows of the liked items that the table has, each times its weight. Returns the sums
    above 0, by item id, highest first; ties by id. `likes`: (item id, weight)."""
    sums = np.zeros(len(table.items), dtype=np.float32)
    for item_id, weight in likes:
        place = table.places.get(item_id)
        if place is not None:
            row = slice(table.starts[place], table.starts[place + 1])
            sums[table.others[row]] += weight * table.weights[row]
    found = np.flatnonzero(sums > 0)
    order = found[np.argsort(-sums[found], kind="stable")]  # the items are in order of their ids
    return {table.items[place]: float(sums[place]) for place in order}


def _item_item(histories: Sequence[npt.NDArray[np.int32]], count: int) -> Any:
    """A sparse matrix [count, count]: how much a like of the row's item says for the column's."""
    from scipy.sparse import csr_matrix

    starts = np.cumsum([0, *map(len, histories)])
    likes = csr_matrix(
        (np.ones(starts[-1], dtype=np.float32), np.concatenate(histories), starts),
        shape=(len(histories), count),
    )
    if count <= CLOSED_FORM:
        return csr_matrix(_ease(likes))
    return _cosines(likes)


def _ease(likes: Any) -> npt.NDArray[np.float32]:
    """EASE^R of a sparse matrix of likes [people, items]."""
    gram = (likes.T @ likes).toarray().astype(np.float64)
    ridge = max(LEAST_RIDGE, RIDGE * (likes.sum() / likes.shape[0]) ** 2)
    inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return np.asarray(weights, dtype=np.float32)


def _cosines(likes: Any) -> Any:
    """Returns the shrunk cosines of pairs of items, sparse, [items, items], only the greatest
    `KEPT` of each row. `likes`: a sparse matrix [people, items]. Rows are computed in blocks to
    bound memory."""
    from scipy.sparse import vstack

    by_item = likes.T.tocsr()
    norms = np.sqrt(np.asarray(likes.sum(axis=0)).ravel())
    blocks = []
    for first in range(0, by_item.shape[0], BLOCK):
        together = (by_item[first : first + BLOCK] @ likes).tocoo()
        scale = norms[first + together.row] * norms[together.col] + SHRINKAGE
        together.data = together.data / scale
        together.data[together.row + first == together.col] = 0
        blocks.append(_first(together.tocsr()))
    return vstack(blocks, format="csr")


def _sequence(histories: Sequence[npt.NDArray[np.int32]], count: int) -> Any:
    """A sparse matrix [count, count]: how often a like of the row's item is soon followed by one of
    the column's."""
    from scipy.sparse import coo_matrix, csr_matrix, diags

    flat = np.concatenate(histories)
    whose = np.repeat(np.arange(len(histories)), [*map(len, histories)])
    follows = csr_matrix((count, count), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        same = whose[:-distance] == whose[distance:]
        before, after = flat[:-distance][same], flat[distance:][same]
        shares = np.full(len(before), 1 / distance, dtype=np.float32)
        follows = follows + coo_matrix((shares, (before, after)), shape=(count, count)).tocsr()
    times = np.bincount(flat, minlength=count)
    return diags(1 / (times + SHRINKAGE)) @ follows


def _first(matrix: Any) -> Any:
    """Returns a sparse matrix with only the `KEPT` greatest values of each row that are above 0."""
    from scipy.sparse import csr_matrix

    matrix.data[matrix.data < 0] = 0
    matrix.eliminate_zeros()
    kept = np.zeros(len(matrix.data), dtype=np.bool_)
    for row in range(matrix.shape[0]):
        start, end = matrix.indptr[row], matrix.indptr[row + 1]
        best = np.argsort(-matrix.data[start:end], kind="stable")[:KEPT]
        kept[start + best] = True
    starts = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return csr_matrix((matrix.data[kept], matrix.indices[kept], starts), shape=matrix.shape)


def _kept(matrix: Any, items: Sequence[str]) -> Neighbours:
    rows = _first(matrix.tocsr())
    return Neighbours(
        items=tuple(items),
        starts=rows.indptr.astype(np.int64),
        others=rows.indices.astype(np.int32),
        weights=rows.data.astype(np.float32),
    )
