"""Reads rows from files: JSON lines or an array, CSV and other tables, Parquet; plain, gzipped, in
a zip, or from standard input.

`open_feed` detects a file's format and reads it row by row as rows of ours. A row that can't be
read is reported with its line and does not stop the others. A file of another format than expected
is refused whole, with the options that may help.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from service.errors import BadRequest
from service.feeds.layouts import LAYOUTS, Layout
from service.feeds.mapping import FileMapping, proposal
from service.feeds.opening import (
    STDIN,
    delimiter_of,
    encoding_of,
    first_object,
    format_of,
    head_of,
    literal,
    open_unpacked,
    refusing_unreadable,
    split_line,
)
from service.feeds.rows import FIELDS, Notes, Row
from service.schema import Feed, Shape

SHAPES: tuple[Shape, ...] = ("gorse", "metarank", "personalize")
csv.field_size_limit(16 * 2**20)


@dataclass(frozen=True)
class FileRow:
    """A row of a file. `number`: 1-based line of the file (row of a Parquet file); `raw`: what the
    file holds; `row`: the same as a row of our feed, None if it can't be read; `reason`: why it
    can't."""

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
    """An open file of a feed, closed at the end of its `with` block. `lines`: an iterator over its
    rows; `notes`: the warnings about them, complete when all rows are read."""

    name: str
    format: str
    data: IO[Any]
    lines: Iterator[FileRow] = field(default_factory=lambda: iter(()))
    notes: Notes = field(default_factory=Notes)

    def __enter__(self) -> FeedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.data.close()

    @property
    def rejected(self) -> Path:
        """Path of the file for refused rows: beside this file, or beside the archive that holds it;
        for standard input in the current folder."""
        archive, zipped, member = self.name.partition(".zip:")
        if zipped:
            return Path(f"{archive}.zip.{Path(member).name}.rejected.jsonl")
        return Path(f"{'stdin' if self.name == STDIN else self.name}.rejected.jsonl")

    @property
    def shape(self) -> Shape | None:
        """The other system that the file's rows are made for, such as Gorse; None if there is
        none."""
        return next((shape for shape in SHAPES if shape == self.format), None)


def open_feed(
    name: str | Path,
    feed: Feed,
    format_: str = "auto",
    mapping: FileMapping | None = None,
    scales: Mapping[str, tuple[float, float]] | None = None,
) -> FeedFile:
    """Opens a file and detects its format if `format_` is `auto`. `scales`: by event type, its
    lowest and highest value; if `mapping` has a scale, values are converted from that to these.

    Raises `BadRequest` for a file that can't be read, is in another encoding than expected, or has
    none of the columns that are needed.
    """
    file = FeedFile(str(name), format_, open_unpacked(str(name)))
    try:
        with refusing_unreadable(file.name):
            _detect_and_read(file, feed, mapping or FileMapping(), scales or {})
    except BaseException:
        file.data.close()
        raise
    file.lines = _readable_lines(file.name, file.lines)
    return file


def _readable_lines(name: str, lines: Iterator[FileRow]) -> Iterator[FileRow]:
    """Yields the lines. Raises `BadRequest` if the file `name` proves broken on the way."""
    with refusing_unreadable(name):
        yield from lines


def _detect_and_read(
    file: FeedFile, feed: Feed, mapping: FileMapping, scales: Mapping[str, tuple[float, float]]
) -> None:
    """Sets `file.lines`, and `file.format` if that is `auto`."""
    if file.format == "auto":
        file.format = format_of(file.name, file.data, feed, mapping)
    is_dat = file.format == "movielens" and b"::" in head_of(file.data).partition(b"\n")[0]
    layout = LAYOUTS.get("movielens-dat" if is_dat else file.format)
    read = _reader(feed, mapping, layout, file.notes, scales)
    if file.shape is not None:
        file.lines = _json_lines(file, lambda row: row, mapping.encoding)
    elif file.format in {"jsonl", "amazon-reviews"}:
        _check_keys(file, feed, mapping, layout)
        file.lines = _json_lines(file, read, mapping.encoding, loose=layout is not None)
    elif file.format == "parquet":
        file.lines = _parquet(file, feed, mapping, read)
    else:
        file.lines = _table(file, feed, mapping, layout, read)


def _reader(
    feed: Feed,
    mapping: FileMapping,
    layout: Layout | None,
    notes: Notes,
    scales: Mapping[str, tuple[float, float]],
) -> Callable[[Row], Row]:
    """Returns a function that turns a row of the file into a row of `feed`: by `layout` if there is
    one, else by `mapping`. The function raises `BadRequest` for an event without a type."""
    read_mapped = mapping.reader(feed, notes)

    def read(row: Row) -> Row:
        own_row = layout.row(feed, row, notes) | mapping.set if layout else read_mapped(row)
        if feed == "events":
            if "type" not in own_row:
                raise BadRequest("type: missing; say what the rows are, as --set type=purchase")
            _rescale(own_row, mapping.scale, scales)
        return own_row

    return read


def _rescale(
    row: Row, scale: tuple[float, float] | None, scales: Mapping[str, tuple[float, float]]
) -> None:
    """Converts an event's value, in place, linearly from `scale` (the file's) to the scale of its
    type in `scales`. Does nothing if a scale or the value is missing."""
    value, own_scale = row.get("value"), scales.get(str(row.get("type")))
    if scale is None or own_scale is None or not isinstance(value, int | float):
        return
    share = (float(value) - scale[0]) / (scale[1] - scale[0])
    row["value"] = round(own_scale[0] + share * (own_scale[1] - own_scale[0]), 6)


# ── lines ─────────────────────────────────────────────────────────────────────────────────────────


