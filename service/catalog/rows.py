"""Items as rows of the table, and rows of the table as items."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from service.catalog.columns import (
    ITEM,
    Kind,
    declared_columns,
    declared_values,
    factor_columns,
    vector_columns,
)
from service.catalog.space import Embeds, Vectors, fingerprint
from service.catalog.terms import terms_of, words_of
from service.schema import Item


def rows_of(items: Iterable[Item], filterable: Mapping[str, Kind], embedder: Embeds) -> pa.Table:
    """The rows of items, without vectors and factors."""
    rows = []
    for item in items:
        words = words_of(item)
        row = {
            "id": item.id,
            "title": item.title,
            "text": item.text,
            "attributes": json.dumps(item.attributes, ensure_ascii=False),
            "url": item.url,
            "image_url": item.image_url,
            "published_at": item.published_at,
            "available": item.available,
            "words": words,
            "words_sha": fingerprint(embedder, words),
            "terms": " ".join(terms_of(words)),
        }
        rows.append(row | declared_values(item.attributes, filterable))
    return pa.Table.from_pylist(rows, schema=pa.schema([*ITEM, *declared_columns(filterable)]))


def vector_rows(rows: Sequence[Mapping[str, Any]], vectors: Vectors) -> pa.Table:
    """An update that gives each row (with `id` and `words_sha`) its vector."""
    dimension = vectors.shape[1]
    columns = [
        pa.array([row["id"] for row in rows]),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension),
        pa.array([row["words_sha"] for row in rows]),
    ]
    return pa.table(columns, schema=pa.schema([ITEM.field("id"), *vector_columns(dimension)]))


def factor_rows(
    ids: Sequence[str], factors: Mapping[str, Vectors], count: int, version: str
) -> pa.Table:
    """An update that gives each of `ids` its factors, `count` numbers, and empties the factors of
    those that have none in `factors`."""
    nothing = np.zeros(count, dtype=np.float32)
    flat = np.concatenate([factors.get(item_id, nothing) for item_id in ids]).astype(np.float32)
    lacking = pa.array([item_id not in factors for item_id in ids])
    versions = [version if item_id in factors else None for item_id in ids]
    columns = [
        pa.array(ids),
        pa.FixedSizeListArray.from_arrays(pa.array(flat), count, mask=lacking),
        pa.array(versions, pa.string()),
    ]
    return pa.table(columns, schema=pa.schema([ITEM.field("id"), *factor_columns(count)]))


def item_of(row: Mapping[str, Any]) -> Item:
    """Rows were checked when they came in: no second validation on the read path."""
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
    """The vectors of a column, of those rows that have one."""
    filled = table.filter(table[column].is_valid())
    if not filled.num_rows:
        return {}
    flat = filled[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.astype(np.float32).reshape(filled.num_rows, -1)
    return dict(zip(filled["id"].to_pylist(), vectors, strict=True))
