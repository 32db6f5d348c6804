import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from service.errors import BadRequest
from service.feeds.cells import label
from service.feeds.foreign import LONGEST, READERS, Sorted, renewed, sorted_out
from service.feeds.rows import Notes, checked_rows, one_a_row
from service.schema import Event, Feed, Item, Shape, User

NOUNS: dict[Feed, type[BaseModel]] = {"items": Item, "users": User, "events": Event}
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def rows(shape: Shape, feed: Feed | None, *foreign: Any) -> list[dict[str, Any]]:
    """Ours, of foreign rows that are fine: each is one that our noun takes."""
    found = sorted_out(shape, feed, foreign)
    assert (found.rejected, found.skipped) == ([], 0)
    for part in found.parts:
        NOUNS[part.feed].model_validate(part.row)
    return [part.row for part in found.parts]


def told(found: Sorted) -> list[tuple[int, str]]:
    return [(one.index, one.message) for one in one_a_row(found.rejected)]


# ── Gorse ─────────────────────────────────────────────────────────────────────────────────────────


def test_gorses_feedback_becomes_an_event() -> None:
    feedback = {
        "FeedbackType": "AddToCart",
        "UserId": "u",
        "ItemId": "a",
        "Value": 4,
        "Timestamp": "2026-01-31T12:00:00Z",
    }
    event = {"type": "add_to_cart", "user_id": "u", "item_id": "a", "value": 4, "occurred_at": NOON}
    assert rows("gorse", "events", {**feedback, "Comment": ""}) == [event]
    assert rows("gorse", "events", {key.lower(): value for key, value in feedback.items()}) == [
        event
    ]
    assert rows("gorse", "events", {**feedback, "Comment": "nice", "Labels": ["x"]}) == [
        {**event, "text": "nice"}
    ]


def test_gorses_feedback_without_a_time_is_the_same_when_it_is_sent_again() -> None:
    feedback = {"FeedbackType": "like", "UserId": "u", "ItemId": "a"}
    nothing: list[dict[str, Any]] = [
        {},
        {"Timestamp": None},
        {"Timestamp": ""},
        {"Timestamp": "0001-01-01T00:00:00Z"},
    ]
    ids = {rows("gorse", "events", {**feedback, **none})[0]["event_id"] for none in nothing}
    assert len(ids) == 1
    assert rows("gorse", "events", {**feedback, "ItemId": "b"})[0]["event_id"] not in ids


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ({"Comment": "Alien"}, {"title": "Alien"}),
        ({"Comment": "In space\nno one can hear you"}, {"text": "In space\nno one can hear you"}),
        (
            {"Comment": "In space", "Labels": {"title": "Alien"}},
            {"title": "Alien", "text": "In space"},
        ),
        (
            {"Labels": ["a", "b"], "Categories": ["c"]},
            {"attributes": {"labels": ["a", "b"], "categories": ["c"]}},
        ),
        (
            {"Labels": {"year": 1979, "by": {"first": "R"}, "x": None}},
            {"attributes": {"year": 1979, "by.first": "R"}},
        ),
        ({"Labels": None, "Categories": None, "IsHidden": None, "Comment": None}, {}),
        (
            {"Labels": {"url": "http://x/", "image_url": "http://y/"}},
            {"url": "http://x/", "image_url": "http://y/"},
        ),
        (
            {"IsHidden": True, "Timestamp": "2026-01-31 12:00:00"},
            {"available": False, "published_at": NOON},
        ),
    ],
)
def test_gorses_item_becomes_an_item(given: dict[str, Any], ours: dict[str, Any]) -> None:
    assert rows("gorse", "items", {"ItemId": "a", **given}) == [
        {"id": "a", "attributes": {}, "available": True, **ours}
    ]


def test_gorses_user_becomes_a_user() -> None:
    user = {"UserId": "u", "Labels": {"age": 3}, "Comment": "met in May", "Subscribe": ["x"]}
    assert rows("gorse", "users", user) == [
        {"user_id": "u", "attributes": {"age": 3, "comment": "met in May"}}
    ]
    assert rows("gorse", "users", {"UserId": "u", "Labels": ["a"]}) == [
        {"user_id": "u", "attributes": {"labels": ["a"]}}
    ]


