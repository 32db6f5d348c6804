"""Reads the fields of another system's row, and refuses them under that system's own names."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from service.errors import BadRequest, reasons
from service.feeds.rows import Row, attributes_of
from service.feeds.times import any_moment
from service.schema import Id

LONGEST = 1_000
"""The most elements of a list inside one row."""
ITEM_FIELDS = {
    "title": ("title", "name"),
    "text": ("text", "description"),
    "url": ("url",),
    "image_url": ("image_url", "imageUrl"),
}
"""By field of our items, what other systems call it; all else becomes an attribute."""
IDS: TypeAdapter[str] = TypeAdapter(Id)


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
    """The text, None if it is absent or empty."""
    value = row.get(name, "")
    if not isinstance(value, str):
        raise BadRequest(f"{name}: a string is needed")
    return value or None


def id_of(row: Row, name: str, shown_name: str = "", *, needed: bool = True) -> str | None:
    """The id, None if it is absent and not needed. Errors call it `shown_name`, else `name`."""
    value = row.get(name)
    if value is None:
        if needed:
            raise BadRequest(f"{shown_name or name}: missing")
        return None
    try:
        return IDS.validate_python(value)
    except ValidationError as error:
        raise BadRequest(f"{shown_name or name}: {reasons(error)}") from error


def time_of(row: Row, name: str) -> datetime | None:
    """A time as Gorse, Metarank or Personalize write it; without a zone it is UTC. None if it is
    absent, empty, or Go's zero time."""
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
    """`user_id` and `session_id`, at least one of them, from the fields that are so named."""
    actor = without_none(
        {"user_id": id_of(row, user, needed=False), "session_id": id_of(row, session, needed=False)}
    )
    if not actor:
        raise BadRequest(f"{user}, or {session} for a visitor without one: missing")
    return actor


def item_of(item_id: str | None, values: Mapping[str, Any]) -> Row:
    """An item's row: values by names of `ITEM_FIELDS` are its own, the rest are attributes."""
    row, rest = {"id": item_id}, dict(values)
    for field, names in ITEM_FIELDS.items():
        name = next((name for name in names if isinstance(rest.get(name), str)), None)
        if name is not None:
            row[field] = rest.pop(name)
    return {**row, "attributes": attributes_of(rest)}


def impressions_of(
    items: Sequence[Any], actor: Row, ranking: str | None, time: datetime | None, key: str | None
) -> list[Row]:
    """An impression of each item. Its id comes from its place and from `key`, the id of what was
    sent, so that the same sent again makes no new events; without a key it has none."""
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


def without_none(row: Row) -> Row:
    return {key: value for key, value in row.items() if value is not None}


def digest(*values: Any) -> str:
    """A short hash of the values, as the id of an event that has none."""
    return hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).hexdigest()[:32]
