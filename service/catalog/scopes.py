"""Says which items a search may return: a scope, as conditions in DataFusion's SQL. All values that
a caller wrote are escaped by `literal`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from service.catalog.rows import Kind, filter_column, fits, folded
from service.errors import BadRequest
from service.schema import Filter

IN_FILTER = 500
"""More excluded ids than this are dropped after the search: a longer NOT IN costs more than
over-fetching."""
SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True)
class Scope:
    """Which items a search may return. `only`: none but these ids (None: all). `exclude`: ids that
    are left out. `filters`: those of the request; `kind`: those of the domain; `wish`: those of a
    wish in words. An item must meet all."""

    only: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    filters: Mapping[str, Filter] | None = None
    kind: Mapping[str, Filter] | None = None
    wish: Mapping[str, Filter] | None = None

    def conditions(self, filterable: Mapping[str, Kind]) -> list[str]:
        """The conditions of all filters. Raises `BadRequest` for what can't be filtered by."""
        filters = [
            pair for each in (self.filters, self.kind, self.wish) for pair in (each or {}).items()
        ]
        return [test for key, wanted in filters for test in conditions(key, wanted, filterable)]

    def admits(self, item_id: str) -> bool:
        """Do `only` and `exclude` allow this item? Filters are not asked."""
        return item_id not in self.exclude and (self.only is None or item_id in self.only)


def where(scope: Scope, filterable: Mapping[str, Kind]) -> str:
    """Returns the SQL condition of a scope, without `exclude` if that has more than `IN_FILTER`
    ids. Items must be available, unless `only` is set. Raises `BadRequest` for what can't be
    filtered by."""
    tests = ["available"] if scope.only is None else [ids_in(scope.only)]
    if 0 < len(scope.exclude) <= IN_FILTER:
        tests.append(f"NOT {ids_in(scope.exclude)}")
    return " AND ".join([*tests, *scope.conditions(filterable)])


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
    if wanted.all is not None:
        each = [_checked(key, kind, value) for value in wanted.all]
        tests += (
            [f"COALESCE(array_has_all({column}, [{', '.join(each)}]), false)"]
            if kind == "list"
            else [f"{column} = {one}" for one in each]
        )
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
            f"filters.{key} sets no condition: gt, gte, lt, lte, any, all or none",
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
