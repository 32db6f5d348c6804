"""What the tables share: their metadata, the shape of a write, and how a time is stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, MetaData

metadata = MetaData()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VISITOR = "\x1f"
"""How the log key of a visitor known by a session alone begins; an id can't hold control characters."""


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that takes the write lock first, commits at the end and rolls back on any error."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
