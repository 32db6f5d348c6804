"""Reads items by id, and searches ids of the items that fit best by text, vector or factors.

Every search has a scope, which says which items it may return. Facets tell what can be filtered by:
the commonest words of each key, and where most of its numbers lie.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from service.catalog.resident import READ, RESIDENT, Mask, Resident
from service.catalog.rows import (
    DISTANCES,
    KINDS_OF_WORDS,
    SHOWN,
    item_of,
    plain_column,
    vectors_by_id,
)
from service.catalog.scopes import Scope, ids_in, literal, where
from service.catalog.table import ItemTable, OnTable, guarded
from service.catalog.words import UserFactors, Vectors, asked_terms
from service.errors import ModelError
from service.schema import Item

if TYPE_CHECKING:
    from lancedb.query import FullTextQuery  # imported when a catalogue is opened

REMEMBERED = 5_000
"""How many rows are kept in memory between two writes."""
MASKS = 64
"""For how many filters a small catalogue remembers which of its rows meet them."""
FACETS = 60
"""How many values of a key are counted as facets."""
NAMED = 10
"""How many values of a key `Facets.in_words` names."""

Scores = dict[str, float]
"""How well each item fits, by item id, best first."""


# ── facets ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Facets:
    """What can be filtered by. `values`: for each key of words its values, the commonest first, at
    most `FACETS`. `ends`: for each key of numbers two bounds; a fifth of the numbers lies below the
    first, a fifth above the second. `counts`: in how many of the `total` items each of `values`
    stands, by key and value."""

    values: Mapping[str, Sequence[str]]
    ends: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    total: int = 0

    def in_words(self, key: str) -> str:
        """Returns, as text, the commonest values of a key of words, or the range of most values of
        a key of numbers; empty for any other key."""
        if key in self.ends:
            low, high = self.ends[key]
            return f"mostly {low} to {high}"
        values = self.values.get(key, ())
        return ", ".join(values[:NAMED]) + (", …" if len(values) > NAMED else "")


async def count_facets(table: ItemTable) -> Facets:
    """Counts the facets of all filterable keys. Reads their columns whole."""
    kinds = {key: kind for key, kind in table.filterable.items() if kind != "bool"}
    if not kinds:
        return Facets({})
    rows = await table.lance.query().select([*map(plain_column, kinds)]).to_arrow()
    values: dict[str, list[str]] = {}
    ends: dict[str, tuple[float, float]] = {}
    counts: dict[tuple[str, str], int] = {}
    for key, kind in kinds.items():
        cells = rows[plain_column(key)].combine_chunks()
        flat = cells.flatten() if kind == "list" else cells.drop_null()
        if kind in KINDS_OF_WORDS:
            commonest = Counter(flat.to_pylist()).most_common(FACETS)
            values[key] = [value for value, _ in commonest]
            counts |= {(key, value): count for value, count in commonest}
        elif len(flat):
            low, high = np.quantile(flat.to_numpy(), [0.2, 0.8], method="nearest")
            ends[key] = (low.item(), high.item())
    return Facets(values, ends, counts, len(rows))


# ── searches ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class StoredItem:
    """An item, its unit vector, its factors and the version of the training they are of."""

    item: Item
    vector: Vectors | None
    factors: Vectors | None
    factors_of: str | None


class Search(OnTable):
    """Reads items by id. Every other method names only items that the scope and their availability
    admit."""

    def __init__(self, table: ItemTable) -> None:
        super().__init__(table)
        self._version = -1
        self._remembered: dict[str, StoredItem | None] = {}
        """Items by id, as read from the table's version `_version`; None for an id that the table
        does not have."""
        self._held: tuple[int, Resident | None] = (-1, None)
        """A version of the table, and its rows in memory; None if they are too many."""
        self._holding = asyncio.Lock()

    @guarded
    async def by_id(self, ids: Iterable[str]) -> dict[str, StoredItem]:
        """Returns the items that the catalogue has, by id, in the order of `ids`. They are kept in
        memory until any process writes to the table."""
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

    @guarded
    async def admitted(self, ids: Iterable[str], scope: Scope) -> list[str]:
        """Those of `ids`, in their order, that the catalogue knows and the scope admits."""
        wanted = [item_id for item_id in dict.fromkeys(ids) if scope.admits(item_id)]
        held = await self._resident()
        if held is not None:
            usable = await self._meets(held, scope)
            return [name for name in wanted if name in held.places and usable[held.places[name]]]
        if scope.filters or scope.kind or scope.wish:
            among = replace(scope, only=scope.only and frozenset(wanted), exclude=frozenset())
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
        return [*(await _until_enough(lambda n: query.limit(n).to_arrow(), k, scope))[0]]

    @guarded
    async def newest(self, k: int, scope: Scope) -> list[str]:
        """The k admissible items that were published last, the newest first; ties by id. Items
        without a `published_at` are left out."""
        query = self._table.lance.query().where(
            f"published_at IS NOT NULL AND {self._where(scope)}"
        )
        rows = await query.select(["id", "published_at"]).to_arrow()
        rows = rows.sort_by([("published_at", "descending"), ("id", "ascending")])
        ids = (item_id for item_id in rows["id"].to_pylist() if scope.admits(item_id))
        return [*islice(ids, k)]

    @guarded
    async def similar(
        self, vectors: Sequence[Sequence[float] | Vectors], k: int, scope: Scope
    ) -> list[Scores]:
        """For each vector the cosines of the k nearest, nearest first; one query for all of
        them."""
        if not vectors:
            return []
        units = _units(vectors)
        held = await self._resident()
        if held is not None:
            products = held.products("vector", units, await self._mask(held, scope))
            return [held.first(cosines, k) for cosines in products]
        condition = f"vector IS NOT NULL AND {self._where(scope)}"
        return await _until_enough(self._nearest("vector", units, condition), k, scope, len(units))

    @guarded
    async def near_any(
        self, vectors: Sequence[Sequence[float] | Vectors], k: int, scope: Scope
    ) -> Scores:
        """Scores items by their greatest cosine with any one of `vectors`. Returns the `k` best,
        best first."""
        held = await self._resident()
        if held is not None and vectors:
            products = held.products("vector", _units(vectors), await self._mask(held, scope))
            return held.first(products.max(axis=0), k)
        best: Scores = {}
        for scores in await self.similar(vectors, k, scope):
            for item_id, score in scores.items():
                best[item_id] = max(score, best.get(item_id, score))
        return {name: best[name] for name in sorted(best, key=lambda name: -best[name])[:k]}

    @guarded
    async def favoured(self, taste: UserFactors, k: int, scope: Scope) -> Scores:
        """Scores items by the inner product of their factors with the person's. Returns the `k`
        best, best first."""
        held = await self._resident()
        if held is not None:
            current = held.factors_of == taste.factors_of
            admitted = await self._mask(held, scope) & current
            return held.first(held.products("factors", [taste.vector], admitted)[0], k)
        condition = f"factors_of = {literal(taste.factors_of)} AND {self._where(scope)}"
        nearest = self._nearest("factors", [taste.vector], condition)
        return (await _until_enough(nearest, k, scope))[0]

    @guarded
    async def by_terms(
        self, weighted: Sequence[tuple[Sequence[str], float]], k: int, scope: Scope
    ) -> Scores:
        """Searches full text by several lists of terms (as `terms_of` makes them), each with a
        weight > 0. Returns Σ weight · BM25 of the `k` best items, best first."""
        from lancedb.query import BooleanQuery, Occur

        queries: list[tuple[Occur, FullTextQuery]] = [
            (Occur.SHOULD, _match(terms, weight)) for terms, weight in weighted if terms
        ]
        if not queries:
            return {}
        by_words = self._by_words(BooleanQuery(queries), self._where(scope))
        return (await _until_enough(lambda n: by_words.limit(n).to_arrow(), k, scope))[0]

    @guarded
    async def by_text(self, text: str, k: int, scope: Scope, *, meant: str | None) -> list[str]:
        """Searches by full text and by vector, and fuses both by reciprocal ranks. Returns ids,
        best first.

        `meant`: the text that is embedded. If it is empty or the embedder fails, only full text is
        searched; if `text` has no words, only vectors.
        """
        condition, terms = self._where(scope), asked_terms(text)
        vector = None
        with suppress(ModelError):
            vector = await self._table.embedder.embed_one(meant) if meant else None
        if not terms:
            return [*(await self.similar([vector], k, scope))[0]] if vector is not None else []
        by_words = self._by_words(_match(terms), condition)

        async def search(limit: int) -> pa.Table:
            if vector is None:
                return await by_words.limit(limit).to_arrow()
            among = f"vector IS NOT NULL AND {condition}"
            by_meaning = self._nearest("vector", [vector], among, thorough=False)
            tables = await asyncio.gather(by_meaning(limit), by_words.limit(limit).to_arrow())
            ids = _by_reciprocal_ranks([table["id"].to_pylist() for table in tables])
            return pa.table({"id": pa.array(ids[:limit], pa.string())})

        return [*(await _until_enough(search, k, scope))[0]]

    async def _resident(self) -> Resident | None:
        """Returns the table's current rows in memory; None if they are more than `RESIDENT`."""
        async with self._holding:
            lance = self._table.lance
            version = await lance.version()
            if version != self._held[0]:
                small = await lance.count_rows() <= RESIDENT
                rows = await lance.query().select(READ).to_arrow() if small else None
                self._held = version, Resident.of(rows) if rows is not None else None
            return self._held[1]

    async def _mask(self, held: Resident, scope: Scope) -> Mask:
        """Which rows the scope and their availability admit."""
        meets = await self._meets(held, scope)
        only = meets if scope.only is None else meets & held.among(scope.only)
        return only & ~held.among(scope.exclude)

    async def _meets(self, held: Resident, scope: Scope) -> Mask:
        """Returns which rows meet the scope's filters and are available. If `scope.only` is set,
        unavailable rows count too."""
        available = held.available | (scope.only is not None)
        condition = " AND ".join(scope.conditions(self._table.filterable))
        if not condition:
            return available
        if condition not in held.meeting:
            if len(held.meeting) >= MASKS:
                held.meeting.clear()
            rows = await self._table.lance.query().where(condition).select(["id"]).to_arrow()
            held.meeting[condition] = held.among(rows["id"].to_pylist())
        return available & held.meeting[condition]

    def _by_words(self, query: FullTextQuery, condition: str) -> Any:
        """A full-text search among rows that meet a condition."""
        words = self._table.lance.query().nearest_to_text(query)
        return words.where(condition).select(["id", "_score"])

    def _nearest(
        self,
        column: str,
        vectors: Sequence[Sequence[float] | Vectors],
        condition: str,
        *,
        thorough: bool = True,
    ) -> Callable[[int], Awaitable[pa.Table]]:
        """Returns a function that takes a limit and finds, for each vector, as many nearest rows
        that meet `condition`. `thorough`: an index misses fewer of these rows, and takes longer."""
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


