"""Items as rows of the table, and rows as items: the columns, and how values fit their declared
kinds.

Each filterable key has a column of its own; a key of words has a second one, in which they are
folded, because filters match words without regard to case.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from service.catalog.words import Embeds, Vectors, fingerprint, terms_of, words_of
from service.schema import Attributes, Item

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
MADE_FROM = {"vector": "vector_sha", "factors": "factors_of"}
"""By column of vectors: the column that tells what a row's vector was made from."""
DERIVED = [*MADE_FROM, *MADE_FROM.values()]
"""Columns that can be made anew: from the words, and from the log."""
DISTANCES: dict[str, Literal["cosine", "dot"]] = {"vector": "cosine", "factors": "dot"}
"""By column of vectors: how they are compared."""
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


def vector_columns(name: str, size: int) -> list[pa.Field]:
    """Returns two columns: vectors of `size` numbers each, and what each vector was made from."""
    return [
        pa.field(name, pa.list_(pa.float32(), size)),
        pa.field(MADE_FROM[name], pa.string()),
    ]


def declared_columns(filterable: Mapping[str, Kind]) -> list[pa.Field]:
    """The columns of the filterable keys."""
    kinds = {
        **{plain_column(key): kind for key, kind in filterable.items()},
        **{filter_column(key, kind): kind for key, kind in filterable.items()},
    }
    return [pa.field(name, ARROW[kind]) for name, kind in kinds.items()]


def declared_values(attributes: Attributes, filterable: Mapping[str, Kind]) -> dict[str, Any]:
    """What stands in the columns of the filterable keys for an item with these attributes."""
    fitting = {key: fit(kind, attributes.get(key)) for key, kind in filterable.items()}
    return {
        **{plain_column(key): value for key, value in fitting.items()},
        **{filter_column(key, filterable[key]): folded(value) for key, value in fitting.items()},
    }


def plain_column(key: str, prefix: str = "by_") -> str:
    """The column that holds a key's values as they are. Dots and dashes are legal in a key, but
    not in a bare column name."""
    return prefix + "".join(char if char.isalnum() else f"_{ord(char):x}_" for char in key)


def filter_column(key: str, kind: Kind) -> str:
    """Returns the name of the indexed column that is read to filter by `key`; for a key of words,
    the column of folded words."""
    return plain_column(key, "folded_") if kind in KINDS_OF_WORDS else plain_column(key)


def folded(value: Any) -> Any:
    """Returns words in folded case, alone or in a list, so that differences of case vanish; any
    other value unchanged."""
    if isinstance(value, list):
        return [folded(word) for word in value]
    return value.casefold() if isinstance(value, str) else value


def fit(kind: Kind, value: Any) -> Any:
    """Returns the value converted to `kind`; None if it can't be. If `kind` is "list", a single
    value becomes a list of one; for any other kind, a list of one stands for its element."""
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
    """Returns whether the value is of this kind. A bool is no number, and an integer must fit in 64
    bits."""
    if isinstance(value, bool):
        return kind == "bool"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return False
    return isinstance(value, ACCEPTS[kind])


def rows_of(items: Iterable[Item], filterable: Mapping[str, Kind], embedder: Embeds) -> pa.Table:
    """The rows of items, without vectors and factors."""
    rows = [
        item.model_dump(include={*SHOWN})
        | _derived(item, embedder)
        | declared_values(item.attributes, filterable)
        for item in items
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([*ITEM, *declared_columns(filterable)]))


def _derived(item: Item, embedder: Embeds) -> dict[str, Any]:
    """What stands in the columns that are made from an item's words, and its attributes as JSON."""
    words = words_of(item)
    return {
        "attributes": json.dumps(item.attributes, ensure_ascii=False),
        "words": words,
        "words_sha": fingerprint(embedder, words),
        "terms": " ".join(terms_of(words)),
    }


def vector_rows(
    name: str, ids: Sequence[str], vectors: Vectors, made_from: Sequence[str | None]
) -> pa.Table:
    """Returns rows that update the column of vectors `name`. `vectors`: shape [len(ids), size].
    `made_from`: for each of `ids`, what its vector was made from; None removes its vector."""
    lacking = pa.array([source is None for source in made_from])
    columns = [
        pa.array(ids),
        pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.ravel()), vectors.shape[1], mask=lacking
        ),
        pa.array(made_from, pa.string()),
    ]
    fields = [ITEM.field("id"), *vector_columns(name, vectors.shape[1])]
    return pa.table(columns, schema=pa.schema(fields))


def item_of(row: Mapping[str, Any]) -> Item:
    """Makes an item from a row, without validation: rows were validated before they were
    written."""
    return Item.model_construct(
        id=row["id"],
        title=row["title"],
        text=row["text"],
        attributes=json.loads(row["attributes"]),
        url=row["url"],
        image_url=row["image_url"],
        published_at=row["published_at"],
        available=row["available"],
    )


def vectors_by_id(table: pa.Table, column: str) -> dict[str, Vectors]:
    """Returns the vectors in `column` by item id; rows without a vector are left out."""
    filled = table.filter(table[column].is_valid())
    flat = filled[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.astype(np.float32).reshape(-1, table[column].type.list_size)
    return dict(zip(filled["id"].to_pylist(), vectors, strict=True))
