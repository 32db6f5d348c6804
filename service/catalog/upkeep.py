"""The work on the whole table: vectors that are still to come, indexes, and whether all files can
be read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from service.catalog.rows import (
    DERIVED,
    DISTANCES,
    SHOWN,
    filter_column,
    fit,
    item_of,
    rows_of,
    vector_rows,
)
from service.catalog.scopes import conditions, ids_in
from service.catalog.table import OnTable, guarded
from service.damage import newest_known
from service.errors import CatalogBusy, CatalogDamaged
from service.schema import Filter, Item

if TYPE_CHECKING:
    from lancedb.index import FTS, BTree, LabelList

PENDING = "(vector_sha IS NULL OR vector_sha != words_sha)"
BATCH = 512
"""How many rows are embedded before their vectors are written."""
TERMS_INDEX = "terms_1"
"""The name of the full-text index. Change it with `terms_of`: opening a catalogue then makes terms
and index anew."""
INDEX_FROM = 10_000
"""Below this many rows an exhaustive vector search is faster than any index, and exact."""
TIDY_ATTEMPTS = 5
"""How often compaction is tried in a round: it is costly, and the next round tries again."""
KEPT = timedelta(minutes=10)
"""Versions older than this are dropped. No read of a version takes as long, in any process."""


class Backlog(OnTable):
    """The rows whose vector is still to come."""

    @guarded
    async def count(self) -> int:
        """Rows whose vector is missing or stale."""
        return int(await self._table.lance.count_rows(PENDING))

    @guarded
    async def embed(self, step: Callable[[int, int], None] = lambda done, total: None) -> int:
        """Embeds the rows whose vector is missing or stale; returns how many. `step(done, total)`
        is called after each batch."""
        lance = self._table.lance
        done, total = 0, await self.count()
        pending = lance.query().where(PENDING).select(["id", "words", "words_sha"]).limit(BATCH)
        while rows := await pending.to_list():
            vectors = await self._table.embedder.embed([row["words"] for row in rows])
            update = vector_rows(
                "vector", [row["id"] for row in rows], vectors, [row["words_sha"] for row in rows]
            )
            merge = lance.merge_insert("id").when_matched_update_all()
            await self._table.commit(partial(merge.execute, update))
            done += len(rows)
            step(done, max(done, total))
        return done


class Indexes(OnTable):
    """The table's indexes: one of ids, one of terms, one for each filterable key; in a large table
    also of vectors."""

    async def complete(self, *, renamed: bool) -> None:
        """Creates the indexes that are missing. Where one is, the derived columns of all rows are
        computed first, since the column to be indexed may not be filled yet. `renamed`: compute
        them in any case, because they were made with another embedder."""
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

        kinds = {filter_column(key, kind): kind for key, kind in self._table.filterable.items()}
        return {
            "id_idx": ("id", BTree()),
            TERMS_INDEX: (
                "terms",
                FTS(  # the terms are already what they shall be
                    base_tokenizer="whitespace",
                    max_token_length=None,
                    lower_case=False,
                    stem=False,
                    remove_stop_words=False,
                    ascii_folding=False,
                ),
            ),
            **{
                f"{column}_idx": (column, LabelList() if kind == "list" else BTree())
                for column, kind in kinds.items()
            },
        }

    async def _derive_anew(self) -> None:
        """Write every row's derived columns. A row that another process changes meanwhile keeps
        what came with the change."""
        lance = self._table.lance
        same = " AND ".join(
            f"target.{name} = source.{name}" for name in ("title", "text", "attributes")
        )
        async for batch in await lance.query().select(SHOWN).to_batches():
            items = map(item_of, batch.to_pylist())
            rows = await asyncio.to_thread(
                rows_of, items, self._table.filterable, self._table.embedder
            )
            update = rows.drop_columns(["url", "image_url", "published_at", "available"])
            merge = lance.merge_insert("id").when_matched_update_all(where=same)
            # with it, Lance 13 panics over a condition on some of the columns
            merge.use_index(False)
            await self._table.commit(partial(merge.execute, update))

    @guarded
    async def tidy(self) -> bool:
        """Compacts the table, brings the indexes up to date, drops versions nobody reads, and
        indexes vectors once the table is large.

        Returns False if commits of other writers kept coming first. No search fails then: searches
        also read the rows that no index holds yet.
        """
        try:
            await self._table.commit(self._index_vectors, attempts=TIDY_ATTEMPTS)
            await self._table.commit(
                partial(self._table.lance.optimize, cleanup_older_than=KEPT),
                attempts=TIDY_ATTEMPTS,
            )
        except CatalogBusy:
            return False
        return True

    async def _index_vectors(self) -> None:
        from lancedb.index import HnswSq

        lance = self._table.lance
        indexed = {name for index in await lance.list_indices() for name in index.columns}
        for column in sorted(DISTANCES.keys() - indexed):
            if await lance.count_rows(f"{column} IS NOT NULL") >= INDEX_FROM:
                await lance.create_index(column, config=HnswSq(distance_type=DISTANCES[column]))

    @guarded
    async def remake(self) -> list[str]:
        """Make every index anew from the rows; returns the columns that have one."""
        from lancedb.index import HnswSq

        lance = self._table.lance
        indexed = {index.columns[0] for index in await lance.list_indices()}
        indexes = self._wanted() | {
            f"{column}_idx": (column, HnswSq(distance_type=DISTANCES[column]))
            for column in DISTANCES.keys() & indexed
        }
        for name, (column, config) in indexes.items():
            await self._table.commit(
                partial(lance.create_index, column, config=config, name=name, replace=True)
            )
        return sorted(column for column, _ in indexes.values())


class Health(OnTable):
    """Reads files as requests do, or all of them, and raises for what is damaged."""

    async def examine(self) -> None:
        """Reads as much of every column and index as a request would. Raises `CatalogDamaged` if a
        file is damaged; its message says how to repair the catalogue."""
        table = self._table
        with table.naming_damage("rows"):
            newest = newest_known(table.folder)
            if await table.lance.version() < newest:
                raise CatalogDamaged(
                    f"the manifest of version {newest} is gone from {table.folder}: restore a "
                    f"copy of it, or delete "
                    "latest_version_hint.json there to go on without the last writes"
                )
            rows = await table.lance.query().limit(1).select([*SHOWN, "terms"]).to_list()
        for row in rows:
            try:
                await self._search_like(row)
            except CatalogDamaged:
                # where the rows are damaged too, say that: nothing can be made anew from them
                with table.naming_damage("rows"):
                    await table.read_through(SHOWN)
                raise

    async def examine_all(self) -> None:
        """Read every row, vector and index, which takes as long as copying the folder. Raises as
        `examine`."""
        table = self._table
        names = (await table.lance.schema()).names
        with table.naming_damage("rows"):
            await table.read_through([name for name in names if name not in DERIVED])
        with table.naming_damage("versions"):
            await table.lance.list_versions()  # type: ignore[no-untyped-call]  # LanceDB's own
        with table.naming_damage("vectors"):
            await table.read_through(DERIVED)
        for index in await table.lance.list_indices():
            with table.naming_damage("indexes"):
                await table.lance.prewarm_index(index.name)
        await self.examine()

    async def _search_like(self, row: Mapping[str, Any]) -> None:
        """Runs one search of each kind over all rows; those by text, id and filter would match
        `row`."""
        lance = self._table.lance
        with self._table.naming_damage("vectors"):
            for column, size in ("vector", self._table.dimension), ("factors", self._table.factors):
                near = lance.query().nearest_to(np.ones(size, dtype=np.float32)).column(column)
                await near.limit(1).select(["id", "_distance"]).to_arrow()
        with self._table.naming_damage("indexes"):
            await lance.count_rows(ids_in([row["id"]]))
            by_text = lance.query().nearest_to_text(row["terms"] or "a", "terms")
            await by_text.limit(1).select(["id", "_score"]).to_arrow()
            for condition in self._true_of(item_of(row)):
                await lance.count_rows(condition)

    def _true_of(self, item: Item) -> Iterator[str]:
        """Yields, for each filterable key of which the item has a value, conditions that the item
        meets."""
        filterable = self._table.filterable
        for key, kind in filterable.items():
            value = fit(kind, item.attributes.get(key))
            values = value if isinstance(value, list) else [value]
            if values and value is not None:
                yield from conditions(key, Filter(any=values[:1]), filterable)
