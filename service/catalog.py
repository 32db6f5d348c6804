"""Items and their vectors in LanceDB: search by vector, by text, by filter; every read sees every
finished write.

An item's row is durable when `put` returns. Its vector follows in the background (`work`), which
also keeps the indexes fresh and the table compact. `backlog` counts the rows whose vector is still
to come. A second vector, its `factors` of a matrix factorisation, comes from whoever trains one:
all rows' factors change together, in one write.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import importlib.util
import json
import logging
import math
import os
import random
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial, wraps
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from service.damage import Part, data_files, disk_full, ends_whole, named, newest_known
from service.errors import (
    BadRequest,
    CatalogBusy,
    CatalogDamaged,
    ConfigError,
    DiskFull,
    ModelError,
    StorageError,
)
from service.schema import Attributes, Filter, Interest, Item

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import lancedb  # half a second and more: imported when a catalogue is opened
    from lancedb.index import FTS, BTree, LabelList

P = ParamSpec("P")
T = TypeVar("T")
Vectors = npt.NDArray[np.float32]
Kind = Literal["int", "float", "str", "bool", "list"]

ARROW: dict[Kind, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "bool": pa.bool_(),
    "list": pa.list_(pa.string()),
}
WORDS: frozenset[Kind] = frozenset({"str", "list"})
"""Kinds whose values are words: filters match them without regard to case."""
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
SHOWN = ["id", "title", "text", "attributes", "url", "image_url", "published_at", "available"]
UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece"  # Thai, Lao
    "\u1000-\u1049\u1050-\u109f\u1780-\u17d3"  # Burmese, Khmer
    "\u1100-\u11ff\uac00-\ud7a3"  # Korean: has spaces, but hangs particles on words
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u312f\u31f0-\u31ff"  # Japanese, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
)
"""Letters of languages in which a space does not end every word, as ranges of a regular
expression."""
ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]")
"""Accents, and the vowel points of Hebrew and Arabic: many people leave them out."""
INDIC = "\u0900-\u0963\u0966-\u0dff"
"""Letters of India and their vowel signs, which `\\w` does not hold."""
RUNS = re.compile(f"(?P<unspaced>[{UNSPACED}]+)|(?:[^\\W_{UNSPACED}]|[{INDIC}]|{ACCENTS.pattern})+")
"""A word, or what stands between two marks where spaces don't end words."""
TERMS_INDEX = "terms_1"
"""The name of the full-text index. Change it with `terms_of`: opening a catalogue then makes terms
and index anew."""
PREEMPTED = re.compile(
    # another commit came between our read and our commit
    "commit conflict|incompatible transaction|too many concurrent"
    # it came before, and did our work
    "|already exists|already set|once set|does not exist in the dataset|index not found",
    re.IGNORECASE,
)
"""What Lance's errors say when another writer's commit came first: the same work, done again on its
result, may succeed."""
ATTEMPTS = 20
"""So often a write that is preempted is tried, over about 15 seconds."""
TIDY_ATTEMPTS = 5
"""So often compaction is tried in a round: it is heavy, and the next round does as well."""
KEPT = timedelta(minutes=10)
"""A version that is older is dropped: longer than any read of it takes, in any process."""
TABLE = "items.lance"
"""The folder of the table `items`."""
KEY = b"lance-schema:unenforced-primary-key"
"""So begins what Lance notes at a column that is the key."""
DERIVED = ["vector", "vector_sha", "factors", "factors_of"]
"""Columns that can be made anew: from the words, and from the log."""
PENDING = "(vector_sha IS NULL OR vector_sha != words_sha)"
IN_FILTER = 500
"""More excluded ids than this are dropped after the search: a longer NOT IN costs more than
over-fetching."""
FACETS = 60
"""So many values of a key are told."""
NAMED = 10
"""So many of them in a sentence."""
READ = 2_000
"""So many characters of an item's text are embedded and searched."""
REMEMBERED = 5_000
"""So many rows are kept in memory between two writes."""
DISTANCES: dict[str, Literal["cosine", "dot"]] = {"vector": "cosine", "factors": "dot"}
INDEX_FROM = 10_000
"""Below this many rows an exhaustive vector search is faster than any index, and exact."""


@dataclass(frozen=True)
class Scope:
    """Which items may take a place: only these ids (None: all), none of those, and what the filters
    allow."""

    only: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    filters: Mapping[str, Filter] | None = None

    def admits(self, item_id: str) -> bool:
        return item_id not in self.exclude and (self.only is None or item_id in self.only)


EVERYTHING = Scope()


@dataclass(frozen=True)
class UserFactors:
    """A person's vector among the items' factors of one training."""

    vector: tuple[float, ...]
    factors_of: str


@dataclass(frozen=True)
class Row:
    """What is kept of an item: its unit vector; its factors and the training they are of."""

    item: Item
    vector: Vectors | None = None
    factors: Vectors | None = None
    factors_of: str | None = None


@dataclass(frozen=True)
class Facets:
    """What items have, by filterable key. `values`: of a key of words its values, the commonest
    first; `ends`: of a key of numbers two, below and above which lies a fifth of the items each."""

    values: Mapping[str, Sequence[str]]
    ends: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def in_words(self, key: str) -> str:
        """The commonest values of a key of words, or where those of a key of numbers lie; empty for
        any other."""
        if key in self.ends:
            low, high = self.ends[key]
            return f"mostly {low} to {high}"
        values = self.values.get(key, ())
        return ", ".join(values[:NAMED]) + (", …" if len(values) > NAMED else "")


