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
from typing import TYPE_CHECKING, Any

from service.catalog.backlog import Backlog
from service.catalog.columns import SHOWN, Columns, Kind, declared_columns, factor_columns, fitted
from service.catalog.facets import Facets, count_facets
from service.catalog.filters import EVERYTHING, IN_FILTER, Scope, conditions, ids_in, literal
from service.catalog.health import Health
from service.catalog.indexes import INDEX_FROM, TERMS_INDEX, Indexes
from service.catalog.items import StoredItems
from service.catalog.opening import declare, open_table, other_space, size_of_vectors
from service.catalog.rows import factor_rows, item_of, rows_of
from service.catalog.search import Search
from service.catalog.space import Embeds, UserFactors, Vectors
from service.catalog.table import ItemTable, guarded
from service.catalog.terms import READ, asked_terms, terms_of, words_of
from service.damage import named
from service.errors import ConfigError, DiskFull, ModelError, StorageError
from service.schema import Attributes, Filter, Interest, Item

if TYPE_CHECKING:
    import lancedb  # half a second and more: imported when a catalogue is opened

__all__ = [
    "EVERYTHING",
    "INDEX_FROM",
    "IN_FILTER",
    "READ",
    "TERMS_INDEX",
    "Catalog",
    "Embeds",
    "Facets",
    "Kind",
    "Scope",
    "UserFactors",
    "Vectors",
    "asked_terms",
    "terms_of",
    "words_of",
]


