"""What others' clients send and our own lists, over HTTP to a real uvicorn and on real stores."""

import asyncio
import re
import shlex
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Callable
from shutil import which
from typing import Any

import httpx
import pytest

from service.api import create_app
from service.config import HOUSE, Settings
from service.schema import UserPatch
from tests.conftest import FILMS, Make
from tests.test_api import served

Serve = Callable[[Any], Any]
THEN = "2024-01-31T12:00:00Z"
UNKNOWN = (
    "event type '{0}' means nothing here, so it counts for nothing; "
    "say what it means in the configuration (events.types.{0}) (1 row)"
)


def feedback(
    item: str, *, kind: str = "like", user: str = "u", moment: str | None = THEN, **more: Any
) -> dict[str, Any]:
    row = {"FeedbackType": kind, "UserId": user, "ItemId": item, "Comment": "", **more}
    return {**row, "Timestamp": moment} if moment else row


async def walk(client: httpx.AsyncClient, path: str, limit: int = 2) -> list[Any]:
    """Every row of a list, page by page."""
    rows: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await client.get(
            path, params={"limit": limit, **({"cursor": cursor} if cursor else {})}
        )
        assert page.status_code == 200, page.text
        assert len(page.json()["data"]) <= limit
        rows, cursor = rows + page.json()["data"], page.json()["next_cursor"]
    return rows


# ── our own lists ─────────────────────────────────────────────────────────────────────────────────


async def test_every_item_user_and_event_is_listed_once(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        events = [{"user_id": "u", "item_id": film["id"], "type": "view"} for film in FILMS]
        await client.post("/v1/events", json=events)
        await client.post(
            "/v1/events",
            json=[{"session_id": "visit", "type": "view"}, {"user_id": "v", "type": "search"}],
        )
        await client.post(
            "/v1/users",
            json=[{"user_id": name, "attributes": {"age": 3}} for name in ("ann", "u", "Ö")],
        )
        for limit in (1, 3, 1_000):
            assert [item["id"] for item in await walk(client, "/v1/items", limit)] == sorted(
                str(film["id"]) for film in FILMS
            )
            assert [user["user_id"] for user in await walk(client, "/v1/users", limit)] == [
                "ann",
                "u",
                "v",
                "Ö",
            ]
            assert [one["item_id"] for one in await walk(client, "/v1/users/u/events", limit)] == [
                one["id"] for one in FILMS
            ]
        assert (await client.get("/v1/items")).json()["data"][0] == (
            await client.get("/v1/items/alien")
        ).json()
        assert (await client.get("/v1/users/ghost/events")).json()["error"][
            "code"
        ] == "user_not_found"


async def test_a_walk_repeats_and_misses_nothing_while_rows_arrive_change_and_go(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings, films=[]) as client:
        first = [f"i{n:03d}" for n in range(60)]
        await client.post("/v1/items", json=[{"id": one} for one in first])
        await client.post("/v1/users", json=[{"user_id": one} for one in first])
        await client.post(
            "/v1/events",
            json=[{"user_id": "i000", "item_id": one, "type": "view"} for one in first],
        )

        async def disturb() -> None:
            for n in range(20):
                fresh = f"i{n * 3:03d}-new"
                await client.post(
                    "/v1/items", json=[{"id": fresh}, {"id": first[n], "title": "changed"}]
                )
                await client.post(
                    "/v1/users", json=[{"user_id": fresh}, {"user_id": first[n], "locale": "de"}]
                )
                await client.post(
                    "/v1/events", json={"user_id": "i000", "item_id": fresh, "type": "view"}
                )

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
    [
        *(("/v1/items", one) for one in BROKEN),
        *(("/v1/users/u/events", one) for one in [*PLACES, encoded("items:1")]),
    ],
)
async def test_a_broken_cursor_is_named(
    make: Make, serve: Serve, settings: Settings, path: str, cursor: str
) -> None:
    async with await served(make, serve, settings) as client:
        await client.post("/v1/users", json={"user_id": "u"})
        answer = await client.get(path, params={"cursor": cursor})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "cursor")
        assert "next_cursor" in answer.json()["message"]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many"])
