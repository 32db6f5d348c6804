"""Ids of the items that fit best: by text, by vector, by factors, or any, within a scope."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import numpy as np
import pyarrow as pa

from service.catalog.columns import Kind
from service.catalog.filters import Scope, ids_in, literal, where
from service.catalog.items import StoredItems
from service.catalog.space import Embeds, UserFactors, Vectors
from service.catalog.table import ItemTable, guarded
from service.catalog.terms import asked_terms
from service.errors import ModelError


class Search:
    """Every method returns ids of items that the scope and their availability admit."""

    def __init__(
        self,
        table: ItemTable,
        items: StoredItems,
        embedder: Embeds,
        filterable: Mapping[str, Kind],
    ) -> None:
        self._table = table
        self._items = items
        self._embedder = embedder
        self._filterable = filterable

    @guarded
    async def admitted(self, ids: Iterable[str], scope: Scope) -> list[str]:
        """Those of `ids`, in their order, that the catalogue knows and the scope admits."""
        wanted = [item_id for item_id in dict.fromkeys(ids) if scope.admits(item_id)]
        if not scope.filters:
            stored = await self._items.get(wanted)
            return [
                item_id
                for item_id, row in stored.items()
                if row.item.available or scope.only is not None
            ]
        if not wanted:
            return []
        among = Scope(only=scope.only and frozenset(wanted), filters=scope.filters)
        query = self._table.lance.query().where(f"{ids_in(wanted)} AND {self._where(among)}")
        table = await query.select(["id"]).limit(len(wanted)).to_arrow()
        admitted = set(table["id"].to_pylist())
        return [item_id for item_id in wanted if item_id in admitted]

    @guarded
    async def some(self, k: int, scope: Scope) -> list[str]:
        """Any k admissible items: what a catalogue without events and vectors can still show."""
        condition = self._where(scope)

        async def search(limit: int) -> pa.Table:
            query = self._table.lance.query().where(condition)
            return await query.limit(limit).select(["id"]).to_arrow()

        return (await _until_enough(search, k, scope))[0]

    @guarded
    async def similar(
        self, vectors: Sequence[Sequence[float] | Vectors], k: int, scope: Scope
    ) -> list[list[str]]:
        """For each vector the ids of the k nearest by cosine, nearest first; one query for all of
        them."""
        condition = f"vector IS NOT NULL AND {self._where(scope)}"
        asked = [np.asarray(vector, dtype=np.float32) for vector in vectors]
        if not asked:
            return []

        async def search(limit: int) -> pa.Table:
            near = self._table.lance.query().nearest_to(asked if len(asked) > 1 else asked[0])
            query = near.column("vector").distance_type("cosine").where(condition)
            query = query.ef(max(2 * limit, 100)).limit(limit)
            return await query.select(["id", "_distance"]).to_arrow()

        return await _until_enough(search, k, scope, len(asked))

    @guarded
    async def favoured(self, taste: UserFactors, k: int, scope: Scope) -> list[str]:
        """Ids of the k items whose factors have the greatest inner product with a person's,
        greatest first."""
        condition = f"factors_of = {literal(taste.factors_of)} AND {self._where(scope)}"
        asked = np.asarray(taste.vector, dtype=np.float32)

        async def search(limit: int) -> pa.Table:
            near = self._table.lance.query().nearest_to(asked).column("factors")
            query = near.distance_type("dot").where(condition).ef(max(2 * limit, 100))
            return await query.limit(limit).select(["id", "_distance"]).to_arrow()

        return (await _until_enough(search, k, scope))[0]

    @guarded
    async def by_text(self, text: str, k: int, scope: Scope, *, meant: str | None) -> list[str]:
        """Full text and vector search fused by reciprocal ranks: ids, best first.

        `meant`: what the embedder is shown of the text. Where that is nothing, and while the
        embedder fails, full text alone is searched; of a text without a word, the vector alone.
        """
        condition, terms = self._where(scope), " ".join(asked_terms(text))
        vector = None
        with suppress(ModelError):
            vector = await self._embedder.embed_one(meant) if meant else None
        if not terms:
            return (await self.similar([vector], k, scope))[0] if vector is not None else []

        async def by_words(limit: int) -> pa.Table:
            query = self._table.lance.query().nearest_to_text(terms, "terms").where(condition)
            return await query.limit(limit).select(["id", "_score"]).to_arrow()

        async def by_meaning(limit: int) -> pa.Table:
            near = self._table.lance.query().nearest_to(vector).column("vector")
            query = near.distance_type("cosine").where(f"vector IS NOT NULL AND {condition}")
            return await query.limit(limit).select(["id", "_distance"]).to_arrow()

        async def both(limit: int) -> pa.Table:
            tables = await asyncio.gather(by_meaning(limit), by_words(limit))
            ids = _by_reciprocal_ranks([table["id"].to_pylist() for table in tables])
            return pa.table({"id": pa.array(ids[:limit], pa.string())})

        search = by_words if vector is None else both
        return (await _until_enough(search, k, scope))[0]

    def _where(self, scope: Scope) -> str:
        return where(scope, self._filterable)


async def _until_enough(
    search: Callable[[int], Awaitable[pa.Table]], k: int, scope: Scope, queries: int = 1
) -> list[list[str]]:
    """For each query: fetch, drop what may not take a place, and fetch more until k are left or
    there is no more."""
    limit = k
    while True:
        table = await search(limit)
        numbers = table["query_index"].to_pylist() if queries > 1 else [0] * table.num_rows
        fetched: list[list[str]] = [[] for _ in range(queries)]
        for number, item_id in zip(numbers, table["id"].to_pylist(), strict=True):
            fetched[number].append(item_id)
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
