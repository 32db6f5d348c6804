"""Reads a cell of a table as a text, a number, true or false, a list, or as missing."""

import re
from datetime import tzinfo
from typing import Any

from service.errors import BadRequest
from service.feeds.rows import WORDS
from service.feeds.times import TimeUnit, moment_of

MISSING = frozenset([
    "", "NULL", "Null", "null", "NaN", "nan", "-NaN", "-nan", "NA", "<NA>", "N/A", "n/a", "#N/A",
    "#NA", "\\N", "1.#QNAN", "-1.#QNAN", "1.#IND", "-1.#IND",
])  # fmt: skip
"""Cells without a value: those that pandas takes for missing, but for `None`, which is also a word,
and the `\\N` of database dumps."""
TIMES = frozenset({"occurred_at", "published_at"})
TRUTHS = {"true": True, "false": False}
WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.0+)?")
"""1999, and 1999.0 as pandas writes integers of a column with missing cells. Not 007: digits with
a leading zero are a code."""
NUMBER = re.compile(
    r"-?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][+-]?[0-9]+)?|-?[1-9](?:\.[0-9]+)?[eE][+-][0-9]+"
)


def value_of(cell: str) -> Any:
    """The value of an attribute's cell: a list for `a|b`, a number or true or false for what reads
    as one, None for a missing value, else the text."""
    if cell in MISSING:
        return None
    if "|" in cell:
        return [value for value in map(value_of, cell.split("|")) if value is not None]
    if WHOLE.fullmatch(cell):
        return int(cell.partition(".")[0])
    if NUMBER.fullmatch(cell):
        return float(cell)
    return TRUTHS.get(cell.lower(), cell)


def read_cell(field: str, cell: Any, unit: TimeUnit | None, zone: tzinfo | None) -> Any:
    """The value of a field of ours or of an attribute, None for a missing one. `cell` is a text, or
    of another type in JSON and Parquet. `unit` and `zone` are of times that don't say theirs.

    Raises `BadRequest` for a time that can't be read.
    """
    if isinstance(cell, str):
        if cell in MISSING or cell.strip() in MISSING:
            return None
        if field in WORDS:
            return cell
        if field not in TIMES:
            return value_of(cell.strip())
    if field not in TIMES or cell is None:
        return cell
    try:
        return moment_of(cell, unit, zone)
    except BadRequest as error:
        raise BadRequest(f"{field}: {error.message}") from error
