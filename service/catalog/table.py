"""The table in LanceDB: how it is opened or made and gets its columns; its commits, tried again
where another writer came first; and its errors, which name the file that is at fault."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import logging
import os
import random
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import pyarrow as pa

from service.catalog.rows import DERIVED, ITEM, Kind, declared_columns, vector_columns
from service.catalog.words import Embeds, fingerprint
from service.damage import Part, data_files, disk_full, ends_whole, named
from service.errors import CatalogBusy, CatalogDamaged, DiskFull

if TYPE_CHECKING:
    import lancedb  # half a second and more: imported when a catalogue is opened

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

PREEMPTED = re.compile(
    # another commit came between our read and our commit
    "commit conflict|incompatible transaction|too many concurrent"
    # it came before, and did our work
    "|already exists|already set|once set|does not exist in the dataset|index not found",
    re.IGNORECASE,
)
"""Matches Lance's errors that mean that another writer's commit came first: the same write, tried
again, may succeed."""
ATTEMPTS = 20
"""How often a preempted write is tried, over about 15 seconds."""
TABLE = "items.lance"
"""The folder of the table `items`."""
KEY = b"lance-schema:unenforced-primary-key"
"""The beginning of the metadata names that Lance sets on a key column."""


async def open_table(folder: Path) -> lancedb.AsyncTable:
    """Open the table; make it if there is none, with the columns of an item alone. Raises
    `CatalogDamaged` where its manifests are gone."""
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
    await _create(folder)
    return await database.open_table("items")


async def _create(folder: Path) -> None:
    """Makes the table, unless another process was first. The table is made in a temporary folder
    and moved into place only if the place is free: if two processes create one table, Lance lets
    the later overwrite what the earlier has already filled."""
    import lancedb

    with TemporaryDirectory(prefix="new-", dir=folder) as beside:
        database = await lancedb.connect_async(Path.cwd() / beside)
        await database.create_table("items", schema=ITEM)
        try:
            await asyncio.to_thread(os.rename, Path(beside) / TABLE, folder / TABLE)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise


def _leave_client_out() -> None:
    """Keeps LanceDB from loading the client of a REST service, which is not used: loading it takes
    as long as all the rest of a short command."""
    client = "lance_namespace_urllib3_client"
    spec = importlib.util.find_spec(client)
    if spec is not None and client not in sys.modules:
        # not executed itself, but its modules can be imported
        sys.modules[client] = importlib.util.module_from_spec(spec)


async def other_space(table: lancedb.AsyncTable, embedder: Embeds) -> tuple[str, int]:
    """Returns, in words, whose vectors the table holds if they are not this embedder's (empty if
    they are), and the embedder's dimension. Raises `ConfigError` if the model can't be read."""
    stored = await table.schema()
    # while another process embeds all anew the column is dropped
    size = int(stored.field("vector").type.list_size) if "vector" in stored.names else None
    # the fingerprints of all rows come from one embedder, so one row tells
    rows = await table.query().select(["words", "words_sha"]).limit(1).to_list()
    strange = any(row["words_sha"] != fingerprint(embedder, row["words"]) for row in rows)
    if size is not None and rows and not strange and not embedder.loaded:
        return "", size
    dimension = await asyncio.to_thread(lambda: embedder.dimension)
    if size is None:
        return "", dimension
    if size != dimension:
        return f"vectors of {size} dimensions, and the embedder makes {dimension}", dimension
    return "vectors of another embedder" if strange else "", dimension


class ItemTable:
    """`lance`: LanceDB's table. Read it directly; whatever writes it goes through `commit`.

    `filterable`: kinds of attributes, by key. `dimension`, `factors`: the lengths of an item's
    vector and of its factors. `embedder`: makes the vectors.
    """

    def __init__(
        self,
        folder: Path,
        lance: lancedb.AsyncTable,
        embedder: Embeds,
        *,
        filterable: Mapping[str, Kind],
        dimension: int,
        factors: int,
    ) -> None:
        self.lance = lance
        self.folder = folder
        self.embedder = embedder
        self.filterable = dict(filterable)
        self.dimension = dimension
        self.factors = factors
        self.full: DiskFull | None = None
        """The error of the last write that a full disk refused; None once a later write has
        succeeded."""
        self._writing = asyncio.Lock()

    @contextmanager
    def naming_damage(self, part: Part | None = None) -> Iterator[None]:
        """Turns errors in the block that come from the table's files into a `StorageError`; its
        message says which file is at fault and how to repair it. `part`: what is read, if that is
        known."""
        try:
            with named(self.folder, part):
                yield
        except DiskFull as error:
            self.full = error
            raise

    async def commit(self, step: Callable[[], Awaitable[T]], attempts: int = ATTEMPTS) -> T:
        """Runs `step`, which ends in a commit to the table, and returns its result; this process
        runs one step at a time. If a commit of another process comes first, runs it again after a
        random pause.

        Raises `CatalogBusy` when that happened `attempts` times.
        """
        for attempt in range(attempts):
            try:
                async with self._writing:
                    return await self._commit_whole(step)
            except (OSError, RuntimeError, ValueError) as error:
                if not PREEMPTED.search(str(error)):
                    raise
                log.debug(
                    "preempted by another writer, attempt %d of %d: %s",
                    attempt + 1,
                    attempts,
                    error,
                )
            await asyncio.sleep(random.uniform(0, min(1.5, 0.05 * 2**attempt)))  # noqa: S311  spreads writers, hides nothing
        raise CatalogBusy("the catalogue is being written by too many at once: try again")

    async def _commit_whole(self, step: Callable[[], Awaitable[T]]) -> T:
        """Runs `step` and returns its result. If a file that the step wrote was cut short, restores
        the version before, unless another process has written since, and raises `DiskFull`. LanceDB
        has been seen to commit such a file in silence, and its rows can't be read."""
        version = await self.lance.version()
        known = await asyncio.to_thread(data_files, self.folder)
        result = await step()
        new = await asyncio.to_thread(data_files, self.folder) - known
        cut = [file for file in new if not ends_whole(file)]
        if cut and not await self._readable():
            # else another process has written since, which must stay
            if await self.lance.version() == version + 1:
                await self.lance.restore(version)
            raise disk_full(self.folder, f"{cut[0].name} was cut short")
        self.full = None
        return result

    async def _readable(self) -> bool:
        """Returns whether all rows can be read. If so, a file that looks cut short is one that
        another process is still writing."""
        try:
            await self.read_through((await self.lance.schema()).names)
        except Exception:  # whatever LanceDB says of it
            return False
        return True

    async def read_through(self, columns: list[str]) -> None:
        """Read every row of some columns, to see that they can be read."""
        async for batch in await self.lance.query().select(columns).to_batches():
            batch.validate(full=True)

    async def declare(self, *, re_embed: bool) -> None:
        """Sets the primary key, and makes empty columns for those that the table lacks or has with
        another type. With `re_embed`, the columns of vectors and factors are emptied too."""
        stored = await self.lance.schema()
        if not any(name.startswith(KEY) for name in stored.field("id").metadata or {}):
            await self.lance.set_unenforced_primary_key(["id"])
        wanted = [
            ITEM.field("terms"),
            *vector_columns("vector", self.dimension),
            *vector_columns("factors", self.factors),
            *declared_columns(self.filterable),
        ]
        kept = [field for field in stored if not (re_embed and field.name in DERIVED)]
        missing = [field for field in wanted if field not in kept]
        stale = [field.name for field in missing if field.name in stored.names]
        if stale:
            await self.lance.drop_columns(stale)
        if missing:
            await self.lance.add_columns(pa.schema(missing))


class OnTable:
    """A part of the catalogue that reads and writes its table."""

    def __init__(self, table: ItemTable) -> None:
        self._table = table


S = TypeVar("S", bound=OnTable)


def guarded(
    method: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Makes a method raise a `StorageError` when a file of its table is damaged or the disk is
    full."""

    @wraps(method)
    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._table.naming_damage():
            return await method(self, *args, **kwargs)

    return run
