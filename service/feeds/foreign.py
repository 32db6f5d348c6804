"""Turns rows of Gorse, Metarank and Amazon Personalize into rows of our feeds. Functions of values.

A foreign row is read as parts, each a row for one of our feeds. What a foreign system asks for (a
string here, a list there) is checked under its own field names; the rest (lengths, numbers,
declared attributes) is left to our models.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from service.errors import BadRequest, reasons
from service.feeds.cells import any_moment, label
from service.feeds.rows import Row, attributes_of, digest, without_none
from service.schema import Feed, Id, Rejection, Shape

LONGEST = 1_000
"""The most elements of a list inside one row."""
ITEM_FIELDS = {
    "title": ("title", "name"),
    "text": ("text", "description"),
    "url": ("url",),
    "image_url": ("image_url", "imageUrl"),
}
"""By field of our items, the names that other systems give it; all else becomes an attribute."""
IDS: TypeAdapter[str | None] = TypeAdapter(Id | None)
TITLE = 200
"""A Gorse comment of one line and at most so many characters is a title; any other is a text."""
GORSE = {
    name.lower(): name
    for name in (
        "FeedbackType", "UserId", "ItemId", "Value", "Timestamp", "Comment", "IsHidden",
        "Categories", "Labels",
    )
}  # fmt: skip
"""Gorse's names of fields, by the same names in lower case."""
METARANK: dict[str, Feed] = {
    "item": "items",
    "metadata": "items",
    "user": "users",
    "ranking": "events",
    "interaction": "events",
}
PERSONALIZE: dict[str, Feed] = {"eventList": "events", "items": "items", "users": "users"}


@dataclass(frozen=True)
class FeedRow:
    """A row for one of our feeds. `index`: of its foreign row, from 0; `where`: its place in that
    row, if that has several elements, as `eventList.3: `."""

    feed: Feed
    row: Row
    index: int = 0
    where: str = ""

    @property
    def key(self) -> str:
        """The id of the item or user; empty for an event."""
        if self.feed == "events":
            return ""
        return str(self.row["id" if self.feed == "items" else "user_id"])


@dataclass(frozen=True)
class Sorted:
    """What foreign rows hold. `parts`: rows for our feeds; `skipped`: how many are valid but hold
    nothing for the feed; `noticed`: reasons that the sender should know, and their rows' count."""

    parts: list[FeedRow]
    rejected: list[Rejection]
    skipped: int
    noticed: Counter[str]


class Skipped(Exception):
    """Raised for a valid row that holds nothing for our feeds; the message says why."""


def sorted_out(shape: Shape, feed: Feed | None, rows: Sequence[Any]) -> Sorted:
    """Returns what rows of a system hold for `feed` (None: for all). A bad row stops no other."""
    parts, rejected, skipped, noticed = list[FeedRow](), list[Rejection](), 0, Counter[str]()
    for index, row in enumerate(rows):
        before = len(parts), len(rejected)
        for where, element in _elements(shape, row):
            try:
                parts += [
                    FeedRow(part.feed, part.row, index, where)
                    for part in READERS[shape](feed, object_of(element, "the row"))
                ]
            except BadRequest as error:
                rejected.append(
                    Rejection(index=index, code=error.code, message=where + error.message)
                )
            except Skipped as why:
                noticed[str(why)] += 1
        skipped += before == (len(parts), len(rejected))
    return Sorted(parts, rejected, skipped, noticed)


def placed(parts: Sequence[FeedRow], rejected: Sequence[Rejection]) -> list[Rejection]:
    """Returns rejections of `parts` as of their foreign rows, the place before the message."""
    origins = [parts[refused.index] for refused in rejected]
    return [
        Rejection(index=part.index, code=refused.code, message=part.where + refused.message)
        for part, refused in zip(origins, rejected, strict=True)
    ]


def renewed(shape: Shape, known: Mapping[str, Any], row: Row) -> Row:
    """Returns the `known` item or user with a foreign row's values: fields that the foreign system
    lacks stay. Metarank sends changed attributes only; those of others replace the known ones."""
    attributes = row["attributes"]
    if shape == "metarank":
        attributes = {**known.get("attributes", {}), **attributes}
    return {**known, **row, "attributes": attributes}


