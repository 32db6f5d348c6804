"""The table in LanceDB: its commits, tried again where another writer came first, and its errors,
which name the file that is at fault."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from service.damage import Part, data_files, disk_full, ends_whole, named
from service.errors import CatalogBusy, DiskFull

if TYPE_CHECKING:
    import lancedb

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
"""What Lance's errors say when another writer's commit came first: the same work, done again on its
result, may succeed."""
ATTEMPTS = 20
"""How often a preempted write is tried, over about 15 seconds."""


class _OnTable(Protocol):
    _table: ItemTable


S = TypeVar("S", bound=_OnTable)


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


class ItemTable:
    """`lance`: LanceDB's table. Read it directly; whatever writes it goes through `commit`."""

    def __init__(self, folder: Path, lance: lancedb.AsyncTable) -> None:
        self.lance = lance
        self.folder = folder
        self.full: DiskFull | None = None
        """Why the last write was refused; None since one succeeded."""
        self._writing = asyncio.Lock()

    @contextmanager
    def naming_damage(self, part: Part | None = None) -> Iterator[None]:
        """Within, errors that come from the table's files are a `StorageError` that says which file
        it is and what brings it back. `part`: what is read, if that is known."""
        try:
            with named(self.folder, part):
                yield
        except DiskFull as error:
            self.full = error
            raise

    async def commit(self, step: Callable[[], Awaitable[T]], attempts: int = ATTEMPTS) -> T:
        """Do what ends in a commit to the table, one step of this process at a time; and again,
        after a random pause, as often as a commit of another process comes first.

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
        """Do a step, and take it back if a file that it wrote was cut short: where a limit is
        reached LanceDB has been seen to commit such a file in silence, and no row of it can be read
        then. Raises `DiskFull` for that."""
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
        """If so, a file that looks cut short is one that another process is still writing."""
        try:
            await self.read_through((await self.lance.schema()).names)
        except Exception:  # whatever LanceDB says of it
            return False
        return True

    async def read_through(self, columns: list[str]) -> None:
        """Read every row of some columns, to see that they can be read."""
        async for batch in await self.lance.query().select(columns).to_batches():
            batch.validate(full=True)
