"""What is stored, read and changed one by one: items, users, events, rankings; export and
forget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from datetime import datetime

from service.catalog import Catalog
from service.errors import NotFound
from service.feeds import foreign
from service.schema import (
    Event,
    Item,
    LoggedRanking,
    Ranking,
    ShadowRanking,
    User,
    UserPatch,
)
from service.store import Store
from service.store.shadows import Shadowed as Shadowed

PAGE = 100
"""So many rows of an export are read at once."""

Stored = User | Event | LoggedRanking | ShadowRanking


class Records:
    """`settled()`: waits until all that was shown so far is in the log. `changing`: serialises
    read-modify-write of items and users."""

    def __init__(
        self, store: Store, catalog: Catalog, settled: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._settled = settled
        self.changing = asyncio.Lock()

    # ── items ─────────────────────────────────────────────────────────────────────────────────────

    async def item(self, item_id: str) -> Item:
        """Raises `NotFound`."""
        items = await self._catalog.get([item_id])
        if item_id not in items:
            raise NotFound("item", item_id)
        return items[item_id]

    async def items(self, ids: Iterable[str]) -> dict[str, Item]:
        """The known ones of many ids."""
        return await self._catalog.get(ids)

    async def list_items(self, after: str, limit: int) -> list[Item]:
        """By id, those whose id comes after."""
        return await self._catalog.page(after, limit)

    async def delete_item(self, item_id: str) -> None:
        """Raises `NotFound`."""
        async with self.changing:
            known = await self._catalog.delete(item_id)
        if not known:
            raise NotFound("item", item_id)

    # ── users ─────────────────────────────────────────────────────────────────────────────────────

    async def user(self, user_id: str) -> User:
        """Raises `NotFound` for somebody who declared nothing and did nothing."""
        stored = await self._store.users.get(user_id)
        if stored is None:
            raise NotFound("user", user_id)
        return stored[0]

    async def list_users(self, after: str, limit: int) -> list[User]:
        """By id, those whose id comes after; visitors known by a session alone are none."""
        return await self._store.users.page(after, limit)

    async def patch_user(self, user_id: str, change: UserPatch) -> User:
        """Raises `NotFound`."""
        async with self.changing:
            user = await self._store.users.patch(user_id, change)
        if user is None:
            raise NotFound("user", user_id)
        return user

    async def forget(self, user_id: str) -> None:
        """Delete what a user declared and did, and what they were shown. Popularity, which names
        nobody, stays as it is. Raises `NotFound`."""
        await self._settled()
        async with self.changing:
            known = await self._store.forget(user_id)
        if not known:
            raise NotFound("user", user_id)

    async def export(self, user_id: str) -> AsyncGenerator[Stored, None]:
        """All that is stored of a user: what they declared, what they did as it arrived, what they
        were shown, by time, and what a shadow model made of it.

        Raises `NotFound` here, before there is anything to iterate over.
        """
        user = await self.user(user_id)
        await self._settled()
        return self._stored(user)

    async def _stored(self, user: User) -> AsyncGenerator[Stored, None]:
        yield user
        place, last = 0, None
        while events := await self._store.events.page(user.user_id, place, PAGE):
            for _, event in events:
                yield event
            place = events[-1][0]
        while shown := await self._store.rankings.page(user.user_id, last, PAGE):
            for last in shown:
                yield last
        place = 0
        while shadows := await self._store.shadows.page(place, PAGE, who=user.user_id):
            for shadowed in shadows:
                yield ShadowRanking(alias=shadowed.alias, ranking=shadowed.shadow)
            place = shadows[-1].seq

    # ── events ────────────────────────────────────────────────────────────────────────────────────

    async def list_events(self, user_id: str, after: int, limit: int) -> list[tuple[int, Event]]:
        """A user's events as they arrived, each with its place in the log. Raises `NotFound`."""
        await self.user(user_id)
        return await self._store.events.page(user_id, after, limit)

    async def events_between(self, who: str, since: datetime, until: datetime) -> list[Event]:
        """What a person (a log key) did in a time, in its order."""
        return await self._store.events.between(who, since, until)

    async def list_last_said(
        self,
        after: int,
        limit: int,
        *,
        until: int,
        kind: str | None = None,
        user_id: str | None = None,
    ) -> tuple[list[tuple[int, Event]], int | None]:
        """What users last said of items, and the place in the log to go on from. `kind`: a type in
        any spelling; `until`: the `end_of_log` when the walk began."""
        label = foreign.label(kind) if kind is not None else None
        return await self._store.events.latest_per_item(
            after, limit, until=until, who=user_id, kind=label
        )

    async def end_of_log(self) -> int:
        """The place of the last event."""
        return await self._store.events.length()

    async def unsay(self, user_id: str, item_id: str, kind: str | None = None) -> int:
        """Take what a user said of an item out of the log; returns how many events. Popularity
        stays as it is."""
        label = foreign.label(kind) if kind is not None else None
        return await self._store.events.remove(user_id, item_id, label)

    # ── rankings ──────────────────────────────────────────────────────────────────────────────────

    async def ranking(self, ranking_id: str) -> Ranking:
        """A ranking as it was shown. Raises `NotFound`."""
        ranking = await self._store.rankings.get(ranking_id)
        if ranking is None:
            raise NotFound("ranking", ranking_id)
        return ranking

    async def shadowed(
        self, after: int, limit: int, since: datetime | None = None
    ) -> list[Shadowed]:
        """What was shown, from some time on, beside what the shadow model made of the same: the
        first after a place."""
        return await self._store.shadows.page(after, limit, since)
