"""Items and their vectors in LanceDB: search by vector, by text, by filter; every read sees every
finished write, of any process.

An item's row is durable when `put` returns. Its vector is made in the background (`work`), which
also keeps the indexes fresh and the table compact. A second vector, an item's `factors`, comes from
a matrix factorisation: a training replaces those of all items in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from service.catalog.rows import (
    SHOWN,
    Kind,
    fit,
    item_of,
    rows_of,
    vector_rows,
)
from service.catalog.scopes import IN_FILTER, Scope, ids_in, literal, where
from service.catalog.search import Facets, Scores, Search, count_facets
from service.catalog.table import (
    ItemTable,
    OnTable,
    guarded,
    open_table,
    other_space,
)
from service.catalog.upkeep import INDEX_FROM, TERMS_INDEX, Backlog, Health, Indexes
from service.catalog.words import (
    READ,
    Embeds,
    UserFactors,
    Vectors,
    asked_terms,
    terms_of,
    words_of,
)
from service.damage import named
from service.errors import ConfigError, DiskFull, ModelError, StorageError
from service.schema import Attributes, Filter, Item

__all__ = [
    "INDEX_FROM",
    "IN_FILTER",
    "READ",
    "TERMS_INDEX",
    "Catalog",
    "Embeds",
    "Facets",
    "Kind",
    "Scope",
    "Scores",
    "UserFactors",
    "Vectors",
    "asked_terms",
    "terms_of",
    "words_of",
]


class Catalog(OnTable):
    """The stored items, and the indexes in which they are searched. Made by
    `await Catalog.open(folder, embed=…, filterable=…, factors=…)`.

    `search` returns ids of items that fit; `backlog` embeds the rows whose vector is still to come;
    `indexes` keeps and makes the indexes; `health` says whether the files can be read.
    """

    def __init__(self, table: ItemTable) -> None:
        super().__init__(table)
        self._facets = (-1, Facets({}))
        """The version of the table in which the facets were counted, and the facets."""
        self._arrived = asyncio.Event()
        """Set when rows were put; the background work clears it."""
        self.embedder = table.embedder
        self.dimension = table.dimension
        """The length of a vector, the same in the table and from the embedder: `open` raises
        `ConfigError` otherwise."""
        self.search = Search(table)
        self.backlog = Backlog(table)
        self.indexes = Indexes(table)
        self.health = Health(table)
        self.failing: Exception | None = None
        """The error that ended the last round of background work; None if that round succeeded."""

    @property
    def numbers(self) -> list[str]:
        """The filterable keys whose values are numbers."""
        return [key for key, kind in self._table.filterable.items() if kind in {"int", "float"}]

    @property
    def full(self) -> DiskFull | None:
        """The error of the last write that a full disk refused; None once a later write has
        succeeded."""
        return self._table.full

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        embed: Embeds,
        filterable: Mapping[str, Kind],
        factors: int = 64,
        re_embed: bool = False,
    ) -> Catalog:
        """Creates or opens the table. Raises `ConfigError` if another embedder made its vectors,
        unless `re_embed` is true, and a `StorageError` if the table can't be read. With `re_embed`
        vectors and factors are dropped: all rows wait for new ones.

        `factors`: how many numbers an item's factors are; stored factors of another length are
        dropped.
        """
        with named(folder, "rows"):
            lance = await open_table(folder)
            strangers, dimension = await other_space(lance, embed)
            if strangers and not re_embed:
                raise ConfigError(
                    f"the catalogue in {folder} holds {strangers}: run 'whyrank ingest "
                    f"--re-embed', or set embed to what made them (all-MiniLM: embed.path)",
                    param="embed",
                )
            table = ItemTable(
                folder, lance, embed, filterable=filterable, dimension=dimension, factors=factors
            )
            await table.commit(partial(table.declare, re_embed=re_embed))
            catalog = cls(table)
            await catalog.indexes.complete(renamed=bool(strangers))
            return catalog

    # ── writing ───────────────────────────────────────────────────────────────────────────────────

    @guarded
    async def put(self, items: Sequence[Item]) -> None:
        """Inserts or replaces items by id; the last of a repeated id wins. Rows are durable on
        return; `work` makes their vectors later. Attributes that `fitted` would leave out can't be
        filtered by."""
        latest = {item.id: item for item in items}.values()
        if latest:
            rows = await asyncio.to_thread(rows_of, latest, self._table.filterable, self.embedder)
            merge = self._table.lance.merge_insert("id").when_matched_update_all()
            await self._table.commit(partial(merge.when_not_matched_insert_all().execute, rows))
            self._arrived.set()

    @guarded
    async def put_factors(self, version: str, factors: Mapping[str, Vectors]) -> int:
        """Stores `factors`, by item id, for the items that the catalogue has, and removes those of
        all other items, in one write. Returns how many items got factors.

        `version` names the training that made the factors. Each is of shape [factors], finite.
        """
        lance = self._table.lance

        async def replace() -> list[str]:
            rows = await lance.query().select(["id", "factors_of"]).to_arrow()
            held = zip(rows["id"].to_pylist(), rows["factors_of"].to_pylist(), strict=True)
            changed = [item_id for item_id, of in held if item_id in factors or of is not None]
            if changed:
                nothing = np.zeros(self._table.factors, dtype=np.float32)
                vectors = np.stack([factors.get(item_id, nothing) for item_id in changed])
                versions = [version if item_id in factors else None for item_id in changed]
                update = vector_rows("factors", changed, vectors.astype(np.float32), versions)
                # a row without a vector is none that is bad
                merge = lance.merge_insert("id").when_matched_update_all()
                await merge.execute(update, on_bad_vectors="null")
            return changed

        return sum(item_id in factors for item_id in await self._table.commit(replace))

    @guarded
    async def delete(self, item_id: str) -> bool:
        """Deletes the item; returns whether it existed."""
        condition = ids_in([item_id])

        async def remove() -> bool:
            exists = bool(await self._table.lance.count_rows(condition))
            if exists:
                await self._table.lance.delete(condition)
            return exists

        return await self._table.commit(remove)

    def fitted(
        self, attributes: Attributes, misfit: Callable[[str, Kind, Any], None]
    ) -> Attributes:
        """Returns the attributes with the value of each filterable key in its declared kind: for an
        int, `"1999"` and 1999.0 become 1999. A value that can't be converted is left out, and
        `misfit` is called with the key, the declared kind and the value."""
        fitting = dict(attributes)
        for key, kind in self._table.filterable.items():
            value = fit(kind, fitting.get(key))
            if key in fitting and value is None:
                misfit(key, kind, fitting.pop(key))
            elif key in fitting and (kind != "list" or isinstance(fitting[key], list)):
                fitting[key] = value
        return fitting

    async def work(self, every_s: float, failed: Callable[[Exception], None]) -> None:
        """Runs rounds until cancelled. A round embeds the rows without a current vector, whichever
        process wrote them, and tidies the table if it changed. The next round starts when `put` is
        called in this process, or after `every_s` seconds.

        An error is passed to `failed`; the next round tries again.
        """
        tidied = -1
        while True:
            try:
                await self.backlog.embed()
                if await self._table.lance.version() != tidied and await self.indexes.tidy():
                    tidied = await self._table.lance.version()
                await self.facets()
                self.failing = None
            except (StorageError, ModelError, OSError, RuntimeError, ValueError) as error:
                self.failing = error
                failed(error)
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), every_s)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────

    @guarded
    async def count(self) -> int:
        return int(await self._table.lance.count_rows())

    @guarded
    async def page(self, after: str, limit: int) -> list[Item]:
        """Returns the first `limit` items whose id comes after `after`, in the order of ids. Items
        that arrive or change don't disturb a walk from page to page."""
        from lancedb.query import ColumnOrdering

        query = (
            self._table.lance.query()
            .where(f"id > {literal(after)}")
            .order_by([ColumnOrdering(column_name="id")])
            .select(SHOWN)
        )
        return [item_of(row) for row in await query.limit(limit).to_list()]

    async def get(self, ids: Iterable[str]) -> dict[str, Item]:
        """Returns the items that the catalogue has, by id, in the order of `ids`."""
        return {item_id: row.item for item_id, row in (await self.search.by_id(ids)).items()}

    @guarded
    async def called(self, names: Iterable[str]) -> dict[str, list[Item]]:
        """Returns, for each name, the items whose title or id is exactly that name, in the order of
        ids. Names without an item are left out."""
        wanted = set(names)
        if not wanted:
            return {}
        literals = ", ".join(map(literal, sorted(wanted)))
        query = self._table.lance.query().where(f"title IN ({literals}) OR id IN ({literals})")
        rows = await query.select(SHOWN).to_list()
        matches: dict[str, list[Item]] = {}
        for item in sorted(map(item_of, rows), key=lambda item: item.id):
            for name in {item.title, item.id} & wanted:
                matches.setdefault(name, []).append(item)
        return matches

    @guarded
    async def titled(self, titles: Iterable[str]) -> dict[str, str]:
        """Returns the ids of the items that have one of these titles, by title in folded case. Of
        several with the same title, the first id."""
        folded = sorted({title.casefold().strip(" .") for title in titles} - {""})
        if not folded:
            return {}
        literals = ", ".join(map(literal, folded))
        query = self._table.lance.query().where(f"lower(title) IN ({literals}) AND available")
        rows = await query.select(["id", "title"]).to_list()
        found = sorted(((row["title"].casefold(), row["id"]) for row in rows), reverse=True)
        return dict(found)

    @guarded
    async def facets(self) -> Facets:
        """Returns the facets; counts them anew only if the catalogue has changed."""
        version = await self._table.lance.version()
        if version != self._facets[0]:
            self._facets = version, await count_facets(self._table)
        return self._facets[1]

    async def facets_lately(self) -> Facets:
        """Returns the facets as they were counted last, in this process: by `work` once a round, or
        by `facets`. For what needn't know of the last change, as counting reads whole columns."""
        return self._facets[1] if self._facets[0] >= 0 else await self.facets()

    def check_filters(self, filters: Mapping[str, Filter]) -> None:
        """Raises `BadRequest` for what can't be filtered by."""
        where(Scope(filters=filters), self._table.filterable)

    # ── vectors ───────────────────────────────────────────────────────────────────────────────────

    async def vectors(self, ids: Iterable[str]) -> dict[str, Vectors]:
        """The unit vectors, each of shape [dimension], of those of `ids` that have one."""
        rows = (await self.search.by_id(ids)).values()
        return {row.item.id: row.vector for row in rows if row.vector is not None}

    async def factors(self, ids: Iterable[str]) -> tuple[str, dict[str, Vectors]]:
        """Returns the version of the training, and its factors of those of `ids` that have some, by
        id, each of shape [factors]. The version is "" if none has factors."""
        rows = (await self.search.by_id(ids)).values()
        version = max((row.factors_of or "" for row in rows if row.factors is not None), default="")
        return version, {
            row.item.id: row.factors
            for row in rows
            if row.factors is not None and row.factors_of == version
        }
