"""Reads a cell of a table as a text, a number, true or false, a list, a time, or as missing; and
times as other systems write them."""

import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from service.errors import BadRequest
from service.feeds.rows import WORDS

TimeUnit = Literal["s", "ms", "us", "ns"]
MISSING = frozenset([
    "", "NULL", "Null", "null", "NaN", "nan", "-NaN", "-nan", "NA", "<NA>", "N/A", "n/a", "#N/A",
    "#NA", "\\N", "1.#QNAN", "-1.#QNAN", "1.#IND", "-1.#IND",
])  # fmt: skip
"""Texts that mean that a cell has no value: those that pandas takes for missing, without `None`,
which is also a word, and with the `\\N` of database dumps."""
TIMES = frozenset({"occurred_at", "published_at"})
TRUTHS = {"true": True, "false": False}
WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.0+)?")
"""Matches whole numbers: 1999, and 1999.0, as pandas writes integers of a column with missing
cells. Not 007: digits with a leading zero are a code."""
NUMBER = re.compile(
    r"-?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][+-]?[0-9]+)?|-?[1-9](?:\.[0-9]+)?[eE][+-][0-9]+"
)
UNITS: dict[TimeUnit, tuple[str, float, float]] = {
    "s": ("seconds", 1, 1e11),
    "ms": ("milliseconds", 1e3, 1e14),
    "us": ("microseconds", 1e6, 1e17),
    "ns": ("nanoseconds", 1e9, float("inf")),
}
"""By unit of times since 1970: its name, how many of it make a second, and a bound. A number is
probably in the first unit whose bound it lies below."""
SINCE_1970 = re.compile(r"-?[0-9]+(?:\.[0-9]*)?")
"""Matches a time since 1970 as a number, perhaps with a fraction: pandas writes integers of a
column with missing cells as 1999.0."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PATTERNS = (
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y",
    "%Y-%m-%d %H:%M:%S %z UTC",
)
EXAMPLES = "as 2026-01-31T12:00:00Z, or milliseconds since 1970"


def value_of(cell: str) -> Any:
    """Returns the value of an attribute's cell: a list for `a|b`; a number, true or false if the
    cell reads as one; None if it is missing; else the text."""
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
    """Returns the value of a cell, None for a missing one. `field`: the field or attribute that the
    cell is for; `cell`: a text, or another type from JSON and Parquet; `unit`, `zone`: of times
    that don't say theirs.

    Raises `BadRequest` for a time that can't be read.
    """
    if cell is None or (isinstance(cell, str) and cell.strip() in MISSING):
        return None
    if field in TIMES:
        try:
            return moment_of(cell, unit, zone)
        except BadRequest as error:
            raise BadRequest(f"{field}: {error.message}") from error
    return value_of(cell.strip()) if isinstance(cell, str) and field not in WORDS else cell


def label(value: Any, name: str = "type") -> str:
    """Returns another system's event type in our spelling: `add_to_cart` for `AddToCart` and for
    `add to cart`. Raises `BadRequest`, calling the field `name`, if it is no string or nothing is
    left of it."""
    if not isinstance(value, str):
        raise BadRequest(f"{name}: a string is needed")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", value).lower()
    event_type = re.sub(r"[^a-z0-9_.:-]+", "_", words).strip("_")[:64]
    if not event_type:
        raise BadRequest(
            f"{name}: {value[:64]!r} holds nothing of a-z, 0-9, which event types are made of"
        )
    return event_type


# ── times ─────────────────────────────────────────────────────────────────────────────────────────


def moment_of(value: Any, unit: TimeUnit | None = None, zone: tzinfo | None = None) -> datetime:
    """Returns the time that a cell of a file gives: a date, a number of `unit` since 1970 (None:
    milliseconds), or ISO 8601. `zone` is used if the cell names none.

    Raises `BadRequest` for what can't be read, naming the option that would help.
    """
    if isinstance(value, str):
        value = _from_text(value.strip())
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        if value.tzinfo is None and zone is None:
            raise BadRequest(
                f"{value} has no zone: say --time-zone UTC, or another as Europe/Berlin"
            )
        return value if value.tzinfo is not None else value.replace(tzinfo=zone)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"{str(value)[:60]!r} is no time; {EXAMPLES} (--time-unit s: seconds)")
    likely = magnitude(value)
    if unit is None and likely != "ms":
        raise BadRequest(
            f"{value:.15g}: milliseconds since 1970 are expected, this looks like "
            f"{UNITS[likely][0]}: say --time-unit {likely}"
        )
    return since_1970(value, unit or "ms")


def magnitude(number: float) -> TimeUnit:
    """The unit that a time since 1970 is probably in."""
    return next((unit for unit, (_, _, most) in UNITS.items() if abs(number) < most), "ns")


def since_1970(number: float, unit: TimeUnit) -> datetime:
    """Returns the time `number` units after the beginning of 1970 in UTC. Raises `BadRequest` for
    one outside the calendar."""
    name, per_second, _ = UNITS[unit]
    try:
        return EPOCH + timedelta(seconds=number / per_second)
    except (OverflowError, ValueError) as error:
        raise BadRequest(f"{number:g} {name} since 1970 lie outside the calendar") from error


def any_moment(value: Any) -> datetime | None:
    """A time as other systems write it, None if it can't be read: a number since 1970, whose unit
    (seconds to nanoseconds) is told by its size, ISO 8601, the date of a mail, or one of
    `PATTERNS`. Without a zone it is UTC."""
    try:
        if _is_number(value):
            return since_1970(float(value), magnitude(float(value)))
        return _parsed(value) if isinstance(value, str) else None
    except (ValueError, OverflowError, BadRequest):
        return None


def _from_text(text: str) -> float | datetime:
    if SINCE_1970.fullmatch(text):
        return float(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(
            f"{text[:60]!r} is no time; {EXAMPLES} (--time-unit s: seconds)"
        ) from error


def _is_number(value: Any) -> bool:
    digits = (
        isinstance(value, str) and value.isascii() and value.isdigit() and 9 <= len(value) <= 19
    )
    return digits or (isinstance(value, int | float) and not isinstance(value, bool))


def _parsed(text: str) -> datetime:
    for parse in (datetime.fromisoformat, parsedate_to_datetime, _patterned):
        with suppress(ValueError, TypeError, IndexError):
            moment = parse(text.strip())
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    raise ValueError(text)


def _patterned(text: str) -> datetime:
    for pattern in PATTERNS:
        with suppress(ValueError):
            return datetime.strptime(text, pattern)
    raise ValueError(text)
