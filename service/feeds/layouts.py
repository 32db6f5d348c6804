"""Public layouts by name: RecBole's atomic files, MovieLens, Amazon reviews, Amazon Personalize's
bulk CSV.

The reader of a layout turns a row of such a file into a row of our feed, and counts in `notes` the
columns that the feed has no field for.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import BadRequest
from service.feeds.cells import MISSING, any_moment, label, value_of
from service.feeds.rows import Notes, Row, meant_by
from service.schema import Feed

ARTICLE = re.compile(r"^(.*), (The|A|An|Les|La|Le|L'|Das|Der|Die|El|Il)( \(.*\))?$")
YEAR = re.compile(r"^(?P<title>.+?)\s*\((?P<year>[0-9]{4})\)\s*$")
PRICE = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?")
NO_GENRES = "(no genres listed)"


@dataclass(frozen=True)
class Layout:
    """How to read files of one layout.

    row        turns a row of a file into a row of the feed
    delimiter  stands between cells; None: detected from the first line
    encoding   of the file; None: UTF-8
    header     by feed, the columns' names, for files whose first line is a row already
    quoted     may cells stand in quotes?
    """

    row: Callable[[Feed, Mapping[str, Any], Notes], Row]
    delimiter: str | None = None
    encoding: str | None = None
    header: Mapping[Feed, tuple[str, ...]] | None = None
    quoted: bool = True


def without_missing(row: Mapping[str, Any]) -> Row:
    """The row without missing values."""
    return {
        key: value
        for key, value in row.items()
        if not (value is None or (isinstance(value, str) and value.strip() in MISSING))
    }


def time_of(value: Any, name: str) -> Any:
    """Returns a time as `any_moment` reads it; None for None. Raises `BadRequest`, which calls the
    column `name`, if it can't be read."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]+\.[0-9]+", value):
        value = float(value)
    time = any_moment(value)
    if time is None and value is not None:
        raise BadRequest(f"{name}: {str(value)[:60]!r} is no time")
    return time


def display_title(title: str) -> str:
    """`The Matrix` for a title in sorting order, `Matrix, The`."""
    return ARTICLE.sub(r"\2 \1\3", title)


# ── RecBole ───────────────────────────────────────────────────────────────────────────────────────


def _recbole(feed: Feed, row: Mapping[str, Any], notes: Notes) -> Row:
    """Reads a row whose columns are named `name:type`. A cell of the type `token_seq` holds words
    with spaces between: it becomes one text as title or text, a list as attribute."""
    own_row: Row = {}
    attributes: Row = {}
    for column, cell in without_missing(row).items():
        name, _, kind = column.partition(":")
        field = RECBOLE[feed].get(name) or meant_by(name, RECBOLE_LIKE[feed])
        if field == "occurred_at":
            own_row[field] = time_of(cell, name)
        elif field is not None:
            own_row[field] = value_of(cell) if field == "value" else cell
        elif feed == "events":
            notes.left_out[name] += 1
        elif kind.endswith("_seq"):
            attributes[name] = [value_of(word) for word in cell.split()]
        else:
            attributes[name] = value_of(cell)
    if feed == "events":
        return {"type": "rating", **own_row} if "value" in own_row else own_row
    return {**own_row, "attributes": attributes}


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
"""By feed, the fields whose column may be named by any of their synonyms."""


# ── MovieLens ─────────────────────────────────────────────────────────────────────────────────────

MOVIELENS: dict[Feed, tuple[str, ...]] = {
    "items": ("movieId", "title", "genres"),
    "users": ("userId", "gender", "age", "occupation", "zip"),
    "events": ("userId", "movieId", "rating", "timestamp"),
}
"""By feed, the columns of the files of MovieLens 1M and 10M, which have no header."""


def _movielens(feed: Feed, row: Mapping[str, Any], notes: Notes) -> Row:
    cells = without_missing(row)
    if feed == "events":
        return _movielens_event(cells)
    if feed == "users":
        return {
            "user_id": cells.get("userId"),
            "attributes": {key: value_of(cell) for key, cell in cells.items() if key != "userId"},
        }
    attributes: Row = {}
    item = {"id": cells.get("movieId"), "attributes": attributes}
    if title := cells.get("title"):
        dated = YEAR.match(title)
        item["title"] = display_title(dated["title"] if dated else title)
        if dated:
            attributes["year"] = int(dated["year"])
    genres = str(cells.get("genres", "")).split("|")
    if named_genres := [genre for genre in genres if genre not in {"", NO_GENRES}]:
        attributes["genre"] = named_genres
    attributes |= {
        key: value_of(cell) for key, cell in cells.items() if key not in MOVIELENS["items"]
    }
    return item


def _movielens_event(cells: Row) -> Row:
    """Returns a rating event; for a tag, a comment event with the tag as its text."""
    event = without_missing(
        {
            "user_id": cells.get("userId"),
            "item_id": cells.get("movieId"),
            "occurred_at": time_of(cells.get("timestamp"), "timestamp"),
        }
    )
    # tags.dat of 10M has tags where ratings.dat has ratings
    text = cells["tag"] if "tag" in cells else cells.get("rating", "")
    value = value_of(text)
    if "tag" in cells or isinstance(value, str):
        return {**event, "type": "comment", "text": text}
    return {**event, "type": "rating", "value": value}


# ── Amazon reviews ────────────────────────────────────────────────────────────────────────────────


