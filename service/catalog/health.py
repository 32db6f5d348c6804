"""Whether the table's files can be read, and what brings back what can't."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from service.catalog.columns import DERIVED, SHOWN, Columns, fit
from service.catalog.filters import conditions, ids_in
from service.catalog.rows import item_of
from service.catalog.table import ItemTable
from service.damage import newest_known
from service.errors import CatalogDamaged
from service.schema import Filter, Item


class Health:
    """Reads files as requests do, or all of them, and raises for what is damaged."""

    def __init__(self, table: ItemTable, columns: Columns) -> None:
        self._table = table
        self._columns = columns

    async def examine(self) -> None:
        """Read of every column and index what a request would. Raises `CatalogDamaged`, which says
        what brings it back."""
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
        """A search of each kind, among all rows; those by text and by id would match this one."""
        lance = self._table.lance
        sizes = {"vector": self._columns.dimension, "factors": self._columns.factors}
        with self._table.naming_damage("vectors"):
            for column, size in sizes.items():
                near = lance.query().nearest_to(np.ones(size, dtype=np.float32)).column(column)
                await near.limit(1).select(["id", "_distance"]).to_arrow()
        with self._table.naming_damage("indexes"):
            await lance.count_rows(ids_in([row["id"]]))
            by_text = lance.query().nearest_to_text(row["terms"] or "a", "terms")
            await by_text.limit(1).select(["id", "_score"]).to_arrow()
            for condition in self._true_of(item_of(row)):
                await lance.count_rows(condition)

    def _true_of(self, item: Item) -> Iterator[str]:
        """A condition on each filterable key of which the item has a value."""
        for key, kind in self._columns.filterable.items():
            value = fit(kind, item.attributes.get(key))
            values = value if isinstance(value, list) else [value]
            if values and value is not None:
                yield from conditions(key, Filter(any=values[:1]), self._columns.filterable)
