"""The vectors of a small catalogue, held in memory: an exhaustive search there is exact, as
LanceDB's is without an index, and takes a tenth of the time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from service.catalog.rows import MADE_FROM
from service.catalog.words import Vectors

RESIDENT = 5_000
"""Catalogues of at most so many rows are held in memory."""
READ = ["id", "available", *MADE_FROM, "factors_of"]
"""The columns that are held."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Resident:
    """The rows of a small catalogue in memory. `ids`: of all rows; `places`: the row of each id.
    `columns`: for each column of vectors an array of shape [rows, size], zero in rows without a
    vector; `filled`: which rows have one. `available`, `factors_of`: by row. `meeting`: by
    condition, which rows meet it, for the conditions asked so far."""

    ids: npt.NDArray[np.object_]
    places: Mapping[str, int]
    columns: Mapping[str, Vectors]
    filled: Mapping[str, Mask]
    available: Mask
    factors_of: npt.NDArray[np.object_]
    meeting: dict[str, Mask] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: pa.Table) -> Self:
        """Makes a `Resident` of `rows`: those of the whole table, with the columns `READ`."""
        ids = rows["id"].to_pylist()
        columns = {name: rows[name].combine_chunks() for name in MADE_FROM}
        return cls(
            ids=np.array(ids, dtype=object),
            places={item_id: place for place, item_id in enumerate(ids)},
            columns={name: _matrix(cells) for name, cells in columns.items()},
            filled={name: _flags(cells.is_valid()) for name, cells in columns.items()},
            available=_flags(rows["available"].combine_chunks().fill_null(False)),
            factors_of=np.array(rows["factors_of"].to_pylist(), dtype=object),
        )

    def among(self, ids: Iterable[str]) -> Mask:
        """Which rows have one of these ids."""
        mask = np.zeros(len(self.ids), dtype=np.bool_)
        mask[[self.places[item_id] for item_id in ids if item_id in self.places]] = True
        return mask

    def products(
        self, column: str, asked: Sequence[Sequence[float] | Vectors], admitted: Mask
    ) -> Vectors:
        """Inner products, shape [len(asked), rows], of each of `asked` with each row; -inf where a
        row has no vector or is not admitted."""
        products = np.asarray(asked, dtype=np.float32) @ self.columns[column].T
        products[:, ~(admitted & self.filled[column])] = -np.inf
        return products

    def first(self, values: Vectors, k: int) -> dict[str, float]:
        """Returns the `k` greatest of `values`, by item id, greatest first, without -inf. `values`:
        one for each row."""
        best = np.arange(len(values))
        if k < len(values):
            best = np.sort(np.argpartition(-values, k)[:k])
        best = best[np.argsort(-values[best], kind="stable")]
        found = values[best]
        count = int(np.count_nonzero(found > -np.inf))
        return dict(zip(self.ids[best[:count]], found[:count].tolist(), strict=True))


def _matrix(cells: pa.FixedSizeListArray) -> Vectors:
    """An array of lists as a matrix; a missing list is zeros."""
    size = cells.type.list_size
    matrix = np.zeros((len(cells), size), dtype=np.float32)
    filled = cells.drop_null()
    matrix[_flags(cells.is_valid())] = filled.flatten().to_numpy().reshape(len(filled), size)
    return matrix


def _flags(cells: pa.BooleanArray) -> Mask:
    return np.asarray(cells.to_numpy(zero_copy_only=False), dtype=np.bool_)
