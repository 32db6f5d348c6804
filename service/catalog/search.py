"""Items by their ids, and ids of the items that fit best: by text, by vector, by factors, or any,
within a scope."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from service.catalog.filters import Scope, ids_in, literal, where
from service.catalog.rows import DISTANCES, SHOWN, item_of, vectors_by_id
from service.catalog.table import ItemTable, OnTable, guarded
from service.catalog.words import UserFactors, Vectors, asked_terms
from service.errors import ModelError
from service.schema import Item

REMEMBERED = 5_000
"""How many rows are kept in memory between two writes."""


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
            by_meaning = self._nearest("vector", [vector], f"vector IS NOT NULL AND {condition}")
            tables = await asyncio.gather(by_meaning(limit), by_words.limit(limit).to_arrow())
            ids = _by_reciprocal_ranks([table["id"].to_pylist() for table in tables])
            return pa.table({"id": pa.array(ids[:limit], pa.string())})

        return (await _until_enough(search, k, scope))[0]

    def _nearest(
        self, column: str, vectors: Sequence[Sequence[float] | Vectors], condition: str
    ) -> Callable[[int], Awaitable[pa.Table]]:
        """A search that returns, of each vector, so many nearest rows that meet a condition."""
        asked = [np.asarray(vector, dtype=np.float32) for vector in vectors]
        query = (
            self._table.lance.query()
            .nearest_to(asked)
            .column(column)
            .distance_type(DISTANCES[column])
            .where(condition)
            .select(["id", "_distance"])
        )
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
