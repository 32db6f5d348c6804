"""Opens a feed's file, plain, gzipped, in a zip, or from standard input, and detects from its
beginning what it is: JSON, Parquet or a table, of which public layout, in which encoding."""

import ast
import codecs
import csv
import gzip
import json
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from service.errors import BadRequest
from service.feeds.foreign import METARANK
from service.feeds.mapping import FileMapping
from service.schema import Feed

STDIN = "-"
HEAD = 65_536
"""How many bytes of a file's beginning are read to find out what it is."""
SPOOLED = 64 * 2**20
"""Standard input is kept in memory up to so many bytes, else in a temporary file."""
WORKBOOK = "an Excel workbook: save it as 'CSV UTF-8' and ingest that"
DELIMITERS = (",", ";", "\t", "|")
JSON_ENDINGS = {".jsonl", ".ndjson", ".json"}
RECBOLE_TYPES = {"token", "token_seq", "float", "float_seq"}


def open_unpacked(name: str) -> IO[bytes]:
    """Returns the unpacked, seekable bytes of `FILE`, `FILE.gz`, `FILE.zip:MEMBER` or `-` (standard
    input). Raises `BadRequest` if the file is missing or can't be read or unpacked."""
    if name == STDIN:
        with refusing_unreadable(name):
            return _unpacked(name, _standard_input(), "")
    file, member = Path(name), ""
    if not file.is_file() and ".zip:" in name:
        archive, _, member = name.partition(".zip:")
        file = Path(f"{archive}.zip")
    if file.is_dir():
        raise BadRequest(f"{name}: a folder; name one file")
    if not file.is_file():
        raise BadRequest(f"{name}: no such file")
    with refusing_unreadable(name):
        return _unpacked(name, file, member)


@contextmanager
def refusing_unreadable(name: str) -> Iterator[None]:
    """Turns errors in its `with` block, of a file or archive `name` that can't be read, into
    `BadRequest`."""
    try:
        yield
    except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise BadRequest(f"{name}: broken or cut short: {error}") from error
    except RuntimeError as error:  # zipfile's, for a member with a password
        raise BadRequest(f"{name}: can't be unpacked: {error}") from error
    except OSError as error:
        raise BadRequest(f"{name}: can't be read: {error.strerror or error}") from error


def _standard_input() -> IO[bytes]:
    """Copies standard input, which can be read only once, and returns the seekable copy: in memory,
    or in a temporary file above `SPOOLED` bytes."""
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
    """Returns the first four bytes of a file, by which archives are recognized."""
    if isinstance(packed, Path):
        with packed.open("rb") as data:
            return data.read(4)
    start = packed.read(4)
    packed.seek(0)
    return start


def _member(name: str, packed: Path | IO[bytes], member: str) -> IO[bytes]:
    """Opens the only file in an archive, or the only one that `member` (its path or the end of it)
    names. Raises `BadRequest` with the names in the archive if none or more than one fits."""
    with zipfile.ZipFile(packed) as archive:
        names = [
            info.filename
            for info in archive.infolist()
            if not info.is_dir() and not info.filename.startswith("__MACOSX")
        ]
        if "[Content_Types].xml" in names:
            raise BadRequest(f"{name}: {WORKBOOK}")
        matches = [path for path in names if not member or f"/{path}".endswith(f"/{member}")]
        if len(matches) != 1:
            stem = name.partition(".zip:")[0].removesuffix(".zip")
            example = f"{stem}.zip:{names[0] if names else 'MEMBER'}"
            raise BadRequest(
                f"{name}: which of its files? as {example}; it holds {', '.join(names[:20])}"
            )
        return archive.open(matches[0])


def head_of(data: IO[bytes]) -> bytes:
    head = data.read(HEAD)
    data.seek(0)
    return head


