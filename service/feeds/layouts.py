"""Public layouts by name: RecBole's atomic files, MovieLens, Amazon reviews, Amazon Personalize's
bulk CSV.

A reader makes a row of ours of one of theirs; None: the row holds nothing for the feed. What a feed
has no room for is counted in the notes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import BadRequest
from service.feeds.cells import MISSING, value_of
from service.feeds.foreign import label
from service.feeds.notes import Notes, meant_by
from service.feeds.rows import Row
from service.feeds.times import any_moment
from service.schema import Feed

ARTICLE = re.compile(r"^(.*), (The|A|An|Les|La|Le|L'|Das|Der|Die|El|Il)( \(.*\))?$")
YEAR = re.compile(r"^(?P<title>.+?)\s*\((?P<year>[0-9]{4})\)\s*$")
PRICE = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?")
NO_GENRES = "(no genres listed)"


@dataclass(frozen=True)
class Layout:
    """`row`: a reader of rows. The rest is how the file is read where it doesn't say so itself.
    `header`: the names of the columns, where the first line is a row already; `quoted`: may cells
    stand in quotes?"""

    row: Callable[[Feed, Mapping[str, Any], Notes], Row]
    delimiter: str | None = None
    encoding: str | None = None
    header: Mapping[Feed, tuple[str, ...]] | None = None
    quoted: bool = True


def given(row: Mapping[str, Any]) -> Row:
    """Without what is missing."""
    return {
        key: value
        for key, value in row.items()
        if not (value is None or (isinstance(value, str) and value.strip() in MISSING))
    }


def moment(value: Any, name: str) -> Any:
    """A time by its size, in seconds or milliseconds or as ISO 8601. Raises `BadRequest` naming the
    column."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]+\.[0-9]+", value):
        value = float(value)
    found = any_moment(value)
    if found is None and value is not None:
        raise BadRequest(f"{name}: {str(value)[:60]!r} is no time")
    return found


def people_read(title: str) -> str:
    """`Matrix, The` is sorted by; people read `The Matrix`."""
    return ARTICLE.sub(r"\2 \1\3", title)


# ── RecBole ───────────────────────────────────────────────────────────────────────────────────────


def _recbole(feed: Feed, row: Mapping[str, Any], notes: Notes) -> Row:
    """Columns are `name:type`; a `token_seq` is words with spaces between: a title or text in one
    piece, else a list."""
    made: Row = {}
    attributes: Row = {}
    for column, cell in given(row).items():
        name, _, kind = column.partition(":")
        field = _recbole_field(feed, name)
        if field == "occurred_at":
            made[field] = moment(cell, name)
        elif field is not None:
            made[field] = value_of(cell) if field == "value" else cell
        elif feed == "events":
            notes.left_out[name] += 1
        else:
            attributes[name] = (
                [value_of(part) for part in cell.split()]
                if kind.endswith("_seq")
                else value_of(cell)
            )
    if feed == "events":
        return {"type": "rating", **made} if "value" in made else made
    return {**made, "attributes": attributes}


RECBOLE: dict[Feed, dict[str, str]] = {
    "items": {"item_id": "id"},
    "users": {"user_id": "user_id"},
    "events": {
        "user_id": "user_id",
        "item_id": "item_id",
        "rating": "value",
        "timestamp": "occurred_at",
    },
}
RECBOLE_LIKE: dict[Feed, tuple[str, ...]] = {
    "items": ("title", "text", "url", "image_url"),
    "users": (),
    "events": ("type", "session_id"),
}
"""Fields whose column goes by any of their names."""


def _recbole_field(feed: Feed, name: str) -> str | None:
    return RECBOLE[feed].get(name) or meant_by(name, RECBOLE_LIKE[feed])


# ── MovieLens ─────────────────────────────────────────────────────────────────────────────────────

MOVIELENS: dict[Feed, tuple[str, ...]] = {
    "items": ("movieId", "title", "genres"),
    "users": ("userId", "gender", "age", "occupation", "zip"),
    "events": ("userId", "movieId", "rating", "timestamp"),
}
"""Columns of the files that name none, those of 1M and 10M."""


def _movielens(feed: Feed, row: Mapping[str, Any], notes: Notes) -> Row:
    cells = given(row)
    if feed == "events":
        return _movielens_event(cells)
    if feed == "users":
        attributes = {key: value_of(cell) for key, cell in cells.items() if key != "userId"}
        return {"user_id": cells.get("userId"), "attributes": attributes}
    made: Row = {"id": cells.get("movieId"), "attributes": {}}
    if title := cells.get("title"):
        dated = YEAR.match(title)
        made["title"] = people_read(dated["title"] if dated else title)
        made["attributes"] |= {"year": int(dated["year"])} if dated else {}
    genres = [
        genre for genre in str(cells.get("genres", "")).split("|") if genre and genre != NO_GENRES
    ]
    made["attributes"] |= {"genre": genres} if genres else {}
    for key in cells.keys() - {"movieId", "title", "genres"}:
        made["attributes"][key] = value_of(cells[key])
    return made


def _movielens_event(cells: Row) -> Row:
    """A rating; a tag, which is a text, is a comment."""
    made: Row = {
        "user_id": cells.get("userId"),
        "item_id": cells.get("movieId"),
        "occurred_at": moment(cells.get("timestamp"), "timestamp"),
    }
    tag = cells.get("tag")
    if tag is not None:
        return {**given(made), "type": "comment", "text": tag}
    rating = cells.get("rating", "")
    value = value_of(rating)
    if isinstance(value, str):  # tags.dat of 10M has tags where ratings.dat has ratings
        return {**given(made), "type": "comment", "text": rating}
    return {**given(made), "type": "rating", "value": value}


