"""Rows of other systems as rows of ours: Gorse's, Metarank's and Amazon Personalize's. Functions of
values; nothing is stored.

A foreign row becomes parts, each a row that one of our feeds takes. What a foreign system asks for
(a string here, a list there) is checked under its own field names; the rest (lengths, numbers,
declared attributes) is left to our nouns.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from service.errors import BadRequest, reasons
from service.feeds.rows import attributes_of
from service.feeds.times import any_moment
from service.schema import Feed, Id, Rejection, Shape

Row = dict[str, Any]

LONGEST = 1_000
"""A list inside one row holds at most so many."""
TITLE = 200
"""A Gorse comment of one line, no longer than this, is a title; any other is a text."""
GORSE = (
    "FeedbackType",
    "UserId",
    "ItemId",
    "Value",
    "Timestamp",
    "Comment",
    "IsHidden",
    "Categories",
    "Labels",
)
METARANK: dict[str, Feed] = {
    "item": "items",
    "metadata": "items",
    "user": "users",
    "ranking": "events",
    "interaction": "events",
}
PERSONALIZE: dict[str, Feed] = {"eventList": "events", "items": "items", "users": "users"}
FIELDS = {
    "title": ("title", "name"),
    "text": ("text", "description"),
    "url": ("url",),
    "image_url": ("image_url", "imageUrl"),
}
"""What a foreign item's facts call our fields; all other facts are attributes."""
IDS: TypeAdapter[str] = TypeAdapter(Id)


@dataclass(frozen=True)
class FeedRow:
    """A row for one of our feeds. `index`: of the foreign row; `where`: in it, as `eventList.3:
    `."""

    feed: Feed
    row: Row
    index: int = 0
    where: str = ""

    @property
    def key(self) -> str:
        """Of the item or user; an event has none."""
        return (
            ""
            if self.feed == "events"
            else str(self.row["id" if self.feed == "items" else "user_id"])
        )


@dataclass(frozen=True)
class Sorted:
    """`skipped`: how many rows are fine and hold nothing for the feed; `noticed`: why, where that
    needs a word, and of how many rows."""

    parts: list[FeedRow]
    rejected: list[Rejection]
    skipped: int
    noticed: Counter[str]


class Skipped(Exception):
    """A row that is fine and holds nothing, and why."""


def sorted_out(shape: Shape, feed: Feed | None, rows: Sequence[Any]) -> Sorted:
    """What rows hold for a feed (None: for any), and why others can't be read: what is bad costs
    itself only."""
    parts, rejected, skipped, noticed = list[FeedRow](), list[Rejection](), 0, Counter[str]()
    for index, row in enumerate(rows):
        before = len(parts), len(rejected)
        for where, one in _apart(shape, row):
            try:
                found = READERS[shape](feed, _object(one, "the row"))
                parts += [FeedRow(part.feed, part.row, index, where + part.where) for part in found]
            except BadRequest as error:
                rejected.append(
                    Rejection(index=index, code=error.code, message=where + error.message)
                )
            except Skipped as why:
                noticed[str(why)] += 1
        skipped += before == (len(parts), len(rejected))
    return Sorted(parts, rejected, skipped, noticed)


def placed(part: FeedRow, refused: Rejection) -> Rejection:
    """What our noun says of a part, as said of the foreign row."""
    return refused.model_copy(update={"index": part.index, "message": part.where + refused.message})


def one_a_row(rejected: Sequence[Rejection]) -> list[Rejection]:
    """Everything that is wrong with a foreign row in one rejection, in the order of rows."""
    found: dict[int, list[Rejection]] = {}
    for one in sorted(rejected, key=lambda one: one.index):
        found.setdefault(one.index, []).append(one)
    return [
        first.model_copy(update={"message": "; ".join(one.message for one in [first, *others][:5])})
        for first, *others in found.values()
    ]