async def test_a_limit_out_of_range_is_refused(
    make: Make, serve: Serve, settings: Settings, limit: str
) -> None:
    async with await served(make, serve, settings) as client:
        for path in ("/v1/items", "/v1/users"):
            assert (await client.get(path, params={"limit": limit})).status_code == 422


async def test_a_cursor_carries_whatever_a_key_may_hold(
    make: Make, serve: Serve, settings: Settings
) -> None:
    names = ["it's", "'; DROP TABLE items --", "ключ:1", "🎬", "a%b", "a=b&c"]
    async with await served(make, serve, settings, films=[]) as client:
        await client.post("/v1/items", json=[{"id": name} for name in names])
        await client.post("/v1/users", json=[{"user_id": name} for name in names])
        assert [one["id"] for one in await walk(client, "/v1/items", 1)] == sorted(names)
        assert [one["user_id"] for one in await walk(client, "/v1/users", 1)] == sorted(names)


# ── Gorse ─────────────────────────────────────────────────────────────────────────────────────────


async def test_an_item_goes_to_gorses_api_and_comes_back(
    make: Make, serve: Serve, settings: Settings
) -> None:
    item = {
        "ItemId": "100",
        "IsHidden": True,
        "Labels": ["a", "b"],
        "Categories": ["d"],
        "Timestamp": THEN,
        "Comment": "Dune",
    }
    async with await served(make, serve, settings, films=[]) as client:
        assert (await client.post("/api/item", json=item)).json() == {"RowAffected": 1}
        assert (await client.get("/api/item/100")).json() == item
        assert (await client.get("/v1/items/100")).json() == {
            "id": "100",
            "title": "Dune",
            "text": "",
            "attributes": {"labels": ["a", "b"], "categories": ["d"]},
            "url": None,
            "image_url": None,
            "published_at": THEN,
            "available": False,
        }
        nothing = {
            "IsHidden": None,
            "Categories": None,
            "Labels": None,
            "Timestamp": None,
            "Comment": None,
        }
        patch = {**nothing, "IsHidden": False, "Labels": {"year": 2021}}
        assert (await client.patch("/api/item/100", json=patch)).json() == {"RowAffected": 1}
        assert (await client.get("/api/item/100")).json() == {
            **item,
            "IsHidden": False,
            "Labels": {"year": 2021},
        }
        assert (await client.delete("/api/item/100")).json() == {"RowAffected": 1}
        for gone in (client.get, client.delete):
            assert (await gone("/api/item/100")).json()["error"]["code"] == "item_not_found"
        assert (await client.patch("/api/item/100", json={"IsHidden": True})).status_code == 404
        bare = {
            **item,
            "ItemId": "2",
            "IsHidden": False,
            "Labels": None,
            "Categories": [],
            "Comment": "",
        }
        await client.post("/api/items", json=[{"ItemId": "2"}])
        assert (await client.get("/api/item/2")).json() == {
            **bare,
            "Timestamp": "0001-01-01T00:00:00Z",
        }


async def test_who_changes_things_at_once_loses_nothing(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings, films=[]) as client:
        for n in range(10):
            await client.post("/v1/users", json={"user_id": f"u{n}"})
            forbidden = client.patch(f"/v1/users/u{n}", json={"allow_hosted": False})
            labelled = client.post("/api/users", json=[{"UserId": f"u{n}", "Labels": ["x"]}])
            await asyncio.gather(labelled, forbidden)
            assert (await client.get(f"/v1/users/u{n}")).json()["allow_hosted"] is False
        await client.post("/v1/items", json={"id": "race", "title": "Race", "text": "short text"})
        changes: list[dict[str, Any]] = [
            {"IsHidden": True},
            {"Categories": ["d"]},
            {"Timestamp": THEN},
        ]
        await asyncio.gather(*(client.patch("/api/item/race", json=change) for change in changes))
        item = (await client.get("/v1/items/race")).json()
        assert (item["title"], item["text"], item["available"]) == ("Race", "short text", False)
        assert item["attributes"] == {"categories": ["d"]}
        assert item["published_at"] is not None