# ── Amazon reviews ────────────────────────────────────────────────────────────────────────────────


def _amazon(feed: Feed, row: Mapping[str, Any], notes: Notes) -> Row:
    """Of 2014, 2018 and 2023. A variant of a product is known by its parent, as the products' own
    file has it."""
    if feed == "events":
        return _amazon_review(row, notes)
    if feed == "users":
        raise BadRequest("amazon-reviews has no users' file; who reviews is known by the events")
    taken = {
        "asin",
        "parent_asin",
        "title",
        "description",
        "features",
        "feature",
        "categories",
        "category",
        "price",
        "brand",
        "store",
    }
    made: Row = {
        "id": row.get("parent_asin") or row.get("asin"),
        "title": row.get("title"),
        "text": " ".join(
            [*_words(row.get("description")), *_words(row.get("features") or row.get("feature"))]
        ),
        "image_url": _first_image(row),
    }
    attributes = {
        "categories": list(dict.fromkeys(_words(row.get("categories") or row.get("category")))),
        "price": _price(row.get("price")),
        "brand": row.get("brand") or row.get("store"),
    }
    for key, value in row.items():
        if isinstance(value, str | int | float) and key not in taken and key not in IMAGES:
            attributes[key] = value
        elif key not in taken and key not in IMAGES and value not in (None, [], {}):
            notes.left_out[key] += 1
    return {
        **given(made),
        "attributes": {key: value for key, value in given(attributes).items() if value != []},
    }


def _amazon_review(row: Mapping[str, Any], notes: Notes) -> Row:
    made = {
        "user_id": row.get("reviewerID") or row.get("user_id"),
        "item_id": row.get("parent_asin") or row.get("asin"),
        "type": "rating",
        "value": row.get("overall", row.get("rating")),
        "occurred_at": moment(
            row.get("unixReviewTime", row.get("timestamp")),
            "unixReviewTime" if "unixReviewTime" in row else "timestamp",
        ),
        "text": row.get("summary") or row.get("title"),
    }
    used = {
        "reviewerID",
        "user_id",
        "asin",
        "parent_asin",
        "overall",
        "rating",
        "unixReviewTime",
        "timestamp",
        "summary",
        "title",
    }
    notes.left_out.update(key for key in row if key not in used)
    return given(made)


IMAGES = ("imUrl", "imageURLHighRes", "imageURL", "images", "image")


def _first_image(row: Mapping[str, Any]) -> str | None:
    """2014: a URL; 2018: a list of them; 2023: a list of objects with a URL for each size."""
    for key in IMAGES:
        found = row.get(key)
        found = found[0] if isinstance(found, list) and found else found
        if isinstance(found, Mapping):
            found = next(
                (found[size] for size in ("hi_res", "large", "thumb") if found.get(size)), None
            )
        if isinstance(found, str) and found:
            return found
    return None


def _words(value: Any) -> list[str]:
    """The texts in a text, a list of them, or a list of lists."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    return [text for part in value for text in _words(part)] if isinstance(value, list) else []


def _price(value: Any) -> Any:
    """12.99 of `$12.99`, and of `$12.99 - $15.00`; a word as it is."""
    if not isinstance(value, str):
        return value
    found = PRICE.search(value)
    return float(found[0].replace(",", "")) if found else value


# ── Amazon Personalize, bulk ──────────────────────────────────────────────────────────────────────

PERSONALIZE: dict[Feed, dict[str, str]] = {
    "items": {"ITEM_ID": "id", "CREATION_TIMESTAMP": "published_at"},
    "users": {"USER_ID": "user_id"},
    "events": {
        "USER_ID": "user_id",
        "ITEM_ID": "item_id",
        "SESSION_ID": "session_id",
        "EVENT_ID": "event_id",
        "EVENT_TYPE": "type",
        "EVENT_VALUE": "value",
        "TIMESTAMP": "occurred_at",
        "RECOMMENDATION_ID": "ranking_id",
    },
}
TITLES, TEXTS = (
    ("TITLE", "NAME", "ITEM_NAME", "PRODUCT_NAME"),
    ("DESCRIPTION", "PRODUCT_DESCRIPTION", "TEXTUAL_DESCRIPTION"),
)


def _personalize(feed: Feed, row: Mapping[str, Any], notes: Notes) -> Row:
    """Names of attributes in lower case; `Drama|Comedy` is a list."""
    names = dict(PERSONALIZE[feed])
    if feed == "items":
        for field, columns in (("title", TITLES), ("text", TEXTS)):
            names |= (
                {column: field for column in columns if row.get(column)}
                if field not in names.values()
                else {}
            )
    made: Row = {}
    attributes: Row = {}
    for column, cell in given(row).items():
        field = names.get(column, "")
        if field in {"occurred_at", "published_at"}:
            made[field] = moment(cell, column)
        elif field == "type":
            made[field] = label(cell, column)
        elif field:
            made[field] = value_of(cell) if field == "value" else cell
        elif feed == "events":
            notes.left_out[column] += 1
        else:
            attributes[column.lower()] = value_of(cell)
    return made if feed == "events" else {**made, "attributes": attributes}


LAYOUTS: dict[str, Layout] = {
    "recbole": Layout(_recbole, delimiter="\t", quoted=False),
    "movielens": Layout(_movielens),
    "movielens-dat": Layout(
        _movielens, delimiter="::", encoding="latin-1", header=MOVIELENS, quoted=False
    ),
    "amazon-reviews": Layout(_amazon),
    "personalize-csv": Layout(_personalize),
}