def renewed(shape: Shape, known: Mapping[str, Any], row: Row) -> Row:
    """The row of an item or a user over what is known of it: what a foreign system has no word for
    stays as it was.

    Metarank tells single attributes that changed; the others tell all there are.
    """
    told = row["attributes"]
    return {
        **known,
        **row,
        "attributes": {**known.get("attributes", {}), **told} if shape == "metarank" else told,
    }


def label(value: Any, name: str = "type") -> str:
    """A foreign event type in our letters: `AddToCart` and `add to cart` are `add_to_cart`."""
    if not isinstance(value, str):
        raise BadRequest(f"{name}: a string is needed")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", value).lower()
    found = re.sub(r"[^a-z0-9_.:-]+", "_", words).strip("_")[:64]
    if not found:
        raise BadRequest(
            f"{name}: {value[:64]!r} holds nothing of a-z, 0-9, which event types are made of"
        )
    return found


def _apart(shape: Shape, row: Any) -> Iterator[tuple[str, Any]]:
    """Personalize sends many in one request; each is read alone."""
    names = [
        name
        for name in PERSONALIZE
        if shape == "personalize" and isinstance(row, dict) and name in row
    ]
    lists = {
        name: row[name]
        for name in names
        if isinstance(row[name], list) and 1 < len(row[name]) <= LONGEST
    }
    if len(names) == 1 and lists:
        for n, one in enumerate(lists[names[0]]):
            yield f"{names[0]}.{n}: ", {**row, names[0]: [one]}
    else:
        yield "", row


# ── Gorse ─────────────────────────────────────────────────────────────────────────────────────────


def _gorse(feed: Feed | None, row: Row) -> list[FeedRow]:
    """Keys in any case, as Go reads them; those that Gorse doesn't know are no matter to it."""
    if feed is None:
        raise BadRequest("Gorse's rows don't say what they are: name the feed")
    known = {name.lower(): name for name in GORSE}
    told = {
        known[key.lower()]: value
        for key, value in row.items()
        if key.lower() in known and value is not None
    }
    return [
        FeedRow(
            feed, {"items": _gorse_item, "users": _gorse_user, "events": _gorse_event}[feed](told)
        )
    ]


def _gorse_item(told: Row) -> Row:
    """`Comment` is the title, or the text if it reads like one or `Labels` hold a title."""
    row = _item(_id(told, "ItemId"), _labels(told))
    if not isinstance(hidden := told.get("IsHidden", False), bool):
        raise BadRequest("IsHidden: true or false is needed")
    if comment := _text(told, "Comment"):
        short = len(comment) <= TITLE and "\n" not in comment
        row["title" if short and "title" not in row else "text"] = comment
    if told.get("Categories"):
        row["attributes"]["categories"] = told["Categories"]
    return _given({**row, "available": not hidden, "published_at": _moment(told, "Timestamp")})


def _gorse_user(told: Row) -> Row:
    comment = _text(told, "Comment")
    return {
        "user_id": _id(told, "UserId"),
        "attributes": attributes_of(_labels(told)) | ({"comment": comment} if comment else {}),
    }


def _gorse_event(told: Row) -> Row:
    """Feedback without a time is known again by what it says, so that sending it twice is one
    event."""
    row = {
        "type": label(told.get("FeedbackType"), "FeedbackType"),
        "user_id": _id(told, "UserId"),
        "item_id": _id(told, "ItemId"),
        "value": told.get("Value"),
        "text": _text(told, "Comment"),
        "occurred_at": _moment(told, "Timestamp"),
    }
    if row["occurred_at"] is None:
        row["event_id"] = _digest(row["type"], row["item_id"], row["value"])
    return _given(row)


def _labels(told: Row) -> Row:
    """An object as it is; a list, or a single one, by the name of `labels`."""
    labels = told.get("Labels", {})
    return dict(labels) if isinstance(labels, dict) else {"labels": labels}


# ── Metarank ──────────────────────────────────────────────────────────────────────────────────────


