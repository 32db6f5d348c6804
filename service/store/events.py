"""The event log: append-only, each person's event id stored once, read in the order in which things
happened; and the items' popularity, which is counted with it."""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
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
    delete,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.sqlite import insert

from service.schema import Event
from service.store.database import (
    VISITOR,
    StoredTable,
    matching,
    metadata,
    micros,
    moment,
    notes,
    on_thread,
    writing,
)
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

popularity = Table(
    "popularity",
    metadata,
    Column("item_id", Text, primary_key=True),
    Column("log2_votes", Float, nullable=False),
    Column("log2_lately", Float, nullable=False, server_default="0"),
    Index("most_popular", "log2_votes"),
    Index("most_lately", "log2_lately"),
)
BY_VOTES = select(popularity.c.item_id).order_by(
    popularity.c.log2_votes.desc(), popularity.c.item_id
)
"""Selects item ids, most popular first; ties by id."""
NO_VOTES = -math.inf, -math.inf
FETCHED = 10_000
"""How many rows of a long answer are fetched into memory at a time."""
LATELY = 8
"""How many times shorter the half-life of an item's recent votes (`log2_lately`) is than that of
its votes of all time (`log2_votes`)."""
NEWEST = 1_000
"""How many of the last stored events are searched for the one that happened last."""


def log_key(user_id: str | None, session_id: str | None) -> str:
    """Returns the key of a person's log: the user's id or, without one, the session's id after the
    character `VISITOR`, which no user id contains."""
    return user_id if user_id is not None else f"{VISITOR}{session_id}"


