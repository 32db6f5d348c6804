"""The database's file: checks for damage that SQLite would not report, and SQLite's errors as the
service's.

SQLite takes an emptied file for a new database, and a journal (the file's name and `-wal`) that it
can't read for one that ends there: both would lose in silence what was acknowledged. So the files
are checked before SQLite opens them, and once after.
"""

import os
import sqlite3
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from service.errors import DiskFull, StorageError, StoreDamaged

CHECKS, PAUSE_S = 10, 0.05
"""How often the files are checked before damage is reported, and the seconds between two checks: a
file that another process is just making seems damaged for a moment only."""
WAL_HEADER, FRAME_HEADER, INDEX_HEADER = 32, 24, 48
"""Bytes of the journal's header, of a frame's header, and of one copy of the index's header:
https://www.sqlite.org/walformat.html."""
READ_INDEX = (
    f"import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read({2 * INDEX_HEADER}))"
)
"""Python code for the process that reads the index: it writes both copies of the index's header to
standard output."""
UNWRITTEN = {
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMMAP,
}
"""SQLite's codes for a write that a quota, a limit or a full disk refused, where the system does
not say 'full'."""
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR}
DAMAGED_REASONS = ("no such table", "no such column", "Could not decode")
REFUSED = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_AUTH,
}


@dataclass(frozen=True)
class _Journal:
    """What the shared index (`-shm`) says of the journal: its salts, how many frames are committed,
    and the bytes of a page."""

    salts: bytes
    frames: int
    page_bytes: int


class DatabaseFile:
    """The file at `path`, with its journal and the journal's index beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.full: DiskFull | None = None
        """Why the last write was refused; None since one succeeded."""
        self._journal: _Journal | None = None
        self._opened: os.stat_result | None = None

    # ── around its opening ────────────────────────────────────────────────────────────────────────

    def check_before_opening(self) -> None:
        """Raises `StoreDamaged` for damage that opening would hide or make worse."""
        for _ in range(CHECKS):
            fault = self._fault()
            if not fault:
                break
            time.sleep(PAUSE_S)
        else:
            raise StoreDamaged(fault)
        self._journal = self._read_index()

    def check_after_opening(self) -> None:
        """Raises `StoreDamaged` if SQLite read less of the journal than had been written."""
        self._opened = self.path.stat()
        before = self._journal
        now = self._read_index() if before else None
        if before and now and before.salts == now.salts and now.frames < before.frames:
            raise StoreDamaged(
                f"{self._beside('-wal')} was damaged, the last writes in it are lost: restore a "
                f"copy of {self.path}, or start again to go on without them"
            )

    def check_identity(self) -> None:
        """Raises `StoreDamaged` if the path no longer leads to the file that was opened: writes
        would be lost."""
        try:
            now = self.path.stat()
        except FileNotFoundError:
            raise StoreDamaged(
                f"{self.path} was removed while in use: {self._cure}, then start again"
            ) from None
        if self._opened and not os.path.samestat(now, self._opened):
            raise StoreDamaged(
                f"{self.path} was replaced while in use: start again to use the new one"
            )

    def _fault(self) -> str:
        """Returns what is wrong with the files, and the cure, in words; an empty text if nothing
        is."""
        wal = self._beside("-wal")
        header, size = _beginning(wal, WAL_HEADER), _size(self.path)
        if size is None:
            return f"{self.path} is gone, but {wal} is there: {self._cure}" if header else ""
        if not size:
            return f"{self.path} is empty: {self._cure}"
        if header and not _is_wal(header):
            return (
                f"{wal} is damaged: restore a copy of {self.path}, or move {wal.name} away to "
                "go on without the last writes, which it held"
            )
        index = self._read_index()
        if index is None or not index.frames:
            return ""
        written = WAL_HEADER + index.frames * (FRAME_HEADER + index.page_bytes)
        if (_size(wal) or 0) < written:
            return (
                f"{wal} is shorter than what was written: restore a copy of {self.path}, or move "
                f"{self._beside('-shm').name} away to go on without the last writes"
            )
        return ""

    def _read_index(self) -> _Journal | None:
        """Returns what the journal's index says; None if there is no index, if it was never used,
        or if it is broken (the two copies of its header differ).

        Another process reads the index: if this process closed a handle of that file, SQLite's
        locks on it would be dropped (POSIX). The next process to open the database would then take
        the index for unused and truncate it while this process uses it.
        """
        index = self._beside("-shm")
        if (_size(index) or 0) < 2 * INDEX_HEADER:
            return None
        reader = [sys.executable, "-I", "-S", "-c", READ_INDEX, f"{index}"]
        header = subprocess.run(reader, capture_output=True, check=False).stdout
        if len(header) < 2 * INDEX_HEADER or header[:INDEX_HEADER] != header[INDEX_HEADER:]:
            return None
        used, page, frames = struct.unpack("=12xBxHI", header[:20])
        return _Journal(header[32:40], frames, 65_536 if page == 1 else page) if used else None

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}{suffix}")

    # ── SQLite's errors ───────────────────────────────────────────────────────────────────────────

    def explained(self, error: BaseException | None) -> StorageError | None:
        """Returns SQLite's error as a `StorageError`; None for an error that is not the file's
        fault."""
        if not isinstance(error, sqlite3.Error):
            return None
        code: int = getattr(error, "sqlite_errorcode", 0)
        kind, reason = code & 0xFF, f"{error}"
        if kind == sqlite3.SQLITE_FULL or code in UNWRITTEN:
            self.full = DiskFull(
                f"{self.path} can't be written ({reason}): free some space on its disk, or raise "
                f"the quota"
            )
            return self.full
        if kind in DAMAGED or reason.startswith(DAMAGED_REASONS):
            return self.damaged(reason)
        if kind in REFUSED:
            return StorageError(
                f"{self.path}: {reason}: may this process read and write it and its folder?"
            )
        if kind in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StorageError(
                f"{self.path} has been locked by another process for too long: try again"
            )
        return None

    def damaged(self, reason: str) -> StoreDamaged:
        return StoreDamaged(f"{self.path} is damaged ({reason}): {self._cure}")

    @property
    def _cure(self) -> str:
        name = self.path.name
        return (
            f"restore a copy of it, or see what 'sqlite3 {name} .recover' saves; without either, "
            f"move {name}, {name}-wal and {name}-shm away to begin anew, without its events, users "
            f"and keys"
        )


def _beginning(path: Path, size: int) -> bytes:
    """Returns the first `size` bytes of a file; empty if there is no such file."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        return b""


def _size(path: Path) -> int | None:
    """The size of a file in bytes; None if there is no such file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _is_wal(header: bytes) -> bool:
    """Does the header begin as a journal's must, and end with its own checksum?"""
    if len(header) < WAL_HEADER or header[:4] not in {b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"}:
        return False
    words = struct.unpack(f"{'>' if header[3] & 1 else '<'}6I", header[:24])
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return struct.unpack(">2I", header[24:]) == (first, second)