def _units(vectors: Sequence[Sequence[float] | Vectors]) -> list[Vectors]:
    return [np.asarray(vector) / np.linalg.norm(vector) for vector in vectors]


def _match(terms: Sequence[str], weight: float = 1.0) -> FullTextQuery:
    """A query for rows with any of the terms; their BM25 counts `weight` times."""
    from lancedb.query import FullTextOperator, MatchQuery

    return MatchQuery(
        " ".join(terms),
        "terms",
        boost=weight,
        fuzziness=0,
        max_expansions=50,
        operator=FullTextOperator.OR,
        prefix_length=0,
        document_granularity=None,
    )


async def _until_enough(
    search: Callable[[int], Awaitable[pa.Table]], k: int, scope: Scope, queries: int = 1
) -> list[Scores]:
    """Calls `search` with growing limits until each query has `k` rows that the scope admits, or no
    more rows. Returns for each query the scores of the first `k`. `queries`: how many `search` runs
    at once."""
    limit = k
    while True:
        table = await search(limit)
        tables = [table]
        if queries > 1:
            numbers = table["query_index"].to_numpy()
            tables = [table.filter(pa.array(numbers == n)) for n in range(queries)]
        fetched = [_scores(part) for part in tables]
        kept = [[*filter(scope.admits, scores)] for scores in fetched]
        if all(len(ids) >= k or len(all_) < limit for ids, all_ in zip(kept, fetched, strict=True)):
            return [
                {item_id: scores[item_id] for item_id in ids[:k]}
                for ids, scores in zip(kept, fetched, strict=True)
            ]
        limit *= 4


def _scores(rows: pa.Table) -> Scores:
    """Returns the score of each row, by id, in the rows' order: its `_score`; else 1 less its
    `_distance`, which is the cosine or the inner product; 0 if the rows have neither column."""
    ids = rows["id"].to_pylist()
    if "_score" in rows.column_names:
        return dict(zip(ids, rows["_score"].to_pylist(), strict=True))
    if "_distance" in rows.column_names:
        return dict(zip(ids, (1 - rows["_distance"].to_numpy()).tolist(), strict=True))
    return dict.fromkeys(ids, 0.0)


def _by_reciprocal_ranks(lists: Iterable[Sequence[str]]) -> list[str]:
    """Returns the ids of several ranked lists by falling Σ 1 / (60 + rank); ties in the order in
    which the lists first name them."""
    scores: dict[str, float] = {}
    for ranked in lists:
        for rank, item_id in enumerate(ranked, 1):
            scores[item_id] = scores.get(item_id, 0.0) + 1 / (60 + rank)
    return sorted(scores, key=lambda item_id: -scores[item_id])
