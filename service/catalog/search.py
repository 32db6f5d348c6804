"""Items by their ids, and ids of the items that fit best: by text, by vector, by factors, or any.

Always within a scope, which says which items may take a place: its filters become conditions in
DataFusion's SQL, and all that a caller wrote goes through `literal`. Facets tell what can be
filtered by: the commonest words of each key, and where most of its numbers lie.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from service.catalog.rows import (
    DISTANCES,
    KINDS_OF_WORDS,
    SHOWN,
    Kind,
    filter_column,
    fits,
    folded,
    item_of,
    plain_column,
    vectors_by_id,
)
from service.catalog.table import ItemTable, OnTable, guarded
from service.catalog.words import UserFactors, Vectors, asked_terms
from service.errors import BadRequest, ModelError
from service.schema import Filter, Item

REMEMBERED = 5_000
"""How many rows are kept in memory between two writes."""
IN_FILTER = 500
"""More excluded ids than this are dropped after the search: a longer NOT IN costs more than
over-fetching."""
FACETS = 60
"""How many values of a key are counted as facets."""
NAMED = 10
"""How many of them a sentence names."""
SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


# ── scopes and facets ─────────────────────────────────────────────────────────────────────────────


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


# ── searches ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class StoredItem:
    """An item, its unit vector, its factors and the version of the training they are of."""

    item: Item
    vector: Vectors | None
    factors: Vectors | None
    factors_of: str | None


class Search(OnTable):
    """Reads items by id. Every other method returns ids of items that the scope and their
    availability admit."""

    def __init__(self, table: ItemTable) -> None:
        super().__init__(table)
        self._version = -1
        self._remembered: dict[str, StoredItem | None] = {}
        """Of the table's version `_version`; None for an id that the table does not have."""

    @guarded
    async def by_id(self, ids: Iterable[str]) -> dict[str, StoredItem]:
        """The known ones of `ids`, in their order. They are remembered for as long as nobody, in
        any process, has written."""
        wanted = list(dict.fromkeys(ids))
        version = await self._table.lance.version()
        if version != self._version or len(self._remembered) > REMEMBERED:
            self._remembered, self._version = {}, version
        rows = {name: self._remembered[name] for name in wanted if name in self._remembered}
        missing = [item_id for item_id in wanted if item_id not in rows]
        if missing:
            fetched = await self._fetch(missing)
            rows |= {item_id: fetched.get(item_id) for item_id in missing}
            if version == self._version:  # else another call saw a newer table meanwhile
                self._remembered |= rows
        return {item_id: row for item_id in wanted if (row := rows[item_id]) is not None}

    async def _fetch(self, ids: Sequence[str]) -> dict[str, StoredItem]:
        query = self._table.lance.query().where(ids_in(ids)).limit(len(ids))
        table = await query.select([*SHOWN, "vector", "factors", "factors_of"]).to_arrow()
        vectors, factors = vectors_by_id(table, "vector"), vectors_by_id(table, "factors")
        return {
            row["id"]: StoredItem(
                item_of(row), vectors.get(row["id"]), factors.get(row["id"]), row["factors_of"]
            )
            for row in table.drop_columns(["vector", "factors"]).to_pylist()
        }

    @guarded
    async def known(self, ids: Iterable[str], *conditions: str) -> list[str]:
        """Those of `ids`, in their order, that the catalogue has and that meet the conditions."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return []
        query = self._table.lance.query().where(" AND ".join([ids_in(wanted), *conditions]))
        table = await query.select(["id"]).limit(len(wanted)).to_arrow()
        known = set(table["id"].to_pylist())
        return [item_id for item_id in wanted if item_id in known]

    async def admitted(self, ids: Iterable[str], scope: Scope) -> list[str]:
        """Those of `ids`, in their order, that the catalogue knows and the scope admits."""
        wanted = [item_id for item_id in dict.fromkeys(ids) if scope.admits(item_id)]
        if scope.filters:
            among = Scope(only=scope.only and frozenset(wanted), filters=scope.filters)
            return await self.known(wanted, self._where(among))
        return [
            item_id
            for item_id, row in (await self.by_id(wanted)).items()
            if row.item.available or scope.only is not None
        ]

    @guarded
    async def some(self, k: int, scope: Scope) -> list[str]:
        """Any k admissible items: what a catalogue without events and vectors can still show."""
        query = self._table.lance.query().where(self._where(scope)).select(["id"])
        return (await _until_enough(lambda limit: query.limit(limit).to_arrow(), k, scope))[0]

    @guarded
    async def similar(
        self, vectors: Sequence[Sequence[float] | Vectors], k: int, scope: Scope
    ) -> list[list[str]]:
        """For each vector the ids of the k nearest by cosine, nearest first; one query for all of
        them."""
        condition = f"vector IS NOT NULL AND {self._where(scope)}"
        if not vectors:
            return []
        return await _until_enough(
            self._nearest("vector", vectors, condition), k, scope, len(vectors)
        )

    @guarded
    async def favoured(self, taste: UserFactors, k: int, scope: Scope) -> list[str]:
        """Ids of the k items whose factors have the greatest inner product with a person's,
        greatest first."""
        condition = f"factors_of = {literal(taste.factors_of)} AND {self._where(scope)}"
        nearest = self._nearest("factors", [taste.vector], condition)
        return (await _until_enough(nearest, k, scope))[0]

    @guarded
    async def by_text(self, text: str, k: int, scope: Scope, *, meant: str | None) -> list[str]:
        """Full text and vector search fused by reciprocal ranks: ids, best first.

        `meant`: what the embedder is shown of the text. Where that is nothing, and while the
        embedder fails, full text alone is searched; of a text without a word, the vector alone.
        """
        condition, terms = self._where(scope), " ".join(asked_terms(text))
        vector = None
        with suppress(ModelError):
            vector = await self._table.embedder.embed_one(meant) if meant else None
        if not terms:
            return (await self.similar([vector], k, scope))[0] if vector is not None else []
        by_words = (
            self._table.lance.query()
            .nearest_to_text(terms, "terms")
            .where(condition)
            .select(["id", "_score"])
        )

        async def search(limit: int) -> pa.Table:
            if vector is None:
                return await by_words.limit(limit).to_arrow()
            among = f"vector IS NOT NULL AND {condition}"
            by_meaning = self._nearest("vector", [vector], among, thorough=False)
            tables = await asyncio.gather(by_meaning(limit), by_words.limit(limit).to_arrow())
            ids = _by_reciprocal_ranks([table["id"].to_pylist() for table in tables])
            return pa.table({"id": pa.array(ids[:limit], pa.string())})

        return (await _until_enough(search, k, scope))[0]

    def _nearest(
        self,
        column: str,
        vectors: Sequence[Sequence[float] | Vectors],
        condition: str,
        *,
        thorough: bool = True,
    ) -> Callable[[int], Awaitable[pa.Table]]:
        """A search that returns, of each vector, so many nearest rows that meet a condition.
        `thorough`: an index misses fewer of them, and takes longer."""
        asked = [np.asarray(vector, dtype=np.float32) for vector in vectors]
        query = (
            self._table.lance.query()
            .nearest_to(asked)
            .column(column)
            .distance_type(DISTANCES[column])
            .where(condition)
            .select(["id", "_distance"])
        )
        if not thorough:
            return lambda limit: query.limit(limit).to_arrow()
        return lambda limit: query.ef(max(2 * limit, 100)).limit(limit).to_arrow()

    def _where(self, scope: Scope) -> str:
        return where(scope, self._table.filterable)


async def _until_enough(
    search: Callable[[int], Awaitable[pa.Table]], k: int, scope: Scope, queries: int = 1
) -> list[list[str]]:
    """For each query: fetch, drop what may not take a place, and fetch more until k are left or
    there is no more."""
    limit = k
    while True:
        table = await search(limit)
        tables = [table]
        if queries > 1:
            numbers = table["query_index"].to_numpy()
            tables = [table.filter(pa.array(numbers == n)) for n in range(queries)]
        fetched = [part["id"].to_pylist() for part in tables]
        kept = [list(filter(scope.admits, ids)) for ids in fetched]
        if all(len(good) >= k or len(ids) < limit for good, ids in zip(kept, fetched, strict=True)):
            return [good[:k] for good in kept]
        limit *= 4


def _by_reciprocal_ranks(lists: Iterable[Sequence[str]]) -> list[str]:
    """Ids of several ranked lists by falling Σ 1 / (60 + rank); of ties the one that an earlier
    list names first."""
    scores: dict[str, float] = {}
    for ranked in lists:
        for rank, item_id in enumerate(ranked, 1):
            scores[item_id] = scores.get(item_id, 0.0) + 1 / (60 + rank)
    return sorted(scores, key=lambda item_id: -scores[item_id])
