"""Lists a page at a time, by the key of the last row told: rows that arrive meanwhile neither
repeat nor hide another."""

from __future__ import annotations

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
    """A part of a list. All that was there when the walk began comes once, whatever arrives
    meanwhile."""

    data: list[Row] = Field(description="The rows, in the order of their key.")
    next_cursor: str | None = Field(
        description="`cursor` of the next page; null: this is the last.",
        examples=["aXRlbXM6MTgx", None],
    )


def cursor_of(name: str, key: str | int) -> str:
    """`name`: of the list, so that no cursor is taken for that of another."""
    return urlsafe_b64encode(f"{name}:{key}".encode()).decode().rstrip("=")


def key_of(name: str, cursor: str | None) -> str:
    """The key in a cursor; empty for none, which is before all. Raises `BadRequest` for what this
    list never gave."""
    if not cursor:
        return ""
    try:
        told = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode()
    except ValueError:
        told = ""
    if not told.startswith(f"{name}:"):
        raise BadRequest(
            "cursor: not one of this list; send next_cursor as it came, or none to begin",
            param="cursor",
        )
    return told.removeprefix(f"{name}:")


def place_of(name: str, cursor: str | None) -> int:
    """The place in the log in a cursor; 0 for none."""
    told = key_of(name, cursor)
    if told and not (told.isascii() and told.isdigit() and len(told) <= 18):
        raise BadRequest(
            "cursor: holds no place in the log; send next_cursor as it came, or none to begin",
            param="cursor",
        )
    return int(told or 0)


def walk_of(name: str, cursor: str | None) -> tuple[int, int] | None:
    """The place in the log to go on from and that where the walk ends, in a cursor; None for
    none."""
    told = key_of(name, cursor)
    places = re.fullmatch(r"(\d{1,18})-(\d{1,18})", told, flags=re.ASCII)
    if told and places is None:
        raise BadRequest(
            "cursor: holds no places in the log; send Cursor as it came, or none to begin",
            param="cursor",
        )
    return (int(places[1]), int(places[2])) if places is not None else None


def cut(
    name: str, rows: Sequence[Row], limit: int, key: Callable[[Row], str | int]
) -> tuple[list[Row], str | None]:
    """Of one row more than asked for: the page, and the cursor of the next if there is one."""
    page = list(rows[:limit])
    return page, cursor_of(name, key(page[-1])) if len(rows) > limit else None
