"""What a path means: an id with a slash is one id, and no spelling of it reads another person's
route."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute

from service.api import create_app
from service.api.edge import canonical
from service.api.needs import Segment
from service.config import HOUSE, Settings
from tests.conftest import Make
from tests.test_api import served

Serve = Callable[[Any], Any]
NEIGHBOURS = ["a", "u", "x", "similar", "state"]
"""Whose routes a decoded slash would lead to."""
STRANGE = [
    *(
        "a/similar",
        "../users/x",
        "u/state",
        "x/export",
        "u/events",
        "./u",
        "u/..",
        "u/../x",
        "/u",
        "u/",
        "/",
        "//",
        "a//b",
    ),
    *(
        "%2e%2e",
        "%2E%2E%2Fusers%2Fx",
        "u%2Fstate",
        "u%252Fstate",
        "%",
        "%25",
        "100%/day",
        "..%2fx",
        "..;/x",
        "..\\x",
    ),
    *(
        "https://shop.example/p/1?x=1#y",
        "//shop.example/p",
        "a?b=c",
        "a#b",
        "a b+c",
        "ключ/дверь",
        "🦊/🐻",
        "{user_id}",
    ),
]


@pytest.fixture
async def client(make: Make, serve: Serve, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    people = [*NEIGHBOURS, *STRANGE]
    async with await served(make, serve, settings, films=[]) as found:
        items = [{"id": one, "title": f"of {one}"} for one in people]
        events = [
            {"user_id": one, "item_id": one, "type": "view", "text": f"by {one}"} for one in people
        ]
        for feed, rows in (
            ("items", items),
            ("users", [{"user_id": one} for one in people]),
            ("events", events),
        ):
            assert (await found.post(f"/v1/{feed}", json=rows)).json()["accepted"] == len(people)
        yield found


async def raw(client: httpx.AsyncClient, method: str, path: str) -> tuple[int, Any]:
    """Status and JSON for a path as it stands here: clients resolve `..` before they send it."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nhost: whyrank\r\nconnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    lines = [line for line in body.decode().split("\r\n") if line.startswith(("{", "["))]
    return int(head.split()[1]), json.loads(lines[0] if lines else body or b"null")


async def test_an_id_is_found_under_its_own_path_whatever_it_holds(
    client: httpx.AsyncClient,
) -> None:
    for one in STRANGE:
        spelled = quote(one, safe="")
        for path in (f"/v1/items/{spelled}", f"/v1/items/{spelled.replace('%2F', '%2f')}"):
            assert (await raw(client, "GET", path))[1]["id"] == one
        assert (await raw(client, "GET", f"/v1/users/{spelled}"))[1]["user_id"] == one
        assert (await raw(client, "GET", f"/v1/users/{spelled}/state"))[1]["version"] == 2
        (event,) = (await raw(client, "GET", f"/v1/users/{spelled}/events"))[1]["data"]
        assert event["text"] == f"by {one}"
        assert (await raw(client, "GET", f"/v1/users/{spelled}/export"))[1]["user"][
            "user_id"
        ] == one
        assert (await raw(client, "GET", f"/api/item/{spelled}"))[1]["ItemId"] == one
        assert (await raw(client, "GET", f"/api/user/{spelled}"))[1]["UserId"] == one
        assert [
            row["UserId"]
            for row in (await raw(client, "GET", f"/api/user/{spelled}/feedback/view"))[1]
        ] == [one]
        assert len((await raw(client, "GET", f"/api/recommend/{spelled}"))[1]) == 10


async def test_what_is_deleted_or_changed_by_a_path_is_that_id_alone(
    client: httpx.AsyncClient,
) -> None:
    for one in STRANGE:
        spelled = quote(one, safe="")
        assert await raw(client, "DELETE", f"/api/feedback/view/{spelled}/{spelled}") == (
            200,
            {"RowAffected": 1},
        )
        assert (await raw(client, "DELETE", f"/v1/items/{spelled}"))[0] == 204
        assert (await client.patch(f"/v1/users/{spelled}", json={"locale": "de"})).json()[
            "user_id"
        ] == one
        assert (await raw(client, "DELETE", f"/v1/users/{spelled}"))[0] == 204
    for feed in ("items", "users"):
        left = (await client.get(f"/v1/{feed}", params={"limit": 1_000})).json()["data"]
        assert sorted(one.get("id") or one["user_id"] for one in left) == sorted(NEIGHBOURS)
    assert [
        (await client.get(f"/v1/users/{one}/events")).json()["data"][0]["item_id"]
        for one in NEIGHBOURS
    ] == NEIGHBOURS


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/items/a/similar", "route_not_found"),
        ("/v1/items//u", "route_not_found"),
        ("/v1/users/u/state/x", "route_not_found"),
        ("/v1/users/nobody%2Fstate", "user_not_found"),
        ("/v1/users/u%252Fexport", "user_not_found"),
        ("/v1/users/u%2Fstate/../../x", "route_not_found"),
        ("/v1%2Fusers%2Fu", "route_not_found"),
        ("/v1/users%2Fu", "route_not_found"),
        *(
            (f"/v1/users/{dots}/state", "invalid_request")
            for dots in ("..", ".", "%2e%2e", "%2E.", "%2e")
        ),
        ("/v1/items/../users/u", "route_not_found"),
        ("/v1/items/%2e%2e/users/u", "route_not_found"),
    ],
)
async def test_no_spelling_of_a_path_reads_another_route(
    client: httpx.AsyncClient, path: str, code: str
) -> None:
    assert (await raw(client, "GET", path))[1]["error"]["code"] == code


async def test_an_id_of_dots_is_refused_in_words_and_letters_may_be_encoded(
    client: httpx.AsyncClient,
) -> None:
    for dots in (".", ".."):
        refused = (await client.post("/v1/items", json={"id": dots})).json()["message"]
        assert "browsers and proxies take them for folders" in refused
    assert (await raw(client, "GET", "/%761/users/%75/%73tate"))[1]["version"] == 2


async def test_routes_are_counted_and_guarded_by_their_template(client: httpx.AsyncClient) -> None:
    await raw(client, "GET", "/v1/items/u%2Fstate")
    made = 'whyrank_requests_total{route="/v1/items/{item_id}",status="200"} 1.0'
    assert made in (await client.get("/metrics")).text


def test_the_router_sees_every_segment_in_one_spelling() -> None:
    assert canonical(b"/a%2fb/%C3%BC%20/%61:b@c/%FF%25") == "/a%2Fb/%C3%BC%20/a:b@c/%EF%BF%BD%25"


def test_every_parameter_in_a_path_is_decoded() -> None:
    routes = [
        route
        for route in create_app(Settings.load(HOUSE / "configs" / "test.yaml")).routes
        if isinstance(route, APIRoute)
    ]
    lacking = [
        f"{route.path} {field.name}"
        for route in routes
        for field in route.dependant.path_params
        if Segment not in field.field_info.metadata
    ]
    assert lacking == []
