"""The durable log and what is declared about people: a file a table, one migration history, SQLite by default.

A write is on disk (`synchronous=FULL`) when its method returns; every read sees every finished write, from any process.
Methods are coroutines; the work runs on a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text

from service.schema import Event, User
from service.store.database import metadata, micros, writing
from service.store.events import Events
from service.store.keys import Keys
from service.store.nulls import Nulls
from service.store.popularity import Popularity
from service.store.rankings import Rankings
from service.store.shadows import Shadows
from service.store.spendings import Spendings
from service.store.trainings import Trainings
from service.store.users import Users

__all__ = ["Person", "Store"]

OF_A_PERSON = ("users", "events", "rankings", "shadows")
"""The tables whose rows are somebody's."""


@dataclass(frozen=True)
class Person:
    """All that is stored of a person at one moment. `declared`: None if they never declared anything and never acted.

    `events`: the history's end, oldest first. `latest`: (item id, type, time in microseconds) over the whole log.
    """

    declared: User | None
    version: int
    events: list[Event]
    latest: list[tuple[str, str, int]]


class Store:
    """`url`: a SQLAlchemy SQLite URL. `weigh(event)`: how much an event adds to its item's popularity (≤ 0: nothing).

    `half_life_days`: a popularity vote halves in that time. `meaning`: a fingerprint of `weigh`; when it or the half-life
    changes, popularity is counted anew from the log.
    """

    def __init__(self, url: str, *, weigh: Callable[[Event], float], half_life_days: float, meaning: str = "") -> None:
        self._engine = _open(url)
        self.users = Users(self._engine)
        self.popularity = Popularity(self._engine, weigh=weigh, half_life_days=half_life_days)
        self.events = Events(self._engine, self.popularity)
        self.rankings = Rankings(self._engine)
        self.shadows = Shadows(self._engine)
        self.nulls = Nulls(self._engine)
        self.trainings = Trainings(self._engine)
        self.keys = Keys(self._engine)
        self.spendings = Spendings(self._engine)
        with writing(self._engine) as connection:
            self.popularity.recount_if_changed(connection, meaning)

    async def person(self, key: str, types: Sequence[str]) -> Person:
        """One person by log key, in one snapshot; `latest` of the given event types."""
        return await asyncio.to_thread(self._person, key, types)

    def _person(self, key: str, types: Sequence[str]) -> Person:
        with self._engine.connect() as connection:
            found = self.users.read(connection, key)
            declared, version = found if found is not None else (None, 0)
            events, whole = self.events.history(connection, key) if version else ([], True)
            latest = _latest(events, types) if whole else self.events.latest_by_type(connection, key, types)
            return Person(declared, version, events, latest)

    async def forget(self, user_id: str) -> bool:
        """Delete a user's declaration, events and rankings, in one write. Was there such a user?"""
        return await asyncio.to_thread(self._forget, user_id)

    def _forget(self, user_id: str) -> bool:
        with writing(self._engine) as connection:
            tables = [metadata.tables[name] for name in OF_A_PERSON]
            gone = [connection.execute(table.delete().where(table.c.who == user_id)).rowcount for table in tables]
        return gone[0] > 0

    def check(self) -> None:
        """Raises if the database can't be read."""
        with self._engine.connect() as connection:
            connection.execute(text("SELECT 1 FROM events LIMIT 1"))

    def close(self) -> None:
        self._engine.dispose()


def _latest(events: Sequence[Event], types: Sequence[str]) -> list[tuple[str, str, int]]:
    """What `Events.latest_by_type` finds, from events in the order of time."""
    asked = set(types)
    last = {(one.item_id, one.type): one.occurred_at for one in events if one.item_id is not None and one.type in asked}
    return [(item_id, kind, micros(at)) for (item_id, kind), at in last.items()]


def _open(url: str) -> Engine:
    if database := make_url(url).database:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, hide_parameters=True)  # they hold what people wrote
    event.listen(engine, "connect", _durable)
    event.listen(engine, "begin", _begin)
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return engine


def _durable(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not open transactions of its own; _begin does
    connection.execute("PRAGMA busy_timeout=15000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")


def _begin(connection: Connection) -> None:
    """Writers queue at the start of their transaction, so that none fails half-way as 'locked'."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
