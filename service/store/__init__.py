"""The durable log, and what people declared about themselves, in SQLite: a module for each table or
two that are written together, and one migration history.

A write is on disk (`synchronous=FULL`) when its method returns; every read sees every finished
write, from any process. Methods are coroutines; the work runs on a thread.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, make_url, select

from service.schema import Event, User
from service.store.database import make_engine, metadata, micros, migrate, on_thread, writing
from service.store.events import Events, Popularity, events
from service.store.file import DatabaseFile
from service.store.keys import Keys
from service.store.neighbours import TOGETHER, Neighbours, NeighbourTables
from service.store.nulls import Nulls
from service.store.rankings import Rankings, Shadows, rankings, shadows
from service.store.spendings import Spendings
from service.store.trainings import Trainings
from service.store.users import Users, users

__all__ = ["TOGETHER", "Neighbours", "Store", "StoredPerson"]

OF_A_PERSON = (users, events, rankings, shadows)
"""The tables whose rows belong to a person."""


@dataclass(frozen=True)
class StoredPerson:
    """All that is stored of a person at one moment. `declared`: None if they never declared
    anything and never acted.

    `events`: the end of the history, oldest first. `latest`: (item id, event type, time of the last
    such event in microseconds since 1970) over the whole log.
    """

    declared: User | None
    version: int
    events: list[Event]
    latest: list[tuple[str, str, int]]


class Store:
    """The service's database, with one attribute for each table.

    `url`: a SQLAlchemy SQLite URL. `weigh(event)`: how much an event adds to its item's popularity
    (≤ 0: nothing). `half_life_days`: a popularity vote halves in that time. `meaning`: a
    fingerprint of `weigh`; when it or the half-life changes, popularity is counted anew from the
    log.

    Raises `ConfigError` if a newer version wrote the database, and `StorageError`, as every method
    does, if the database can't be used.
    """

    def __init__(
        self, url: str, *, weigh: Callable[[Event], float], half_life_days: float, meaning: str = ""
    ) -> None:
        self.file = DatabaseFile(Path(make_url(url).database or ""))
        self._engine = make_engine(self.file)
        self.file.check_before_opening()
        migrate(self._engine, self.file)
        self.users = Users(self._engine)
        self.popularity = Popularity(self._engine, weigh=weigh, half_life_days=half_life_days)
        self.events = Events(self._engine, self.popularity)
        self.rankings = Rankings(self._engine)
        self.shadows = Shadows(self._engine)
        self.nulls = Nulls(self._engine)
        self.trainings = Trainings(self._engine)
        self.neighbours = NeighbourTables(self._engine)
        self.keys = Keys(self._engine)
        self.spendings = Spendings(self._engine)
        self.popularity.recount_if_changed(meaning)

    @on_thread
    def person(self, key: str, types: Sequence[str]) -> StoredPerson:
        """Returns what is stored of the person with the log key `key`, read in one snapshot.
        `types`: the event types that `latest` covers."""
        with self._engine.connect() as connection:
            declared, version = self.users.read(connection, key) or (None, 0)
            events, whole = self.events.history(connection, key) if version else ([], True)
            latest = (
                _latest(events, types)
                if whole
                else self.events.latest_by_type(connection, key, types)
            )
            return StoredPerson(declared, version, events, latest)

    @on_thread
    def forget(self, user_id: str) -> bool:
        """Deletes a user's declaration, events and rankings, in one write. Returns whether there
        was such a user."""
        with writing(self._engine) as connection:
            gone = [
                connection.execute(table.delete().where(table.c.who == user_id)).rowcount
                for table in OF_A_PERSON
            ]
        return gone[0] > 0

    def check(self) -> None:
        """Read the first and the last row of each table and index, from the files as they are now.
        Raises a `StorageError` if that can't be done."""
        with self._fresh_connection() as connection:
            for table in metadata.sorted_tables:
                for columns in [*table.primary_key], *([*index.columns] for index in table.indexes):
                    for order in (columns, [column.desc() for column in columns]):
                        connection.execute(select(table).order_by(*order).limit(1)).all()

    def check_all(self) -> None:
        """Read every page, which takes as long as copying the file. Raises a `StorageError` if one
        is not as it should be."""
        self.check()
        with self._fresh_connection() as connection:
            result = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if result != "ok":
            raise self.file.damaged(" ".join(f"{result}".split()))

    @contextmanager
    def _fresh_connection(self) -> Iterator[Connection]:
        """Yields a new connection, which has no page of the file in a cache."""
        self.file.check_identity()
        self.file.check_before_opening()
        with make_engine(self.file).connect() as connection:
            connection.detach()  # from its pool, which would keep it open
            yield connection

    def close(self) -> None:
        self._engine.dispose()


def _latest(events: Sequence[Event], types: Sequence[str]) -> list[tuple[str, str, int]]:
    """The same as `Events.latest_by_type`, from events in the order of time."""
    asked = set(types)
    last = {
        (event.item_id, event.type): event.occurred_at
        for event in events
        if event.item_id is not None and event.type in asked
    }
    return [(item_id, kind, micros(at)) for (item_id, kind), at in last.items()]
