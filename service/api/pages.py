"""Lists in pages. A cursor holds the key of the page's last row, so that rows that arrive meanwhile
neither repeat nor hide others."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field

from service.errors import BadRequest

Row = TypeVar("Row")

LimitQuery = Annotated[int, Query(ge=1, le=1_000, description="How many at most.", examples=[100])]
CursorQuery = Annotated[
    str | None,
    Query(
        description="`next_cursor` of the page before; absent: from the start.",
        examples=["aXRlbXM6MTgx"],
    ),
]


class Page(BaseModel, Generic[Row]):
    """A part of a list. Rows that were there at the first page come once, whatever arrives
    meanwhile."""

    data: list[Row] = Field(description="The rows, in the order of their key.")
    next_cursor: str | None = Field(
        description="`cursor` of the next page; null: this is the last.",
        examples=["aXRlbXM6MTgx", None],
    )


def cursor_of(name: str, key: str | int) -> str:
    """The cursor after a row's key. `name`: the list's, so that no cursor works on another list."""
    return urlsafe_b64encode(f"{name}:{key}".encode()).decode().rstrip("=")


def key_of(name: str, cursor: str | None) -> str:
    """The key in a cursor; empty, which is before all keys, for none. Raises `BadRequest` for a
    cursor that this list never gave."""
    if not cursor:
        return ""
    try:
        decoded = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode()
    except ValueError:
        decoded = ""
    if not decoded.startswith(f"{name}:"):
        raise BadRequest(
            "cursor: not one of this list; send next_cursor as it came, or none to begin",
            param="cursor",
        )
    return decoded.removeprefix(f"{name}:")


def place_of(name: str, cursor: str | None) -> int:
    """The place in the log that a cursor holds; 0 for none."""
    key = key_of(name, cursor)
    if key and not (key.isascii() and key.isdigit() and len(key) <= 18):
        raise BadRequest(
            "cursor: holds no place in the log; send next_cursor as it came, or none to begin",
            param="cursor",
        )
    return int(key or 0)


def walk_of(name: str, cursor: str | None) -> tuple[int, int] | None:
    """Two places in the log that a cursor holds: where the next page begins, and where the last one
    ends. None for no cursor."""
    key = key_of(name, cursor)
    places = re.fullmatch(r"(\d{1,18})-(\d{1,18})", key, flags=re.ASCII)
    if key and places is None:
        raise BadRequest(
            "cursor: holds no places in the log; send Cursor as it came, or none to begin",
            param="cursor",
        )
    return (int(places[1]), int(places[2])) if places is not None else None


def cut(
    name: str, rows: Sequence[Row], limit: int, key: Callable[[Row], str | int]
) -> tuple[list[Row], str | None]:
    """The page and the next page's cursor, if there is one. `rows`: one more than `limit`, if there
    are so many."""
    page = list(rows[:limit])
    return page, cursor_of(name, key(page[-1])) if len(rows) > limit else None