@pytest.mark.parametrize(
    "moment",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.000000000Z",
        "2026-01-31T20:00:00+08:00",
        "2026-01-31 12:00:00",
        "2026-01-31 12:00:00 +0000 UTC",
        "20260131T120000",
        "2026/01/31 12:00:00",
        "01/31/2026 12:00:00",
        "Sat, 31 Jan 2026 12:00:00 GMT",
        "Sat Jan 31 12:00:00 2026",
        "1769860800",
        "1769860800000",
        "1769860800000000000",
        1769860800,
        1769860800.0,
        1769860800000,
    ],
)
def test_a_moment_is_read_however_it_is_written(moment: Any) -> None:
    feedback = {"FeedbackType": "like", "UserId": "u", "ItemId": "a", "Timestamp": moment}
    assert rows("gorse", "events", feedback)[0]["occurred_at"] == NOON


@pytest.mark.parametrize(
    "moment",
    ["soon", "31.1.2026", True, [], {}, "12:00", 1e300, "9" * 400, float("nan"), float("inf")],
)
def test_what_is_no_moment_is_refused_with_what_would_be_one(moment: Any) -> None:
    found = sorted_out("gorse", "items", [{"ItemId": "a", "Timestamp": moment}])
    assert "as 2026-01-31T12:00:00Z" in found.rejected[0].message


def test_event_types_are_spelled_in_our_letters() -> None:
    spelled = {
        "READ": "read",
        "add to cart": "add_to_cart",
        "watchTime>30%": "watch_time_30",
        "x" * 99: "x" * 64,
    }
    assert {given: label(given) for given in spelled} == spelled
    for nothing in ("", "喜欢", "___", 3, None):
        with pytest.raises(BadRequest, match="type"):
            label(nothing)


# ── Metarank ──────────────────────────────────────────────────────────────────────────────────────

HEAD = {"id": "e1", "timestamp": "1769860800000"}
RANKING = {
    "event": "ranking",
    **HEAD,
    "user": "u",
    "session": "s",
    "items": [{"id": "a", "relevancy": 2.0}, {"id": "b"}],
}
CLICK = {
    "event": "interaction",
    **HEAD,
    "id": "e2",
    "ranking": "e1",
    "user": "u",
    "type": "click",
    "item": "b",
}
FIELDS = [
    {"name": "title", "value": "Alien"},
    {"name": "genre", "value": ["Horror"]},
    {"name": "good", "value": True},
]


def test_metaranks_ranking_becomes_impressions_and_its_click_an_event() -> None:
    first, second, click = rows("metarank", None, RANKING, CLICK)
    shown = {
        "type": "impression",
        "user_id": "u",
        "session_id": "s",
        "occurred_at": NOON,
        "ranking_id": "e1",
    }
    assert first | {"event_id": ""} == {**shown, "item_id": "a", "position": 0, "event_id": ""}
    assert (second["item_id"], second["position"]) == ("b", 1)
    assert first["event_id"] != second["event_id"]
    assert click == {
        "event_id": "e2",
        "user_id": "u",
        "type": "click",
        "item_id": "b",
        "occurred_at": NOON,
        "ranking_id": "e1",
    }
    rating = {
        **CLICK,
        "type": "rating",
        "fields": [{"name": "rating", "value": 4.5}],
        "ranking": None,
    }
    assert rows("metarank", "events", rating)[0]["value"] == 4.5


def test_metaranks_items_and_users_tell_fields() -> None:
    item = {"event": "item", **HEAD, "item": "a", "fields": FIELDS}
    ours = {"id": "a", "title": "Alien", "attributes": {"genre": ["Horror"], "good": True}}
    assert rows("metarank", None, item, {**item, "event": "metadata"}) == [ours, ours]
    user = {"event": "user", **HEAD, "user": "u", "fields": [{"name": "age", "value": 33}]}
    assert rows("metarank", None, user) == [{"user_id": "u", "attributes": {"age": 33}}]


def test_of_a_mixed_file_the_rows_of_another_feed_are_skipped_unread() -> None:
    mixed = [RANKING, CLICK, {"event": "item"}, {"event": "user", "user": "u"}, {"event": "party"}]
    found = sorted_out("metarank", "users", mixed)
    assert ([part.row["user_id"] for part in found.parts], found.skipped) == (["u"], 3)
    assert told(found) == [(4, 'event: "party" is none of item, user, ranking, interaction')]


def test_metarank_tells_changes_and_the_others_the_whole() -> None:
    known = {"user_id": "u", "attributes": {"age": 3}, "allow_hosted": False}
    row = {"user_id": "u", "attributes": {"sex": "f"}}
    assert renewed("metarank", known, row) == {**known, "attributes": {"age": 3, "sex": "f"}}
    assert renewed("gorse", known, row) == {**known, "attributes": {"sex": "f"}}
    assert renewed("gorse", {}, row) == row


