"""How the table is opened or made, and gets the columns of this version and configuration."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa

from service.catalog.columns import (
    DERIVED,
    ITEM,
    Columns,
    declared_columns,
    factor_columns,
    vector_columns,
)
from service.catalog.space import Embeds, fingerprint
from service.damage import data_files
from service.errors import CatalogDamaged

if TYPE_CHECKING:
    import lancedb  # half a second and more: imported when a catalogue is opened

TABLE = "items.lance"
"""The folder of the table `items`."""
KEY = b"lance-schema:unenforced-primary-key"
"""How the names of what Lance notes at a key column begin."""


async def open_table(
    folder: Path, embedder: Embeds, optional: Sequence[pa.Field]
) -> lancedb.AsyncTable:
    """Open the table; make it if there is none, with columns for vectors and the `optional` ones.
    Raises `CatalogDamaged` where its manifests are gone."""
    _leave_client_out()
    import lancedb

    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    database = await lancedb.connect_async(
        Path.cwd() / folder, read_consistency_interval=timedelta(0)
    )
    with suppress(ValueError):  # there is none
        return await database.open_table("items")
    if data_files(folder):
        raise CatalogDamaged(
            f"the manifests in {folder} are gone: restore a copy of it, or move it away and "
            f"ingest the items again"
        )
    dimension = await asyncio.to_thread(lambda: embedder.dimension)
    await _create(folder, pa.schema([*ITEM, *vector_columns(dimension), *optional]))
    return await database.open_table("items")


async def _create(folder: Path, columns: pa.Schema) -> None:
    """Make the table, unless another process was first. Of two that create one, Lance lets the
    later overwrite what the earlier has already filled; so it is made beside, and moved to a place
    that is still free."""
    import lancedb

    with TemporaryDirectory(prefix="new-", dir=folder) as beside:
        database = await lancedb.connect_async(Path.cwd() / beside)
        await database.create_table("items", schema=columns)
        try:
            await asyncio.to_thread(os.rename, Path(beside) / TABLE, folder / TABLE)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise


def _leave_client_out() -> None:
    """LanceDB's package imports the client of a REST service that nothing here uses; loading it
    takes as long as all the rest of a short command."""
    client = "lance_namespace_urllib3_client"
    spec = importlib.util.find_spec(client)
    if spec is not None and client not in sys.modules:
        # not executed itself, but its modules can be imported
        sys.modules[client] = importlib.util.module_from_spec(spec)


def size_of_vectors(stored: pa.Schema) -> int | None:
    """None while another process embeds all anew: the column is dropped then."""
    return int(stored.field("vector").type.list_size) if "vector" in stored.names else None


async def other_space(table: lancedb.AsyncTable, embedder: Embeds) -> str:
    """In words, whose vectors the table holds if they are not this embedder's; empty if they are.
    Raises `ConfigError` for a model that can't be read."""
    size = size_of_vectors(await table.schema())
    if size is None:
        return ""
    # the fingerprints of all rows come from one embedder, so one row tells
    rows = await table.query().select(["words", "words_sha"]).limit(1).to_list()
    strange = any(row["words_sha"] != fingerprint(embedder, row["words"]) for row in rows)
    if rows and not strange and not embedder.loaded:
        return ""
    dimension = await asyncio.to_thread(lambda: embedder.dimension)
    if size != dimension:
        return f"vectors of {size} dimensions, and the embedder makes {dimension}"
    return "vectors of another embedder" if strange else ""


async def declare(table: lancedb.AsyncTable, columns: Columns, *, re_embed: bool) -> None:
    """Set the key. Make empty columns for those that the table lacks or has with another type, and,
    with `re_embed`, for vectors and factors."""
    stored = await table.schema()
    if not any(name.startswith(KEY) for name in stored.field("id").metadata or {}):
        await table.set_unenforced_primary_key(["id"])
    wanted = [
        ITEM.field("terms"),
        *vector_columns(columns.dimension),
        *factor_columns(columns.factors),
        *declared_columns(columns.filterable),
    ]
    kept = [field for field in stored if not (re_embed and field.name in DERIVED)]
    missing = [field for field in wanted if field not in kept]
    stale = [field.name for field in missing if field.name in stored.names]
    if stale:
        await table.drop_columns(stale)
    if missing:
        await table.add_columns(pa.schema(missing))
