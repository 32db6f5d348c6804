"""Times as files and other systems write them."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from service.errors import BadRequest

TimeUnit = Literal["s", "ms", "us", "ns"]

A_SECOND: dict[TimeUnit, float] = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
NAMES: dict[TimeUnit, str] = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAGNITUDES: tuple[tuple[float, TimeUnit], ...] = (
    (1e11, "s"),
    (1e14, "ms"),
    (1e17, "us"),
    (float("inf"), "ns"),
)
"""A time since 1970 as a number below the bound is probably in this unit; the first that fits."""
PATTERNS = (
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y",
    "%Y-%m-%d %H:%M:%S %z UTC",
)
EXAMPLES = "as 2026-01-31T12:00:00Z, or milliseconds since 1970"


def moment_of(value: Any, unit: TimeUnit | None = None, zone: tzinfo | None = None) -> datetime:
    """A time as a cell of a file gives it: a number since 1970 in `unit` (None: milliseconds), or
    ISO 8601, in `zone` where the text names none.

    Raises `BadRequest` for what can't be read, naming the option that would help.
    """
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() else _from_text(value.strip())
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
            f"{NAMES[likely]}: say --time-unit {likely}"
        )
    return since_1970(value, unit or "ms")


def magnitude(number: float) -> TimeUnit:
    """The unit that a time since 1970 is probably in."""
    return next((unit for most, unit in MAGNITUDES if abs(number) < most), "ns")


def since_1970(number: float, unit: TimeUnit) -> datetime:
    """The time so many units after 1970. Raises `BadRequest` for one outside the calendar."""
    try:
        return EPOCH + timedelta(seconds=number / A_SECOND[unit])
    except (OverflowError, ValueError) as error:
        raise BadRequest(f"{number:g} {NAMES[unit]} since 1970 lie outside the calendar") from error


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


def _from_text(text: str) -> float | int | datetime:
    number = _number(text)
    return number if number is not None else _parsed_iso(text)


def _number(text: str) -> float | int | None:
    """The number that the text is, None if it is none. Pandas writes integers of a column with
    missing cells with a fraction, as 1999.0."""
    digits = text.removeprefix("-")
    whole, _, fraction = digits.partition(".")
    if not (whole.isascii() and whole.isdigit()) or (fraction and not fraction.isdigit()):
        return None
    return float(text) if fraction.strip("0") else int(text.partition(".")[0])


def _parsed_iso(text: str) -> datetime:
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
        try:
            moment = parse(text.strip())
        except (ValueError, TypeError, IndexError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    raise ValueError(text)


def _patterned(text: str) -> datetime:
    for pattern in PATTERNS:
        try:
            return datetime.strptime(text, pattern)
        except ValueError:
            continue
    raise ValueError(text)