# ── Amazon Personalize ────────────────────────────────────────────────────────────────────────────

CLICKED = {"eventType": "Click", "sentAt": 1769860800, "itemId": "a", "eventId": "e1"}


def test_a_put_events_becomes_events_and_impressions() -> None:
    event = {**CLICKED, "recommendationId": "r1", "impression": ["a", "b"], "eventValue": 0.5}
    click, first, second = rows(
        "personalize",
        None,
        {"trackingId": "t", "userId": "u", "sessionId": "s", "eventList": [event]},
    )
    who = {"user_id": "u", "session_id": "s", "occurred_at": NOON, "ranking_id": "r1"}
    assert click == {**who, "event_id": "e1", "type": "click", "item_id": "a", "value": 0.5}
    assert [(one["type"], one["item_id"], one["position"]) for one in (first, second)] == [
        ("impression", "a", 0),
        ("impression", "b", 1),
    ]
    assert len({click["event_id"], first["event_id"], second["event_id"]}) == 3


def test_an_old_client_names_the_item_among_the_properties_and_a_visitor_has_no_id() -> None:
    event = {
        "eventType": "rating",
        "sentAt": 1769860800.25,
        "properties": '{"itemId": "a", "eventValue": 4}',
    }
    row = rows("personalize", "events", {"sessionId": "s", "eventList": [event]})[0]
    assert (row["item_id"], row["value"], row["session_id"]) == ("a", 4, "s")
    assert row["occurred_at"] == NOON.replace(microsecond=250_000)


def test_put_items_and_put_users_tell_properties() -> None:
    told = {
        "name": "Alien",
        "genres": "Horror|Sci-Fi",
        "creationTimestamp": 1769860800,
        "description": "In space",
    }
    item = {
        "id": "a",
        "title": "Alien",
        "text": "In space",
        "attributes": {"genres": ["Horror", "Sci-Fi"]},
    }
    body = {
        "datasetArn": "x",
        "items": [{"itemId": "a", "properties": json.dumps(told)}, {"itemId": "b"}],
    }
    assert rows("personalize", "items", body) == [
        {**item, "published_at": NOON},
        {"id": "b", "attributes": {}},
    ]
    body = {"users": [{"userId": "u", "properties": {"age": 3}}]}
    assert rows("personalize", None, body) == [{"user_id": "u", "attributes": {"age": 3}}]


def test_a_bad_event_costs_itself_only() -> None:
    bad = {"eventType": "Click", "itemId": "..", "sentAt": 1769860800}
    body = {
        "userId": "u",
        "sessionId": "s",
        "eventList": [CLICKED, bad, {**CLICKED, "sentAt": "soon"}, CLICKED],
    }
    found = sorted_out("personalize", "events", [body, {}, body])
    assert len(found.parts) == 4
    assert [index for index, _ in told(found)] == [0, 1, 2]
    assert "eventList.1: itemId: an id may not be '.' or '..'" in told(found)[0][1]
    assert "eventList.2: sentAt" in told(found)[0][1]


def test_a_ranking_of_nobody_is_skipped_with_why() -> None:
    nobody = {name: value for name, value in RANKING.items() if name not in {"user", "session"}}
    found = sorted_out("metarank", None, [nobody, {**nobody, "user": ""}, RANKING])
    assert (found.skipped, found.rejected, len({part.index for part in found.parts})) == (2, [], 1)
    assert list(found.noticed.items()) == [
        ("a ranking without a user or session is skipped: nobody is known to have seen it", 2)
    ]
    assert sorted_out("metarank", "users", [nobody]).noticed == {}


# ── whoever sends it ──────────────────────────────────────────────────────────────────────────────

