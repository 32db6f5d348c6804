"""Rows out of files: JSON lines or an array, CSV and other tables, Parquet, plain, gzipped, in a zip, or from standard input.

`open_feed` tells what a file is, and reads it row by row as rows of ours. What can't be read is reported by line and does not
stop the rest; a file that is not what it is said to be is refused whole, with what would mend it.
"""

from __future__ import annotations

import ast
import codecs
import csv
import gzip
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from service.errors import BadRequest
from service.feeds.foreign import METARANK
from service.feeds.foreign import PERSONALIZE as PERSONALIZE_BODIES
from service.feeds.layouts import LAYOUTS, Layout
from service.feeds.mapping import FileMapping, proposal
from service.feeds.notes import Notes
from service.feeds.rows import KNOWN, Row
from service.schema import Feed, Shape

STDIN = "-"
HEAD = 65_536
"""So many bytes tell what a file is."""
SPOOLED = 64 * 2**20
"""Standard input up to this size stays in memory while it is looked through."""
DELIMITERS = (",", ";", "\t", "|")
SHAPES: tuple[Shape, ...] = ("gorse", "metarank", "personalize")
JSON_ENDINGS = {".jsonl", ".ndjson", ".json"}
csv.field_size_limit(16 * 2**20)


@dataclass(frozen=True)
class Line:
    """A row of a feed, or why it can't be one. `number`: 1-based line of the file (row of a Parquet file); `raw`: as it stands
    there."""

    number: int
    raw: Any
    row: Row | None
    reason: str = ""

    @property
    def source(self) -> str:
        if isinstance(self.raw, bytes):
            return self.raw.decode("utf-8", "backslashreplace")
        return json.dumps(self.raw, ensure_ascii=False, default=str)


@dataclass
class FeedFile:
    """A file that was told apart, open until its `with` ends. `format`: what it is taken for; `lines`: once through;
    `notes`: what is to be said of the rows when all are read."""

    name: str
    format: str
    data: IO[Any]
    lines: Iterator[Line] = field(default_factory=lambda: iter(()))
    notes: Notes = field(default_factory=Notes)

    def __enter__(self) -> FeedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.data.close()

    @property
    def rejected(self) -> Path:
        """Where rows that are refused are kept: beside the file, or beside the archive that holds it."""
        archive, zipped, member = self.name.partition(".zip:")
        name = f"{archive}.zip.{Path(member).name}" if zipped else "stdin" if self.name == STDIN else self.name
        return Path(f"{name}.rejected.jsonl")

    @property
    def shape(self) -> Shape | None:
        """Whose rows they are, if they are another system's."""
        return next((shape for shape in SHAPES if shape == self.format), None)


def open_feed(
    name: str | Path,
    feed: Feed,
    format_: str = "auto",
    mapping: FileMapping | None = None,
    scales: Mapping[str, tuple[float, float]] | None = None,
) -> FeedFile:
    """Tells what a file is and begins to read it. `scales`: by event type, what values are put onto if the mapping has a scale.

    Raises `BadRequest` for a file that can't be read, is in another encoding, or has none of the columns that are needed.
    """
    path, data = str(name), _opened(str(name))
    try:
        return _told(FeedFile(path, format_, data), feed, mapping or FileMapping(), scales or {})
    except BaseException:
        data.close()
        raise


def _told(file: FeedFile, feed: Feed, mapping: FileMapping, scales: Mapping[str, tuple[float, float]]) -> FeedFile:
    """The file with its format and its lines."""
    name, data = file.name, file.data
    if file.format == "auto":
        file.format = _told_apart(name, data, feed, mapping)
    dat = file.format == "movielens" and b"::" in _first_line(data)
    layout = LAYOUTS.get("movielens-dat" if dat else file.format)
    read = _reader(feed, mapping, layout, file.notes, scales)
    if file.shape is not None:
        file.lines = _json_lines(name, data, lambda row: row)
    elif file.format in {"jsonl", "amazon-reviews"}:
        _check_keys(name, data, feed, mapping, layout)
        file.lines = _json_lines(name, data, read, loose=layout is not None)
    elif file.format == "parquet":
        file.lines = _parquet(name, data, feed, mapping, read)
    else:
        file.lines = _table(file, feed, mapping, layout, read)
    return file