def _metarank(feed: Feed | None, row: Row) -> list[FeedRow]:
    kind = row.get("event")
    if not isinstance(kind, str) or kind not in METARANK:
        raise BadRequest(
            f"event: {json.dumps(kind)[:64]} is none of item, user, ranking, interaction"
        )
    if feed not in (None, METARANK[kind]):
        return []
    if kind == "ranking":
        return _shown(row)
    return [FeedRow(METARANK[kind], (_acted if kind == "interaction" else _declared)(row))]


def _declared(row: Row) -> Row:
    facts = _facts(row)
    if row["event"] == "user":
        return {"user_id": _id(row, "user"), "attributes": attributes_of(facts)}
    return _item(_id(row, "item"), facts)


def _acted(row: Row) -> Row:
    """A field by the name of `value`, or of the interaction's type, is its value."""
    facts, kind = _facts(row), label(row.get("type"))
    value = facts.get("value", facts.get(kind))
    return _given(
        {
            **_who(row, "user", "session"),
            "event_id": _id(row, "id"),
            "type": kind,
            "item_id": _id(row, "item"),
            "value": value if isinstance(value, int | float) else None,
            "occurred_at": _moment(row, "timestamp"),
            "ranking_id": _id(row, "ranking", needed=False),
        }
    )


def _shown(row: Row) -> list[FeedRow]:
    """An impression of each item, at its place. Raises `Skipped` for a ranking that was shown to
    nobody in particular."""
    if all(row.get(name) in (None, "") for name in ("user", "session")):
        raise Skipped(
            "a ranking without a user or session is skipped: nobody is known to have seen it"
        )
    ranking, moment, who = _id(row, "id"), _moment(row, "timestamp"), _who(row, "user", "session")
    items = [
        _id(_object(one, f"items.{n}"), "id", f"items.{n}.id")
        for n, one in enumerate(_list(row, "items"))
    ]
    return [FeedRow("events", one) for one in _impressions(items, who, ranking, moment, ranking)]


def _facts(row: Row) -> Row:
    """`fields` as names and values."""
    found = {}
    for n, one in enumerate(_list(row, "fields") if row.get("fields") else ()):
        field = _object(one, f"fields.{n}")
        if not isinstance(field.get("name"), str) or "value" not in field:
            raise BadRequest(f"fields.{n}: a name and a value are needed")
        found[field["name"]] = field["value"]
    return found


# ── Amazon Personalize ────────────────────────────────────────────────────────────────────────────


def _personalize(feed: Feed | None, row: Row) -> list[FeedRow]:
    """The body of a PutEvents, PutItems or PutUsers."""
    named = [name for name in PERSONALIZE if name in row]
    if len(named) != 1:
        raise BadRequest(
            "one of eventList, items and users is needed, as PutEvents, PutItems and PutUsers "
            "send them"
        )
    name = named[0]
    if feed not in (None, PERSONALIZE[name]):
        return []
    told = [_object(one, f"{name}.{n}") for n, one in enumerate(_list(row, name))]
    if name == "eventList":
        who = _who(row, "userId", "sessionId")
        return [FeedRow("events", event) for one in told for event in _put_event(one, who)]
    return [
        FeedRow(PERSONALIZE[name], (_put_item if name == "items" else _put_user)(one))
        for one in told
    ]


def _put_event(told: Row, who: Row) -> list[Row]:
    """The event, and an impression of each item that was shown. Old clients name the item among the
    properties."""
    extra = _properties(told)
    event_id, moment = _id(told, "eventId", needed=False), _moment(told, "sentAt")
    ranking = _id(told, "recommendationId", needed=False)
    event = {
        **who,
        "event_id": event_id,
        "type": label(told.get("eventType"), "eventType"),
        "item_id": _id({**extra, **_given(told)}, "itemId", needed=False),
        "value": told.get("eventValue", extra.get("eventValue")),
        "occurred_at": moment,
        "ranking_id": ranking,
    }
    listed = enumerate(_list(told, "impression") if told.get("impression") else ())
    items = [_id({"item": one}, "item", f"impression.{n}") for n, one in listed]
    return [_given(event), *_impressions(items, who, ranking, moment, event_id)]


