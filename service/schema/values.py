"""The base class of all nouns, and the types of their fields."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    StringConstraints,
)

CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")
"""Characters of Unicode's categories Cc, Zl and Zp."""
LONGEST_ID = 256
"""Characters."""


class Value(BaseModel):
    """A frozen noun that refuses unknown fields. The docstring under a field is its description in
    OpenAPI."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="constants", use_attribute_docstrings=True
    )


def _check_encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which is not text") from None
    return text


def _check_id(text: str) -> str:
    if _check_encodable(text) in {".", ".."}:
        raise ValueError(
            "an id may not be '.' or '..': in a path, browsers and proxies take them for folders"
        )
    if CONTROL.search(text):
        raise ValueError("an id may not hold control characters")
    return text


def _parse_epoch(value: object) -> object:
    """Epoch milliseconds, as a number or in digits, as a datetime; anything else as it is."""
    if isinstance(value, str) and value.lstrip("-").isdigit():
        value = int(value)
    if isinstance(value, bool):
        raise ValueError("a time is RFC 3339 with a zone, or epoch milliseconds")
    if isinstance(value, int | float):
        if not 1e11 <= value < 1e14:
            raise ValueError(
                "epoch milliseconds expected (13 digits today); this looks like another unit"
            )
        return datetime.fromtimestamp(value / 1000, UTC)
    return value


def _convert_to_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs a zone, as in 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time between the years 1 and 9999 expected, in UTC too") from None


Id = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_ID), AfterValidator(_check_id)
]
Text = Annotated[str, AfterValidator(_check_encodable)]
Moment = Annotated[datetime, BeforeValidator(_parse_epoch), AfterValidator(_convert_to_utc)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-z0-9_.:-]+$")]
Locale = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*$")]
Scalar = StrictBool | StrictInt | FiniteFloat | Annotated[Text, StringConstraints(max_length=4_000)]
Key = Annotated[Text, StringConstraints(min_length=1, max_length=64)]
Name = Annotated[Text, StringConstraints(min_length=1, max_length=100)]
Attributes = dict[Key, Scalar | list[Scalar]]
AttributesIn = Annotated[Attributes, Field(max_length=100)]
Fact = tuple[str, str | int | float | bool]
"""A key of an item's attributes and one of its values."""