def _line(number: int, raw: Any, read: Callable[[Any], Row]) -> FileRow:
    try:
        return FileRow(number, raw, read(raw))
    except BadRequest as error:
        return FileRow(number, raw, None, error.message)


def _json_lines(
    file: FeedFile, read: Callable[[Row], Row], encoding: str | None, *, loose: bool = False
) -> Iterator[FileRow]:
    """The rows of JSON lines or of one array. `loose`: a line may be a Python literal, as in
    Amazon's reviews of 2014."""
    if head_of(file.data).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
        return _json_array(file, read, encoding)
    lines = (raw.removeprefix(codecs.BOM_UTF8).strip() for raw in file.data)
    return (
        _line(number, line, lambda line: read(_json_object(line, encoding, loose=loose)))
        for number, line in enumerate(lines, 1)
        if line
    )


def _json_object(line: bytes, encoding: str | None, *, loose: bool) -> Row:
    """Returns the JSON object of a line, or with `loose` that of a Python literal. Raises
    `BadRequest` if the line holds none or is in another encoding."""
    try:
        text = line.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"not {encoding or 'UTF-8, as JSON has to be; say --encoding if it is another'}"
        ) from error
    try:
        return _object(json.loads(text))
    except (ValueError, RecursionError) as error:
        row = literal(text) if loose else None
        if not isinstance(row, dict):
            raise BadRequest(f"not JSON: {error}") from error
        return row


def _object(row: Any) -> Row:
    if not isinstance(row, dict):
        raise BadRequest("not a JSON object")
    return row


def _json_array(
    file: FeedFile, read: Callable[[Row], Row], encoding: str | None
) -> Iterator[FileRow]:
    try:
        rows = json.loads(file.data.read().decode(encoding or "utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{file.name}: begins as one array and is not JSON: {error}") from error
    return (
        _line(number, row, lambda row: read(_object(row))) for number, row in enumerate(rows, 1)
    )


def _check_keys(file: FeedFile, feed: Feed, mapping: FileMapping, layout: Layout | None) -> None:
    """Raises `BadRequest`, which suggests a mapping, if the first row has no known field."""
    keys = first_object(head_of(file.data).decode("utf-8", "replace"))
    if keys and layout is None and not mapping.map and not keys.keys() & FIELDS[feed].keys():
        raise BadRequest(
            f"{file.name}: none of its keys ({', '.join(keys)[:300]}) is a field of ours; "
            f"{proposal(feed, keys)}"
        )


def _table(
    file: FeedFile,
    feed: Feed,
    mapping: FileMapping,
    layout: Layout | None,
    read: Callable[[Row], Row],
) -> Iterator[FileRow]:
    """Returns the rows of a text table. The columns' names come from `layout`, else from the first
    line. Raises `BadRequest` for an empty file and for columns that don't fit the feed."""
    known = layout or Layout(lambda _feed, row, _notes: dict(row))
    text = file.data = io.TextIOWrapper(
        file.data,
        encoding=encoding_of(file.name, file.data, mapping.encoding or known.encoding),
        newline="",
    )
    header = text.readline().rstrip("\r\n")
    if not header.strip():
        raise BadRequest(f"{file.name}: empty; a table begins with the names of its columns")
    delimiter = mapping.delimiter or known.delimiter or delimiter_of(header)
    if known.header is not None:
        columns = list(known.header[feed])
        text.seek(0)
    else:
        columns = [column.strip() for column in split_line(header, delimiter, quoted=known.quoted)]
        if layout is None:
            mapping.check(file.name, feed, columns)
    first_number = 1 if known.header is not None else 2
    rows = (
        _plain_rows(text, delimiter, first_number)
        if len(delimiter) > 1
        else _csv_rows(text, delimiter, first_number, quoted=known.quoted)
    )
    return _table_rows(columns, rows, read)


def _table_rows(
    columns: list[str], rows: Iterator[tuple[int, list[str] | str]], read: Callable[[Row], Row]
) -> Iterator[FileRow]:
    """Yields the rows of a table. `rows`: of each row the line number and the cells, or instead of
    the cells a text that says what is wrong."""
    for number, cells in rows:
        if isinstance(cells, str):
            yield FileRow(number, "", None, f"not CSV: {cells}")
        elif len(cells) != len(columns):
            yield FileRow(number, cells, None, f"has {len(cells)} columns, not {len(columns)}")
        else:
            yield _line(number, dict(zip(columns, cells, strict=True)), read)


def _plain_rows(
    text: io.TextIOWrapper, delimiter: str, first_number: int
) -> Iterator[tuple[int, list[str] | str]]:
    for number, line in enumerate(text, first_number):
        if line.strip():
            yield number, line.rstrip("\r\n").split(delimiter)


def _csv_rows(
    text: io.TextIOWrapper, delimiter: str, first_number: int, *, quoted: bool
) -> Iterator[tuple[int, list[str] | str]]:
    """Yields of each row the line number and the cells, or instead of the cells a text that says
    what is wrong. A row of several lines has the number of its last line."""
    reader = csv.reader(
        text, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    )
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield reader.line_num + first_number - 1, str(error)
            continue
        if cells is None:
            return
        if cells:
            yield reader.line_num + first_number - 1, cells


def _parquet(
    file: FeedFile, feed: Feed, mapping: FileMapping, read: Callable[[Row], Row]
) -> Iterator[FileRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file.data)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise BadRequest(f"{file.name}: not Parquet: {error}") from error
    mapping.check(file.name, feed, table.schema_arrow.names)
    rows = (row for batch in table.iter_batches(batch_size=1_000) for row in batch.to_pylist())
    return (_line(number, row, read) for number, row in enumerate(rows, 1))
