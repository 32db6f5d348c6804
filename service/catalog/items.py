"""Items by their ids, with their vectors and factors, remembered until the table changes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.catalog.columns import SHOWN
from service.catalog.filters import ids_in
from service.catalog.rows import item_of, vectors_by_id
from service.catalog.space import Vectors
from service.catalog.table import ItemTable, guarded
from service.schema import Item

REMEMBERED = 5_000
"""How many rows are kept in memory between two writes."""


@dataclass(frozen=True)
class StoredItem:
    """An item, its unit vector, its factors and the version of the training they are of."""

    item: Item
    vector: Vectors | None = None
    factors: Vectors | None = None
    factors_of: str | None = None


class StoredItems:
    """Reads items by id."""

    def __init__(self, table: ItemTable) -> None:
        self._table = table
        self._version = -1
        self._remembered: dict[str, StoredItem | None] = {}
        """Of the table's version `_version`; None for an id that the table does not have."""

    @guarded
    async def get(self, ids: Iterable[str]) -> dict[str, StoredItem]:
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
        query = self._table.lance.query().where(ids_in(ids))
        columns = [*SHOWN, "vector", "factors", "factors_of"]
        table = await query.select(columns).limit(len(ids)).to_arrow()
        vectors, factors = vectors_by_id(table, "vector"), vectors_by_id(table, "factors")
        stored = {}
        for row in table.drop_columns(["vector", "factors"]).to_pylist():
            item_id = row["id"]
            stored[item_id] = StoredItem(
                item_of(row), vectors.get(item_id), factors.get(item_id), row["factors_of"]
            )
        return stored
