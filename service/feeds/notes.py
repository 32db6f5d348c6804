"""Warnings about a feed whose rows may mean something else than they were taken for: counted row by
row, put into sentences once at the end."""

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from difflib import get_close_matches
from typing import Any

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
"""What other systems call our fields, in lower case and without punctuation."""


def letters_of(name: str) -> str:
    """A name in lower case and without punctuation, for comparisons."""
    return "".join(char for char in name.casefold() if char.isalnum())


def meant_by(name: str, fields: Collection[str]) -> str | None:
    """The one of our `fields` that a column's name probably means: by spelling, by synonym, or by
    similarity; None if it is like none."""
    letters = letters_of(name)
    by_letters = {letters_of(field): field for field in fields}
    if letters in by_letters:
        return by_letters[letters]
    for field in fields:
        if letters in SYNONYMS.get(field, ()):
            return field
    close = get_close_matches(letters, by_letters, n=1, cutoff=0.8)
    return by_letters[close[0]] if close else None


@dataclass
class Notes:
    """Of one feed (a request or a file): `sentences` reports what was counted."""

    attributes: Counter[str] = dataclass_field(default_factory=Counter)
    """Unknown keys of items or users that became attributes."""
    near: dict[str, str] = dataclass_field(default_factory=dict)
    """By such a key, the field of ours that was probably meant."""
    left_out: Counter[str] = dataclass_field(default_factory=Counter)
    """Columns that the feed has no field for."""
    misfits: Counter[tuple[str, str]] = dataclass_field(default_factory=Counter)
    """(attribute, declared type) of values that were left out since they are of another type."""
    examples: dict[tuple[str, str], str] = dataclass_field(default_factory=dict)
    """By (attribute, declared type), the first such value as JSON."""
    outside: dict[str, tuple[float, float, int]] = dataclass_field(default_factory=dict)
    """By event type, the lowest and highest value seen outside its scale, and how many there
    were."""
    scales: dict[str, tuple[float, float]] = dataclass_field(default_factory=dict)
    """By event type, the scale that they are outside of."""

    noticed: Counter[str] = dataclass_field(default_factory=Counter)
    """Other sentences, and for how many rows each holds."""

    def became_attribute(self, key: str, fields: Collection[str]) -> None:
        """Counts an unknown key. `fields`: those that the row lacks, one of which may be meant."""
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
            low, high, count = self.outside.get(kind, (value, value, 0))
            self.outside[kind] = min(low, value), max(high, value), count + 1
            self.scales[kind] = scale

    def sentences(self) -> list[str]:
        """The warnings, each with its count."""
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
            example = self.examples[key, kind]
            warnings.append(
                f"attributes.{key} left out of {count} rows: declared {kind} "
                f"(catalog.filterable), found {example}"
            )
        for kind, (low, high, count) in self.outside.items():
            scale = " to ".join(f"{bound:g}" for bound in self.scales[kind])
            warnings.append(
                f"{count} values of {kind} lie outside its scale of {scale}: from {low:g} to "
                f"{high:g}; set "
                f"events.types.{kind}.scale, or ingest the file with --scale LOW:HIGH"
            )
        return warnings


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{key} ({count})" for key, count in counter.most_common(30))