class Catalog:
    """The items. Made by `await Catalog.open(folder, embed=…, filterable=…, factors=…)`.

    `search` returns ids of items that fit; `backlog` embeds the rows whose vector is still to come;
    `indexes` keeps and makes the indexes; `health` says whether the files can be read.
    """

    def __init__(
        self, folder: Path, lance: lancedb.AsyncTable, embedder: Embeds, columns: Columns
    ) -> None:
        self._table = ItemTable(folder, lance)
        self._columns = columns
        self._items = StoredItems(self._table)
        self._facets = Facets({})
        self._facets_version = -1
        self.embedder = embedder
        self.dimension = columns.dimension
        """Of the vectors, the same in the table and from the embedder: `open` refuses anything
        else."""
        self.search = Search(self._table, self._items, embedder, columns.filterable)
        self.backlog = Backlog(self._table, embedder)
        self.indexes = Indexes(self._table, columns, embedder)
        self.health = Health(self._table, columns)
        self.failing: Exception | None = None
        """What ended the last round of work in the background; None since one succeeded."""

    @property
    def full(self) -> DiskFull | None:
        """Why the last write was refused; None since one succeeded."""
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
        """Create or open the table. Raises `ConfigError` when its vectors are of another space than
        the embedder's, and a `StorageError` when it can't be read. With `re_embed` vectors and
        factors are dropped: all rows wait for new ones.

        `factors`: how many numbers an item's factors are; those of another length are forgotten.
        """
        with named(folder, "rows"):
            optional = [*declared_columns(filterable), *factor_columns(factors)]
            lance = await open_table(folder, embed, optional)
            strangers = await other_space(lance, embed)
            if strangers and not re_embed:
                raise ConfigError(
                    f"the catalogue in {folder} holds {strangers}: run 'whyrank ingest --re-embed'",
                    param="embed",
                )
            dimension = None if re_embed else size_of_vectors(await lance.schema())
            if dimension is None:
                dimension = await asyncio.to_thread(lambda: embed.dimension)
            columns = Columns(dict(filterable), dimension, factors)
            catalog = cls(folder, lance, embed, columns)
            await catalog._table.commit(partial(declare, lance, columns, re_embed=re_embed))
            await catalog.indexes.complete(renamed=bool(strangers))
            return catalog

    async def close(self) -> None:
        await self.embedder.close()

    # ── writing ───────────────────────────────────────────────────────────────────────────────────

    @guarded
    async def put(self, items: Sequence[Item]) -> None:
        """Insert or replace by id; the last of a repeated id wins. Durable on return; vectors
        follow. Attributes that `fitted` would leave out can't be filtered by."""
        latest = {item.id: item for item in items}.values()
        if latest:
            rows = await asyncio.to_thread(rows_of, latest, self._columns.filterable, self.embedder)
            merge = self._table.lance.merge_insert("id").when_matched_update_all()
            await self._table.commit(partial(merge.when_not_matched_insert_all().execute, rows))
            self.backlog.arrived.set()

    @guarded
    async def put_factors(self, version: str, factors: Mapping[str, Vectors]) -> int:
        """In one write, these factors for the items that the catalogue knows, and none for all
        others; returns how many.

        `version` names the training that they are of. Each is of shape [factors], finite.
        """
        lance = self._table.lance

        async def replace() -> list[str]:
            rows = await lance.query().select(["id", "factors_of"]).to_arrow()
            held = zip(rows["id"].to_pylist(), rows["factors_of"].to_pylist(), strict=True)
            changed = [item_id for item_id, of in held if item_id in factors or of is not None]
            if changed:
                update = factor_rows(changed, factors, self._columns.factors, version)
                await lance.merge_insert("id").when_matched_update_all().execute(update)
            return changed

        return sum(item_id in factors for item_id in await self._table.commit(replace))

    @guarded
    async def delete(self, item_id: str) -> bool:
        """Was there such an item?"""
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
        """The attributes with the values of declared ones in their declared kinds: `"1999"` and
        1999.0 are an int. A value that fits no way is left out, and `misfit` called with the
        attribute, the declared kind and the value."""
        return fitted(attributes, self._columns.filterable, misfit)

    async def work(self, every_s: float, failed: Callable[[Exception], None]) -> None:
        """Run until cancelled: embed what arrives, here or in another process; tidy after `every_s`
        with changes.

        An error is reported to `failed` and tried again a round later.
        """
        tidied = -1
        while True:
            try:
                await self.backlog.embed()
                if await self._table.lance.version() != tidied and await self.indexes.tidy():
                    tidied = await self._table.lance.version()
                self.failing = None
            except (StorageError, ModelError, OSError, RuntimeError, ValueError) as error:
                self.failing = error
                failed(error)
            self.backlog.arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.backlog.arrived.wait(), every_s)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────

    @guarded
    async def count(self) -> int:
        return int(await self._table.lance.count_rows())

    @guarded
    async def page(self, after: str, limit: int) -> list[Item]:
        """The first items, by id, whose id comes after: a walk that arrivals and changes don't
        disturb."""
        from lancedb.query import ColumnOrdering

        query = self._table.lance.query().where(f"id > {literal(after)}")
        query = query.order_by([ColumnOrdering(column_name="id")])
        return [item_of(row) for row in await query.select(SHOWN).limit(limit).to_list()]

    async def get(self, ids: Iterable[str]) -> dict[str, Item]:
        """The known ones of `ids`, in their order."""
        return {item_id: row.item for item_id, row in (await self._items.get(ids)).items()}

    @guarded
    async def unknown(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids`, in their order, that the catalogue does not have."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return []
        query = self._table.lance.query().where(ids_in(wanted))
        rows = await query.select(["id"]).limit(len(wanted)).to_arrow()
        known = set(rows["id"].to_pylist())
        return [item_id for item_id in wanted if item_id not in known]

    @guarded
    async def called(self, names: Iterable[str]) -> dict[str, list[Item]]:
        """Items by their exact title or their id; of several with one title the first by id
        first."""
        wanted = set(names)
        if not wanted:
            return {}
        literals = ", ".join(map(literal, sorted(wanted)))
        query = self._table.lance.query().where(f"title IN ({literals}) OR id IN ({literals})")
        items = map(item_of, await query.select(SHOWN).to_list())
        matches: dict[str, list[Item]] = {}
        for item in sorted(items, key=lambda item: item.id):
            for name in {item.title, item.id} & wanted:
                matches.setdefault(name, []).append(item)
        return matches

    @guarded
    async def facets(self) -> Facets:
        """Counted anew when the catalogue has changed."""
        version = await self._table.lance.version()
        if version != self._facets_version:
            self._facets = await count_facets(self._table.lance, self._columns.filterable)
            self._facets_version = version
        return self._facets

    def check_filters(self, filters: Mapping[str, Filter]) -> None:
        """Raises `BadRequest` for what can't be filtered by."""
        for key, wanted in filters.items():
            conditions(key, wanted, self._columns.filterable)

    # ── vectors ───────────────────────────────────────────────────────────────────────────────────

    async def vectors(self, ids: Iterable[str]) -> dict[str, Vectors]:
        """The unit vectors, each of shape [dimension], of those of `ids` that have one."""
        rows = await self._items.get(ids)
        return {item_id: row.vector for item_id, row in rows.items() if row.vector is not None}

    async def factors(self, ids: Iterable[str]) -> tuple[str, dict[str, Vectors]]:
        """The version of the factors, and the factors, each of shape [factors], of those of `ids`
        that have some; "" if none has."""
        rows = (await self._items.get(ids)).values()
        version = max((row.factors_of or "" for row in rows if row.factors is not None), default="")
        return version, {
            row.item.id: row.factors
            for row in rows
            if row.factors is not None and row.factors_of == version
        }

    async def interest(self, text: str) -> Interest:
        """A taste that is only described, as a vector of the catalogue's space."""
        vector = await self.embedder.embed_one(text)
        return Interest(vector=tuple(vector.tolist()), weight=1)
