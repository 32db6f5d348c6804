"""What was spent on models: a row for each day, model and key, so that budgets hold across
restarts."""

import asyncio
from datetime import datetime

from sqlalchemy import Column, Engine, Float, Integer, Table, Text, func, select
from sqlalchemy.dialects.sqlite import insert

from service.store.database import metadata, writing

spendings = Table(
    "spendings",
    metadata,
    Column("day", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("dollars", Float, nullable=False),
    Column("calls", Integer, nullable=False),
)


class Spendings:
    """Days are UTC's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def spent(
        self, at: datetime, *, alias: str | None = None, key_id: str | None = None
    ) -> float:
        """Dollars spent on the day of `at`: on the model `alias`, or on all; by one key, or by
        all."""
        return await asyncio.to_thread(self._spent, _day(at), alias, key_id)

    def _spent(self, day: str, alias: str | None, key_id: str | None) -> float:
        query = select(func.sum(spendings.c.dollars)).where(spendings.c.day == day)
        if alias is not None:
            query = query.where(spendings.c.alias == alias)
        if key_id is not None:
            query = query.where(spendings.c.key_id == key_id)
        with self._engine.connect() as connection:
            return float(connection.scalar(query) or 0.0)

    async def add(self, at: datetime, alias: str, key_id: str, dollars: float) -> None:
        """Count one call of the model `alias` for a key."""
        await asyncio.to_thread(self._add, _day(at), alias, key_id, dollars)

    def _add(self, day: str, alias: str, key_id: str, dollars: float) -> None:
        new = insert(spendings).values(
            day=day, alias=alias, key_id=key_id, dollars=dollars, calls=1
        )
        sums = {
            "dollars": spendings.c.dollars + new.excluded.dollars,
            "calls": spendings.c.calls + 1,
        }
        with writing(self._engine) as connection:
            connection.execute(
                new.on_conflict_do_update(index_elements=["day", "alias", "key_id"], set_=sums)
            )


def _day(at: datetime) -> str:
    return at.date().isoformat()
