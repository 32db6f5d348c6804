"""The event log: append-only, each person's event id stored once, read in the order in which things
happened."""

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import compress
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    Select,
    Table,
    Text,
    UniqueConstraint,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.sqlite import insert

from service.schema import Event
from service.store.database import (
    VISITOR,
    StoredTable,
    metadata,
    micros,
    moment,
    on_thread,
    writing,
)
from service.store.popularity import Popularity
from service.store.users import bump_versions

PAGE = 1_000
"""A history begins at a multiple of this many events, so that its beginning moves once a page and
not at every event."""

events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("who", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("item_id", Text),
    Column("type", Text, nullable=False),
    Column("value", Float),
    Column("text", Text),
    Column("occurred_at", BigInteger, nullable=False),
    Column("session_id", Text),
    Column("ranking_id", Text),
    Column("position", Integer),
    UniqueConstraint("who", "event_id"),
    Index("events_in_order", "who", "occurred_at", "seq"),
)


def log_key(user_id: str | None, session_id: str | None) -> str:
    """The key of a person's log: the user's id, else one of the session that no user id can
    equal."""
    return user_id if user_id is not None else f"{VISITOR}{session_id}"


class Events(StoredTable):
    def __init__(self, engine: Engine, popularity: Popularity) -> None:
        super().__init__(engine)
        self._popularity = popularity

    @on_thread
    def add(self, batch: Sequence[Event]) -> list[bool]:
        """Store events; returns for each whether it was new. Duplicates change nothing. Durable on
        return."""
        keys = [(log_key(event.user_id, event.session_id), event.event_id) for event in batch]
        rows = [_row(who, event) for (who, _), event in zip(keys, batch, strict=True)]
        with writing(self._engine) as connection:
            # the write lock is held: what comes after `last` is of this batch
            last = connection.scalar(select(func.max(events.c.seq))) or 0
            if rows:
                connection.execute(insert(events).on_conflict_do_nothing(), rows)
            added = events.c.seq > last
            if (connection.scalar(select(func.count()).where(added)) or 0) == len(rows):
                is_new = [True] * len(rows)
            else:
                query = select(events.c.who, events.c.event_id).where(added)
                stored = {(row.who, row.event_id) for row in connection.execute(query)}
                is_new = [_take(key, stored) for key in keys]
            if any(is_new):
                times = select(events.c.who, func.count()).where(added).group_by(events.c.who)
                bump_versions(connection, times)
                self._popularity.add(connection, compress(batch, is_new))
        return is_new

    def history(self, connection: Connection, key: str) -> tuple[list[Event], bool]:
        """The person's events, oldest first: at least the last `PAGE` of them, at most twice as
        many; and whether that is all of them."""
        of_person = events.c.who == key
        count = connection.scalar(select(func.count()).where(of_person)) or 0
        skip = max(0, count // PAGE - 1) * PAGE
        query = (
            select(events)
            .where(of_person)
            .order_by(events.c.occurred_at, events.c.seq)
            .offset(skip)
            .limit(2 * PAGE)
        )
        return [_event(row) for row in connection.execute(query)], skip == 0

    def latest_by_type(
        self, connection: Connection, key: str, types: Sequence[str]
    ) -> list[tuple[str, str, int]]:
        """(item id, type, time of the last such event in microseconds) over the person's whole
        log."""
        query = (
            select(events.c.item_id, events.c.type, func.max(events.c.occurred_at))
            .where(events.c.who == key, events.c.type.in_(types), events.c.item_id.is_not(None))
            .group_by(events.c.item_id, events.c.type)
        )
        return [(row[0], row[1], row[2]) for row in connection.execute(query)]

    @on_thread
    def opinions(self, types: Sequence[str]) -> list[tuple[str, str, str, float | None]]:
        """(log key, item id, type, value) of the whole log's events of these types; the same four
        only once, ordered by the last time at which they occurred."""
        parts = events.c.who, events.c.item_id, events.c.type, events.c.value
        last = func.max(events.c.occurred_at), func.max(events.c.seq)
        query = (
            select(*parts)
            .where(events.c.type.in_(types), events.c.item_id.is_not(None))
            .group_by(*parts)
            .order_by(*last)
        )
        with self._engine.connect() as connection:
            return [(row[0], row[1], row[2], row[3]) for row in connection.execute(query)]

    @on_thread
    def page(self, who: str, after: int, limit: int) -> list[tuple[int, Event]]:
        """(place in the log, event) of a person's first events after a place, in the order of
        arrival."""
        query = (
            select(events)
            .where(events.c.who == who, events.c.seq > after)
            .order_by(events.c.seq)
            .limit(limit)
        )
        return [(row.seq, _event(row)) for row in self._rows(query)]

    @on_thread
    def between(self, who: str, since: datetime, until: datetime) -> list[Event]:
        """A person's events of a time, both ends included, in the order in which they happened."""
        query = (
            select(events)
            .where(events.c.who == who, events.c.occurred_at.between(micros(since), micros(until)))
            .order_by(events.c.occurred_at, events.c.seq)
        )
        return [_event(row) for row in self._rows(query)]

    @on_thread
    def latest_per_item(
        self, after: int, limit: int, *, until: int, who: str | None = None, kind: str | None = None
    ) -> tuple[list[tuple[int, Event]], int | None]:
        """(place in the log, event) of users' events about items after a place, without those that
        a later event of the same user, type and item replaces; and the place to go on from, or None
        at the end. A page is shorter than `limit` where most events are replaced.

        The log is read as it was at the place `until`. `who`, `kind`: of one person, of one type.
        """
        size = max(limit + 1, PAGE)
        query = (
            select(events)
            .where(events.c.item_id.is_not(None), ~events.c.who.startswith(VISITOR))
            .where(events.c.seq > after, events.c.seq <= until)
            .order_by(events.c.seq)
            .limit(size)
        )
        if who is not None:
            query = query.where(events.c.who == who)
        if kind is not None:
            query = query.where(events.c.type == kind)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
            if not rows:
                return [], None
            people = {row.who for row in rows}
            latest = _places_of_latest(people, rows[0].seq, rows[-1].seq, until)
            places = set(connection.scalars(latest))
        kept = [(row.seq, _event(row)) for row in rows if row.seq in places]
        if len(kept) > limit:
            return kept[:limit], kept[limit - 1][0]
        return kept, rows[-1].seq if len(rows) >= size else None

    @on_thread
    def remove(self, who: str, item_id: str, kind: str | None = None) -> int:
        """Delete a person's events about an item, of one type or all; returns how many."""
        query = events.delete().where(events.c.who == who, events.c.item_id == item_id)
        if kind is not None:
            query = query.where(events.c.type == kind)
        with writing(self._engine) as connection:
            count = connection.execute(query).rowcount
            if count:
                bump_versions(connection, select(literal(who), literal(1)))
        return count

    @on_thread
    def length(self) -> int:
        """The place of the last event in the log; 0 if it is empty."""
        return self._value(select(func.max(events.c.seq))) or 0


def _places_of_latest(people: Collection[str], first: int, last: int, until: int) -> Select[Any]:
    """Selects the places, from `first` to `last`, of these people's latest events of each type and
    item, as the log was at `until`."""
    nth = func.row_number().over(
        partition_by=(events.c.who, events.c.type, events.c.item_id),
        order_by=(events.c.occurred_at.desc(), events.c.seq.desc()),
    )
    ranked = (
        select(events.c.seq, nth.label("nth"))
        .where(events.c.who.in_(people), events.c.item_id.is_not(None), events.c.seq <= until)
        .subquery()
    )
    return select(ranked.c.seq).where(ranked.c.nth == 1, ranked.c.seq.between(first, last))


def _take(key: tuple[str, str], keys: set[tuple[str, str]]) -> bool:
    """Takes the key out of the set, so that of a repeated event only the first is new. Was it
    there?"""
    if key not in keys:
        return False
    keys.remove(key)
    return True


def _row(key: str, event: Event) -> dict[str, Any]:
    return {
        "who": key,
        "event_id": event.event_id,
        "item_id": event.item_id,
        "type": event.type,
        "value": event.value,
        "text": event.text,
        "occurred_at": micros(event.occurred_at),
        "session_id": event.session_id,
        "ranking_id": event.ranking_id,
        "position": event.position,
    }


def _event(row: Any) -> Event:
    """Rows were checked when they came in: no second validation on the read path."""
    _, who, event_id, item_id, kind, value, text, occurred_at, session_id, ranking_id, position = (
        row
    )
    return Event.model_construct(
        event_id=event_id,
        user_id=None if who.startswith(VISITOR) else who,
        item_id=item_id,
        type=kind,
        value=value,
        text=text,
        occurred_at=moment(occurred_at),
        session_id=session_id,
        ranking_id=ranking_id,
        position=position,
    )
