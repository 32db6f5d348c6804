"""How likely texts are without any history: a number that depends on the text and the model alone,
so it is computed once.

Keys say which model, which template and which text; a title that changes has another key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from sqlalchemy import Column, Engine, Float, Table, Text, select
from sqlalchemy.dialects.sqlite import insert

from service.errors import StorageError
from service.store.database import metadata, writing

MOST = 200_000
"""So many are kept in memory."""

nulls = Table(
    "nulls", metadata, Column("key", Text, primary_key=True), Column("value", Float, nullable=False)
)


class Nulls:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, float] = {}

    async def get(self, keys: Sequence[str]) -> dict[str, float]:
        """Those that are known."""
        missing = [key for key in keys if key not in self._known]
        if missing:
            found = await asyncio.to_thread(self._get, missing)
            if len(self._known) > MOST:
                self._known.clear()
            self._known |= found
        return {key: self._known[key] for key in keys if key in self._known}

    def _get(self, keys: Sequence[str]) -> dict[str, float]:
        with self._engine.connect() as connection:
            return {
                row.key: row.value
                for row in connection.execute(select(nulls).where(nulls.c.key.in_(keys)))
            }

    async def put(self, values: Mapping[str, float]) -> None:
        """In memory at least: whoever ranks must not fail for what can be computed again."""
        if values:
            self._known |= values
            with suppress(StorageError):
                await asyncio.to_thread(self._put, values)

    def _put(self, values: Mapping[str, float]) -> None:
        rows = [{"key": key, "value": value} for key, value in values.items()]
        with writing(self._engine) as connection:
            connection.execute(insert(nulls).on_conflict_do_nothing(), rows)
