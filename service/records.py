"""Reads, changes and deletes single stored items, users, events and rankings; exports and forgets
users."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from service.catalog import Catalog
from service.errors import NotFound
from service.feeds.cells import label
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
from service.store.rankings import Shadowed as Shadowed

PAGE = 100
"""How many rows of an export are read at once."""

T = TypeVar("T")
Stored = User | Event | LoggedRanking | ShadowRanking


@dataclass(eq=False, repr=False)
class Records:
    """`settled`: waits until all rankings shown so far are in the log. `changing`: the lock that
    every read-modify-write of items and users holds."""

    _store: Store
    _catalog: Catalog
    _settled: Callable[[], Awaitable[None]]
    changing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    # ── items ─────────────────────────────────────────────────────────────────────────────────────

    async def item(self, item_id: str) -> Item:
        """Returns an item. Raises `NotFound`."""
        return _existing("item", item_id, (await self._catalog.get([item_id])).get(item_id))

    async def items(self, ids: Iterable[str]) -> dict[str, Item]:
        """Returns those of the items that exist, by id."""
        return await self._catalog.get(ids)

    async def list_items(self, after: str, limit: int) -> list[Item]:
        """Returns up to `limit` items in order of their ids, from the first id greater than
        `after`."""
        return await self._catalog.page(after, limit)

    async def delete_item(self, item_id: str) -> None:
        """Deletes an item. Raises `NotFound`."""
        async with self.changing:
            _existing("item", item_id, await self._catalog.delete(item_id))

    # ── users ─────────────────────────────────────────────────────────────────────────────────────

    async def user(self, user_id: str) -> User:
        """Returns a user. Raises `NotFound` for one with neither declared attributes nor events."""
        return _existing("user", user_id, await self._store.users.get(user_id))[0]

    async def list_users(self, after: str, limit: int) -> list[User]:
        """Returns up to `limit` users in order of their ids, from the first id greater than
        `after`. Sessions without a user are not listed."""
        return await self._store.users.page(after, limit)

    async def patch_user(self, user_id: str, change: UserPatch) -> User:
        """Changes some fields of a user; returns the whole user. Raises `NotFound`."""
        async with self.changing:
            return _existing("user", user_id, await self._store.users.patch(user_id, change))

    async def forget(self, user_id: str) -> None:
        """Deletes a user's attributes, events and rankings. The items' popularity, which names
        nobody, is not corrected. Raises `NotFound`."""
        await self._settled()
        async with self.changing:
            _existing("user", user_id, await self._store.forget(user_id))

    async def export(self, user_id: str) -> AsyncGenerator[Stored, None]:
        """Returns an iterator over everything stored about a user: the user, events in order of
        arrival, rankings shown by time, and what shadow models ranked.

        Raises `NotFound` when awaited, before iteration begins.
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
        """Returns a user's events in order of arrival, each with its place in the log. Raises
        `NotFound`."""
        await self.user(user_id)
        return await self._store.events.page(user_id, after, limit)

    async def events_between(self, who: str, since: datetime, until: datetime) -> list[Event]:
        """Returns a person's events between two times, by time. `who`: a `log_key`."""
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
        """Returns users' latest events of each type on each item, each with its place in the log,
        and the place to continue from (None at the end).

        `kind`: only events of this type, in any spelling. `until`: `end_of_log` when the listing
        began.
        """
        return await self._store.events.latest_per_item(
            after, limit, until=until, who=user_id, kind=None if kind is None else label(kind)
        )

    async def end_of_log(self) -> int:
        """Returns the place of the last event in the log."""
        return await self._store.events.length()

    async def unsay(self, user_id: str, item_id: str, kind: str | None = None) -> int:
        """Deletes a user's events on an item, only those of the type `kind` if it is given; returns
        how many. The item's popularity is not corrected."""
        return await self._store.events.remove(
            user_id, item_id, None if kind is None else label(kind)
        )

    # ── rankings ──────────────────────────────────────────────────────────────────────────────────

    async def ranking(self, ranking_id: str) -> Ranking:
        """Returns a ranking as it was shown. Raises `NotFound`."""
        return _existing("ranking", ranking_id, await self._store.rankings.get(ranking_id))

    async def shadowed(
        self, after: int, limit: int, since: datetime | None = None
    ) -> list[Shadowed]:
        """Returns rankings shown since a time, each with the shadow model's ranking of the same
        candidates: up to `limit`, after the place `after`."""
        return await self._store.shadows.page(after, limit, since)


def _existing(noun: str, key: str, found: T | None) -> T:
    """Returns `found`. Raises `NotFound` if it is None (nothing was found) or False (nothing was
    deleted)."""
    if not found:
        raise NotFound(noun, key)
    return found
