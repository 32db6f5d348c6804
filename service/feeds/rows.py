"""Turns a row of JSON, CSV or another system into what the feed's model (`Item`, `User`, `Event`)
accepts, and notes what its keys and values may mean instead.

Ids and texts may come as numbers, unknown keys of items and users become attributes, objects in
objects get dotted keys, and null and NaN are left out.
"""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import BadRequest, reasons
from service.schema import Event, Feed, Item, Rejection, User

Row = dict[str, Any]
Noun = TypeVar("Noun", bound=BaseModel)

FIELDS: dict[Feed, Mapping[str, object]] = {
    "items": Item.model_fields,
    "users": User.model_fields,
    "events": Event.model_fields,
}
WORDS = {
    "id", "user_id", "item_id", "event_id", "session_id", "ranking_id", "title", "text", "type",
    "locale",
}  # fmt: skip
"""Fields that are texts, even if their values look like numbers."""
DEEPEST = 4
"""How many levels of objects within objects attributes may have."""
SYNONYMS: dict[str, tuple[str, ...]] = {
    "id": (
        "itemid", "item", "productid", "product", "movieid", "bookid", "songid",
        "trackid", "articleid", "asin", "parentasin", "sku", "isbn", "artikelnummer",
        "artikelnr", "商品id", "编号",
    ),
    "title": (
        "name", "producttitle", "productname", "itemname", "movietitle", "booktitle",
        "bezeichnung", "标题", "名称",
    ),
    "text": (
        "description", "desc", "summary", "overview", "body", "content", "beschreibung",
        "描述", "简介",
    ),
    "url": ("link", "producturl", "itemurl", "uri"),
    "image_url": (
        "image", "img", "imurl", "picture", "pictureurl", "thumbnail", "bild",
    ),
    "published_at": (
        "publishedon", "published", "releasedate", "released", "createdat",
        "creationtimestamp",
    ),
    "available": ("instock", "availability", "active"),
    "user_id": (
        "user", "userid", "uid", "customerid", "customer", "reviewerid", "memberid",
        "householdid", "visitorid", "kundennummer", "用户id",
    ),
    "item_id": (
        "item", "productid", "product", "movieid", "movie", "film", "bookid", "book",
        "songid", "song", "trackid", "track", "articleid", "asin", "parentasin", "sku",
        "isbn", "artikelnummer", "artikelnr", "商品id",
    ),
    "type": (
        "event", "eventtype", "action", "behavior", "behaviour", "feedbacktype",
        "interaction", "ereignis",
    ),
    "value": ("rating", "stars", "score", "overall", "eventvalue", "bewertung", "评分"),
    "occurred_at": (
        "timestamp", "time", "ts", "date", "datetime", "eventtime", "createdat",
        "unixreviewtime", "when", "zeit", "datum", "时间",
    ),
    "session_id": ("session", "visit", "visitid"),
    "locale": ("language", "lang", "sprache"),
}  # fmt: skip
"""By field of ours, the names that other systems give it, in lower case and without punctuation."""


def letters_of(name: str) -> str:
    """A name in lower case and without punctuation, for comparisons."""
    return "".join(char for char in name.casefold() if char.isalnum())


def meant_by(name: str, fields: Collection[str]) -> str | None:
    """The one of our `fields` that a column's name probably means: by spelling, by synonym, or by
    similarity; None if it is like none."""
    letters = letters_of(name)
    by_letters = {letters_of(field_name): field_name for field_name in fields}
    if letters in by_letters:
        return by_letters[letters]
    for field_name in fields:
        if letters in SYNONYMS.get(field_name, ()):
            return field_name
    close = get_close_matches(letters, by_letters, n=1, cutoff=0.8)
    return by_letters[close[0]] if close else None