def _elements(shape: Shape, row: Any) -> Iterator[tuple[str, Any]]:
    """Yields the row with an empty place; of a request of Personalize's with many elements a row
    for each, with its place, as `eventList.3: `, so that a bad one doesn't stop the others."""
    if shape == "personalize" and isinstance(row, dict):
        names = [name for name in PERSONALIZE if name in row]
        elements = row[names[0]] if len(names) == 1 else None
        if isinstance(elements, list) and 1 < len(elements) <= LONGEST:
            for n, element in enumerate(elements):
                yield f"{names[0]}.{n}: ", {**row, names[0]: [element]}
            return
    yield "", row


# ── fields ────────────────────────────────────────────────────────────────────────────────────────


def object_of(value: Any, name: str) -> Row:
    if not isinstance(value, dict):
        raise BadRequest(f"{name}: an object is needed")
    return value


def list_of(row: Row, name: str) -> list[Any]:
    value = row.get(name)
    if not isinstance(value, list) or not 1 <= len(value) <= LONGEST:
        raise BadRequest(f"{name}: a list of 1 to {LONGEST} is needed")
    return value


def text_of(row: Row, name: str) -> str | None:
    """Returns the field's text, None if absent or empty. Raises `BadRequest` if it is no string."""
    value = row.get(name, "")
    if not isinstance(value, str):
        raise BadRequest(f"{name}: a string is needed")
    return value or None


def id_of(row: Row, name: str, shown_name: str = "", *, needed: bool = True) -> str | None:
    """Returns the id in the field `name`, None if it is absent and not `needed`. Raises
    `BadRequest` if it is missing or invalid, naming the field `shown_name`, else `name`."""
    value = row.get(name)
    if value is None and needed:
        raise BadRequest(f"{shown_name or name}: missing")
    try:
        return IDS.validate_python(value)
    except ValidationError as error:
        raise BadRequest(f"{shown_name or name}: {reasons(error)}") from error


def time_of(row: Row, name: str) -> datetime | None:
    """Returns a time, in UTC without a zone; None if it is absent, empty, or Go's zero time."""
    value = row.get(name)
    if value in (None, ""):
        return None
    time = any_moment(value)
    if time is None:
        raise BadRequest(
            f"{name}: no time that can be read; as 2026-01-31T12:00:00Z, or seconds or "
            f"milliseconds since 1970"
        )
    return None if time.year == 1 else time


def actor_of(row: Row, user: str, session: str) -> Row:
    """Returns `user_id` and `session_id` by their own names. `BadRequest` if both are missing."""
    actor = without_none(
        {"user_id": id_of(row, user, needed=False), "session_id": id_of(row, session, needed=False)}
    )
    if not actor:
        raise BadRequest(f"{user}, or {session} for a visitor without one: missing")
    return actor


def item_of(item_id: str | None, values: Mapping[str, Any]) -> Row:
    """Returns an item's row: texts named as in `ITEM_FIELDS` are fields, the rest attributes."""
    row, rest = {"id": item_id}, dict(values)
    for field, names in ITEM_FIELDS.items():
        name = next((name for name in names if isinstance(rest.get(name), str)), None)
        if name is not None:
            row[field] = rest.pop(name)
    return {**row, "attributes": attributes_of(rest)}


def impressions_of(
    items: Sequence[Any], actor: Row, ranking: str | None, time: datetime | None, key: str | None
) -> list[Row]:
    """Returns an impression of each item. Its id is made of its position and of `key`, the id of
    what was sent, so that the same sent again makes no new events; without a key it has none."""
    return [
        without_none(
            {
                **actor,
                "event_id": digest(key, position) if key else None,
                "type": "impression",
                "item_id": item_id,
                "occurred_at": time,
                "ranking_id": ranking,
                "position": position,
            }
        )
        for position, item_id in enumerate(items)
    ]


