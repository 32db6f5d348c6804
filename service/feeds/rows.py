"""One row of a feed as its noun takes it: what JSON, CSV and other systems write differently, said
in one way.

Ids and words may come as numbers, keys that a noun doesn't know become attributes, objects in
objects get dotted keys, and what is null or no number is absent.
"""

from __future__ import annotations

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
"""Fields that are texts, even where they look like numbers."""
DEEPEST = 4
"""Objects within objects."""


FIELDS: dict[Feed, tuple[str, ...]] = {
    feed: tuple(noun.model_fields) for feed, noun in NOUNS.items()
}
KNOWN: dict[Feed, frozenset[str]] = {feed: frozenset(fields) for feed, fields in FIELDS.items()}


def checked_rows(
    feed: Feed, noun: type[Noun], rows: Sequence[Any], notes: Notes, fitted: Callable[[Noun], Noun]
) -> tuple[list[Noun], list[Rejection]]:
    """The rows that are what they should be, as `fitted` leaves them, and why the others are not: a
    bad row costs itself only."""
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
    """The row with the keys and types that the feed's noun has. Raises `BadRequest`, one message an
    error, for what can't be one: no object, an attribute of no possible type, an unknown key of an
    event."""
    if not isinstance(row, Mapping):
        raise BadRequest("an object is needed")
    fields = KNOWN[feed]
    own = {key: _own(key, row[key]) for key in row if key in fields and key != "attributes"}
    made = {key: value for key, value in own.items() if value is not None}
    strange = [key for key in row if key not in fields]
    if feed == "events":
        _refuse(feed, strange)
        return made
    given = row.get("attributes")
    if given is not None and not isinstance(given, Mapping):
        raise BadRequest("attributes: an object is needed")
    absent = [field for field in FIELDS[feed] if field not in made]
    for key in strange:
        if present(row[key]):
            notes.became_attribute(str(key), absent)
    attributes = attributes_of({**{key: row[key] for key in strange}, **(given or {})})
    _missing_id(feed, row)
    return {**made, "attributes": attributes} if attributes or given is not None else made


def _own(key: str, value: Any) -> Any:
    """A field of ours: numbers are words where words are asked for, NaN is nothing."""
    if isinstance(value, int | float):
        if value != value:  # NaN
            return None
        return str(value) if key in WORDS and not isinstance(value, bool) else value
    return value


def _refuse(feed: Feed, strange: Iterable[str]) -> None:
    for key in strange:
        meant = meant_by(str(key), FIELDS[feed])
        hint = f"was {meant} meant?" if meant else f"{feed} have {', '.join(FIELDS[feed])}"
        raise BadRequest(f"{key}: not known; {hint}")


def _missing_id(feed: Feed, row: Mapping[str, Any]) -> None:
    """Says which of a row's keys may be the id that it lacks."""
    name = "id" if feed == "items" else "user_id"
    if row.get(name) is None:
        meant = next((key for key in row if meant_by(str(key), [name])), None)
        raise BadRequest(
            f"{name}: missing" + (f"; {meant} is there: call it {name}" if meant else "")
        )


def present(value: Any) -> bool:
    """Is it a value at all? Null and NaN aren't."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def attributes_of(given: Mapping[str, Any], depth: int = DEEPEST) -> Row:
    """Objects in objects by dotted keys, without what is absent. Raises `BadRequest` for what no
    attribute can be."""
    flat: Row = {}
    for key, value in given.items():
        if isinstance(value, Mapping):
            if not depth:
                raise BadRequest(f"attributes.{key}: objects in objects, more than {DEEPEST} deep")
            flat |= {
                f"{key}.{inner}": part for inner, part in attributes_of(value, depth - 1).items()
            }
        elif isinstance(value, list | tuple):
            flat[str(key)] = [_scalar(key, part) for part in value if present(part)]
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