async def test_feedback_said_again_meanwhile_does_not_come_again(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        names = [str(film["id"]) for film in FILMS]
        await client.post("/api/feedback", json=[feedback(name) for name in names])
        found, cursor = [], ""
        while True:
            page = (await client.get("/api/feedback", params={"n": 3, "cursor": cursor})).json()
            found += [one["ItemId"] for one in page["Feedback"]]
            again = [feedback(name, moment=None, Value=2) for name in (names[0], names[-1])]
            assert (await client.put("/api/feedback", json=again)).status_code == 200
            if not (cursor := page["Cursor"]):
                break
        assert found == names


async def test_another_process_says_what_it_says_beside_a_foreign_feed(
    make: Make, settings: Settings
) -> None:
    here, there = await make(changed=settings, films=[]), await make(changed=settings, films=[])
    for n in range(5):
        await here.ingest.users([{"user_id": f"u{n}"}])
        row = {"UserId": f"u{n}", "Labels": ["x"]}
        await asyncio.gather(
            here.ingest.foreign_rows("gorse", [row], "users"),
            there.records.patch_user(f"u{n}", UserPatch(allow_hosted=False)),
        )
        user = await here.records.user(f"u{n}")
        assert (user.allow_hosted, user.attributes) == (False, {"labels": ["x"]})


@pytest.mark.parametrize("path", ["/api/feedback", "/api/items", "/api/users"])
async def test_an_empty_list_is_taken_as_gorse_takes_it(
    make: Make, serve: Serve, settings: Settings, path: str
) -> None:
    async with await served(make, serve, settings, films=[]) as client:
        assert (await client.post(path, json=[])).json() == {"RowAffected": 0}
        assert (await client.post("/v1/events", json=[])).status_code == 422


async def test_what_is_deleted_while_it_is_changed_stays_gone(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings, films=[]) as client:
        for n in range(10):
            await client.post("/v1/items", json={"id": f"i{n}", "title": "T"})
            await client.post("/v1/users", json={"user_id": f"u{n}", "attributes": {"age": 30}})
            await asyncio.gather(
                client.patch(f"/api/item/i{n}", json={"IsHidden": True}),
                client.delete(f"/v1/items/i{n}"),
                client.patch(f"/api/user/u{n}", json={"Labels": ["x"]}),
                client.delete(f"/v1/users/u{n}"),
            )
            assert (await client.get(f"/v1/items/i{n}")).status_code == 404
            assert (await client.get(f"/v1/users/u{n}")).status_code == 404


async def test_a_patch_leaves_what_it_does_not_name(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings, films=[]) as client:
        for n, said in enumerate(
            ({"text": "short text"}, {"title": "x" * 300}, {"title": "T", "text": "body"})
        ):
            await client.post("/v1/items", json={"id": f"i{n}", **said})
            before = (await client.get(f"/v1/items/i{n}")).json()
            await client.patch(f"/api/item/i{n}", json={"IsHidden": True})
            assert (await client.get(f"/v1/items/i{n}")).json() == {**before, "available": False}
            await client.patch(f"/api/item/i{n}", json={"Labels": {"y": 1}})
            assert (await client.get(f"/v1/items/i{n}")).json() == {
                **before,
                "available": False,
                "attributes": {"y": 1},
            }


async def test_a_user_goes_to_gorses_api_and_comes_back(
    make: Make, serve: Serve, settings: Settings
) -> None:
    user = {"UserId": "100", "Labels": ["a", "b"], "Comment": "met in May"}
    async with await served(make, serve, settings) as client:
        assert (await client.post("/api/user", json=user)).json() == {"RowAffected": 1}
        assert (await client.get("/api/user/100")).json() == user
        assert (await client.patch("/api/user/100", json={"Labels": {"age": 3}})).json() == {
            "RowAffected": 1
        }
        assert (await client.get("/v1/users/100")).json()["attributes"] == {
            "age": 3,
            "comment": "met in May",
        }
        await client.post("/api/feedback", json=[feedback("alien", user="100")])
        assert (await client.delete("/api/user/100")).json() == {"RowAffected": 1}
        for gone in (client.get, client.delete):
            assert (await gone("/api/user/100")).json()["error"]["code"] == "user_not_found"
        assert (await client.patch("/api/user/100", json={})).status_code == 404
        assert (await client.get("/api/user/100/feedback")).json() == []


async def test_what_gorse_has_no_word_for_stays_as_it_was(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        await client.post(
            "/v1/users",
            json={"user_id": "u", "allow_hosted": False, "locale": "de", "attributes": {"age": 3}},
        )
        for path, body in (
            ("/api/user", {"UserId": "u", "Labels": ["a"]}),
            ("/users", {"users": [{"userId": "u", "properties": '{"labels": ["a"]}'}]}),
        ):
            assert (await client.post(path, json=body)).status_code == 200
            user = (await client.get("/v1/users/u")).json()
            assert (user["allow_hosted"], user["locale"], user["attributes"]) == (
                False,
                "de",
                {"labels": ["a"]},
            )


async def test_feedback_sent_twice_counts_once_and_put_takes_the_others_place(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        rows = [feedback("alien", kind="READ"), feedback("heat", kind="rating", Value=4.0)]
        for _ in range(2):
            answer = (await client.post("/api/feedback", json=rows)).json()
            assert (answer["RowAffected"], answer["Warnings"]) == (2, [UNKNOWN.format("read")])
        read, rating = {**rows[0], "FeedbackType": "read"}, rows[1]
        assert (await client.get("/api/feedback")).json() == {
            "Cursor": "",
            "Feedback": [read, rating],
        }
        assert len(await walk(client, "/v1/users/u/events")) == 2
        for value in (2.0, 4.0):
            assert (
                await client.put(
                    "/api/feedback",
                    json=[feedback("heat", kind="rating", moment=None, Value=value)],
                )
            ).json()
        of_type = (await client.get("/api/user/u/feedback/Rating")).json()
        assert [(one["ItemId"], one["Value"]) for one in of_type] == [("heat", 4.0)]
        assert of_type[0]["Timestamp"] > THEN
        assert (await client.get("/api/feedback/Read")).json()["Feedback"] == [read]
        assert len(await walk(client, "/v1/users/u/events")) == 4


async def test_a_type_without_a_meaning_is_named_every_time_in_every_feed(
    make: Make, serve: Serve, settings: Settings
) -> None:
    changed = settings.changed(
        {"events": {"meanings": {"shop": {"tasted": {"weight": 1}}, "movies": {"lent": {}}}}}
    )
    misspelt = (
        "event type 'purchse' means nothing here, so it counts for nothing; did you mean "
        "'purchase'? "
        "If not, say what it means in the configuration (events.types.purchse) (2 rows)"
    )
    events = [{"user_id": "u", "item_id": one, "type": "purchse"} for one in ("alien", "heat")]
    known = [
        {"user_id": "u", "item_id": "alien", "type": one}
        for one in ("like", "impression", "tasted", "lent")
    ]
    click = {
        "event": "interaction",
        "id": "c",
        "timestamp": "1706702400000",
        "user": "u",
        "type": "xyz",
        "item": "alien",
    }
    put = {
        "sessionId": "s",
        "userId": "u",
        "eventList": [{"eventType": "Xyz", "sentAt": 1706702400, "itemId": "heat"}],
    }
    async with await served(make, serve, changed) as client:
        for _ in range(2):
            assert (await client.post("/v1/events", json=events + known)).json()["warnings"] == [
                misspelt
            ]
            assert (await client.post("/feedback", json=click)).json()["warnings"] == [
                UNKNOWN.format("xyz")
            ]
            assert (await client.post("/events", json=put)).json()["warnings"] == [
                UNKNOWN.format("xyz")
            ]
        assert (await client.post("/v1/events", json=known)).json()["warnings"] == []
        assert (
            "Warnings" not in (await client.post("/api/feedback", json=[feedback("alien")])).json()
        )


async def test_what_was_liked_is_not_recommended_again_as_if_new(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        await client.post(
            "/api/feedback", json=[feedback(one) for one in ("alien", "thing", "shining")]
        )
        ids = (await client.get("/api/recommend/u", params={"n": 8})).json()
        assert sorted(ids) == ["amelie", "heat", "notting", "solaris", "sunrise"]
        listed = (
            await client.post("/v1/recommendations", json={"user_id": "u", "top_n": 8})
        ).json()["items"]
        assert {one["item_id"] for one in listed} == {*ids}
        given = (
            await client.post(
                "/v1/recommendations", json={"user_id": "u", "candidates": ["alien", "heat"]}
            )
        ).json()
        assert {one["item_id"] for one in given["items"]} == {"alien", "heat"}
        shop = {"user_id": "u", "top_n": 8, "domain": "shop"}
        assert len((await client.post("/v1/recommendations", json=shop)).json()["items"]) == len(
            FILMS
        )


async def test_feedback_without_a_time_may_be_sent_again(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        for moment in (None, "", "0001-01-01T00:00:00Z"):
            row = feedback("alien", moment=moment)
            assert (await client.post("/api/feedback", json=[row])).json() == {"RowAffected": 1}
        assert len(await walk(client, "/v1/users/u/events")) == 1


async def test_feedback_that_is_taken_back_is_gone_from_the_next_ranking(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        await client.post(
            "/api/feedback", json=[feedback("alien", kind=kind) for kind in ("play", "like")]
        )
        assert "alien" not in (await client.get("/api/recommend/u")).json()
        assert (await client.delete("/api/feedback/Like/u/alien")).json() == {"RowAffected": 1}
        assert [
            one["FeedbackType"] for one in (await client.get("/api/user/u/feedback")).json()
        ] == ["play"]
        assert (await client.delete("/api/feedback/u/alien")).json() == {"RowAffected": 1}
        assert (await client.delete("/api/feedback/u/alien")).json() == {"RowAffected": 0}
        assert "alien" in (await client.get("/api/recommend/u")).json()


async def test_gorses_lists_are_walked_by_their_cursor(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        await client.post("/api/users", json=[{"UserId": f"u{n}"} for n in range(5)])
        await client.post(
            "/api/feedback",
            json=[feedback(str(film["id"]), user=f"u{n % 5}") for n, film in enumerate(FILMS)],
        )
        await client.post(
            "/v1/events", json={"session_id": "visit", "item_id": "alien", "type": "like"}
        )
        counts = {}
        for name, key in (("items", "Items"), ("users", "Users"), ("feedback", "Feedback")):
            rows, cursor, pages = list[Any](), "", 0
            while cursor or not pages:
                page = (await client.get(f"/api/{name}", params={"n": 3, "cursor": cursor})).json()
                rows, cursor, pages = rows + page[key], page["Cursor"], pages + 1
            assert len({str(row) for row in rows}) == len(rows)
            counts[name] = len(rows), pages
        assert counts == {"items": (8, 3), "users": (5, 2), "feedback": (8, 3)}
        assert (await client.get("/api/items", params={"cursor": "nonsense"})).status_code == 422


async def test_gorses_recommendations_are_ids_best_first(
    make: Make, serve: Serve, settings: Settings
) -> None:
    listed = settings.changed({"catalog": {"filterable": {"categories": "list"}}})
    async with await served(make, serve, listed) as client:
        await client.post("/api/feedback", json=[feedback("alien", kind="play")])
        ids = (await client.get("/api/recommend/u", params={"n": 5})).json()
        assert len(set(ids)) == 5
        assert "alien" not in ids
        assert (await client.get("/api/recommend/u/", params={"n": 3, "offset": 2})).json() == ids[
            2:
        ]
        scored = (
            await client.get("/api/recommend/u/", params={"n": 5}, headers={"X-API-Version": "2"})
        ).json()
        assert [one["Id"] for one in scored] == ids
        assert sorted((one["Score"] for one in scored), reverse=True) == [
            one["Score"] for one in scored
        ]
        await client.patch("/api/item/heat", json={"Categories": ["crime"]})
        for asked in ("/api/recommend/u/crime", "/api/recommend/u?category=crime"):
            assert (await client.get(asked)).json() == ["heat"]
        refused = await client.get("/api/recommend/u", params={"write-back-type": "read"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "write-back-type")
        assert (await client.get("/api/items", params={"q": "heat"})).json()["error"][
            "param"
        ] == "q"


async def test_a_bad_row_is_told_beside_what_was_taken(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        answer = await client.post(
            "/api/feedback", json=[{}, feedback("alien"), feedback(".."), 3, feedback("x", user="")]
        )
        assert answer.json()["RowAffected"] == 1
        assert [one["index"] for one in answer.json()["Rejected"]] == [0, 2, 3, 4]
        none = await client.post("/api/items", json=[{"ItemId": ".."}])
        assert (none.status_code, none.json()["error"]["code"]) == (422, "nothing_accepted")
        assert "ItemId" in none.json()["message"]


# ── Metarank and Amazon Personalize ───────────────────────────────────────────────────────────────

HEAD = {"id": "r1", "timestamp": "1706702400000"}
CLICK = {
    "event": "interaction",
    **HEAD,
    "id": "c1",
    "ranking": "r1",
    "user": "u",
    "type": "click",
    "item": "new",
}


async def test_metaranks_events_of_all_kinds_are_taken_together(
    make: Make, serve: Serve, settings: Settings
) -> None:
    title = {"event": "item", **HEAD, "item": "new", "fields": [{"name": "title", "value": "New"}]}
    year = {"event": "item", **HEAD, "item": "new", "fields": [{"name": "year", "value": 2026}]}
    age = {"event": "user", **HEAD, "user": "u", "fields": [{"name": "age", "value": 33}]}
    shown = {"event": "ranking", **HEAD, "user": "u", "items": [{"id": "alien"}, {"id": "new"}]}
    async with await served(make, serve, settings) as client:
        answer = (
            await client.post(
                "/feedback", json=[title, year, age, shown, CLICK, {"event": "party"}]
            )
        ).json()
        assert (answer["status"], answer["accepted"], answer["updated"]) == ("ok", 5, 6)
        assert [one["index"] for one in answer["rejected"]] == [5]
        again = (await client.post("/feedback", json=shown)).json()
        assert (again["accepted"], again["updated"], set(again)) == (
            1,
            0,
            {"status", "accepted", "updated", "tookMillis"},
        )
        nobody = (await client.post("/feedback", json=[{**shown, "user": None}, CLICK])).json()
        assert (nobody["accepted"], nobody["skipped"], nobody["updated"]) == (1, 1, 0)
        assert nobody["warnings"] == [
            "a ranking without a user or session is skipped: nobody is known to have seen it (1 "
            "row)"
        ]
        item = (await client.get("/v1/items/new")).json()
        assert (item["title"], item["attributes"]) == ("New", {"year": 2026})
        assert (await client.get("/v1/users/u")).json()["attributes"] == {"age": 33}
        events = await walk(client, "/v1/users/u/events")
        assert [
            (one["type"], one["item_id"], one["ranking_id"], one["position"]) for one in events
        ] == [
            ("impression", "alien", "r1", 0),
            ("impression", "new", "r1", 1),
            ("click", "new", "r1", None),
        ]


async def test_a_bad_change_spoils_no_other_change_of_the_same_item(
    make: Make, serve: Serve, settings: Settings
) -> None:
    def changed(name: str, value: Any) -> dict[str, Any]:
        return {
            "event": "item",
            **HEAD,
            "item": "alien",
            "fields": [{"name": name, "value": value}],
        }

    async with await served(make, serve, settings) as client:
        bad = [
            changed("a", 1),
            changed("year", [{"is": "old"}]),
            changed("b", 2),
            changed("year", "old"),
        ]
        answer = await client.post("/feedback", json=bad)
        assert [one["index"] for one in answer.json()["rejected"]] == [1]
        attributes = (await client.get("/v1/items/alien")).json()["attributes"]
        assert (attributes["a"], attributes["b"], attributes["year"]) == (1, 2, 1979)


async def test_personalizes_three_requests_are_taken(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        items = {
            "datasetArn": "x",
            "items": [{"itemId": "new", "properties": '{"title": "New", "genre": "A|B"}'}, {}],
        }
        answer = (await client.post("/items", json=items)).json()
        assert (answer["accepted"], [one["index"] for one in answer["rejected"]]) == (1, [1])
        assert (await client.get("/v1/items/new")).json()["attributes"] == {"genre": ["A", "B"]}
        users = {"users": [{"userId": "u", "properties": '{"age": 3}'}]}
        assert (await client.post("/users", json=users)).json() == {
            "accepted": 1,
            "duplicates": 0,
            "rejected": [],
            "warnings": [],
        }
        event = {
            "eventType": "Click",
            "sentAt": 1706702400,
            "itemId": "new",
            "recommendationId": "r",
            "impression": ["new"],
        }
        body = {"trackingId": "t", "userId": "u", "sessionId": "s", "eventList": [event, {}, event]}
        answer = (await client.post("/events", json=body)).json()
        assert (answer["accepted"], answer["duplicates"]) == (2, 2)
        assert [one["index"] for one in answer["rejected"]] == [1]
        found = await walk(client, "/v1/users/u/events")
        assert [(one["type"], one["occurred_at"], one["ranking_id"]) for one in found] == [
            ("click", THEN, "r"),
            ("impression", THEN, "r"),
        ]


HOSTILE = [
    b"",
    b"null",
    b"3",
    b"[]",
    b"{}",
    b"{",
    b"[" * 50_000,
    b'{"eventList": [], "items": 3}',
    b"\xff",
    b'{"a": NaN}',
]
HOSTILE += [
    b'{"items": [{"itemId": "\\ud800"}]}',
    b'{"event": "item", "item": {}}',
    b'{"UserId": []}',
    b"{}\n{}",
]
WRITES = ["/feedback", "/events", "/items", "/users", "/api/feedback", "/api/items", "/api/users"]


@pytest.mark.parametrize("path", WRITES)
async def test_a_hostile_body_gets_the_envelope(
    make: Make, serve: Serve, settings: Settings, path: str
) -> None:
    async with await served(make, serve, settings) as client:
        for body in HOSTILE:
            answer = await client.post(path, content=body)
            assert 400 <= answer.status_code < 500, (body, answer.text)
            assert set(answer.json()) == {"error", "message", "detail", "id"}
        assert (await client.get("/v1/users")).json()["data"] == []


async def test_every_field_is_described_and_shown_and_what_is_shown_is_taken(
    make: Make, serve: Serve, settings: Settings
) -> None:
    told = create_app(settings).openapi()
    shapes = {
        name: one for name, one in told["components"]["schemas"].items() if name.startswith("Gorse")
    }
    inline = {
        path: told["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for path in ("/feedback", "/events", "/items", "/users")
    }
    for name, lists in (("/events", "eventList"), ("/items", "items"), ("/users", "users")):
        shapes[name] = inline[name]["properties"][lists]["items"]
    for name, schema in (shapes | inline).items():
        for field, one in schema["properties"].items():
            assert one["description"], (name, field)
            assert one.get("examples") or one.get("items", {}).get("properties"), (name, field)
    shown = {
        name: {field: one["examples"][0] for field, one in shapes[name]["properties"].items()}
        for name in shapes
    }
    async with await served(make, serve, settings) as client:
        for path, name in (
            ("item", "GorseItem"),
            ("user", "GorseUser"),
            ("feedback", "GorseFeedback"),
        ):
            assert (await client.post(f"/api/{path}", json=shown[name])).json() == {
                "RowAffected": 1
            }
        for path, lists in (("/events", "eventList"), ("/items", "items"), ("/users", "users")):
            body = {"sessionId": "s", "userId": "u", lists: [shown[path]]}
            assert (await client.post(path, json=body)).json()["rejected"] == []
        event = {
            field: one["examples"][0] for field, one in inline["/feedback"]["properties"].items()
        }
        for kind in ("item", "user", "ranking", "interaction"):
            assert (await client.post("/feedback", json={**event, "event": kind})).json()[
                "accepted"
            ] == 1


@pytest.mark.skipif(not which("curl"), reason="no curl")
async def test_the_documents_commands_work(make: Make, serve: Serve, settings: Settings) -> None:
    commands = re.findall(
        r"^curl .+$", (HOUSE / "docs" / "feeds.md").read_text(), flags=re.MULTILINE
    )
    async with await served(make, serve, settings) as client:
        for command in commands:
            words = shlex.split(command.replace("localhost:8080", client.base_url.netloc.decode()))
            ran = await asyncio.to_thread(
                subprocess.run, [*words, "-fsS"], capture_output=True, text=True, timeout=60
            )
            assert ran.returncode == 0, (command, ran.stderr)
            assert 'ejected":[{' not in ran.stdout, (command, ran.stdout)
        assert len(commands) > 10


# ── rows as they come ─────────────────────────────────────────────────────────────────────────────


async def test_json_is_read_as_leniently_as_a_file(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings, films=[]) as client:
        rows = [
            {
                "id": 7,
                "titel": "Kettle",
                "brand": "Kailas",
                "size": {"cm": 12},
                "gone": None,
                "attributes": {"year": "1999"},
            },
            {
                "id": "8",
                "title": 1984,
                "attributes": {"year": "old", "brand": None, "tags": ["a", None]},
            },
        ]
        answer = (await client.post("/v1/items", json=rows)).json()
        assert (answer["accepted"], answer["rejected"]) == (2, [])
        assert answer["warnings"] == [
            "keys that are no fields of ours became attributes: titel (1), brand (1), size (1)",
            "titel became an attribute: was title meant?",
            'attributes.year left out of 1 rows: declared int (catalog.filterable), found "old"',
        ]
        seven, eight = [(await client.get(f"/v1/items/{item_id}")).json() for item_id in (7, 8)]
        assert seven["attributes"] == {
            "titel": "Kettle",
            "brand": "Kailas",
            "size.cm": 12,
            "year": 1999,
        }
        assert (eight["title"], eight["attributes"]) == ("1984", {"tags": ["a"]})
        assert (await client.post("/v1/users", json={"user_id": 9, "age": 3})).json()[
            "accepted"
        ] == 1
        assert (await client.get("/v1/users/9")).json()["attributes"] == {"age": 3}
        assert (
            await client.post("/v1/events", json={"user_id": 9, "item_id": 7, "type": "view"})
        ).json()["accepted"] == 1


@pytest.mark.parametrize(
    ("path", "row", "told"),
    [
        ("/v1/items", {"item_id": "1"}, "element 0: id: missing; item_id is there: call it id"),
        (
            "/v1/items",
            {"id": "1", "attributes": {"a": {"b": [{"c": 1}]}}},
            "element 0: attributes.b: a text, a number",
        ),
        ("/v1/items", {"id": "1", "attributes": [1]}, "element 0: attributes: an object is needed"),
        ("/v1/users", {"id": "1"}, "element 0: user_id: missing"),
        (
            "/v1/events",
            {"user_id": "1", "type": "view", "itemid": "2"},
            "element 0: itemid: not known; was item_id meant?",
        ),
    ],
)
async def test_a_row_that_is_refused_is_told_once_in_the_feeds_words(
    make: Make, serve: Serve, settings: Settings, path: str, row: dict[str, Any], told: str
) -> None:
    async with await served(make, serve, settings, films=[]) as client:
        answer = await client.post(path, json=row)
        assert answer.status_code == 422
        assert answer.json()["message"].startswith(told)
        assert answer.json()["message"].count(";") <= 1


@pytest.mark.parametrize(
    ("scale", "like", "middling", "dislike"),
    [((1, 5), 4, 3, 2), ((1, 10), 8, 6, 3), ((0, 100), 75, 50, 25), ((0, 1), 1, 0.5, 0)],
)
async def test_what_counts_as_a_like_follows_the_scale(
    make: Make,
    serve: Serve,
    settings: Settings,
    scale: tuple[float, float],
    like: float,
    middling: float,
    dislike: float,
) -> None:
    scaled = settings.changed({"events": {"types": {"rating": {"scale": scale}}}})
    async with await served(make, serve, scaled) as client:
        values = {"alien": like, "thing": middling, "heat": dislike, "amelie": scale[1] + 1}
        rows = [
            {"user_id": "u", "item_id": item, "type": "rating", "value": value}
            for item, value in values.items()
        ]
        answer = (await client.post("/v1/events", json=rows)).json()
        assert answer["warnings"] == [
            f"1 values of rating lie outside its scale of {scale[0]} to {scale[1]}: from "
            f"{scale[1] + 1} to {scale[1] + 1}; "
            "set events.types.rating.scale, or ingest the file with --scale LOW:HIGH"
        ]
        assert (await client.get("/v1/users/u/state")).json()["likes"].keys() == {"alien", "amelie"}


async def test_a_csv_file_by_http_is_sent_to_the_command(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings, films=[]) as client:
        answer = await client.post(
            "/v1/items", content=b"id,title\n1,Kettle\n", headers={"content-type": "text/csv"}
        )
        assert answer.status_code == 415
        assert (
            "application/json or application/x-ndjson'; a CSV file is for 'whyrank ingest'"
            in answer.json()["message"]
        )
