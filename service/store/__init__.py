"""The durable log and what is declared about people: a file a table, one migration history, SQLite by default.

A write is on disk (`synchronous=FULL`) when its method returns; every read sees every finished write, from any process.
Methods are coroutines; the work runs on a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text

from service.schema import Event
from service.store.database import writing
from service.store.events import Events
from service.store.popularity import Popularity
from service.store.rankings import Rankings
from service.store.users import Users

__all__ = ["Store"]


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
        with writing(self._engine) as connection:
            self.popularity.recount_if_changed(connection, meaning)

    def check(self) -> None:
        """Raises if the database can't be read."""
        with self._engine.connect() as connection:
            connection.execute(text("SELECT 1 FROM events LIMIT 1"))

    def close(self) -> None:
        self._engine.dispose()


def _open(url: str) -> Engine:
    if database := make_url(url).database:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)
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
