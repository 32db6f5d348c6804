"""The rows whose vector is still to come."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from service.catalog.rows import vector_rows
from service.catalog.space import Embeds
from service.catalog.table import ItemTable, guarded

PENDING = "(vector_sha IS NULL OR vector_sha != words_sha)"
BATCH = 512
"""How many rows are embedded before their vectors are written."""


class Backlog:
    """Counts and embeds those rows. `arrived` is set when rows were put; the background work clears
    it."""

    def __init__(self, table: ItemTable, embedder: Embeds) -> None:
        self.arrived = asyncio.Event()
        self._table = table
        self._embedder = embedder

    @guarded
    async def count(self) -> int:
        """Rows whose vector is missing or stale."""
        return int(await self._table.lance.count_rows(PENDING))

    @guarded
    async def embed(self, step: Callable[[int, int], None] = lambda done, total: None) -> int:
        """Embed what is pending; returns how many. `step(done, total)` reports the progress."""
        done, total = 0, await self.count()
        while rows := await self._pending():
            vectors = await self._embedder.embed([row["words"] for row in rows])
            merge = self._table.lance.merge_insert("id").when_matched_update_all()
            await self._table.commit(partial(merge.execute, vector_rows(rows, vectors)))
            done += len(rows)
            step(done, max(done, total))
        return done

    async def _pending(self) -> list[dict[str, Any]]:
        query = self._table.lance.query().where(PENDING)
        rows: list[dict[str, Any]] = (
            await query.select(["id", "words", "words_sha"]).limit(BATCH).to_list()
        )
        return rows
