"""Which items may take a place: filters as conditions in DataFusion's SQL; and what can be filtered
by: the commonest words of each key, and where most of its numbers lie.

All that a caller wrote goes through `literal`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.catalog.rows import KINDS_OF_WORDS, Kind, filter_column, fits, folded, plain_column
from service.catalog.table import ItemTable
from service.errors import BadRequest
from service.schema import Filter

IN_FILTER = 500
"""More excluded ids than this are dropped after the search: a longer NOT IN costs more than
over-fetching."""
FACETS = 60
"""How many values of a key are counted as facets."""
NAMED = 10
"""How many of them a sentence names."""
SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True)
class Scope:
    """Which items may take a place: only these ids (None: all), none of those, and what the filters
    allow."""

    only: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    filters: Mapping[str, Filter] | None = None

    def admits(self, item_id: str) -> bool:
        """Do `only` and `exclude` allow this item? Filters are not asked."""
        return item_id not in self.exclude and (self.only is None or item_id in self.only)


def where(scope: Scope, filterable: Mapping[str, Kind]) -> str:
    """The condition for all that the scope allows. Unavailable items are allowed where `only` names
    them."""
    tests = ["available"] if scope.only is None else [ids_in(scope.only)]
    if 0 < len(scope.exclude) <= IN_FILTER:
        tests.append(f"NOT {ids_in(scope.exclude)}")
    for key, wanted in (scope.filters or {}).items():
        tests += conditions(key, wanted, filterable)
    return " AND ".join(tests)


def conditions(key: str, wanted: Filter, filterable: Mapping[str, Kind]) -> list[str]:
    """The conditions of one filter. Raises `BadRequest` for what can't be filtered by."""
    kinds: Mapping[str, Kind] = {**filterable, "id": "str"}
    if key not in kinds:
        raise BadRequest(
            f"filters.{key}: not filterable; declared: {', '.join(['id', *filterable])} "
            "(catalog.filterable)",
            param=f"filters.{key}",
        )
    kind = kinds[key]
    column = "id" if key == "id" else filter_column(key, kind)
    tests = []
    for name, bound in wanted.model_dump(include={*SIGNS}, exclude_none=True).items():
        if kind in {"list", "bool"}:
            raise BadRequest(
                f"filters.{key}: {name} needs an ordered value; {key} is a {kind}",
                param=f"filters.{key}",
            )
        tests.append(f"{column} {SIGNS[name]} {_checked(key, kind, bound)}")
    for values, negation in ((wanted.any, ""), (wanted.none, "NOT ")):
        if values is not None:
            literals = ", ".join(_checked(key, kind, value) for value in values)
            test = (
                f"array_has_any({column}, [{literals}])"
                if kind == "list"
                else f"{column} IN ({literals})"
            )
            # an item without a value has none of them
            tests.append(f"COALESCE({negation}{test}, {'true' if negation else 'false'})")
    if not tests:
        raise BadRequest(
            f"filters.{key} sets no condition: gt, gte, lt, lte, any or none",
            param=f"filters.{key}",
        )
    return tests


def _checked(key: str, kind: Kind, value: Any) -> str:
    if not fits(kind, value):
        raise BadRequest(
            f"filters.{key}: {json.dumps(value)[:80]} is not a {kind}", param=f"filters.{key}"
        )
    return literal(value if key == "id" else folded(value))


def ids_in(ids: Iterable[str]) -> str:
    return f"id IN ({', '.join(map(literal, sorted(ids)))})"


def literal(value: str | int | float | bool) -> str:
    """An SQL literal; in DataFusion's strings only the quote is special, and doubling it escapes
    it."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else json.dumps(value)


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


async def count_facets(table: ItemTable) -> Facets:
    """Reads the columns of all filterable keys, whole."""
    kinds = {key: kind for key, kind in table.filterable.items() if kind != "bool"}
    if not kinds:
        return Facets({})
    rows = await table.lance.query().select([*map(plain_column, kinds)]).to_arrow()
    values: dict[str, list[str]] = {}
    ends: dict[str, tuple[float, float]] = {}
    for key, kind in kinds.items():
        cells = rows[plain_column(key)].combine_chunks()
        flat = cells.flatten() if kind == "list" else cells.drop_null()
        if kind in KINDS_OF_WORDS:
            values[key] = [value for value, _ in Counter(flat.to_pylist()).most_common(FACETS)]
        elif len(flat):
            low, high = np.quantile(flat.to_numpy(), [0.2, 0.8], method="nearest")
            ends[key] = (low.item(), high.item())
    return Facets(values, ends)
