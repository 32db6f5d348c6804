"""The bytes of a feed's file: plain, gzipped, in a zip, or from standard input; and by what
encoding they are a text."""

from __future__ import annotations

import codecs
import gzip
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from service.errors import BadRequest

STDIN = "-"
HEAD = 65_536
"""So many bytes tell what a file is."""
SPOOLED = 64 * 2**20
"""Standard input up to this size stays in memory while it is looked through."""
WORKBOOK = "an Excel workbook: save it as 'CSV UTF-8' and ingest that"


def opened(name: str) -> IO[bytes]:
    """The bytes of `FILE`, `FILE.gz`, `FILE.zip:MEMBER` or `-`, seekable. Raises `BadRequest`."""
    if name == STDIN:
        with readable(name):
            return _unpacked(name, _standard_input(), "")
    file, member = Path(name), ""
    if not file.is_file() and ".zip:" in name:
        archive, _, member = name.partition(".zip:")
        file = Path(f"{archive}.zip")
    if file.is_dir():
        raise BadRequest(f"{name}: a folder; name one file")
    if not file.is_file():
        raise BadRequest(f"{name}: no such file")
    with readable(name):
        return _unpacked(name, file, member)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Says in one sentence what is wrong with a file or archive that breaks while it is read."""
    try:
        yield
    except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise BadRequest(f"{name}: broken or cut short: {error}") from error
    except RuntimeError as error:  # zipfile's, for a member with a password
        raise BadRequest(f"{name}: can't be unpacked: {error}") from error
    except OSError as error:
        raise BadRequest(f"{name}: can't be read: {error.strerror or error}") from error


def _standard_input() -> IO[bytes]:
    """All of it, so that it can be looked at before it is read."""
    spooled = SpooledTemporaryFile(max_size=SPOOLED)  # noqa: SIM115  the feed closes it
    shutil.copyfileobj(sys.stdin.buffer, spooled)
    spooled.seek(0)
    return cast(IO[bytes], spooled)


def _unpacked(name: str, packed: Path | IO[bytes], member: str) -> IO[bytes]:
    start = _start(packed)
    if start[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.open(packed))
    if start == b"PK\x03\x04":
        return _member(name, packed, member)
    if start == b"\xd0\xcf\x11\xe0":
        raise BadRequest(f"{name}: {WORKBOOK}")
    return packed.open("rb") if isinstance(packed, Path) else packed


def _start(packed: Path | IO[bytes]) -> bytes:
    """The first four bytes, which tell an archive."""
    if isinstance(packed, Path):
        with packed.open("rb") as data:
            return data.read(4)
    start = packed.read(4)
    packed.seek(0)
    return start


def _member(name: str, packed: Path | IO[bytes], member: str) -> IO[bytes]:
    with zipfile.ZipFile(packed) as archive:
        return archive.open(_one_of(name, archive, member))


def _one_of(name: str, archive: zipfile.ZipFile, member: str) -> str:
    """The member that is meant. Raises `BadRequest` naming all, where none or several may be."""
    names = [
        info.filename
        for info in archive.infolist()
        if not info.is_dir() and not info.filename.startswith("__MACOSX")
    ]
    if "[Content_Types].xml" in names:
        raise BadRequest(f"{name}: {WORKBOOK}")
    found = (
        [one for one in names if one == member or one.endswith(f"/{member}")] if member else names
    )
    if len(found) != 1:
        zipped = name.partition(".zip:")[0].removesuffix(".zip")
        which = f"which of its files? as {zipped}.zip:{names[0] if names else 'MEMBER'}"
        raise BadRequest(f"{name}: {which}; it holds {', '.join(names[:20])}")
    return found[0]


def head_of(data: IO[bytes]) -> bytes:
    head = data.read(HEAD)
    data.seek(0)
    return head


def first_line(data: IO[bytes]) -> bytes:
    return head_of(data).partition(b"\n")[0]


def encoding_of(name: str, data: IO[bytes], encoding: str | None) -> str:
    """What to decode the bytes by. Raises `BadRequest` for bytes that are none of it, naming what
    they may be."""
    known = encoding or "utf-8"
    decoder, line = codecs.getincrementaldecoder(known)(), 1
    try:
        while block := data.read(2**20):
            decoder.decode(block)
            line += block.count(b"\n")
        decoder.decode(b"", final=True)
    except (UnicodeDecodeError, UnicodeError) as error:
        data.seek(0)
        bad = error.start if isinstance(error, UnicodeDecodeError) else 0
        line += error.object[:bad].count(b"\n") if isinstance(error, UnicodeDecodeError) else 0
        raise BadRequest(
            f"{name}: near line {line}: bytes that are no {known}; {_encodings(head_of(data))}"
        ) from error
    data.seek(0)
    return "utf-8-sig" if known == "utf-8" else known


def _encodings(head: bytes) -> str:
    """Which encodings to try for bytes that are no UTF-8."""
    if head[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        return "say --encoding utf-16"
    from charset_normalizer import from_bytes

    best = from_bytes(head).best()
    others = "latin-1 (Western Europe), cp1251 (Cyrillic), gb18030 (Chinese), shift_jis (Japanese)"
    likely = (
        f"it looks like {best.encoding}: say --encoding {best.encoding}, or "
        if best is not None
        else "say --encoding "
    )
    return f"{likely}one of {others}"
