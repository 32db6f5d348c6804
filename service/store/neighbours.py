"""The neighbours of each item, learned from the event log: one table for each learned source,
replaced by each training."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Column, Engine, LargeBinary, Table, Text, select
from sqlalchemy.dialects.sqlite import insert

from service.store.database import StoredTable, metadata, on_thread, writing

TOGETHER = "together:"
"""Before the name of an event type: the table of how many people did the same to two items."""

neighbours = Table(
    "neighbours",
    metadata,
    Column("source", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("items", LargeBinary, nullable=False),
    Column("starts", LargeBinary, nullable=False),
    Column("others", LargeBinary, nullable=False),
    Column("weights", LargeBinary, nullable=False),
)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A sparse matrix by rows. `items`: ids in ascending order; the neighbours of item n are
    `others[starts[n]:starts[n + 1]]`, as places in `items`, with their `weights`."""

    items: tuple[str, ...]
    starts: npt.NDArray[np.int64]
    others: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Maps each item id to its place in `items`."""
        return {item_id: place for place, item_id in enumerate(self.items)}


class NeighbourTables(StoredTable):
    """Stores and reads the tables of neighbours. A process reads a table from disk once after each
    training, whichever process trained."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._read: dict[str, tuple[str, Neighbours]] = {}
        """Maps each source to the version that was read last and its table."""

    @on_thread
    def put(self, version: str, tables: Mapping[str, Neighbours]) -> None:
        """Replaces all tables by `tables`, by source, in one write. Durable on return."""
        with writing(self._engine) as connection:
            connection.execute(neighbours.delete().where(neighbours.c.source.not_in(tables)))
            for source, table in tables.items():
                row = {
                    "version": version,
                    "items": "\n".join(table.items).encode(),
                    "starts": table.starts.astype("<i8").tobytes(),
                    "others": table.others.astype("<i4").tobytes(),
                    "weights": table.weights.astype("<f4").tobytes(),
                }
                upsert = insert(neighbours).values(source=source, **row)
                upsert = upsert.on_conflict_do_update(index_elements=["source"], set_=row)
                connection.execute(upsert)

    @on_thread
    def get(self, source: str) -> Neighbours | None:
        """Returns the latest table of a source; None before the first training."""
        of_source = neighbours.c.source == source
        version = self._value(select(neighbours.c.version).where(of_source))
        if version is None:
            return None
        last = self._read.get(source)
        if last is None or last[0] != version:
            (row,) = self._rows(select(neighbours).where(of_source))
            last = self._read[source] = row.version, _table(row)
        return last[1]


def _table(row: Any) -> Neighbours:
    return Neighbours(
        items=tuple(row.items.decode().split("\n")),
        starts=np.frombuffer(row.starts, dtype="<i8"),
        others=np.frombuffer(row.others, dtype="<i4"),
        weights=np.frombuffer(row.weights, dtype="<f4"),
    )