def encoding_of(name: str, data: IO[bytes], encoding: str | None) -> str:
    """The name of the codec that decodes all of the bytes: `encoding`, or UTF-8 if that is None.
    Raises `BadRequest` if it can't decode them, naming the encodings to try."""
    known = encoding or "utf-8"
    decoder, line = codecs.getincrementaldecoder(known)(), 1
    try:
        while block := data.read(2**20):
            decoder.decode(block)
            line += block.count(b"\n")
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        data.seek(0)
        if isinstance(error, UnicodeDecodeError):
            line += error.object[: error.start].count(b"\n")
        raise BadRequest(
            f"{name}: near line {line}: bytes that are no {known}; "
            f"{_likely_encodings(head_of(data))}"
        ) from error
    data.seek(0)
    return "utf-8-sig" if known == "utf-8" else known


def _likely_encodings(head: bytes) -> str:
    """Advice on which encodings to try for bytes that are no UTF-8."""
    if head[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        return "say --encoding utf-16"
    from charset_normalizer import from_bytes

    others = "latin-1 (Western Europe), cp1251 (Cyrillic), gb18030 (Chinese), shift_jis (Japanese)"
    best = from_bytes(head).best()
    if best is None:
        return f"say --encoding one of {others}"
    return f"it looks like {best.encoding}: say --encoding {best.encoding}, or one of {others}"


# ── the format ───────────────────────────────────────────────────────────────────────────────────


def format_of(name: str, data: IO[bytes], feed: Feed, mapping: FileMapping) -> str:
    """Returns the name of a file's format, such as `parquet`, `csv` or that of a public layout. If
    `mapping` maps columns, the file has no public layout."""
    head = head_of(data)
    if head[:4] == b"PAR1":
        return "parquet"
    text = head.decode(mapping.encoding or "utf-8-sig", "replace").lstrip("\ufeff")
    first_line = text.partition("\n")[0].rstrip("\r")
    if text.lstrip()[:1] in {"{", "["}:
        return "jsonl" if mapping.map else _json_format(text)
    if mapping.map:
        return "csv"
    if first_line.count("::") >= 2:
        return "movielens"
    columns = split_line(first_line, mapping.delimiter or delimiter_of(first_line))
    by_name = "jsonl" if Path(name.removesuffix(".gz")).suffix.lower() in JSON_ENDINGS else "csv"
    return _table_format(feed, columns) or by_name


def _json_format(text: str) -> str:
    row = first_object(text)
    keys = row.keys()
    signs = {
        "gorse": keys & {"FeedbackType", "ItemId", "UserId"},
        "metarank": str(row.get("event")) in METARANK and keys & {"timestamp", "fields"},
        "personalize": isinstance(row.get("eventList"), list)
        or keys & {"datasetArn", "trackingId"},
        "amazon-reviews": keys & {"asin", "parent_asin"} and not keys & {"id", "item_id"},
    }
    return next((name for name, present in signs.items() if present), "jsonl")


def first_object(text: str) -> dict[str, Any]:
    """The first object of JSON lines or of an array, of which `text` may be only the beginning; {}
    if it can't be read."""
    start = text[max(text.find("{"), 0) :]
    try:
        row = json.JSONDecoder().raw_decode(start)[0]
    except (ValueError, RecursionError):
        row = literal(start.partition("\n")[0])
    return row if isinstance(row, dict) else {}


def literal(line: str) -> Any:
    """Returns the value of a Python literal, the form of each line of Amazon's reviews of 2014;
    None for anything else."""
    try:
        return ast.literal_eval(line)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _table_format(feed: Feed, columns: list[str]) -> str | None:
    names = {*columns}
    wanted = {
        "items": {"ITEM_ID"},
        "users": {"USER_ID"},
        "events": {"USER_ID", "ITEM_ID", "TIMESTAMP"},
    }[feed]
    signs = {
        "recbole": {name.partition(":")[2] for name in columns} & RECBOLE_TYPES,
        "movielens": names >= {"movieId", "title", "genres"}
        or names >= {"userId", "movieId", "timestamp"},
        "personalize-csv": names >= wanted and all(name == name.upper() for name in columns),
    }
    return next((name for name, present in signs.items() if present), None)


def delimiter_of(first_line: str) -> str:
    """Returns the delimiter of `DELIMITERS` that splits a table's first line into the most
    columns."""
    return max(DELIMITERS, key=lambda delimiter: len(split_line(first_line, delimiter)))


def split_line(line: str, delimiter: str, *, quoted: bool = True) -> list[str]:
    if len(delimiter) > 1 or not quoted:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])