class Popularity(StoredTable):
    """Time-decayed popularity from the log, by forward decay (Cormode et al., ICDE 2009).

    An event of weight w at time t counts w · 2^(t/h) for a half-life h: the order of the sums is
    the order of the decayed counts at any later moment, so no sum is ever updated because time
    passed. Sums are kept as base-2 logarithms. A second sum with a half-life of h / `LATELY` tells
    what rises.
    """

    def __init__(
        self, engine: Engine, *, weigh: Callable[[Event], float], half_life_days: float
    ) -> None:
        super().__init__(engine)
        self._weigh = weigh
        self._half_life_s = half_life_days * 86_400

    def add(self, connection: Connection, batch: Iterable[Event]) -> None:
        """Count events, within the caller's transaction."""
        votes: dict[str, tuple[float, float]] = {}
        for event in batch:
            weight = self._weigh(event)
            if event.item_id is not None and weight > 0:
                age = event.occurred_at.timestamp() / self._half_life_s
                vote = math.log2(weight) + age, math.log2(weight) + age * LATELY
                votes[event.item_id] = _add_both(votes.get(event.item_id, NO_VOTES), vote)
        if not votes:
            return
        known = select(popularity).where(popularity.c.item_id.in_(votes))
        before = {
            row.item_id: (row.log2_votes, row.log2_lately) for row in connection.execute(known)
        }
        sums = {
            item_id: _add_both(before.get(item_id, NO_VOTES), vote)
            for item_id, vote in votes.items()
        }
        rows = [
            {"item_id": item_id, "log2_votes": long, "log2_lately": short}
            for item_id, (long, short) in sums.items()
        ]
        upsert = insert(popularity)
        changed = {name: upsert.excluded[name] for name in ("log2_votes", "log2_lately")}
        upsert = upsert.on_conflict_do_update(index_elements=["item_id"], set_=changed)
        connection.execute(upsert, rows)

    @on_thread
    def top(self, limit: int, offset: int = 0) -> list[str]:
        """Item ids, most popular first; ties by id."""
        return [row.item_id for row in self._rows(BY_VOTES.limit(limit).offset(offset))]

    @on_thread
    def among(self, ids: list[str]) -> list[str]:
        """Those of `ids` that have votes, most popular first."""
        return [row.item_id for row in self._rows(BY_VOTES.where(popularity.c.item_id.in_(ids)))]

    @on_thread
    def rising(self, limit: int, ids: Sequence[str] | None = None) -> dict[str, float]:
        """Returns (recent − expected) / √(expected + 1) by item id, largest first, where it exceeds
        1. `recent` are an item's recent votes, `expected` those that its votes of all time let
        expect; both are decayed to the time of the latest event. Only of `ids`; if None, of the
        `limit` items with most recent votes."""
        query = select(popularity).order_by(popularity.c.log2_lately.desc()).limit(limit)
        if ids is not None:
            query = select(popularity).where(popularity.c.item_id.in_(ids))
        last = self._value(select(func.max(events.c.seq))) or 0
        newest = select(func.max(events.c.occurred_at)).where(events.c.seq > last - NEWEST)
        now = (self._value(newest) or 0) / 1e6 / self._half_life_s
        excess = {}
        for row in self._rows(query):
            expected = 2 ** min(row.log2_votes - now, 1_000) / LATELY
            lately = 2 ** min(row.log2_lately - now * LATELY, 1_000)
            excess[row.item_id] = (lately - expected) / math.sqrt(expected + 1)
        first = sorted(excess, key=lambda item_id: (-excess[item_id], item_id))
        return {item_id: excess[item_id] for item_id in first if excess[item_id] > 1}

    @on_thread
    def votes(self, ids: Sequence[str]) -> dict[str, float]:
        """log2 of the decayed votes of those of `ids` that have any, up to one constant for all
        items."""
        rows = self._rows(select(popularity).where(popularity.c.item_id.in_(ids)))
        return {row.item_id: row.log2_votes for row in rows}

    def recount_if_changed(self, meaning: str) -> None:
        """Count anew from the log when the sums were made with another meaning of events or another
        half-life."""
        made_with = f"{meaning}|{self._half_life_s}|{LATELY}"
        if self._value(select(notes.c.value).where(notes.c.key == "popularity")) == made_with:
            return
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
                bump_versions(
                    connection,
                    select(events.c.who, func.count()).where(added).group_by(events.c.who),
                )
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
        """Returns (log key, item id, type, value) of all events of `types` about items, equal
        tuples only once, ordered by the last time at which they occurred. Equal texts are one
        object: copies would take most of the memory for a large log."""
        parts = events.c.who, events.c.item_id, events.c.type, events.c.value
        last = func.max(events.c.occurred_at), func.max(events.c.seq)
        query = (
            select(*parts)
            .where(events.c.type.in_(types), events.c.item_id.is_not(None))
            .group_by(*parts)
            .order_by(*last)
        )
        texts: dict[str, str] = {}
        one = texts.setdefault
        with self._engine.connect() as connection:
            rows = connection.execution_options(yield_per=FETCHED).execute(query)
            return [
                (one(who, who), one(item_id, item_id), one(kind, kind), value)
                for who, item_id, kind, value in rows
            ]

    @on_thread
    def page(self, who: str, after: int, limit: int) -> list[tuple[int, Event]]:
        """Returns (place in the log, event) of a person's first `limit` events whose place is
        greater than `after`, in the order of arrival."""
        query = (
            select(events)
            .where(events.c.who == who, events.c.seq > after)
            .order_by(events.c.seq)
            .limit(limit)
        )
        return [(row.seq, _event(row)) for row in self._rows(query)]

    @on_thread
    def between(self, who: str, since: datetime, until: datetime) -> list[Event]:
        """Returns a person's events from `since` to `until`, both included, in the order in which
        they happened."""
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
        """Returns (place in the log, event) of users' events about items whose place is greater
        than `after`, and the `after` of the next page, None at the end. Leaves out events that a
        later one of the same user, type and item replaces, so a page may be shorter than `limit`.

        Reads the log as it was at the place `until`. `who`, `kind`: only events of this person, of
        this type.
        """
        size = max(limit + 1, PAGE)
        query = (
            select(events)
            .where(events.c.item_id.is_not(None), ~events.c.who.startswith(VISITOR))
            .where(events.c.seq > after, events.c.seq <= until)
            .where(*matching((events.c.who, who), (events.c.type, kind)))
            .order_by(events.c.seq)
            .limit(size)
        )
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
        """Deletes a person's events about an item, of the type `kind` or of all types; returns how
        many."""
        about = events.c.who == who, events.c.item_id == item_id
        query = events.delete().where(*about, *matching((events.c.type, kind)))
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
    """Removes the key from the set, so that of a repeated event only the first is new. Returns
    whether the set held it."""
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
    """Makes an `Event` of a row without validating it: it was validated before it was stored."""
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


def _add_both(sums: tuple[float, float], votes: tuple[float, float]) -> tuple[float, float]:
    return _add_logs(sums[0], votes[0]), _add_logs(sums[1], votes[1])


def _add_logs(a: float, b: float) -> float:
    """log2(2^a + 2^b) without overflow."""
    high, low = max(a, b), min(a, b)
    return high + math.log2(1 + 2 ** (low - high))