BAD: list[tuple[Shape, Feed | None, Any, str]] = [
    ("gorse", "items", None, "an object is needed"),
    ("gorse", None, {}, "name the feed"),
    ("gorse", "items", {}, "ItemId: missing"),
    ("gorse", "items", {"ItemId": 7}, "ItemId: Input should be a valid string"),
    ("gorse", "items", {"ItemId": ".."}, "ItemId: an id may not be '.' or '..'"),
    ("gorse", "items", {"ItemId": "\x1fs"}, "control characters"),
    ("gorse", "items", {"ItemId": "a", "IsHidden": "no"}, "IsHidden: true or false"),
    ("gorse", "items", {"ItemId": "a", "Comment": 3}, "Comment: a string"),
    ("gorse", "events", {"UserId": "u", "ItemId": "a"}, "FeedbackType: a string"),
    ("metarank", None, {"event": []}, "is none of item"),
    ("metarank", None, {**RANKING, "items": []}, "items: a list of 1 to"),
    (
        "metarank",
        None,
        {**RANKING, "items": [{"id": "a"}] * (LONGEST + 1)},
        "items: a list of 1 to",
    ),
    ("metarank", None, {**RANKING, "items": ["a"]}, "items.0: an object"),
    ("metarank", None, {**RANKING, "items": [{"id": ""}]}, "items.0.id: "),
    ("metarank", None, {**CLICK, "user": None, "session": None}, "user, or session for a visitor"),
    ("metarank", None, {**CLICK, "fields": [{"name": "x"}]}, "fields.0: a name and a value"),
    ("metarank", None, {"event": "user", "user": "u", "fields": {"age": 3}}, "fields: a list"),
    ("personalize", None, {}, "one of eventList, items and users"),
    ("personalize", None, {"items": [], "users": []}, "one of eventList, items and users"),
    ("personalize", None, {"eventList": {}}, "eventList: a list"),
    ("personalize", None, {"sessionId": "s", "eventList": [{"sentAt": 1}]}, "eventType: a string"),
    ("personalize", None, {"eventList": [CLICKED]}, "userId, or sessionId"),
    ("personalize", None, {"items": [{"itemId": "a", "properties": "{"}]}, "properties: not JSON"),
    (
        "personalize",
        None,
        {"items": [{"itemId": "a", "properties": "[" * 99_999}]},
        "properties: not JSON",
    ),
    (
        "personalize",
        None,
        {"items": [{"itemId": "a", "properties": "[]"}]},
        "properties: an object",
    ),
]


@pytest.mark.parametrize(("shape", "feed", "row", "reason"), BAD)
def test_a_bad_row_is_told_what_it_lacks_in_its_own_words(
    shape: Shape, feed: Feed | None, row: Any, reason: str
) -> None:
    found = sorted_out(shape, feed, [row])
    assert (found.parts, found.skipped) == ([], 0)
    assert reason in told(found)[0][1]


KEYS = [
    *(
        "FeedbackType",
        "UserId",
        "ItemId",
        "Value",
        "Timestamp",
        "Comment",
        "IsHidden",
        "Categories",
        "Labels",
    ),
    *(
        "event",
        "id",
        "timestamp",
        "user",
        "session",
        "item",
        "ranking",
        "type",
        "fields",
        "items",
        "name",
        "value",
    ),
    *(
        "userId",
        "sessionId",
        "eventList",
        "users",
        "eventType",
        "itemId",
        "sentAt",
        "impression",
        "properties",
    ),
]
WORDS = [
    "item",
    "user",
    "ranking",
    "interaction",
    "click",
    "a",
    "1769860800",
    "2026-01-31",
    '{"itemId": "a"}',
]
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(WORDS)
VALUES = st.recursive(
    PLAIN,
    lambda deeper: (
        st.lists(deeper, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(), deeper, max_size=6)
    ),
    max_leaves=25,
)
FEEDS: list[Feed | None] = [None, *get_args(Feed)]


@given(st.sampled_from(list(READERS)), st.sampled_from(FEEDS), st.lists(VALUES, max_size=3))
def test_any_json_is_a_row_or_a_rejection_and_never_an_error(
    shape: Shape, feed: Feed | None, foreign: list[Any]
) -> None:
    found = sorted_out(shape, feed, foreign)
    assert all(part.feed == feed or feed is None for part in found.parts)
    assert {part.index for part in found.parts} | {one.index for one in found.rejected} <= set(
        range(len(foreign))
    )
    for name, noun in NOUNS.items():
        mine = [part for part in found.parts if part.feed == name]
        rows = [renewed_alone(shape, part.row) for part in mine]
        good, refused = checked_rows(name, noun, rows, Notes(), lambda value: value)
        assert len(good) + len(refused) == len(mine)
        assert all(part.key for part in mine) == (name != "events" or not mine)


def renewed_alone(shape: Shape, row: dict[str, Any]) -> dict[str, Any]:
    return renewed(shape, {}, row) if "attributes" in row else row
