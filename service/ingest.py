"""Ingests events, items and users: checks each row, and stores the accepted rows before a call
returns."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from service import state
from service.catalog import Catalog
from service.config import Settings
from service.errors import BadRequest
from service.feeds import foreign
from service.feeds.rows import Notes, checked_rows, one_a_row
from service.records import Records
from service.schema import (
    Event,
    Feed,
    ForeignReport,
    IngestReport,
    Item,
    Rejection,
    Shape,
    User,
)
from service.store import Store
from service.telemetry import Telemetry

CHUNK = 2_000
"""How many rows in another system's format are stored at once."""


@dataclass(kw_only=True, eq=False, repr=False)
class Ingest:
    """Checks and stores the rows of feeds.

    If a feed comes in parts, pass the same `notes` with each part: they collect the feed's
    warnings, and the reports then have none.
    """

    settings: Settings = field(kw_only=False)
    store: Store
    catalog: Catalog
    records: Records
    telemetry: Telemetry
    clock: Callable[[], datetime]
    _warned: set[str] = field(default_factory=set, init=False)

    # ── rows of ours ──────────────────────────────────────────────────────────────────────────────

    async def events(self, rows: Sequence[Any], notes: Notes | None = None) -> IngestReport:
        """Stores events. Events that are already stored change nothing and count as duplicates."""
        gathered = notes or Notes()
        events, rejected = self._checked_events(rows, gathered)
        fresh = await self.store.events.add(events)
        return self._report(
            "events",
            sum(fresh),
            len(fresh) - sum(fresh),
            rejected,
            [] if notes else gathered.sentences(),
        )

    async def items(self, rows: Sequence[Any], notes: Notes | None = None) -> IngestReport:
        """Inserts or replaces items by id. They are embedded later, in the background."""
        async with self.records.changing:
            return await self._put_items(rows, notes)

    async def users(self, rows: Sequence[Any], notes: Notes | None = None) -> IngestReport:
        """Inserts or replaces users with their declared attributes, by id."""
        async with self.records.changing:
            return await self._put_users(rows, notes)

    def check(
        self, feed: Feed, rows: Sequence[Any], notes: Notes, shape: Shape | None = None
    ) -> tuple[Sequence[Item | User | Event], list[Rejection]]:
        """Returns the rows that would be accepted, and why others would be rejected; stores
        nothing. `shape`: the other system whose format the rows have."""
        checks: dict[
            Feed,
            Callable[[Sequence[Any], Notes], tuple[Sequence[Item | User | Event], list[Rejection]]],
        ] = {
            "items": self._checked_items,
            "users": self._checked_users,
            "events": self._checked_events,
        }
        if shape is None:
            return checks[feed](rows, notes)
        sorted_rows = foreign.sorted_out(shape, feed, rows)
        accepted, rejected = checks[feed]([part.row for part in sorted_rows.parts], notes)
        return accepted, one_a_row(
            [*sorted_rows.rejected, *foreign.placed(sorted_rows.parts, rejected)]
        )

    async def embed_pending(
        self, step: Callable[[int, int], None] = lambda done, total: None
    ) -> int:
        """Embeds all waiting items now, then tidies the indexes. Returns how many were embedded;
        calls `step(done, total)` after each batch."""
        count = await self.catalog.backlog.embed(step)
        await self.catalog.indexes.tidy()
        return count

    async def re_index(self) -> list[str]:
        """Rebuilds all indexes of the items; returns the indexed columns."""
        return await self.catalog.indexes.remake()

    async def _put_items(self, rows: Sequence[Any], notes: Notes | None = None) -> IngestReport:
        gathered = notes or Notes()
        items, rejected = self._checked_items(rows, gathered)
        await self.catalog.put(items)
        return self._report("items", len(items), 0, rejected, [] if notes else gathered.sentences())

    async def _put_users(
        self, rows: Sequence[Any], notes: Notes | None = None, only: Set[str] | None = None
    ) -> IngestReport:
        gathered = notes or Notes()
        users, rejected = self._checked_users(rows, gathered)
        await self.store.users.put(users, only)
        return self._report("users", len(users), 0, rejected, [] if notes else gathered.sentences())

    def _checked_items(
        self, rows: Sequence[Any], notes: Notes
    ) -> tuple[list[Item], list[Rejection]]:
        def fitted(item: Item) -> Item:
            attributes = self.catalog.fitted(item.attributes, notes.misfit)
            return (
                item.model_copy(update={"attributes": attributes})
                if attributes != item.attributes
                else item
            )

        return checked_rows("items", Item, rows, notes, fitted)

    def _checked_users(
        self, rows: Sequence[Any], notes: Notes
    ) -> tuple[list[User], list[Rejection]]:
        return checked_rows("users", User, rows, notes, lambda user: user)

    def _checked_events(
        self, rows: Sequence[Any], notes: Notes
    ) -> tuple[list[Event], list[Rejection]]:
        latest = self.clock() + timedelta(seconds=self.settings.events.future_tolerance_s)
        meanings = self.settings.events.of(self.settings.service.domain)
        known, unknown = self.settings.events.known, Counter[str]()

        def fitted(event: Event) -> Event:
            if event.occurred_at > latest:
                raise BadRequest(f"occurred_at: {event.occurred_at.isoformat()} lies in the future")
            meaning = meanings.get(event.type)
            if event.type not in known:
                unknown[event.type] += 1
            elif meaning is not None and meaning.scale is not None and event.value is not None:
                notes.valued(event.type, event.value, meaning.scale)
            return event

        events, rejected = checked_rows("events", Event, rows, notes, fitted)
        for kind in unknown.keys() - self._warned:
            self._warned.add(kind)
            self.telemetry.log.warning("event_type_without_meaning", type=kind, weight=0)
        notes.noticed.update(
            {state.without_meaning(kind, known): count for kind, count in unknown.items()}
        )
        return events, rejected

    def _report(
        self,
        feed: str,
        accepted: int,
        duplicates: int,
        rejected: list[Rejection],
        warnings: Sequence[str] = (),
    ) -> IngestReport:
        for outcome, count in (
            ("accepted", accepted),
            ("duplicate", duplicates),
            ("rejected", len(rejected)),
        ):
            self.telemetry.events.labels(feed, outcome).inc(count)
        return IngestReport(
            accepted=accepted, duplicates=duplicates, rejected=rejected, warnings=list(warnings)
        )

    # ── rows of other systems ─────────────────────────────────────────────────────────────────────

    async def foreign_rows(
        self,
        shape: Shape,
        rows: Sequence[Any],
        feed: Feed | None = None,
        notes: Notes | None = None,
    ) -> ForeignReport:
        """Stores rows in the format of the system `shape`. `feed`: the feed of all rows; None: each
        row names its own. Fields that the format lacks (as a user's `allow_hosted`) stay as they
        were."""
        gathered = notes or Notes()
        sorted_rows = foreign.sorted_out(shape, feed, rows)
        rejected = self._report(feed or shape, 0, 0, sorted_rows.rejected).rejected
        accepted = duplicates = 0
        gathered.noticed.update(sorted_rows.noticed)
        puts: dict[str, Callable[[Sequence[Any]], Awaitable[IngestReport]]] = {
            "items": partial(self._put_items, notes=gathered),
            "users": partial(self._put_users, notes=gathered, only={"attributes"}),
            "events": partial(self.events, notes=gathered),
        }
        for name, put in puts.items():
            for batch in _batches([part for part in sorted_rows.parts if part.feed == name]):
                async with self.records.changing if name != "events" else nullcontext():
                    report = await put(await self._renewed(shape, batch, gathered))
                accepted += report.accepted
                duplicates += report.duplicates
                rejected += foreign.placed(batch, report.rejected)
        return ForeignReport(
            accepted=accepted,
            duplicates=duplicates,
            rejected=one_a_row(rejected),
            skipped=sorted_rows.skipped,
            warnings=[] if notes else gathered.sentences(),
        )

    async def change_foreign(
        self,
        shape: Shape,
        feed: Literal["items", "users"],
        key: str,
        row: Callable[[Any], Any],
        fields: Set[str],
    ) -> ForeignReport:
        """Changes `fields` of the stored item or user `key`. `row`: makes, from the stored record,
        a row with the new values in the format of the system `shape`. Raises `NotFound` if there is
        no such item or user."""
        async with self.records.changing:
            record = self.records.item if feed == "items" else self.records.user
            known = await record(key)
            sorted_rows = foreign.sorted_out(shape, feed, [row(known)])
            rows = [
                known.model_dump() | {name: part.row[name] for name in fields & part.row.keys()}
                for part in sorted_rows.parts
            ]
            if feed == "items":
                report = await self._put_items(rows)
            else:
                report = await self._put_users(rows, only=fields)
        refused = self._report(feed, 0, 0, sorted_rows.rejected).rejected
        return ForeignReport(accepted=report.accepted, rejected=[*refused, *report.rejected])

    async def _renewed(
        self, shape: Shape, batch: Sequence[foreign.FeedRow], notes: Notes
    ) -> list[dict[str, Any]]:
        """Returns rows of one feed, each merged into its stored item or user; events as they are.
        `batch` must have no id twice. An attribute of a wrong type leaves the stored value."""
        if batch[0].feed == "events":
            return [part.row for part in batch]
        ids = [part.key for part in batch]
        if batch[0].feed == "users":
            users = await self.store.users.known(ids)
            return [
                foreign.renewed(
                    shape, users[part.key].model_dump() if part.key in users else {}, part.row
                )
                for part in batch
            ]
        items = await self.catalog.get(ids)
        rows = [
            {
                **part.row,
                "attributes": self.catalog.fitted(part.row["attributes"], notes.misfit),
            }
            for part in batch
        ]
        return [
            foreign.renewed(shape, items[row["id"]].model_dump() if row["id"] in items else {}, row)
            for row in rows
        ]


def _batches(parts: Sequence[foreign.FeedRow]) -> Iterator[list[foreign.FeedRow]]:
    """Splits rows of one feed into batches of at most `CHUNK`. An id occurs once per batch: its
    next row begins a new one."""
    batch: list[foreign.FeedRow] = []
    keys: set[str] = set()
    for part in parts:
        if len(batch) == CHUNK or part.key in keys:
            yield batch
            batch, keys = [], set()
        batch.append(part)
        keys |= {part.key} - {""}
    if batch:
        yield batch
