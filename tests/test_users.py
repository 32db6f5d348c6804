import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from service.config import Settings
from service.records import PAGE
from tests.conftest import Make
from tests.test_api import served

Serve = Callable[[Any], Any]
ROUTES = (("GET", "/state"), ("GET", "/export"), ("DELETE", ""))


@pytest.fixture
async def client(make: Make, serve: Serve, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with await served(make, serve, settings) as found:
        yield found


async def told(client: httpx.AsyncClient, user_id: str) -> dict[str, list[Any]]:
    """An export's lines by their kind."""
    answer = await client.get(f"/v1/users/{user_id}/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    found: dict[str, list[Any]] = {"user": [], "event": [], "shown": []}
    for line in answer.text.splitlines():
        ((kind, value),) = json.loads(line).items()
        found[kind].append(value)
    return found


async def did(client: httpx.AsyncClient, *events: dict[str, Any]) -> None:
    assert (await client.post("/v1/events", json=list(events))).json()["rejected"] == []


async def test_the_state_is_what_the_next_ranking_sees_without_vectors(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/v1/users", json={"user_id": "u", "attributes": {"mood": "funny"}})
    declared = (await client.get("/v1/users/u/state")).json()
    assert (declared["source"], declared["interests"], declared["recent"]) == (
        "attributes",
        [1.0],
        [],
    )
    await did(
        client,
        {"user_id": "u", "item_id": "alien", "type": "play"},
        {"user_id": "u", "item_id": "notting", "type": "like"},
        {"user_id": "u", "text": "Horror", "type": "dislike"},
    )
    state = (await client.get("/v1/users/u/state")).json()
    ranking = (await client.post("/v1/recommendations", json={"user_id": "u"})).json()
    assert (state["version"], state["source"]) == (
        ranking["state_version"],
        ranking["profile_source"],
    )
    assert [one["item"]["title"] for one in state["recent"]] == ["Alien", "Notting Hill"]
    assert (list(state["likes"]), state["seen"], state["avoid"]) == (
        ["alien", "notting"],
        ["alien", "notting"],
        ["Horror"],
    )
    assert sum(state["interests"]) == pytest.approx(1)
    assert "vector" not in json.dumps(state)


async def test_an_export_holds_all_of_a_user_in_order_and_nothing_of_others(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/v1/users", json=[{"user_id": "u", "locale": "de"}, {"user_id": "other"}])
    mine = [
        {"user_id": "u", "event_id": f"e{n}", "item_id": "alien", "type": "view"}
        for n in range(2 * PAGE + 1)
    ]
    await did(
        client,
        *mine,
        {"user_id": "other", "type": "like", "item_id": "heat"},
        {"session_id": "u", "type": "view"},
    )
    asked = [{"user_id": "u"}, {"session_id": "u"}, {"user_id": "other"}, {"user_id": "u"}]
    shown = [
        (await client.post("/v1/recommendations", json={**one, "top_n": 2})).json() for one in asked
    ]
    found = await told(client, "u")
    assert found["user"] == [(await client.get("/v1/users/u")).json()]
    assert [one["event_id"] for one in found["event"]] == [one["event_id"] for one in mine]
    assert [one["ranking"] for one in found["shown"]] == [shown[0], shown[3]]
    again = (await client.post("/v1/events", json=found["event"])).json()
    assert (again["accepted"], again["duplicates"]) == (0, len(mine))


async def test_whoever_only_acted_is_exported_too(client: httpx.AsyncClient) -> None:
    await did(client, {"user_id": "u", "item_id": "alien", "type": "play"})
    found = await told(client, "u")
    assert (len(found["user"]), len(found["event"]), found["shown"]) == (1, 1, [])


async def test_of_a_forgotten_user_nothing_is_left(client: httpx.AsyncClient) -> None:
    await did(
        client, *({"user_id": who, "item_id": "alien", "type": "play"} for who in ("u", "other"))
    )
    await client.post("/v1/recommendations", json={"user_id": "u"})
    assert (await client.delete("/v1/users/u")).status_code == 204
    for method, path in (*ROUTES, ("GET", ""), ("GET", "/events")):
        assert (await client.request(method, f"/v1/users/u{path}")).status_code == 404
    assert len((await told(client, "other"))["event"]) == 1
    anew = (await client.post("/v1/recommendations", json={"user_id": "u"})).json()
    assert (anew["state_version"], anew["profile_source"]) == (0, "popularity")
    await did(client, {"user_id": "u", "item_id": "heat", "type": "play"})
    found = await told(client, "u")
    assert [one["item_id"] for one in found["event"]] == ["heat"]
    assert [one["ranking"]["ranking_id"] for one in found["shown"]] == [anew["ranking_id"]]


@pytest.mark.parametrize(
    ("user_id", "status"),
    [
        *(
            ("nobody", 404),
            ("a/b", 404),
            ("..", 404),
            ("%", 404),
            ("' OR 1=1 --", 404),
            ("🦊" * 64, 404),
        ),
        *(("\x1fs", 422), ("\0", 422), ("a\nb", 422), ("x" * 257, 422), ("\u2028", 422)),
    ],
)
async def test_a_strange_id_gets_the_envelope_and_nobodys_data(
    client: httpx.AsyncClient, user_id: str, status: int
) -> None:
    await did(client, {"session_id": "s", "item_id": "alien", "type": "play"})
    for method, path in ROUTES:
        answer = await client.request(method, f"/v1/users/{quote(user_id, safe='')}{path}")
        assert answer.status_code == status, answer.text
        assert set(answer.json()) == {"error", "message", "detail", "id"}
        assert "alien" not in answer.text
