"""The columns of the table, and how values fit their declared kinds.

Each filterable key has a column of its own; a key of words has a second one, in which they are
folded, because filters match words without regard to case.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from service.schema import Attributes

Kind = Literal["int", "float", "str", "bool", "list"]

ARROW: dict[Kind, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "bool": pa.bool_(),
    "list": pa.list_(pa.string()),
}
KINDS_OF_WORDS: frozenset[Kind] = frozenset({"str", "list"})
ACCEPTS: dict[Kind, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "list": (str,),
}
ITEM = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
        pa.field("attributes", pa.string()),
        pa.field("url", pa.string()),
        pa.field("image_url", pa.string()),
        pa.field("published_at", pa.timestamp("us", "UTC")),
        pa.field("available", pa.bool_()),
        pa.field("words", pa.string()),
        pa.field("words_sha", pa.string()),
        pa.field("terms", pa.string()),
    ]
)
SHOWN = ["id", "title", "text", "attributes", "url", "image_url", "published_at", "available"]
"""The columns from which an `Item` is read."""
DERIVED = ["vector", "vector_sha", "factors", "factors_of"]
"""Columns that can be made anew: from the words, and from the log."""
TRUTHS = {
    "true": True,
    "1": True,
    "1.0": True,
    "yes": True,
    "false": False,
    "0": False,
    "0.0": False,
    "no": False,
}
"""Spellings of a truth value, in lower case."""


@dataclass(frozen=True)
class Columns:
    """What a table holds beside the columns of `ITEM`. `filterable`: kinds of attributes, by key.
    `dimension`, `factors`: the lengths of an item's vector and of its factors."""

    filterable: Mapping[str, Kind]
    dimension: int
    factors: int


def vector_columns(dimension: int) -> list[pa.Field]:
    return [
        pa.field("vector", pa.list_(pa.float32(), dimension)),
        pa.field("vector_sha", pa.string()),
    ]


def factor_columns(count: int) -> list[pa.Field]:
    return [pa.field("factors", pa.list_(pa.float32(), count)), pa.field("factors_of", pa.string())]


def declared_columns(filterable: Mapping[str, Kind]) -> list[pa.Field]:
    """The columns of the filterable keys."""
    plain = [pa.field(plain_column(key), ARROW[kind]) for key, kind in filterable.items()]
    folded = [
        pa.field(filter_column(key, kind), ARROW[kind])
        for key, kind in filterable.items()
        if kind in KINDS_OF_WORDS
    ]
    return [*plain, *folded]


def declared_values(attributes: Attributes, filterable: Mapping[str, Kind]) -> dict[str, Any]:
    """What stands in the columns of the filterable keys for an item with these attributes."""
    values: dict[str, Any] = {}
    for key, kind in filterable.items():
        value = fit(kind, attributes.get(key))
        values[plain_column(key)] = value
        if kind in KINDS_OF_WORDS:
            values[filter_column(key, kind)] = folded(value)
    return values


def plain_column(key: str, prefix: str = "by_") -> str:
    """The column that holds a key's values as they are. Dots and dashes are legal in a key, but
    not in a bare column name."""
    return prefix + "".join(char if char.isalnum() else f"_{ord(char):x}_" for char in key)


def filter_column(key: str, kind: Kind) -> str:
    """The indexed column that filters on a key read: of a key of words the folded one."""
    return plain_column(key, "folded_") if kind in KINDS_OF_WORDS else plain_column(key)


def folded(value: Any) -> Any:
    """Words, alone or in a list, such that two that differ by case alone are the same; anything
    else as it is."""
    if isinstance(value, list):
        return [folded(word) for word in value]
    return value.casefold() if isinstance(value, str) else value


def fitted(
    attributes: Attributes,
    filterable: Mapping[str, Kind],
    misfit: Callable[[str, Kind, Any], None],
) -> Attributes:
    """The attributes with the values of declared ones in their declared kinds: `"1999"` and 1999.0
    are an int. A value that fits no way is left out, and `misfit` called with the attribute, the
    declared kind and the value."""
    fitting = dict(attributes)
    for key, kind in filterable.items():
        if key not in fitting:
            continue
        value = fit(kind, fitting[key])
        if value is None:
            misfit(key, kind, fitting.pop(key))
        elif kind != "list" or isinstance(fitting[key], list):
            fitting[key] = value
    return fitting


def fit(kind: Kind, value: Any) -> Any:
    """The value as a declared kind; None if it fits no way. A list of one stands for its element,
    and an element for a list of one."""
    if kind == "list":
        parts = [fit("str", part) for part in (value if isinstance(value, list) else [value])]
        return None if None in parts else parts
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if kind == "str" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if kind == "bool":
        return TRUTHS.get(str(value).casefold())
    if kind in {"int", "float"} and isinstance(value, str):
        with suppress(ValueError):
            number = float(value)
            value = number if math.isfinite(number) else value
    if kind == "int" and isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if value is not None and fits(kind, value) else None


def fits(kind: Kind, value: Any) -> bool:
    """Is the value of this kind? JSON's true is no number, and a column of integers holds 64
    bits."""
    if isinstance(value, bool):
        return kind == "bool"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return False
    return isinstance(value, ACCEPTS[kind])