# ── Gorse ─────────────────────────────────────────────────────────────────────────────────────────


def _gorse(feed: Feed | None, row: Row) -> list[FeedRow]:
    """Reads a row of Gorse's, keys in any case, unknown ones ignored. `BadRequest` if no `feed`."""
    if feed is None:
        raise BadRequest("Gorse's rows don't say what they are: name the feed")
    fields = {
        GORSE[key.lower()]: value
        for key, value in row.items()
        if key.lower() in GORSE and value is not None
    }
    readers = {"items": _gorse_item, "users": _gorse_user, "events": _gorse_event}
    return [FeedRow(feed, readers[feed](fields))]


def _gorse_item(fields: Row) -> Row:
    """Returns an item's row. `Comment` is its title; if long, or `Labels` hold one, its text."""
    row = item_of(id_of(fields, "ItemId"), _gorse_labels(fields))
    hidden = fields.get("IsHidden", False)
    if not isinstance(hidden, bool):
        raise BadRequest("IsHidden: true or false is needed")
    if comment := text_of(fields, "Comment"):
        short = len(comment) <= TITLE and "\n" not in comment
        row["title" if short and "title" not in row else "text"] = comment
    if fields.get("Categories"):
        row["attributes"]["categories"] = fields["Categories"]
    return without_none(
        {**row, "available": not hidden, "published_at": time_of(fields, "Timestamp")}
    )


def _gorse_user(fields: Row) -> Row:
    comment, user_id = text_of(fields, "Comment"), id_of(fields, "UserId")
    attributes = attributes_of(_gorse_labels(fields))
    if comment:
        attributes["comment"] = comment
    return {"user_id": user_id, "attributes": attributes}


def _gorse_event(fields: Row) -> Row:
    """Returns the event of a feedback. Without a time, its id is made of its values."""
    row = {
        "type": label(fields.get("FeedbackType"), "FeedbackType"),
        "user_id": id_of(fields, "UserId"),
        "item_id": id_of(fields, "ItemId"),
        "value": fields.get("Value"),
        "text": text_of(fields, "Comment"),
        "occurred_at": time_of(fields, "Timestamp"),
    }
    if row["occurred_at"] is None:
        row["event_id"] = digest(row["type"], row["item_id"], row["value"])
    return without_none(row)


def _gorse_labels(fields: Row) -> Row:
    """Returns `Labels` if they are an object; a list or single label as the attribute `labels`."""
    labels = fields.get("Labels", {})
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
        return _metarank_ranking(row)
    read = _metarank_interaction if kind == "interaction" else _metarank_metadata
    return [FeedRow(METARANK[kind], read(row))]


def _metarank_metadata(row: Row) -> Row:
    """Returns the row of an item or of a user, whichever `event` names."""
    values = _metarank_fields(row)
    if row["event"] == "user":
        return {"user_id": id_of(row, "user"), "attributes": attributes_of(values)}
    return item_of(id_of(row, "item"), values)


def _metarank_interaction(row: Row) -> Row:
    """Returns an interaction. Its value is that of the field `value` or of the one of its type."""
    values, event_type = _metarank_fields(row), label(row.get("type"))
    value = values.get("value", values.get(event_type))
    return without_none(
        {
            **actor_of(row, "user", "session"),
            "event_id": id_of(row, "id"),
            "type": event_type,
            "item_id": id_of(row, "item"),
            "value": value if isinstance(value, int | float) else None,
            "occurred_at": time_of(row, "timestamp"),
            "ranking_id": id_of(row, "ranking", needed=False),
        }
    )


def _metarank_ranking(row: Row) -> list[FeedRow]:
    """Returns an impression of each item. Raises `Skipped` for a ranking of nobody."""
    if all(row.get(name) in (None, "") for name in ("user", "session")):
        raise Skipped(
            "a ranking without a user or session is skipped: nobody is known to have seen it"
        )
    ranking, time = id_of(row, "id"), time_of(row, "timestamp")
    actor = actor_of(row, "user", "session")
    items = [
        id_of(object_of(item, f"items.{n}"), "id", f"items.{n}.id")
        for n, item in enumerate(list_of(row, "items"))
    ]
    return [
        FeedRow("events", impression)
        for impression in impressions_of(items, actor, ranking, time, ranking)
    ]


