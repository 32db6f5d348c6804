"""Rows out of feed files: JSON lines, CSV and Parquet. What can't be read is reported by line and does not stop the rest.

CSV columns outside the schema become attributes; `|` splits lists; a cell that reads as a number is one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
from pydantic import BaseModel

from service.errors import BadRequest
from service.schema import Event, Item, User

NOUNS: dict[str, type[BaseModel]] = {"items": Item, "users": User, "events": Event}
TEXTS = {"id", "user_id", "item_id", "event_id", "session_id", "ranking_id", "title", "text", "type", "locale"}
ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet"}
BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Line:
    """A row of a feed, or why it can't be one. `number`: 1-based line of the file (row of a Parquet file)."""

    number: int
    source: str
    row: dict[str, Any] | None
    reason: str = ""


def read(file: Path, feed: str, format_: str | None = None) -> Iterator[Line]:
    """The lines of a file. Raises `BadRequest` for a file that can't be opened as what it is said to be."""
    kind = format_ or {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet"}.get(
        file.suffix
    )
    if not file.is_file():
        raise BadRequest(f"{file}: no such file")
    if kind == "jsonl":
        return _jsonl(file)
    if kind == "csv":
        return _csv(file, feed)
    if kind == "parquet":
        return _parquet(file, feed)
    raise BadRequest(f"{file}: unknown format; say --format jsonl, csv or parquet")


def _jsonl(file: Path) -> Iterator[Line]:
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if not raw.strip():
                continue
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            try:
                row = json.loads(raw)
            except ValueError as error:
                yield Line(number, text, None, f"not JSON: {error}")
                continue
            known = isinstance(row, dict)
            yield Line(number, text, row if known else None, "" if known else "not a JSON object")


def _csv(file: Path, feed: str) -> Iterator[Line]:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        reader = csv.DictReader(lines)
        if not reader.fieldnames:
            raise BadRequest(f"{file}: empty; a CSV file begins with its column names")
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield Line(reader.line_num, "", None, f"not CSV: {error}")
                continue
            if row is None:
                return
            source = json.dumps(row, ensure_ascii=False)
            if None in row or None in row.values():
                yield Line(reader.line_num, source, None, f"has not {len(reader.fieldnames)} columns")
            else:
                yield Line(reader.line_num, source, _shaped({key: _cell(key, cell) for key, cell in row.items()}, feed))


def _parquet(file: Path, feed: str) -> Iterator[Line]:
    try:
        table = pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowInvalid as error:
        raise BadRequest(f"{file}: not Parquet: {error}") from error
    number = 0
    for batch in table.iter_batches(batch_size=1_000):
        for row in batch.to_pylist():
            number += 1
            yield Line(number, json.dumps(row, default=str, ensure_ascii=False), _shaped(row, feed))


def _shaped(row: dict[str, Any], feed: str) -> dict[str, Any]:
    """Empty cells are absent; columns that the schema doesn't know are attributes, where the noun has any."""
    fields = NOUNS[feed].model_fields
    given = {key: value for key, value in row.items() if value is not None and value != ""}
    if "attributes" not in fields:
        return given
    attributes = given.pop("attributes", None)
    extra = {key: given.pop(key) for key in list(given) if key not in fields}
    return given | {"attributes": {**(attributes if isinstance(attributes, dict) else {}), **extra}}


def _cell(key: str, cell: str) -> Any:
    if key in TEXTS or not cell:
        return cell
    if "|" in cell:
        return [part for part in cell.split("|") if part]
    if cell.lower() in BOOLEANS:
        return BOOLEANS[cell.lower()]
    if cell.lstrip("-").isdigit() and (cell in {"0", "-0"} or not cell.lstrip("-").startswith("0")):
        return int(cell)
    try:
        return float(cell) if any(char.isdigit() for char in cell) and not cell.lstrip("-").startswith("00") else cell
    except ValueError:
        return cell
