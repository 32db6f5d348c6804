"""Detects from a file's beginning what it is: JSON, Parquet or a table, and of which public
layout."""

import ast
import csv
import json
from pathlib import Path
from typing import IO, Any

from service.feeds.foreign import METARANK
from service.feeds.mapping import FileMapping
from service.feeds.packed import head_of
from service.schema import Feed

DELIMITERS = (",", ";", "\t", "|")
JSON_ENDINGS = {".jsonl", ".ndjson", ".json"}
RECBOLE_TYPES = {"token", "token_seq", "float", "float_seq"}


def format_of(name: str, data: IO[bytes], feed: Feed, mapping: FileMapping) -> str:
    """The format's name. A `mapping` of columns means that the file has no known layout."""
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
    """The value of a Python literal, as which Amazon's reviews of 2014 are written; None for
    anything else."""
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
    """The one of `DELIMITERS` that makes the most columns of a table's first line."""
    return max(DELIMITERS, key=lambda delimiter: len(split_line(first_line, delimiter)))


def split_line(line: str, delimiter: str, *, quoted: bool = True) -> list[str]:
    if len(delimiter) > 1 or not quoted:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])