def _amazon(feed: Feed, row: Mapping[str, Any], notes: Notes) -> Row:
    """Reads a product or a review of the Amazon reviews of 2014, 2018 and 2023. A variant of a
    product gets its parent's id, by which the file of products lists it."""
    if feed == "events":
        return _amazon_review(row, notes)
    if feed == "users":
        raise BadRequest("amazon-reviews has no users' file; who reviews is known by the events")
    item = {
        "id": row.get("parent_asin") or row.get("asin"),
        "title": row.get("title"),
        "text": " ".join(
            _texts_in([row.get("description"), row.get("features") or row.get("feature")])
        ),
        "image_url": _first_image(row),
    }
    others = {key: value for key, value in row.items() if key not in AMAZON_KEYS}
    scalars = {key: value for key, value in others.items() if isinstance(value, str | int | float)}
    notes.left_out.update(
        key for key, value in others.items() if key not in scalars and value not in (None, [], {})
    )
    attributes = {
        "categories": list(dict.fromkeys(_texts_in(row.get("categories") or row.get("category")))),
        "price": _price(row.get("price")),
        "brand": row.get("brand") or row.get("store"),
        **scalars,
    }
    return {
        **without_missing(item),
        "attributes": {
            key: value for key, value in without_missing(attributes).items() if value != []
        },
    }


def _amazon_review(row: Mapping[str, Any], notes: Notes) -> Row:
    notes.left_out.update(key for key in row if key not in AMAZON_REVIEW_KEYS)
    return without_missing(
        {
            "user_id": row.get("reviewerID") or row.get("user_id"),
            "item_id": row.get("parent_asin") or row.get("asin"),
            "type": "rating",
            "value": row.get("overall", row.get("rating")),
            "occurred_at": time_of(
                row.get("unixReviewTime", row.get("timestamp")),
                "unixReviewTime" if "unixReviewTime" in row else "timestamp",
            ),
            "text": row.get("summary") or row.get("title"),
        }
    )


IMAGES = ("imUrl", "imageURLHighRes", "imageURL", "images", "image")
AMAZON_KEYS = {
    "asin", "parent_asin", "title", "description", "features", "feature", "categories", "category",
    "price", "brand", "store", *IMAGES,
}  # fmt: skip
"""Keys of a product that `_amazon` reads by name; the others become attributes or are left out."""
AMAZON_REVIEW_KEYS = {
    "reviewerID", "user_id", "asin", "parent_asin", "overall", "rating", "unixReviewTime",
    "timestamp", "summary", "title",
}  # fmt: skip


def _first_image(row: Mapping[str, Any]) -> str | None:
    """Returns the URL of a product's first image, None if it has none. Files of 2014 hold a URL,
    those of 2018 a list of URLs, those of 2023 a list of objects with a URL for each size."""
    for key in IMAGES:
        image = row.get(key)
        image = image[0] if isinstance(image, list) and image else image
        if isinstance(image, Mapping):
            image = image.get("hi_res") or image.get("large") or image.get("thumb")
        if isinstance(image, str) and image:
            return image
    return None


def _texts_in(value: Any) -> list[str]:
    """Returns all texts in `value` that aren't blank; `value`: a text, or a list of texts or of
    lists."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if not isinstance(value, list):
        return []
    return [text for element in value for text in _texts_in(element)]


def _price(value: Any) -> Any:
    """Returns the first number in a text: 12.99 for `$12.99` and for `$12.99 - $15.00`. A text
    without a number, or what is no text, is returned as it is."""
    if not isinstance(value, str):
        return value
    number = PRICE.search(value)
    return float(number[0].replace(",", "")) if number else value


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
PERSONALIZE_TEXTS = {
    "title": ("TITLE", "NAME", "ITEM_NAME", "PRODUCT_NAME"),
    "text": ("DESCRIPTION", "PRODUCT_DESCRIPTION", "TEXTUAL_DESCRIPTION"),
}
"""By field of an item, columns that may hold it."""


def _personalize(feed: Feed, row: Mapping[str, Any], notes: Notes) -> Row:
    """Attributes are named in lower case; `Drama|Comedy` is a list. Of several columns that may
    hold the title or text, the last in the row counts."""
    names = dict(PERSONALIZE[feed])
    if feed == "items":
        for field, columns in PERSONALIZE_TEXTS.items():
            names |= {column: field for column in columns if row.get(column)}
    own_row: Row = {}
    attributes: Row = {}
    for column, cell in without_missing(row).items():
        field = names.get(column, "")
        if field in {"occurred_at", "published_at"}:
            own_row[field] = time_of(cell, column)
        elif field == "type":
            own_row[field] = label(cell, column)
        elif field:
            own_row[field] = value_of(cell) if field == "value" else cell
        elif feed == "events":
            notes.left_out[column] += 1
        else:
            attributes[column.lower()] = value_of(cell)
    return own_row if feed == "events" else {**own_row, "attributes": attributes}


LAYOUTS: dict[str, Layout] = {
    "recbole": Layout(_recbole, delimiter="\t", quoted=False),
    "movielens": Layout(_movielens),
    "movielens-dat": Layout(
        _movielens, delimiter="::", encoding="latin-1", header=MOVIELENS, quoted=False
    ),
    "amazon-reviews": Layout(_amazon),
    "personalize-csv": Layout(_personalize),
}
