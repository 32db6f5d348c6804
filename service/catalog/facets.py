"""What items have, by filterable key: the commonest words, and where most numbers lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from service.catalog.columns import KINDS_OF_WORDS, Kind, plain_column

if TYPE_CHECKING:
    import lancedb

FACETS = 60
"""How many values of a key are counted as facets."""
NAMED = 10
"""How many of them a sentence names."""


@dataclass(frozen=True)
class Facets:
    """`values`: of each key of words its values, the commonest first, at most `FACETS`. `ends`: of
    each key of numbers two; a fifth of the items lies below the first, a fifth above the second."""

    values: Mapping[str, Sequence[str]]
    ends: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def in_words(self, key: str) -> str:
        """The commonest values of a key of words, or where those of a key of numbers lie; empty for
        any other."""
        if key in self.ends:
            low, high = self.ends[key]
            return f"mostly {low} to {high}"
        values = self.values.get(key, ())
        return ", ".join(values[:NAMED]) + (", …" if len(values) > NAMED else "")


async def count_facets(table: lancedb.AsyncTable, filterable: Mapping[str, Kind]) -> Facets:
    """Reads the columns of all filterable keys, whole."""
    columns = {key: plain_column(key) for key, kind in filterable.items() if kind != "bool"}
    values: dict[str, list[str]] = {}
    ends: dict[str, tuple[float, float]] = {}
    if not columns:
        return Facets(values)
    rows = await table.query().select([*columns.values()]).to_arrow()
    for key, column in columns.items():
        cells = rows[column].combine_chunks()
        flat = cells.flatten() if pa.types.is_list(cells.type) else cells.drop_null()
        if filterable[key] in KINDS_OF_WORDS:
            values[key] = [value for value, _ in Counter(flat.to_pylist()).most_common(FACETS)]
        elif len(flat):
            low, high = np.quantile(flat.to_numpy(), [0.2, 0.8], method="nearest")
            ends[key] = (low.item(), high.item())
    return Facets(values, ends)
