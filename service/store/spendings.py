"""What was spent on models: the ledger of the budgets."""

from datetime import datetime

from sqlalchemy import Column, Float, Integer, Table, Text, func, select
from sqlalchemy.dialects.sqlite import insert

from service.store.database import StoredTable, matching, metadata, on_thread

spendings = Table(
    "spendings",
    metadata,
    Column("day", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("dollars", Float, nullable=False),
    Column("calls", Integer, nullable=False),
)


class Spendings(StoredTable):
    """What was spent on models: a row for each day (of UTC), model and key, so that budgets hold
    across restarts."""

    @on_thread
    def spent(self, at: datetime, *, alias: str | None = None, key_id: str | None = None) -> float:
        """Returns the dollars spent on the day of `at`: on the model `alias` (None: on all models)
        by the key `key_id` (None: by all keys)."""
        wanted = matching((spendings.c.alias, alias), (spendings.c.key_id, key_id))
        query = select(func.sum(spendings.c.dollars)).where(spendings.c.day == _day(at), *wanted)
        return self._value(query) or 0.0

    @on_thread
    def add(self, at: datetime, alias: str, key_id: str, dollars: float) -> None:
        """Count one call of the model `alias` for a key."""
        new = insert(spendings).values(
            day=_day(at), alias=alias, key_id=key_id, dollars=dollars, calls=1
        )
        sums = {
            "dollars": spendings.c.dollars + new.excluded.dollars,
            "calls": spendings.c.calls + 1,
        }
        self._write(new.on_conflict_do_update(index_elements=["day", "alias", "key_id"], set_=sums))


def _day(at: datetime) -> str:
    return at.date().isoformat()