def _reader(
    feed: Feed, mapping: FileMapping, layout: Layout | None, notes: Notes, scales: Mapping[str, tuple[float, float]]
) -> Callable[[Row], Row]:
    """From a row of theirs to one of ours."""
    mapped = mapping.reader(feed, notes)

    def read(row: Row) -> Row:
        made = mapped(row) if layout is None else layout.row(feed, row, notes) | mapping.set
        if feed == "events":
            if "type" not in made:
                raise BadRequest("type: missing; say what the rows are, as --set type=purchase")
            _rescale(made, mapping.scale, scales)
        return made

    return read


def _rescale(row: Row, scale: tuple[float, float] | None, scales: Mapping[str, tuple[float, float]]) -> None:
    """Puts an event's value from the file's scale onto that of its type: both ends on both ends."""
    value, goal = row.get("value"), scales.get(str(row.get("type")))
    if scale is None or goal is None or not isinstance(value, int | float):
        return
    share = (float(value) - scale[0]) / (scale[1] - scale[0])
    row["value"] = round(goal[0] + share * (goal[1] - goal[0]), 6)


# ── bytes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _opened(name: str) -> IO[bytes]:
    """The bytes of `FILE`, `FILE.gz`, `FILE.zip:MEMBER` or `-`, seekable. Raises `BadRequest`."""
    if name == STDIN:
        return _unpacked(name, _standard_input(), "")
    file, member = Path(name), ""
    if not file.is_file() and ".zip:" in name:
        archive, _, member = name.partition(".zip:")
        file = Path(f"{archive}.zip")
    if file.is_dir():
        raise BadRequest(f"{name}: a folder; name one file")
    if not file.is_file():
        raise BadRequest(f"{name}: no such file")
    try:
        return _unpacked(name, file, member)
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
        raise BadRequest(f"{name}: an Excel workbook: save it as 'CSV UTF-8' and ingest that")
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
    try:
        with zipfile.ZipFile(packed) as archive:
            return archive.open(_one_of(name, archive, member))
    except zipfile.BadZipFile as error:
        raise BadRequest(f"{name}: a broken zip file: {error}") from error


