"""Time-decayed popularity from the log, by forward decay (Cormode et al., ICDE 2009).

An event of weight w at time t counts w · 2^(t/h) for a half-life h: the order of the sums is the
order of the decayed counts at any later moment, so no sum is ever updated because time passed.
Sums are kept as base-2 logarithms.
"""

import math
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Column, Connection, Engine, Float, Index, Table, Text, delete, select
from sqlalchemy.dialects.sqlite import insert

from service.schema import Event
from service.store.database import StoredTable, metadata, moment, on_thread, writing

DAY_S = 86_400

popularity = Table(
    "popularity",
    metadata,
    Column("item_id", Text, primary_key=True),
    Column("log2_votes", Float, nullable=False),
    Index("most_popular", "log2_votes"),
)
notes = Table(
    "notes", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False)
)

BY_VOTES = select(popularity.c.item_id).order_by(
    popularity.c.log2_votes.desc(), popularity.c.item_id
)
"""Selects item ids, most popular first; ties by id."""


class Popularity(StoredTable):
    def __init__(
        self, engine: Engine, *, weigh: Callable[[Event], float], half_life_days: float
    ) -> None:
        super().__init__(engine)
        self._weigh = weigh
        self._half_life_s = half_life_days * DAY_S

    def add(self, connection: Connection, batch: Iterable[Event]) -> None:
        """Count events, within the caller's transaction."""
        votes: dict[str, float] = {}
        for event in batch:
            weight = self._weigh(event)
            if event.item_id is not None and weight > 0:
                vote = math.log2(weight) + event.occurred_at.timestamp() / self._half_life_s
                votes[event.item_id] = _add_logs(votes.get(event.item_id, -math.inf), vote)
        if not votes:
            return
        known = select(popularity).where(popularity.c.item_id.in_(votes))
        before = {row.item_id: row.log2_votes for row in connection.execute(known)}
        rows = [
            {"item_id": item_id, "log2_votes": _add_logs(before.get(item_id, -math.inf), vote)}
            for item_id, vote in votes.items()
        ]
        upsert = insert(popularity)
        upsert = upsert.on_conflict_do_update(
            index_elements=["item_id"], set_={"log2_votes": upsert.excluded.log2_votes}
        )
        connection.execute(upsert, rows)

    @on_thread
    def top(self, limit: int, offset: int = 0) -> list[str]:
        """Item ids, most popular first; ties by id."""
        return [row.item_id for row in self._rows(BY_VOTES.limit(limit).offset(offset))]

    @on_thread
    def among(self, ids: list[str]) -> list[str]:
        """Those of `ids` that have votes, most popular first."""
        query = BY_VOTES.where(popularity.c.item_id.in_(ids))
        return [row.item_id for row in self._rows(query)]

    @on_thread
    def votes(self, ids: Sequence[str]) -> dict[str, float]:
        """log2 of the decayed votes of those of `ids` that have any, up to one constant for all
        items."""
        query = select(popularity).where(popularity.c.item_id.in_(ids))
        return {row.item_id: row.log2_votes for row in self._rows(query)}

    def recount_if_changed(self, meaning: str) -> None:
        """Count anew from the log when the sums were made with another meaning of events or another
        half-life."""
        made_with = f"{meaning}|{self._half_life_s}"
        before = self._value(select(notes.c.value).where(notes.c.key == "popularity"))
        if before == made_with:
            return
        from service.store.events import events  # the log imports this table's class

        columns = events.c.item_id, events.c.type, events.c.value, events.c.occurred_at
        note = insert(notes).values(key="popularity", value=made_with)
        with writing(self._engine) as connection:
            connection.execute(delete(popularity))
            log = connection.execute(select(*columns).where(events.c.item_id.is_not(None)))
            voting = (
                Event.model_construct(
                    item_id=row.item_id,
                    type=row.type,
                    value=row.value,
                    occurred_at=moment(row.occurred_at),
                )
                for row in log
            )
            self.add(connection, voting)
            connection.execute(
                note.on_conflict_do_update(index_elements=["key"], set_={"value": made_with})
            )


def _add_logs(a: float, b: float) -> float:
    """log2(2^a + 2^b) without overflow."""
    high, low = max(a, b), min(a, b)
    return high + math.log2(1 + 2 ** (low - high))