def _metarank_fields(row: Row) -> Row:
    """Returns the values in the row's list `fields`, by their names."""
    values = {}
    for n, element in enumerate(list_of(row, "fields") if row.get("fields") else ()):
        field = object_of(element, f"fields.{n}")
        if not isinstance(field.get("name"), str) or "value" not in field:
            raise BadRequest(f"fields.{n}: a name and a value are needed")
        values[field["name"]] = field["value"]
    return values


# ── Amazon Personalize ────────────────────────────────────────────────────────────────────────────


def _personalize(feed: Feed | None, row: Row) -> list[FeedRow]:
    """Returns the rows in the body of a PutEvents, PutItems or PutUsers request; none if it is for
    another feed than `feed` (None: any)."""
    names = [name for name in PERSONALIZE if name in row]
    if len(names) != 1:
        raise BadRequest(
            "one of eventList, items and users is needed, as PutEvents, PutItems and PutUsers "
            "send them"
        )
    name = names[0]
    if feed not in (None, PERSONALIZE[name]):
        return []
    elements = [object_of(element, f"{name}.{n}") for n, element in enumerate(list_of(row, name))]
    if name == "eventList":
        actor = actor_of(row, "userId", "sessionId")
        return [
            FeedRow("events", event)
            for element in elements
            for event in _personalize_events(element, actor)
        ]
    read = _personalize_item if name == "items" else _personalize_user
    return [FeedRow(PERSONALIZE[name], read(element)) for element in elements]


def _personalize_events(element: Row, actor: Row) -> list[Row]:
    """Returns the event, and an impression event for each item that was shown. The event's item may
    be named among the properties: old clients do that."""
    properties = _personalize_properties(element)
    event_id, time = id_of(element, "eventId", needed=False), time_of(element, "sentAt")
    ranking = id_of(element, "recommendationId", needed=False)
    event = {
        **actor,
        "event_id": event_id,
        "type": label(element.get("eventType"), "eventType"),
        "item_id": id_of({**properties, **without_none(element)}, "itemId", needed=False),
        "value": element.get("eventValue", properties.get("eventValue")),
        "occurred_at": time,
        "ranking_id": ranking,
    }
    items = [
        id_of({"item": item_id}, "item", f"impression.{n}")
        for n, item_id in enumerate(
            list_of(element, "impression") if element.get("impression") else ()
        )
    ]
    return [without_none(event), *impressions_of(items, actor, ranking, time, event_id)]


def _personalize_item(element: Row) -> Row:
    properties = _personalize_properties(element)
    published_at = time_of(properties, "creationTimestamp")
    properties.pop("creationTimestamp", None)
    row = item_of(id_of(element, "itemId"), properties)
    return without_none(
        {**row, "attributes": _split_lists(row["attributes"]), "published_at": published_at}
    )


def _personalize_user(element: Row) -> Row:
    return {
        "user_id": id_of(element, "userId"),
        "attributes": _split_lists(attributes_of(_personalize_properties(element))),
    }


def _personalize_properties(element: Row) -> Row:
    """Returns an element's `properties`: an object, or a JSON object in a string; empty if absent.
    Raises `BadRequest` for anything else."""
    properties = element.get("properties")
    if isinstance(properties, str):
        try:
            properties = json.loads(properties)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"properties: not JSON: {error}") from error
    return dict(object_of({} if properties is None else properties, "properties"))


def _split_lists(attributes: Row) -> Row:
    """Returns the attributes, texts such as `Comedy|Romance` split into lists."""
    return {
        key: [word for word in value.split("|") if word]
        if isinstance(value, str) and "|" in value
        else value
        for key, value in attributes.items()
    }


READERS = {"gorse": _gorse, "metarank": _metarank, "personalize": _personalize}
