"""The table's indexes: made when a catalogue is opened, kept fresh, made anew."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal

from service.catalog.columns import SHOWN, Columns, filter_column
from service.catalog.rows import item_of, rows_of
from service.catalog.space import Embeds
from service.catalog.table import ItemTable, guarded
from service.errors import CatalogBusy

if TYPE_CHECKING:
    from lancedb.index import FTS, BTree, LabelList

TERMS_INDEX = "terms_1"
"""The name of the full-text index. Change it with `terms_of`: opening a catalogue then makes terms
and index anew."""
DISTANCES: dict[str, Literal["cosine", "dot"]] = {"vector": "cosine", "factors": "dot"}
INDEX_FROM = 10_000
"""Below this many rows an exhaustive vector search is faster than any index, and exact."""
TIDY_ATTEMPTS = 5
"""How often compaction is tried in a round: it is heavy, and the next round does as well."""
KEPT = timedelta(minutes=10)
"""Older versions are dropped: longer than any read of one takes, in any process."""


class Indexes:
    """One of ids, one of terms, one for each filterable key; of a large table also of vectors."""

    def __init__(self, table: ItemTable, columns: Columns, embedder: Embeds) -> None:
        self._table = table
        self._filterable = columns.filterable
        self._embedder = embedder

    async def complete(self, *, renamed: bool) -> None:
        """Make the indexes that are missing. An index stands for a filled column: where a column
        has none yet, all rows are derived anew before it gets one. So they are with `renamed`,
        where rows still bear the name of another embedder."""
        lance = self._table.lance
        wanted = self._wanted()
        missing = wanted.keys() - {index.name for index in await lance.list_indices()}
        if missing or renamed:
            await self._derive_anew()
        for name in sorted(missing):
            column, config = wanted[name]
            await self._table.commit(partial(lance.create_index, column, config=config, name=name))
        await self._table.commit(self._drop_older_text_indexes)

    async def _drop_older_text_indexes(self) -> None:
        for index in await self._table.lance.list_indices():
            if index.index_type == "FTS" and index.name != TERMS_INDEX:
                await self._table.lance.drop_index(index.name)

    def _wanted(self) -> dict[str, tuple[str, BTree | FTS | LabelList]]:
        """Column and kind of every index but the vectors', by its name."""
        from lancedb.index import FTS, BTree, LabelList

        terms = FTS(  # the terms are already what they shall be
            base_tokenizer="whitespace",
            max_token_length=None,
            lower_case=False,
            stem=False,
            remove_stop_words=False,
            ascii_folding=False,
        )
        wanted: dict[str, tuple[str, BTree | FTS | LabelList]] = {
            "id_idx": ("id", BTree()),
            TERMS_INDEX: ("terms", terms),
        }
        for key, kind in self._filterable.items():
            column = filter_column(key, kind)
            wanted[f"{column}_idx"] = column, LabelList() if kind == "list" else BTree()
        return wanted

    async def _derive_anew(self) -> None:
        """Write every row's derived columns. A row that another process changes meanwhile keeps
        what came with the change."""
        lance = self._table.lance
        same = " AND ".join(
            f"target.{name} = source.{name}" for name in ("title", "text", "attributes")
        )
        async for batch in await lance.query().select(SHOWN).to_batches():
            items = map(item_of, batch.to_pylist())
            rows = await asyncio.to_thread(rows_of, items, self._filterable, self._embedder)
            update = rows.drop_columns(["url", "image_url", "published_at", "available"])
            merge = lance.merge_insert("id").when_matched_update_all(where=same)
            # with it, Lance 13 panics over a condition on some of the columns
            merge.use_index(False)
            await self._table.commit(partial(merge.execute, update))

    @guarded
    async def tidy(self) -> bool:
        """Compact the table, bring the indexes up to date, drop versions nobody reads; index
        vectors once the table is large.

        False when other writers kept coming first: that fails nothing, as searches read what no
        index holds yet.
        """
        optimize = partial(self._table.lance.optimize, cleanup_older_than=KEPT)
        try:
            await self._table.commit(self._index_vectors, attempts=TIDY_ATTEMPTS)
            await self._table.commit(optimize, attempts=TIDY_ATTEMPTS)
        except CatalogBusy:
            return False
        return True

    async def _index_vectors(self) -> None:
        from lancedb.index import HnswSq

        lance = self._table.lance
        indexed = {name for index in await lance.list_indices() for name in index.columns}
        for column, distance in DISTANCES.items():
            if column in indexed:
                continue
            if await lance.count_rows(f"{column} IS NOT NULL") >= INDEX_FROM:
                await lance.create_index(column, config=HnswSq(distance_type=distance))

    @guarded
    async def remake(self) -> list[str]:
        """Make every index anew from the rows; returns the columns that have one."""
        from lancedb.index import HnswSq

        lance = self._table.lance
        indexed = {index.columns[0] for index in await lance.list_indices()}
        vectors = {
            f"{column}_idx": (column, HnswSq(distance_type=DISTANCES[column]))
            for column in DISTANCES.keys() & indexed
        }
        indexes = self._wanted() | vectors
        for name, (column, config) in indexes.items():
            await self._table.commit(
                partial(lance.create_index, column, config=config, name=name, replace=True)
            )
        return sorted(column for column, _ in indexes.values())