def _put_item(told: Row) -> Row:
    facts = _properties(told)
    created = _moment(
        {"creationTimestamp": facts.pop("creationTimestamp", None)}, "creationTimestamp"
    )
    row = _item(_id(told, "itemId"), facts)
    return _given({**row, "attributes": _split(row["attributes"]), "published_at": created})


def _put_user(told: Row) -> Row:
    return {"user_id": _id(told, "userId"), "attributes": _split(attributes_of(_properties(told)))}


def _properties(told: Row) -> Row:
    """A JSON object in a string; an object as it is."""
    found = told.get("properties")
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"properties: not JSON: {error}") from error
    return dict(_object({} if found is None else found, "properties"))


def _split(attributes: Row) -> Row:
    """Categories come as `Comedy|Romance`."""
    return {
        key: [part for part in value.split("|") if part]
        if isinstance(value, str) and "|" in value
        else value
        for key, value in attributes.items()
    }


READERS = {"gorse": _gorse, "metarank": _metarank, "personalize": _personalize}


# ── what they share ───────────────────────────────────────────────────────────────────────────────


def _object(value: Any, name: str) -> Row:
    if not isinstance(value, dict):
        raise BadRequest(f"{name}: an object is needed")
    return value


def _list(row: Row, name: str) -> list[Any]:
    found = row.get(name)
    if not isinstance(found, list) or not 1 <= len(found) <= LONGEST:
        raise BadRequest(f"{name}: a list of 1 to {LONGEST} is needed")
    return found


def _text(row: Row, name: str) -> str | None:
    if not isinstance(found := row.get(name, ""), str):
        raise BadRequest(f"{name}: a string is needed")
    return found or None


def _id(row: Row, name: str, told: str = "", *, needed: bool = True) -> str | None:
    """`told`: the name by which an error speaks of it."""
    value = row.get(name)
    if value is None:
        if needed:
            raise BadRequest(f"{told or name}: missing")
        return None
    try:
        return IDS.validate_python(value)
    except ValidationError as error:
        raise BadRequest(f"{told or name}: {reasons(error)}") from error


def _who(row: Row, user: str, session: str) -> Row:
    found = _given(
        {"user_id": _id(row, user, needed=False), "session_id": _id(row, session, needed=False)}
    )
    if not found:
        raise BadRequest(f"{user}, or {session} for a visitor without one: missing")
    return found


def _item(item_id: str | None, facts: Row) -> Row:
    """What our fields are called goes there, the rest are attributes."""
    row, rest = {"id": item_id}, dict(facts)
    for field, names in FIELDS.items():
        if name := next((name for name in names if isinstance(rest.get(name), str)), None):
            row[field] = rest.pop(name)
    return {**row, "attributes": attributes_of(rest)}


def _impressions(
    items: Sequence[Any], who: Row, ranking: str | None, moment: datetime | None, of: str | None
) -> list[Row]:
    """Each is known again by its place in `of`."""
    return [
        _given(
            {
                **who,
                "event_id": _digest(of, n) if of else None,
                "type": "impression",
                "item_id": item_id,
                "occurred_at": moment,
                "ranking_id": ranking,
                "position": n,
            }
        )
        for n, item_id in enumerate(items)
    ]


def _given(row: Row) -> Row:
    return {key: value for key, value in row.items() if value is not None}


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _moment(row: Row, name: str) -> datetime | None:
    """A time as Gorse, Metarank or Personalize write it; without a zone it is UTC. Go's zero time
    is none."""
    value = row.get(name)
    if value in (None, ""):
        return None
    found = any_moment(value)
    if found is None:
        raise BadRequest(
            f"{name}: no time that can be read; as 2026-01-31T12:00:00Z, or seconds or "
            f"milliseconds since 1970"
        )
    return None if found.year == 1 else found