@dataclass
class Notes:
    """Collects warnings about the rows of a request or a file that may mean something else than
    they were taken for: counts them row by row; `sentences` returns them at the end."""

    attributes: Counter[str] = field(default_factory=Counter)
    """Unknown keys of items or users that became attributes."""
    near: dict[str, str] = field(default_factory=dict)
    """By key that became an attribute, the field of ours that was probably meant."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Columns that the feed has no field for."""
    misfits: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(attribute, declared type) of values that were left out since they are of another type."""
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    """By (attribute, declared type), the first value that was left out, as JSON of at most 80
    characters."""
    outside: dict[tuple[str, float, float], tuple[float, float, int]] = field(default_factory=dict)
    """By event type and bounds of its scale, the lowest and highest value outside that scale, and
    how many values lay outside."""
    noticed: Counter[str] = field(default_factory=Counter)
    """Other sentences, and for how many rows each holds."""

    def became_attribute(self, key: str, fields: Collection[str]) -> None:
        """Counts a key that is no known field and was kept as an attribute. `fields`: the known
        fields that the row lacks; the key may be one of them, misspelled."""
        self.attributes[key] += 1
        if self.attributes[key] == 1 and (meant := meant_by(key, fields)):
            self.near[key] = meant

    def misfit(self, key: str, kind: str, value: Any) -> None:
        """Counts a value that was left out since its attribute is declared to be of `kind`."""
        self.misfits[key, kind] += 1
        self.examples.setdefault(
            (key, kind), json.dumps(value, ensure_ascii=False, default=str)[:80]
        )

    def valued(self, kind: str, value: float, scale: tuple[float, float]) -> None:
        """Counts the value of an event if it lies outside the scale of its type, `kind`."""
        if not scale[0] <= value <= scale[1]:
            low, high, count = self.outside.get((kind, *scale), (value, value, 0))
            self.outside[kind, *scale] = min(low, value), max(high, value), count + 1

    def sentences(self) -> list[str]:
        """Returns the warnings as sentences, with numbers of rows or values."""
        warnings = [
            f"{sentence} ({rows:,} {'row' if rows == 1 else 'rows'})"
            for sentence, rows in self.noticed.items()
        ]
        if self.attributes:
            warnings.append(
                f"keys that are no fields of ours became attributes: {_counts(self.attributes)}"
            )
        warnings += [
            f"{key} became an attribute: was {meant} meant?" for key, meant in self.near.items()
        ]
        if self.left_out:
            warnings.append(f"left out, as there is no room for it: {_counts(self.left_out)}")
        for (key, kind), count in self.misfits.most_common(30):
            warnings.append(
                f"attributes.{key} left out of {count} rows: declared {kind} "
                f"(catalog.filterable), found {self.examples[key, kind]}"
            )
        for (kind, lowest, highest), (low, high, count) in self.outside.items():
            warnings.append(
                f"{count} values of {kind} lie outside its scale of {lowest:g} to {highest:g}: "
                f"from {low:g} to {high:g}; set "
                f"events.types.{kind}.scale, or ingest the file with --scale LOW:HIGH"
            )
        return warnings


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{key} ({count})" for key, count in counter.most_common(30))


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────


def checked_rows(
    feed: Feed, noun: type[Noun], rows: Sequence[Any], notes: Notes, fitted: Callable[[Noun], Noun]
) -> tuple[list[Noun], list[Rejection]]:
    """Returns the valid rows as models of the class `noun`, each changed by `fitted`, and the
    rejections of the other rows."""
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


def one_a_row(rejected: Sequence[Rejection]) -> list[Rejection]:
    """Merges the rejections of each row into one, with the row's first five messages, and returns
    them in the order of rows."""
    by_index: defaultdict[int, list[Rejection]] = defaultdict(list)
    for rejection in rejected:
        by_index[rejection.index].append(rejection)
    return [
        rejections[0].model_copy(
            update={"message": "; ".join(rejection.message for rejection in rejections[:5])}
        )
        for _, rejections in sorted(by_index.items())
    ]


def lenient(feed: Feed, row: Any, notes: Notes) -> Row:
    """Returns the row with the keys and types of the feed's model; unknown keys of an item or user
    become attributes. Raises `BadRequest` for what is no object, for an event with an unknown key,
    and for an item or user without an id or with an attribute of an impossible type."""
    if not isinstance(row, Mapping):
        raise BadRequest("an object is needed")
    fields = FIELDS[feed]
    valid_row = {
        key: _field_value(key, value)
        for key, value in row.items()
        if key in fields and key != "attributes" and present(value)
    }
    unknown = [key for key in row if key not in fields]
    if feed == "events":
        _refuse_unknown(feed, unknown)
        return valid_row
    given = row.get("attributes")
    if given is not None and not isinstance(given, Mapping):
        raise BadRequest("attributes: an object is needed")
    absent = [name for name in fields if name not in valid_row]
    for key in unknown:
        if present(row[key]):
            notes.became_attribute(str(key), absent)
    attributes = attributes_of({**{key: row[key] for key in unknown}, **(given or {})})
    _refuse_without_id(feed, row)
    if attributes or given is not None:
        valid_row["attributes"] = attributes
    return valid_row


def _field_value(key: str, value: Any) -> Any:
    """Returns the value for the field `key`: a number as a text if the field is in `WORDS`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number and key in WORDS else value


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
    """Is the value neither None nor NaN?"""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def without_none(row: Row) -> Row:
    return {key: value for key, value in row.items() if value is not None}


def digest(*values: Any) -> str:
    """Returns a hash of the values, 32 hexadecimal digits, which serves as the id of an event that
    has none."""
    return hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def attributes_of(given: Mapping[str, Any], depth: int = DEEPEST) -> Row:
    """Returns the attributes without null and NaN; those in nested objects get dotted keys. Raises
    `BadRequest` for a value that no attribute can have, and for more than `depth` levels."""
    flat: Row = {}
    for key, value in given.items():
        if isinstance(value, Mapping):
            if not depth:
                raise BadRequest(f"attributes.{key}: objects in objects, more than {DEEPEST} deep")
            flat |= {
                f"{key}.{inner_key}": inner_value
                for inner_key, inner_value in attributes_of(value, depth - 1).items()
            }
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