class Embeds(Protocol):
    """What the catalogue needs of an embedder: unit vectors in one space of a fixed dimension, and
    the space's name.

    `dimension` of one that is not `loaded` takes a moment; its `name` stands for one model then.
    """

    @property
    def name(self) -> str: ...
    @property
    def loaded(self) -> bool: ...
    @property
    def dimension(self) -> int: ...
    async def embed(self, texts: Sequence[str]) -> Vectors: ...
    async def embed_one(self, text: str) -> Vectors: ...
    async def counted(self, texts: Sequence[str | Sequence[int]]) -> tuple[Vectors, int]: ...
    async def close(self) -> None: ...


def _guarded(
    method: Callable[Concatenate[Catalog, P], Awaitable[T]],
) -> Callable[Concatenate[Catalog, P], Coroutine[Any, Any, T]]:
    """A method of the catalogue that raises a `StorageError` when a file of it is damaged or its
    disk is full."""

    @wraps(method)
    async def guarded(self: Catalog, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._named():
            return await method(self, *args, **kwargs)

    return guarded


class Catalog:
    """Made by `await Catalog.open(folder, embed=…, filterable=…, factors=…)`."""

    def __init__(
        self,
        folder: Path,
        table: lancedb.AsyncTable,
        embed: Embeds,
        *,
        filterable: Mapping[str, Kind],
        factors: int,
        dimension: int,
    ) -> None:
        self.dimension = dimension
        """Of the vectors, the same in the table and from the embedder: `open` refuses anything
        else."""
        self.full: DiskFull | None = None
        """Why the last write was refused; None since one succeeded."""
        self.failing: Exception | None = None
        """What ended the last round of work in the background; None since one succeeded."""
        self._folder = folder
        self._table = table
        self._embed = embed
        self._factors = factors
        self._filterable = dict(filterable)
        self._columns = pa.schema([*ITEM, *_declared(filterable)])
        self._writing = asyncio.Lock()
        self._seen: dict[str, Row | None] = {}
        self._seen_at = self._counted_at = -1
        self._facets = Facets({})
        self._arrived = asyncio.Event()

    @contextmanager
    def _named(self, part: Part | None = None) -> Iterator[None]:
        try:
            with named(self._folder, part):
                yield
        except DiskFull as error:
            self.full = error
            raise

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        embed: Embeds,
        filterable: Mapping[str, Kind],
        factors: int = 64,
        re_embed: bool = False,
    ) -> Catalog:
        """Create or open the table. Raises `ConfigError` when its vectors are of another space than
        the embedder's, and a `StorageError` when it can't be read. With `re_embed` vectors and
        factors are dropped: all rows wait for new ones.

        `factors`: how many numbers an item's factors are; those of another length are forgotten.
        """
        with named(folder, "rows"):
            table = await _open_table(folder, embed, [*_declared(filterable), *_factors(factors)])
            strange = await _of_another_space(table, embed)
            if strange and not re_embed:
                told = f"the catalogue in {folder} holds {strange}: run 'whyrank ingest --re-embed'"
                raise ConfigError(told, param="embed")
            size = None if re_embed else _size_of_vectors(await table.schema())
            catalog = cls(
                folder,
                table,
                embed,
                filterable=filterable,
                factors=factors,
                dimension=size
                if size is not None
                else await asyncio.to_thread(lambda: embed.dimension),
            )
            await catalog._commit(partial(catalog._declare, re_embed=re_embed))
            await catalog._fill_and_index(renamed=bool(strange))
            return catalog

    async def _declare(self, *, re_embed: bool) -> None:
        """Set the key; make empty columns for the fields that the table has not, or has with
        another type, and with `re_embed` for vectors and factors."""
        stored = await self._table.schema()
        if not any(name.startswith(KEY) for name in stored.field("id").metadata or {}):
            await self._table.set_unenforced_primary_key(["id"])
        wanted = [
            ITEM.field("terms"),
            *_vector(self.dimension),
            *_factors(self._factors),
            *_declared(self._filterable),
        ]
        kept = [field for field in stored if not (re_embed and field.name in DERIVED)]
        missing = [field for field in wanted if field not in kept]
        stale = [field.name for field in missing if field.name in stored.names]
        if stale:
            await self._table.drop_columns(stale)
        if missing:
            await self._table.add_columns(pa.schema(missing))

    async def _fill_and_index(self, *, renamed: bool) -> None:
        """Make the indexes that are missing. Where a column has no index yet, all rows are derived
        anew before it gets one, so that an index stands for a filled column; so they are where rows
        still bear the name of another embedder."""
        names = {index.name for index in await self._table.list_indices()}
        wanted = self._indexes()
        missing = wanted.keys() - names
        if missing or renamed:
            await self._derive_anew()
        for name in sorted(missing):
            column, config = wanted[name]
            await self._commit(partial(self._table.create_index, column, config=config, name=name))
        await self._commit(self._drop_older_text_indexes)

    async def _drop_older_text_indexes(self) -> None:
        for index in await self._table.list_indices():
            if index.index_type == "FTS" and index.name != TERMS_INDEX:
                await self._table.drop_index(index.name)

    def _indexes(self) -> dict[str, tuple[str, BTree | FTS | LabelList]]:
        """Column and kind of every index but the vectors', by its name."""
        from lancedb.index import BTree, LabelList

        wanted: dict[str, tuple[str, BTree | FTS | LabelList]] = {
            "id_idx": ("id", BTree()),
            TERMS_INDEX: ("terms", _as_they_are()),
        }
        for key, kind in self._filterable.items():
            column = _filter_column(key, kind)
            wanted[f"{column}_idx"] = column, LabelList() if kind == "list" else BTree()
        return wanted

    async def _derive_anew(self) -> None:
        """Write every row's derived columns; a row that somebody changes meanwhile keeps what came
        with the change."""
        async for batch in await self._table.query().select(SHOWN).to_batches():
            rows = await asyncio.to_thread(self._rows, map(_item, batch.to_pylist()))
            table = rows.drop_columns(["url", "image_url", "published_at", "available"])
            same = " AND ".join(
                f"target.{name} = source.{name}" for name in ("title", "text", "attributes")
            )
            merge = self._table.merge_insert("id").when_matched_update_all(where=same)
            merge.use_index(
                False
            )  # with it, Lance 13 panics over a condition on some of the columns
            await self._commit(partial(merge.execute, table))

    async def _commit(self, step: Callable[[], Awaitable[T]], attempts: int = ATTEMPTS) -> T:
        """Do what ends in a commit to the table, one of this process at a time; and again, after a
        random pause, as often as a commit of another process comes first.

        Raises `CatalogBusy` when that happened so many times.
        """
        for attempt in range(attempts):
            try:
                async with self._writing:
                    return await self._whole(step)
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

    async def _whole(self, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step, and take it back if a file that it wrote was cut short: where a limit is
        reached LanceDB has been seen to commit such a file in silence, and no row of it can be read
        then. Raises `DiskFull` for that."""
        before, known = (
            await self._table.version(),
            await asyncio.to_thread(data_files, self._folder),
        )
        done = await step()
        new = await asyncio.to_thread(data_files, self._folder) - known
        cut = [file for file in new if not ends_whole(file)]
        if cut and not await self._readable():
            if (
                await self._table.version() == before + 1
            ):  # else another process has written since, which must stay
                await self._table.restore(before)
            raise disk_full(self._folder, f"{cut[0].name} was cut short")
        self.full = None
        return done

    async def _readable(self) -> bool:
        """Else a file that looks cut short is one that another process is still writing."""
        try:
            await self._read((await self._table.schema()).names)
        except Exception:  # whatever LanceDB says of it
            return False
        return True

    # ── writing ───────────────────────────────────────────────────────────────────────────────────

    @_guarded
    async def put(self, items: Sequence[Item]) -> None:
        """Insert or replace by id; the last of a repeated id wins. Durable on return; vectors
        follow. Attributes that `fitted` would leave out can't be filtered by."""
        latest = {item.id: item for item in items}
        if latest:
            table = await asyncio.to_thread(self._rows, latest.values())
            merge = (
                self._table.merge_insert("id")
                .when_matched_update_all()
                .when_not_matched_insert_all()
            )
            await self._commit(partial(merge.execute, table))
            self._arrived.set()

    @_guarded
    async def put_factors(self, version: str, factors: Mapping[str, Vectors]) -> int:
        """In one write, these factors for the items that the catalogue knows, and none for all
        others; returns how many.

        `version` names the training that they are of. Each is of shape [factors], finite.
        """

        async def replace() -> list[str]:
            rows = await self._table.query().select(["id", "factors_of"]).to_arrow()
            held = zip(rows["id"].to_pylist(), rows["factors_of"].to_pylist(), strict=True)
            changed = [item_id for item_id, of in held if item_id in factors or of is not None]
            if changed:
                nothing = np.zeros(self._factors, dtype=np.float32)
                flat = np.concatenate(
                    [factors.get(item_id, nothing) for item_id in changed]
                ).astype(np.float32)
                lacking = pa.array([item_id not in factors for item_id in changed])
                columns = [
                    pa.array(changed),
                    pa.FixedSizeListArray.from_arrays(pa.array(flat), self._factors, mask=lacking),
                    pa.array(
                        [version if item_id in factors else None for item_id in changed],
                        pa.string(),
                    ),
                ]
                update = pa.table(
                    columns, schema=pa.schema([ITEM.field("id"), *_factors(self._factors)])
                )
                await self._table.merge_insert("id").when_matched_update_all().execute(update)
            return changed

        return sum(item_id in factors for item_id in await self._commit(replace))

    @_guarded
    async def delete(self, item_id: str) -> bool:
        """Was there such an item?"""

        async def remove() -> bool:
            there = bool(await self._table.count_rows(_ids_in([item_id])))
            if there:
                await self._table.delete(_ids_in([item_id]))
            return there

        return await self._commit(remove)

    def fitted(
        self, attributes: Attributes, misfit: Callable[[str, Kind, Any], None]
    ) -> Attributes:
        """The attributes with the values of declared ones in their declared types: `"1999"` and
        1999.0 are an int. One that fits no way is left out and told to `misfit` (attribute,
        declared type, value)."""
        fitted = dict(attributes)
        for key, kind in self._filterable.items():
            if key not in fitted:
                continue
            value = _fit(kind, fitted[key])
            if value is None:
                misfit(key, kind, fitted.pop(key))
            elif kind != "list" or isinstance(fitted[key], list):
                fitted[key] = value
        return fitted

    def _rows(self, items: Iterable[Item]) -> pa.Table:
        return pa.Table.from_pylist([self._row(item) for item in items], schema=self._columns)

    def _row(self, item: Item) -> dict[str, Any]:
        words = words_of(item)
        return {
            "id": item.id,
            "title": item.title,
            "text": item.text,
            "attributes": json.dumps(item.attributes, ensure_ascii=False),
            "url": item.url,
            "image_url": item.image_url,
            "published_at": item.published_at,
            "available": item.available,
            "words": words,
            "words_sha": _sha(self._embed, words),
            "terms": " ".join(terms_of(words)),
            **self._declared_values(item),
        }

    def _declared_values(self, item: Item) -> dict[str, Any]:
        """What stands in the columns of the filterable keys."""
        values: dict[str, Any] = {}
        for key, kind in self._filterable.items():
            value = _fit(kind, item.attributes.get(key))
            values[_column(key)] = value
            if kind in WORDS:
                values[_filter_column(key, kind)] = _folded(value)
        return values

    # ── background ────────────────────────────────────────────────────────────────────────────────

    @_guarded
    async def backlog(self) -> int:
        """Rows whose vector is missing or stale."""
        return int(await self._table.count_rows(PENDING))

    @_guarded
    async def embed_pending(
        self, step: Callable[[int, int], None] = lambda done, total: None
    ) -> int:
        """Embed what is pending; returns how many. `step(done, total)` tells the progress."""
        done, total = 0, await self.backlog()
        while (
            rows := await self._table.query()
            .where(PENDING)
            .select(["id", "words", "words_sha"])
            .limit(512)
            .to_list()
        ):
            vectors = await self._embed.embed([row["words"] for row in rows])
            columns = [
                pa.array([row["id"] for row in rows]),
                pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.dimension),
                pa.array([row["words_sha"] for row in rows]),
            ]
            update = pa.table(
                columns, schema=pa.schema([ITEM.field("id"), *_vector(self.dimension)])
            )
            await self._commit(
                partial(self._table.merge_insert("id").when_matched_update_all().execute, update)
            )
            done += len(rows)
            step(done, max(done, total))
        return done

    @_guarded
    async def tidy(self) -> bool:
        """Compact, bring the indexes up to date, drop versions nobody reads; index vectors once the
        table is large.

        False when other writers kept coming first: that fails nothing, as searches read what no
        index holds yet.
        """
        try:
            await self._commit(self._index_vectors, attempts=TIDY_ATTEMPTS)
            await self._commit(
                partial(self._table.optimize, cleanup_older_than=KEPT), attempts=TIDY_ATTEMPTS
            )
        except CatalogBusy:
            return False
        return True

    async def _index_vectors(self) -> None:
        from lancedb.index import HnswSq

        indexed = {name for index in await self._table.list_indices() for name in index.columns}
        for column, distance in DISTANCES.items():
            if (
                column not in indexed
                and await self._table.count_rows(f"{column} IS NOT NULL") >= INDEX_FROM
            ):
                await self._table.create_index(column, config=HnswSq(distance_type=distance))

    async def work(self, every_s: float, failed: Callable[[Exception], None]) -> None:
        """Run until cancelled: embed what arrives, here or in another process; tidy after `every_s`
        with changes.

        An error is reported to `failed` and tried again a round later.
        """
        tidied = -1
        while True:
            try:
                await self.embed_pending()
                if await self._table.version() != tidied and await self.tidy():
                    tidied = await self._table.version()
                self.failing = None
            except (StorageError, ModelError, OSError, RuntimeError, ValueError) as error:
                self.failing = error
                failed(error)
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), every_s)

    # ── health ────────────────────────────────────────────────────────────────────────────────────

    async def examine(self) -> None:
        """Read of every column and index what a request would. Raises `CatalogDamaged`, which says
        what brings it back."""
        with self._named("rows"):
            newest = newest_known(self._folder)
            if await self._table.version() < newest:
                raise CatalogDamaged(
                    f"the manifest of version {newest} is gone from {self._folder}: restore a "
                    f"copy of it, or delete "
                    "latest_version_hint.json there to go on without the last writes"
                )
            rows = await self._table.query().limit(1).select([*SHOWN, "terms"]).to_list()
        for row in rows:
            try:
                await self._search_like(row)
            except (
                CatalogDamaged
            ):  # if the rows are damaged too, nothing can be made anew from them
                with self._named("rows"):
                    await self._read(SHOWN)
                raise

    async def _search_like(self, row: Mapping[str, Any]) -> None:
        """A search of each kind, among all rows; the text's and the id's would find this one."""
        with self._named("vectors"):
            for column, size in (("vector", self.dimension), ("factors", self._factors)):
                near = (
                    self._table.query().nearest_to(np.ones(size, dtype=np.float32)).column(column)
                )
                await near.limit(1).select(["id", "_distance"]).to_arrow()
        with self._named("indexes"):
            await self._table.count_rows(_ids_in([row["id"]]))
            await (
                self._table.query()
                .nearest_to_text(row["terms"] or "a", "terms")
                .limit(1)
                .select(["id", "_score"])
                .to_arrow()
            )
            for condition in self._true_of(_item(row)):
                await self._table.count_rows(condition)

    def _true_of(self, item: Item) -> Iterator[str]:
        """A condition on each filterable key of which the item has a value."""
        for key, kind in self._filterable.items():
            value = _fit(kind, item.attributes.get(key))
            values = value if isinstance(value, list) else [value]
            if values and value is not None:
                yield from self._conditions(key, Filter(any=values[:1]))

    async def examine_all(self) -> None:
        """Read every row, vector and index, which takes as long as copying the folder. Raises as
        `examine`."""
        names = (await self._table.schema()).names
        with self._named("rows"):
            await self._read([name for name in names if name not in DERIVED])
        with self._named("versions"):
            await self._table.list_versions()  # type: ignore[no-untyped-call]  # LanceDB's own
        with self._named("vectors"):
            await self._read(DERIVED)
        for index in await self._table.list_indices():
            with self._named("indexes"):
                await self._table.prewarm_index(index.name)
        await self.examine()

    async def _read(self, columns: list[str]) -> None:
        async for batch in await self._table.query().select(columns).to_batches():
            batch.validate(full=True)

    @_guarded
    async def re_index(self) -> list[str]:
        """Make every index anew from the rows; returns the columns that have one."""
        from lancedb.index import HnswSq

        indexes = self._indexes()
        held = {index.columns[0] for index in await self._table.list_indices()}
        vectors = {
            f"{column}_idx": (column, HnswSq(distance_type=DISTANCES[column]))
            for column in DISTANCES.keys() & held
        }
        for name, (column, config) in (indexes | vectors).items():
            await self._commit(
                partial(self._table.create_index, column, config=config, name=name, replace=True)
            )
        return sorted(column for column, _ in (indexes | vectors).values())

    async def close(self) -> None:
        await self._embed.close()

    # ── reading ───────────────────────────────────────────────────────────────────────────────────

    @_guarded
    async def count(self) -> int:
        return int(await self._table.count_rows())

    @_guarded
    async def page(self, after: str, limit: int) -> list[Item]:
        """The first items, by id, whose id comes after: a walk that arrivals and changes don't
        disturb."""
        from lancedb.query import ColumnOrdering

        query = (
            self._table.query()
            .where(f"id > {_literal(after)}")
            .order_by([ColumnOrdering(column_name="id")])
        )
        return [_item(row) for row in await query.select(SHOWN).limit(limit).to_list()]

    async def get(self, ids: Iterable[str]) -> dict[str, Item]:
        """The known ones of `ids`, in their order."""
        return {item_id: row.item for item_id, row in (await self._known(ids)).items()}

    @_guarded
    async def unknown(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids`, in their order, that the catalogue does not have."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return []
        rows = (
            await self._table.query()
            .where(_ids_in(wanted))
            .select(["id"])
            .limit(len(wanted))
            .to_arrow()
        )
        known = set(rows["id"].to_pylist())
        return [item_id for item_id in wanted if item_id not in known]

    @_guarded
    async def called(self, names: Iterable[str]) -> dict[str, list[Item]]:
        """Items by their exact title or their id; of several with one title the first by id
        first."""
        wanted = list(dict.fromkeys(names))
        if not wanted:
            return {}
        known = ", ".join(map(_literal, wanted))
        rows = (
            await self._table.query()
            .where(f"title IN ({known}) OR id IN ({known})")
            .select(SHOWN)
            .to_list()
        )
        found: dict[str, list[Item]] = {}
        for item in sorted(map(_item, rows), key=lambda item: item.id):
            for name in {item.title, item.id} & {*wanted}:
                found.setdefault(name, []).append(item)
        return found

    @_guarded
    async def facets(self) -> Facets:
        """Of each key at most `FACETS` values. Counted anew when the catalogue has changed."""
        version = await self._table.version()
        if version != self._counted_at:
            keys = {key: _column(key) for key, kind in self._filterable.items() if kind != "bool"}
            values: dict[str, list[str]] = {}
            ends: dict[str, tuple[float, float]] = {}
            if keys:
                table = await self._table.query().select([*keys.values()]).to_arrow()
                for key, column in keys.items():
                    found = table[column].combine_chunks()
                    flat = found.flatten() if pa.types.is_list(found.type) else found.drop_null()
                    if self._filterable[key] in {"str", "list"}:
                        values[key] = [
                            value for value, _ in Counter(flat.to_pylist()).most_common(FACETS)
                        ]
                    elif len(flat):
                        low, high = np.quantile(flat.to_numpy(), [0.2, 0.8], method="nearest")
                        ends[key] = (low.item(), high.item())
            self._facets, self._counted_at = Facets(values, ends), version
        return self._facets

    async def vectors(self, ids: Iterable[str]) -> dict[str, Vectors]:
        """The unit vectors, each of shape [dimension], of those of `ids` that have one."""
        return {
            item_id: row.vector
            for item_id, row in (await self._known(ids)).items()
            if row.vector is not None
        }

    async def factors(self, ids: Iterable[str]) -> tuple[str, dict[str, Vectors]]:
        """The version of the factors, and the factors, each of shape [factors], of those of `ids`
        that have some; "" if none has."""
        rows = [row for row in (await self._known(ids)).values() if row.factors is not None]
        version = max((row.factors_of or "" for row in rows), default="")
        return version, {
            row.item.id: row.factors
            for row in rows
            if row.factors is not None and row.factors_of == version
        }

    @_guarded
    async def _known(self, ids: Iterable[str]) -> dict[str, Row]:
        """The known ones of `ids`, in their order. They are remembered for as long as nobody, in
        any process, has written."""
        wanted = list(dict.fromkeys(ids))
        version = await self._table.version()
        if version != self._seen_at or len(self._seen) > REMEMBERED:
            self._seen, self._seen_at = {}, version
        found = {item_id: self._seen[item_id] for item_id in wanted if item_id in self._seen}
        if missing := [item_id for item_id in wanted if item_id not in found]:
            rows = await self._fetch(missing)
            found |= {item_id: rows.get(item_id) for item_id in missing}
            if version == self._seen_at:  # else another call saw a newer table meanwhile
                self._seen |= found
        return {item_id: row for item_id in wanted if (row := found[item_id]) is not None}

    async def _fetch(self, ids: Sequence[str]) -> dict[str, Row]:
        columns = [*SHOWN, "vector", "factors", "factors_of"]
        table = (
            await self._table.query().where(_ids_in(ids)).select(columns).limit(len(ids)).to_arrow()
        )
        vectors, factors = _by_id(table, "vector"), _by_id(table, "factors")
        return {
            row["id"]: Row(
                _item(row), vectors.get(row["id"]), factors.get(row["id"]), row["factors_of"]
            )
            for row in table.drop_columns(["vector", "factors"]).to_pylist()
        }

    async def interest(self, text: str) -> Interest:
        """A taste that is only described, as a vector of the catalogue's space."""
        return Interest(vector=tuple((await self.embedded(text)).tolist()), weight=1)

    async def embedded(self, text: str) -> Vectors:
        """The unit vector of a text, shape [dimension]; recent ones are remembered."""
        return await self._embed.embed_one(text)

    async def counted(self, texts: Sequence[str | Sequence[int]]) -> tuple[Vectors, int]:
        """Unit vectors of texts or token ids, and how many tokens were read."""
        return await self._embed.counted(texts)

    @property
    def embedding(self) -> str:
        """The name of the space."""
        return self._embed.name

    async def embedded_all(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape [len(texts), dimension]."""
        return await self._embed.embed(texts)

    @_guarded
    async def admitted(self, ids: Iterable[str], scope: Scope) -> list[str]:
        """Those of `ids`, in their order, that the catalogue knows and the scope and their
        availability admit."""
        wanted = [item_id for item_id in dict.fromkeys(ids) if scope.admits(item_id)]
        if not scope.filters:
            return [
                item_id
                for item_id, item in (await self.get(wanted)).items()
                if item.available or scope.only is not None
            ]
        if not wanted:
            return []
        where = (
            f"{_ids_in(wanted)} AND "
            f"{self._where(Scope(only=scope.only and frozenset(wanted), filters=scope.filters))}"
        )
        found = set(
            (await self._table.query().where(where).select(["id"]).limit(len(wanted)).to_arrow())[
                "id"
            ].to_pylist()
        )
        return [item_id for item_id in wanted if item_id in found]

    @_guarded
    async def some(self, k: int, scope: Scope) -> list[str]:
        """Any k admissible items: what a catalogue without events and vectors can still show."""

        async def search(limit: int) -> pa.Table:
            return (
                await self._table.query()
                .where(self._where(scope))
                .limit(limit)
                .select(["id"])
                .to_arrow()
            )

        return (await self._enough(search, k, scope))[0]

    @_guarded
    async def similar(
        self, vectors: Sequence[Sequence[float] | Vectors], k: int, scope: Scope
    ) -> list[list[str]]:
        """For each vector the ids of the k nearest by cosine, nearest first; one query for all of
        them."""
        where = f"vector IS NOT NULL AND {self._where(scope)}"
        asked = [np.asarray(vector, dtype=np.float32) for vector in vectors]

        async def search(limit: int) -> pa.Table:
            near = (
                self._table.query()
                .nearest_to(asked if len(asked) > 1 else asked[0])
                .column("vector")
            )
            query = near.distance_type("cosine").where(where).ef(max(2 * limit, 100))
            return await query.limit(limit).select(["id", "_distance"]).to_arrow()

        return await self._enough(search, k, scope, len(asked)) if asked else []

    @_guarded
    async def favoured(self, taste: UserFactors, k: int, scope: Scope) -> list[str]:
        """Ids of the k items whose factors have the greatest inner product with a person's,
        greatest first."""
        where = f"factors_of = {_literal(taste.factors_of)} AND {self._where(scope)}"
        asked = np.asarray(taste.vector, dtype=np.float32)

        async def search(limit: int) -> pa.Table:
            query = self._table.query().nearest_to(asked).column("factors").distance_type("dot")
            return (
                await query.where(where)
                .ef(max(2 * limit, 100))
                .limit(limit)
                .select(["id", "_distance"])
                .to_arrow()
            )

        return (await self._enough(search, k, scope))[0]

    @_guarded
    async def search(self, text: str, k: int, scope: Scope, *, meant: str | None) -> list[str]:
        """Full text and vector search fused by reciprocal ranks: ids, best first. `meant`: what the
        embedder is shown of the text; by text alone where that is nothing, and while the embedder
        fails. A text without a word is searched by meaning alone."""
        where, vector, terms = self._where(scope), None, " ".join(asked_terms(text))
        with suppress(ModelError):
            vector = await self._embed.embed_one(meant) if meant else None
        if not terms:
            return (await self.similar([vector], k, scope))[0] if vector is not None else []

        async def by_words(limit: int) -> pa.Table:
            found = self._table.query().nearest_to_text(terms, "terms").where(where).limit(limit)
            return await found.select(["id", "_score"]).to_arrow()

        async def by_meaning(limit: int) -> pa.Table:
            near = self._table.query().nearest_to(vector).column("vector").distance_type("cosine")
            found = near.where(f"vector IS NOT NULL AND {where}").limit(limit)
            return await found.select(["id", "_distance"]).to_arrow()

        async def both(limit: int) -> pa.Table:
            found = await asyncio.gather(by_meaning(limit), by_words(limit))
            ids = _by_reciprocal_ranks([table["id"].to_pylist() for table in found])
            return pa.table({"id": pa.array(ids[:limit], pa.string())})

        search = by_words if vector is None else both
        return (await self._enough(search, k, scope))[0]

    async def _enough(
        self, search: Callable[[int], Awaitable[pa.Table]], k: int, scope: Scope, queries: int = 1
    ) -> list[list[str]]:
        """For each query: fetch, drop what may not take a place, and fetch more until k are left or
        there is no more."""
        limit = k
        while True:
            table = await search(limit)
            of = table["query_index"].to_pylist() if queries > 1 else [0] * table.num_rows
            found: list[list[str]] = [[] for _ in range(queries)]
            for query, item_id in zip(of, table["id"].to_pylist(), strict=True):
                found[query].append(item_id)
            kept = [[item_id for item_id in ids if scope.admits(item_id)] for ids in found]
            if all(
                len(good) >= k or len(ids) < limit for good, ids in zip(kept, found, strict=True)
            ):
                return [good[:k] for good in kept]
            limit *= 4

    def _where(self, scope: Scope) -> str:
        """A DataFusion condition. All that a caller wrote goes through `_literal`."""
        conditions = ["available"] if scope.only is None else [_ids_in(scope.only)]
        if 0 < len(scope.exclude) <= IN_FILTER:
            conditions.append(f"NOT {_ids_in(scope.exclude)}")
        for key, wanted in (scope.filters or {}).items():
            conditions += self._conditions(key, wanted)
        return " AND ".join(conditions)

    def check_filters(self, filters: Mapping[str, Filter]) -> None:
        """Raises `BadRequest` for what can't be filtered by."""
        for key, wanted in filters.items():
            self._conditions(key, wanted)

    def _conditions(self, key: str, wanted: Filter) -> list[str]:
        kind: Kind = "str" if key == "id" else self._filterable.get(key) or self._undeclared(key)
        column = "id" if key == "id" else _filter_column(key, kind)
        found = []
        for name, sign in (("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<=")):
            if (bound := getattr(wanted, name)) is not None:
                if kind in {"list", "bool"}:
                    raise BadRequest(
                        f"filters.{key}: {name} needs an ordered value; {key} is a {kind}",
                        param=f"filters.{key}",
                    )
                found.append(f"{column} {sign} {self._checked(key, kind, bound)}")
        for name, negate in (("any", ""), ("none", "NOT ")):
            if (values := getattr(wanted, name)) is not None:
                literals = ", ".join(self._checked(key, kind, value) for value in values)
                test = (
                    f"array_has_any({column}, [{literals}])"
                    if kind == "list"
                    else f"{column} IN ({literals})"
                )
                found.append(f"COALESCE({negate}{test}, {'true' if negate else 'false'})")
        if not found:
            raise BadRequest(
                f"filters.{key} sets no condition: gt, gte, lt, lte, any or none",
                param=f"filters.{key}",
            )
        return found

    def _checked(self, key: str, kind: Kind, value: Any) -> str:
        if not _fits(kind, value):
            raise BadRequest(
                f"filters.{key}: {json.dumps(value)[:80]} is not a {kind}", param=f"filters.{key}"
            )
        return _literal(value if key == "id" else _folded(value))

    def _undeclared(self, key: str) -> Kind:
        known = ", ".join(["id", *self._filterable])
        raise BadRequest(
            f"filters.{key}: not filterable; declared: {known} (catalog.filterable)",
            param=f"filters.{key}",
        )


def _vector(dimension: int) -> list[pa.Field]:
    return [
        pa.field("vector", pa.list_(pa.float32(), dimension)),
        pa.field("vector_sha", pa.string()),
    ]


def _factors(count: int) -> list[pa.Field]:
    return [pa.field("factors", pa.list_(pa.float32(), count)), pa.field("factors_of", pa.string())]


def _sha(embed: Embeds, words: str) -> str:
    """Of what a vector is made: the embedder and the words."""
    return hashlib.sha256(f"{embed.name}\n{words}".encode()).hexdigest()[:16]


async def _create(folder: Path, columns: pa.Schema) -> None:
    """Make the table, unless another process was first. Lance lets the later of two that create one
    overwrite what the other has already filled; so it is made beside, and moved to a place that is
    still free."""
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
    """LanceDB's package imports the client of a REST service that nobody here asks; loading that
    takes as long as all the rest of a short command."""
    client = "lance_namespace_urllib3_client"
    spec = importlib.util.find_spec(client)
    if spec is not None and client not in sys.modules:
        sys.modules[client] = importlib.util.module_from_spec(
            spec
        )  # its modules can be imported; it is not executed itself


async def _open_table(folder: Path, embed: Embeds, more: Sequence[pa.Field]) -> lancedb.AsyncTable:
    """Created if there is none, with columns for vectors and `more`. Raises `CatalogDamaged` where
    its manifests are gone."""
    _leave_client_out()
    import lancedb

    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    database = await lancedb.connect_async(
        Path.cwd() / folder, read_consistency_interval=timedelta(0)
    )
    with suppress(ValueError):  # there is none
        return await database.open_table("items")
    if data_files(folder):
        told = (
            f"the manifests in {folder} are gone: restore a copy of it, or move it away and "
            f"ingest the items again"
        )
        raise CatalogDamaged(told)
    dimension = await asyncio.to_thread(lambda: embed.dimension)
    await _create(folder, pa.schema([*ITEM, *_vector(dimension), *more]))
    return await database.open_table("items")


async def _of_another_space(table: lancedb.AsyncTable, embed: Embeds) -> str:
    """What kind of vectors a table has, if not this embedder's."""
    size = _size_of_vectors(await table.schema())
    if size is None:
        return ""
    rows = (
        await table.query().select(["words", "words_sha"]).limit(1).to_list()
    )  # all bear one name, so one tells
    strange = any(row["words_sha"] != _sha(embed, row["words"]) for row in rows)
    if rows and not strange and not embed.loaded:
        return ""
    dimension = await asyncio.to_thread(
        lambda: embed.dimension
    )  # a model that can't be read says so here
    if size != dimension:
        return f"vectors of {size} dimensions, and the embedder makes {dimension}"
    return "vectors of another embedder" if strange else ""


def _size_of_vectors(stored: pa.Schema) -> int | None:
    """None while somebody embeds anew: the column is dropped then."""
    return int(stored.field("vector").type.list_size) if "vector" in stored.names else None


def _by_id(table: pa.Table, column: str) -> dict[str, Vectors]:
    """The vectors of a column, of those rows that have one."""
    found = table.filter(table[column].is_valid())
    flat = (
        found[column].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    )
    return dict(
        zip(
            found["id"].to_pylist(),
            flat.reshape(found.num_rows, -1) if len(flat) else [],
            strict=True,
        )
    )


def words_of(item: Item) -> str:
    """What is embedded and searched: the title, the attributes' values, the text's beginning."""
    values = ", ".join(str(part) for _, part in item.facts())
    return ". ".join(part for part in (item.title, values, item.text[:READ]) if part) or item.id


def terms_of(text: str) -> list[str]:
    """The terms by which full text finds a text: its words, stemmed, without accents and English
    stop words; where spaces don't end words, every character and every pair of neighbours, so that
    a word is found wherever it stands."""
    spaced, unspaced = _runs(text)
    return [*_stems(spaced), *(term for run in unspaced for term in [*run, *_pairs(run)])]


def asked_terms(query: str) -> list[str]:
    """The terms of a query, each once. Where spaces don't end words, ICU's dictionaries find them,
    and each is looked for by its pairs, or as it is where it is one character: pairs across two
    words would only add noise."""
    spaced, unspaced = _runs(query)
    words = [word for run in unspaced for word in _words(run)]
    return list(
        dict.fromkeys([*_stems(spaced), *(term for word in words for term in _pairs(word) or word)])
    )


def _as_they_are() -> FTS:
    """An index of terms that are already what they shall be."""
    from lancedb.index import FTS

    return FTS(
        base_tokenizer="whitespace",
        max_token_length=None,
        lower_case=False,
        stem=False,
        remove_stop_words=False,
        ascii_folding=False,
    )


def _runs(text: str) -> tuple[list[str], list[list[str]]]:
    """Words that spaces end, and the characters of each stretch in which they don't."""
    runs = list(RUNS.finditer(_composed(text).casefold()))
    return [run[0] for run in runs if not run["unspaced"]], [
        _characters(run[0]) for run in runs if run["unspaced"]
    ]


def _stems(words: Sequence[str]) -> list[str]:
    """English stop words go before accents, as "thé" is not "the"; English endings go after, as
    "règle" is "regle"."""
    import lancedb

    tokens = lancedb.tokenize(
        " ".join(words), base_tokenizer="whitespace", stem=False, ascii_folding=False
    )
    plain = ACCENTS.sub("", unicodedata.normalize("NFD", " ".join(token.text for token in tokens)))
    return [
        token.text
        for token in lancedb.tokenize(plain, base_tokenizer="whitespace", remove_stop_words=False)
    ]


def _words(run: Sequence[str]) -> list[list[str]]:
    """A stretch without spaces as words, without stop words where there are others."""
    text = "".join(run)
    import lancedb

    tokens = lancedb.tokenize(
        text, base_tokenizer="icu", max_token_length=None, stem=False, ascii_folding=False
    )
    return [_characters(token.text) for token in tokens] or [_characters(text)]


def _composed(text: str) -> str:
    """Unicode's one form of letters that look alike, as full and half width; but of Thai's vowel
    am, which it takes apart."""
    return unicodedata.normalize("NFKC", text).replace("\u0e4d\u0e32", "\u0e33")


def _characters(run: str) -> list[str]:
    """Letters, each with the vowel signs and tone marks that are written on it."""
    found: list[str] = []
    for char in run:
        if found and unicodedata.category(char) in {"Mn", "Mc"}:
            found[-1] += char
        else:
            found.append(char)
    return found


def _pairs(characters: Sequence[str]) -> list[str]:
    return [one + two for one, two in pairwise(characters)]


def _fit(kind: Kind, value: Any) -> Any:
    """The value in a declared type, None for one that fits no way. A list of one is its element,
    and an element a list."""
    if kind == "list":
        parts = [_fit("str", part) for part in (value if isinstance(value, list) else [value])]
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
    return value if value is not None and _fits(kind, value) else None


def _fits(kind: Kind, value: Any) -> bool:
    """JSON's true is no number, and a column of integers holds 64 bits."""
    if isinstance(value, bool):
        return kind == "bool"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return False
    return isinstance(value, ACCEPTS[kind])


def _column(key: str, prefix: str = "by_") -> str:
    """Dots and dashes are legal in a key, but not in a bare column name."""
    return prefix + "".join(char if char.isalnum() else f"_{ord(char):x}_" for char in key)


def _filter_column(key: str, kind: Kind) -> str:
    """The indexed column that filters on a key ask: of words a second one, in which they are
    folded."""
    return _column(key, "folded_") if kind in WORDS else _column(key)


def _declared(filterable: Mapping[str, Kind]) -> list[pa.Field]:
    """The columns of the filterable keys."""
    own = [pa.field(_column(key), ARROW[kind]) for key, kind in filterable.items()]
    folded = [
        pa.field(_filter_column(key, kind), ARROW[kind])
        for key, kind in filterable.items()
        if kind in WORDS
    ]
    return [*own, *folded]


def _folded(value: Any) -> Any:
    """Words, alone or in a list, so that two that differ by case alone are the same; anything else
    as it is."""
    if isinstance(value, list):
        return [_folded(part) for part in value]
    return value.casefold() if isinstance(value, str) else value


def _ids_in(ids: Iterable[str]) -> str:
    return f"id IN ({', '.join(map(_literal, sorted(ids)))})"


def _by_reciprocal_ranks(lists: Iterable[Sequence[str]]) -> list[str]:
    """Ids of several ranked lists by falling Σ 1 / (60 + rank); of ties the one that an earlier
    list names first."""
    scores: dict[str, float] = {}
    for ranked in lists:
        for rank, item_id in enumerate(ranked, 1):
            scores[item_id] = scores.get(item_id, 0.0) + 1 / (60 + rank)
    return sorted(scores, key=lambda item_id: -scores[item_id])


def _literal(value: str | int | float | bool) -> str:
    """An SQL literal; in DataFusion's strings only the quote is special, and doubling it escapes
    it."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else json.dumps(value)


def _item(row: Mapping[str, Any]) -> Item:
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