def _one_of(name: str, archive: zipfile.ZipFile, member: str) -> str:
    """The member that is meant. Raises `BadRequest` naming all, where none or several may be."""
    names = [info.filename for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX")]
    if "[Content_Types].xml" in names:
        raise BadRequest(f"{name}: an Excel workbook: save it as 'CSV UTF-8' and ingest that")
    found = [one for one in names if one == member or one.endswith(f"/{member}")] if member else names
    if len(found) != 1:
        zipped = name.partition(".zip:")[0].removesuffix(".zip")
        which = f"which of its files? as {zipped}.zip:{names[0] if names else 'MEMBER'}"
        raise BadRequest(f"{name}: {which}; it holds {', '.join(names[:20])}")
    return found[0]


def _head(data: IO[bytes]) -> bytes:
    head = data.read(HEAD)
    data.seek(0)
    return head


def _first_line(data: IO[bytes]) -> bytes:
    return _head(data).partition(b"\n")[0]


def _encoding(name: str, data: IO[bytes], encoding: str | None) -> str:
    """What to decode the bytes by. Raises `BadRequest` for bytes that are none of it, naming what they may be."""
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
        raise BadRequest(f"{name}: near line {line}: bytes that are no {known}; {_encodings(_head(data))}") from error
    data.seek(0)
    return "utf-8-sig" if known == "utf-8" else known


def _encodings(head: bytes) -> str:
    """Which encodings to try for bytes that are no UTF-8."""
    if head[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        return "say --encoding utf-16"
    from charset_normalizer import from_bytes

    best = from_bytes(head).best()
    others = "latin-1 (Western Europe), cp1251 (Cyrillic), gb18030 (Chinese), shift_jis (Japanese)"
    likely = f"it looks like {best.encoding}: say --encoding {best.encoding}, or " if best is not None else "say --encoding "
    return f"{likely}one of {others}"


# ── what a file is ──────────────────────────────────────────────────────────────────────────────────────────────────


def _told_apart(name: str, data: IO[bytes], feed: Feed, mapping: FileMapping) -> str:
    """The format of a file by its beginning; somebody's mapping means that it is no known layout."""
    head = _head(data)
    if head[:4] == b"PAR1":
        return "parquet"
    text = head.decode(mapping.encoding or "utf-8-sig", "replace").lstrip("\ufeff")
    first = text.partition("\n")[0].rstrip("\r")
    if text.lstrip()[:1] in {"{", "["}:
        return "jsonl" if mapping.map else _told_apart_json(text)
    if mapping.map:
        return "csv"
    if first.count("::") >= 2:
        return "movielens-dat"
    columns = _split(first, mapping.delimiter or _delimiter(first))
    by_name = "jsonl" if Path(name.removesuffix(".gz")).suffix.lower() in JSON_ENDINGS else "csv"
    return _told_apart_table(feed, columns) or by_name


def _told_apart_json(text: str) -> str:
    row = _first_object(text)
    if row.keys() & {"FeedbackType", "ItemId", "UserId"}:
        return "gorse"
    if isinstance(row.get("event"), str) and row["event"] in METARANK and row.keys() & {"timestamp", "fields"}:
        return "metarank"
    bodies = [name for name in PERSONALIZE_BODIES if isinstance(row.get(name), list)]
    if "eventList" in bodies or row.keys() & {"datasetArn", "trackingId"}:
        return "personalize"
    return "amazon-reviews" if row.keys() & {"asin", "parent_asin"} and not row.keys() & {"id", "item_id"} else "jsonl"


def _first_object(text: str) -> dict[str, Any]:
    """The first object of JSON lines, an array or a beginning of one; {} if it can't be read."""
    start = text.find("{")
    for read in (json.JSONDecoder().raw_decode, lambda part: (ast.literal_eval(part.partition("\n")[0]), 0)):
        try:
            found = read(text[start:])[0]
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return found if isinstance(found, dict) else {}
    return {}


def _told_apart_table(feed: Feed, columns: list[str]) -> str | None:
    names = {*columns}
    if any(kind in {"token", "token_seq", "float", "float_seq"} for kind in (name.partition(":")[2] for name in columns)):
        return "recbole"
    if names >= {"movieId", "title", "genres"} or names >= {"userId", "movieId", "timestamp"}:
        return "movielens"
    wanted = {"items": {"ITEM_ID"}, "users": {"USER_ID"}, "events": {"USER_ID", "ITEM_ID", "TIMESTAMP"}}[feed]
    return "personalize-csv" if names >= wanted and all(name == name.upper() for name in columns) else None


def _delimiter(first: str) -> str:
    """Of the usual ones that which makes the most columns of the first line."""
    return max(DELIMITERS, key=lambda delimiter: len(_split(first, delimiter)))


def _split(line: str, delimiter: str, *, quoted: bool = True) -> list[str]:
    if len(delimiter) > 1 or not quoted:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _line(number: int, raw: Any, read: Callable[[Row], Row], row: Row) -> Line:
    try:
        return Line(number, raw, read(row))
    except BadRequest as error:
        return Line(number, raw, None, error.message)


def _json_lines(name: str, data: IO[bytes], read: Callable[[Row], Row], *, loose: bool = False) -> Iterator[Line]:
    """JSON lines, or the elements of one array. `loose`: a line may be a Python literal, as Amazon's of 2014 are."""
    if _head(data).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
        return _json_array(name, data, read)
    return _json_rows(data, read, loose=loose)


def _json_rows(data: IO[bytes], read: Callable[[Row], Row], *, loose: bool) -> Iterator[Line]:
    for number, raw in enumerate(data, 1):
        text = raw.removeprefix(codecs.BOM_UTF8).strip()
        if not text:
            continue
        try:
            row = _json_row(text, loose=loose)
        except ValueError as error:
            yield Line(number, text, None, str(error))
        else:
            yield _line(number, text, read, row)


def _json_row(text: bytes, *, loose: bool) -> Row:
    """Raises `ValueError` saying why it is no object."""
    try:
        row = json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8, as JSON has to be") from error
    except (ValueError, RecursionError) as error:
        row = _literal(text) if loose else None
        if not isinstance(row, dict):
            raise ValueError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


def _literal(text: bytes) -> Any:
    try:
        return ast.literal_eval(text.decode())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _json_array(name: str, data: IO[bytes], read: Callable[[Row], Row]) -> Iterator[Line]:
    try:
        rows = json.loads(data.read())
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{name}: begins as one array and is not JSON: {error}") from error
    return (
        _line(number, row, read, row) if isinstance(row, dict) else Line(number, row, None, "not a JSON object")
        for number, row in enumerate(rows, 1)
    )


def _check_keys(name: str, data: IO[bytes], feed: Feed, mapping: FileMapping, layout: Layout | None) -> None:
    """Raises `BadRequest` if the first row has not one key of ours, which a mapping would mend."""
    keys = _first_object(_head(data).decode("utf-8", "replace"))
    if keys and layout is None and not mapping.map and not keys.keys() & KNOWN[feed]:
        raise BadRequest(f"{name}: none of its keys ({', '.join(keys)[:300]}) is a field of ours; {proposal(feed, keys)}")


def _table(
    file: FeedFile, feed: Feed, mapping: FileMapping, layout: Layout | None, read: Callable[[Row], Row]
) -> Iterator[Line]:
    """A text with a row a line, and the names of its columns in the first."""
    known = layout or Layout(lambda _feed, row, _notes: dict(row))
    encoding = _encoding(file.name, file.data, mapping.encoding or known.encoding)
    text = file.data = io.TextIOWrapper(file.data, encoding=encoding, newline="")
    first = text.readline().rstrip("\r\n")
    if not first.strip():
        raise BadRequest(f"{file.name}: empty; a table begins with the names of its columns")
    delimiter = mapping.delimiter or known.delimiter or _delimiter(first)
    if known.header is not None:
        columns = list(known.header[feed])
        text.seek(0)
    else:
        columns = [column.strip() for column in _split(first, delimiter, quoted=known.quoted)]
        if layout is None:
            mapping.check(file.name, feed, columns)
    rows = _plain_rows(text, delimiter) if len(delimiter) > 1 else _csv_rows(text, delimiter, quoted=known.quoted)
    skipped = 0 if known.header is not None else 1
    return _cells(columns, rows, skipped, read)


def _cells(
    columns: list[str], rows: Iterator[tuple[int, list[str] | str]], skipped: int, read: Callable[[Row], Row]
) -> Iterator[Line]:
    """`skipped`: lines before the first row."""
    for number, cells in rows:
        if isinstance(cells, str):
            yield Line(number + skipped, "", None, f"not CSV: {cells}")
        elif len(cells) != len(columns):
            yield Line(number + skipped, cells, None, f"has {len(cells)} columns, not {len(columns)}")
        else:
            row = dict(zip(columns, cells, strict=True))
            yield _line(number + skipped, row, read, row)


def _plain_rows(text: io.TextIOWrapper, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    for number, line in enumerate(text, 1):
        if line.strip():
            yield number, line.rstrip("\r\n").split(delimiter)


def _csv_rows(text: io.TextIOWrapper, delimiter: str, *, quoted: bool) -> Iterator[tuple[int, list[str] | str]]:
    """Line number and cells; a text in their place says what is wrong with the line."""
    reader = csv.reader(text, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, str(error)
            continue
        if cells is None:
            return
        if cells:
            yield reader.line_num, cells


def _parquet(name: str, data: IO[bytes], feed: Feed, mapping: FileMapping, read: Callable[[Row], Row]) -> Iterator[Line]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(data)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise BadRequest(f"{name}: not Parquet: {error}") from error
    mapping.check(name, feed, table.schema_arrow.names)
    rows = (row for batch in table.iter_batches(batch_size=1_000) for row in batch.to_pylist())
    return (_line(number, row, read, row) for number, row in enumerate(rows, 1))
