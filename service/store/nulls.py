"""The likelihoods of texts without a history, kept so that they need not be computed again."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from sqlalchemy import Column, Engine, Float, Table, Text, select
from sqlalchemy.dialects.sqlite import insert

from service.errors import StorageError
from service.store.database import StoredTable, metadata

MOST = 200_000
"""How many likelihoods are kept in memory."""

nulls = Table(
    "nulls", metadata, Column("key", Text, primary_key=True), Column("value", Float, nullable=False)
)


class Nulls(StoredTable):
    """The likelihoods of texts without any history: each depends on the text and the model alone. A
    key is made of the model, the template and the text; a title that changes has another key."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._known: dict[str, float] = {}

    async def get(self, keys: Sequence[str]) -> dict[str, float]:
        """Returns the stored likelihoods by key; unknown keys are left out."""
        missing = [key for key in keys if key not in self._known]
        if missing:
            rows = await asyncio.to_thread(
                self._rows, select(nulls).where(nulls.c.key.in_(missing))
            )
            if len(self._known) > MOST:
                self._known.clear()
            self._known |= {row.key: row.value for row in rows}
        return {key: self._known[key] for key in keys if key in self._known}

    async def put(self, values: Mapping[str, float]) -> None:
        """Keeps the values in memory, and on disk if that can be written: no ranking may fail for
        what can be computed again."""
        if values:
            self._known |= values
            with suppress(StorageError):
                rows = [{"key": key, "value": value} for key, value in values.items()]
                await asyncio.to_thread(self._write, insert(nulls).on_conflict_do_nothing(), rows)
