"""Our lists, over HTTP to a real uvicorn and on real stores."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.config import Settings
from tests.conftest import FILMS, Make
from tests.test_api import served

Serve = Callable[[Any], Any]


async def walk(client: httpx.AsyncClient, path: str, limit: int = 2) -> list[Any]:
    """Every row of a list, page by page."""
    rows: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await client.get(path, params={"limit": limit, **({"cursor": cursor} if cursor else {})})
        assert page.status_code == 200, page.text
        assert len(page.json()["data"]) <= limit
        rows, cursor = rows + page.json()["data"], page.json()["next_cursor"]
    return rows


# ── our own lists ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_item_user_and_event_is_listed_once(make: Make, serve: Serve, settings: Settings) -> None:
    async with await served(make, serve, settings) as client:
        events = [{"user_id": "u", "item_id": film["id"], "type": "view"} for film in FILMS]
        await client.post("/v1/events", json=events)
        await client.post("/v1/events", json=[{"session_id": "visit", "type": "view"}, {"user_id": "v", "type": "search"}])
        await client.post("/v1/users", json=[{"user_id": name, "attributes": {"age": 3}} for name in ("ann", "u", "Ö")])
        for limit in (1, 3, 1_000):
            assert [item["id"] for item in await walk(client, "/v1/items", limit)] == sorted(str(film["id"]) for film in FILMS)
            assert [user["user_id"] for user in await walk(client, "/v1/users", limit)] == ["ann", "u", "v", "Ö"]
            assert [one["item_id"] for one in await walk(client, "/v1/users/u/events", limit)] == [one["id"] for one in FILMS]
        assert (await client.get("/v1/items")).json()["data"][0] == (await client.get("/v1/items/alien")).json()
        assert (await client.get("/v1/users/ghost/events")).json()["error"]["code"] == "user_not_found"


async def test_a_walk_repeats_and_misses_nothing_while_rows_arrive_change_and_go(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings, films=[]) as client:
        first = [f"i{n:03d}" for n in range(60)]
        await client.post("/v1/items", json=[{"id": one} for one in first])
        await client.post("/v1/users", json=[{"user_id": one} for one in first])
        await client.post("/v1/events", json=[{"user_id": "i000", "item_id": one, "type": "view"} for one in first])

        async def disturb() -> None:
            for n in range(20):
                fresh = f"i{n * 3:03d}-new"
                await client.post("/v1/items", json=[{"id": fresh}, {"id": first[n], "title": "changed"}])
                await client.post("/v1/users", json=[{"user_id": fresh}, {"user_id": first[n], "locale": "de"}])
                await client.post("/v1/events", json={"user_id": "i000", "item_id": fresh, "type": "view"})

        disturbing = asyncio.create_task(disturb())
        paths = {"/v1/items": "id", "/v1/users": "user_id", "/v1/users/i000/events": "item_id"}
        found = await asyncio.gather(*(walk(client, path, 4) for path in paths))
        await disturbing
        for rows, key in zip(found, paths.values(), strict=True):
            ids = [row[key] for row in rows]
            assert len(set(ids)) == len(ids)
            assert [one for one in ids if one in set(first)] == first


def encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


BROKEN = ["x", "é", "%%%", encoded("users:a"), encoded("items"), "=" * 9, "A" * 3_000]
PLACES = [encoded(f"events:{place}") for place in ("a", "-1", "9" * 30, "1.5", "²")]


@pytest.mark.parametrize(
    ("path", "cursor"),
    [*(("/v1/items", one) for one in BROKEN), *(("/v1/users/u/events", one) for one in [*PLACES, encoded("items:1")])],
)
async def test_a_broken_cursor_is_named(make: Make, serve: Serve, settings: Settings, path: str, cursor: str) -> None:
    async with await served(make, serve, settings) as client:
        await client.post("/v1/users", json={"user_id": "u"})
        answer = await client.get(path, params={"cursor": cursor})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "cursor")
        assert "next_cursor" in answer.json()["message"]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many"])
async def test_a_limit_out_of_range_is_refused(make: Make, serve: Serve, settings: Settings, limit: str) -> None:
    async with await served(make, serve, settings) as client:
        for path in ("/v1/items", "/v1/users"):
            assert (await client.get(path, params={"limit": limit})).status_code == 422


async def test_a_cursor_carries_whatever_a_key_may_hold(make: Make, serve: Serve, settings: Settings) -> None:
    names = ["it's", "'; DROP TABLE items --", "ключ:1", "🎬", "a%b", "a=b&c"]
    async with await served(make, serve, settings, films=[]) as client:
        await client.post("/v1/items", json=[{"id": name} for name in names])
        await client.post("/v1/users", json=[{"user_id": name} for name in names])
        assert [one["id"] for one in await walk(client, "/v1/items", 1)] == sorted(names)
        assert [one["user_id"] for one in await walk(client, "/v1/users", 1)] == sorted(names)
