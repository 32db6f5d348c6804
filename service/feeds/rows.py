"""Turns a row of JSON, CSV or another system into what the feed's model (`Item`, `User`, `Event`)
accepts.

Ids and texts may come as numbers, unknown keys of items and users become attributes, objects in
objects get dotted keys, and null and NaN are left out.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import BadRequest, reasons
from service.feeds.notes import Notes, meant_by
from service.schema import Event, Feed, Item, Rejection, User

Row = dict[str, Any]

NOUNS: dict[Feed, type[BaseModel]] = {"items": Item, "users": User, "events": Event}
Noun = TypeVar("Noun", bound=BaseModel)
IDS = {"id", "user_id", "item_id", "event_id", "session_id", "ranking_id"}
WORDS = IDS | {"title", "text", "type", "locale"}
"""Fields that are texts, even if their values look like numbers."""
DEEPEST = 4
"""So many levels of objects within objects are read."""

FIELDS: dict[Feed, tuple[str, ...]] = {
    feed: tuple(noun.model_fields) for feed, noun in NOUNS.items()
}
KNOWN: dict[Feed, frozenset[str]] = {feed: frozenset(fields) for feed, fields in FIELDS.items()}


def checked_rows(
    feed: Feed, noun: type[Noun], rows: Sequence[Any], notes: Notes, fitted: Callable[[Noun], Noun]
) -> tuple[list[Noun], list[Rejection]]:
    """The valid rows, each changed by `fitted`, and the rejections of the others."""
    good: list[Noun] = []
    rejected: list[Rejection] = []
    for index, row in enumerate(rows):
        try:
            good.append(fitted(noun.model_validate(lenient(feed, row, notes))))
        except ValidationError as error:
            rejected.append(Rejection(index=index, code="invalid", message=reasons(error)))
        except BadRequest as error:
            rejected.append(Rejection(index=index, code=error.code, message=error.message))
    return good, rejected


def lenient(feed: Feed, row: Any, notes: Notes) -> Row:
    """The row with the keys and types of the feed's model. Raises `BadRequest` for what is no
    object, for an event with an unknown key, and for an item or user without an id or with an
    attribute of an impossible type."""
    if not isinstance(row, Mapping):
        raise BadRequest("an object is needed")
    fields = KNOWN[feed]
    known_values = {
        key: _field_value(key, row[key]) for key in row if key in fields and key != "attributes"
    }
    valid_row = {key: value for key, value in known_values.items() if value is not None}
    unknown = [key for key in row if key not in fields]
    if feed == "events":
        _refuse_unknown(feed, unknown)
        return valid_row
    given = row.get("attributes")
    if given is not None and not isinstance(given, Mapping):
        raise BadRequest("attributes: an object is needed")
    absent = [field for field in FIELDS[feed] if field not in valid_row]
    for key in unknown:
        if present(row[key]):
            notes.became_attribute(str(key), absent)
    attributes = attributes_of({**{key: row[key] for key in unknown}, **(given or {})})
    _refuse_without_id(feed, row)
    if attributes or given is not None:
        valid_row["attributes"] = attributes
    return valid_row


def _field_value(key: str, value: Any) -> Any:
    """The value of a field of ours: a number as text where a text is needed, None for NaN."""
    if isinstance(value, int | float):
        if value != value:  # NaN
            return None
        return str(value) if key in WORDS and not isinstance(value, bool) else value
    return value


def _refuse_unknown(feed: Feed, unknown: Iterable[str]) -> None:
    """Raises `BadRequest` for the first of the unknown keys, with the field that may be meant."""
    for key in unknown:
        meant = meant_by(str(key), FIELDS[feed])
        hint = f"was {meant} meant?" if meant else f"{feed} have {', '.join(FIELDS[feed])}"
        raise BadRequest(f"{key}: not known; {hint}")


def _refuse_without_id(feed: Feed, row: Mapping[str, Any]) -> None:
    """Raises `BadRequest` for a row without its id, naming the key that may be meant as such."""
    name = "id" if feed == "items" else "user_id"
    if row.get(name) is None:
        meant = next((key for key in row if meant_by(str(key), [name])), None)
        raise BadRequest(
            f"{name}: missing" + (f"; {meant} is there: call it {name}" if meant else "")
        )


def present(value: Any) -> bool:
    """Is it neither null nor NaN?"""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def attributes_of(given: Mapping[str, Any], depth: int = DEEPEST) -> Row:
    """Attributes without null and NaN, those of objects in objects by dotted keys. Raises
    `BadRequest` for a value that no attribute can have, and for more than `depth` levels."""
    flat: Row = {}
    for key, value in given.items():
        if isinstance(value, Mapping):
            if not depth:
                raise BadRequest(f"attributes.{key}: objects in objects, more than {DEEPEST} deep")
            for inner_key, inner_value in attributes_of(value, depth - 1).items():
                flat[f"{key}.{inner_key}"] = inner_value
        elif isinstance(value, list | tuple):
            flat[str(key)] = [_scalar(key, element) for element in value if present(element)]
        elif present(value):
            flat[str(key)] = _scalar(key, value)
    return flat


def _scalar(key: Any, value: Any) -> Any:
    if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    shown = json.dumps(value, default=str, ensure_ascii=False)[:60]
    raise BadRequest(
        f"attributes.{key}: a text, a number, true or false, or a list of these is needed, not "
        f"{shown}"
    )
