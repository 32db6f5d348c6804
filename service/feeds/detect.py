"""Detects from a file's beginning what it is: JSON, Parquet or a table, and of which public
layout."""

import ast
import csv
import json
from pathlib import Path
from typing import IO, Any

from service.feeds.foreign import METARANK, PERSONALIZE
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
    if row.keys() & {"FeedbackType", "ItemId", "UserId"}:
        return "gorse"
    if (
        isinstance(row.get("event"), str)
        and row["event"] in METARANK
        and row.keys() & {"timestamp", "fields"}
    ):
        return "metarank"
    bodies = [name for name in PERSONALIZE if isinstance(row.get(name), list)]
    if "eventList" in bodies or row.keys() & {"datasetArn", "trackingId"}:
        return "personalize"
    if row.keys() & {"asin", "parent_asin"} and not row.keys() & {"id", "item_id"}:
        return "amazon-reviews"
    return "jsonl"


def first_object(text: str) -> dict[str, Any]:
    """The first object of JSON lines or of an array, of which `text` may be only the beginning; {}
    if it can't be read."""
    start = text.find("{")
    for parse in (
        json.JSONDecoder().raw_decode,
        # a line of Amazon's reviews of 2014 is a Python literal
        lambda part: (ast.literal_eval(part.partition("\n")[0]), 0),
    ):
        try:
            row = parse(text[start:])[0]
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return row if isinstance(row, dict) else {}
    return {}


def _table_format(feed: Feed, columns: list[str]) -> str | None:
    names = {*columns}
    if {name.partition(":")[2] for name in columns} & RECBOLE_TYPES:
        return "recbole"
    if names >= {"movieId", "title", "genres"} or names >= {"userId", "movieId", "timestamp"}:
        return "movielens"
    wanted = {
        "items": {"ITEM_ID"},
        "users": {"USER_ID"},
        "events": {"USER_ID", "ITEM_ID", "TIMESTAMP"},
    }[feed]
    if names >= wanted and all(name == name.upper() for name in columns):
        return "personalize-csv"
    return None


def delimiter_of(first_line: str) -> str:
    """The one of `DELIMITERS` that makes the most columns of a table's first line."""
    return max(DELIMITERS, key=lambda delimiter: len(split_line(first_line, delimiter)))


def split_line(line: str, delimiter: str, *, quoted: bool = True) -> list[str]:
    if len(delimiter) > 1 or not quoted:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])
