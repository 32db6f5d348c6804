"""What the tables share: how the database is opened, migrated and written, their metadata, and how
a time is stored."""

import asyncio
import errno
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    ExceptionContext,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    UpdateBase,
    create_engine,
    event,
    inspect,
)

from service.errors import ConfigError, DiskFull, StorageError
from service.store.file import DatabaseFile

P = ParamSpec("P")
T = TypeVar("T")

metadata = MetaData()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VISITOR = "\x1f"
"""The first character of the log key of a visitor who is known by a session alone; an id can't hold
control characters."""
MIGRATIONS = Path(__file__).with_name("migrations")
notes = Table(
    "notes", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False)
)
"""Texts by key: what the popularity was counted with, and the trainings."""


def make_engine(file: DatabaseFile) -> Engine:
    """An engine whose commits are on disk when they return, and which raises a `StorageError` where
    the file is at fault. Makes the folder, but opens no file yet."""
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        kind = DiskFull if error.errno == errno.ENOSPC else StorageError
        raise kind(f"the folder of {file.path} can't be made: {error}") from error

    def parse_json(text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise file.damaged(f"a row holds no JSON: {error}") from error

    engine = create_engine(
        URL.create("sqlite", database=f"{file.path}"),
        hide_parameters=True,  # they hold what people wrote
        json_deserializer=parse_json,
    )
    event.listen(engine, "connect", _make_durable)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # writers queue at the start of their transaction, so that none fails half-way as 'locked'
        writes = connection.get_execution_options().get("writes", False)
        if writes:
            file.check_identity()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    @event.listens_for(engine, "commit")
    def note_written(_connection: Connection) -> None:
        file.full = None

    @event.listens_for(engine, "handle_error", retval=True)
    def explain(context: ExceptionContext) -> BaseException | None:
        return file.explained(context.original_exception)

    return engine


def _make_durable(connection: Any, _record: object) -> None:
    # the driver must not open transactions of its own; `begin` does
    connection.isolation_level = None
    settings = ("busy_timeout=15000", "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON")
    for setting in settings:
        connection.execute(f"PRAGMA {setting}")


def migrate(engine: Engine, file: DatabaseFile) -> None:
    """Opens the database and brings its tables to this version's state. Raises `ConfigError` if a
    newer version wrote them, `StoreDamaged` if they are not this service's."""
    known = sorted(
        script.stem.partition("_")[0] for script in MIGRATIONS.glob("versions/[0-9]*.py")
    )
    revision = None
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        if "alembic_version" in tables:
            revision = connection.exec_driver_sql(
                "SELECT version_num FROM alembic_version"
            ).scalar()
    file.check_after_opening()
    if revision is not None and revision not in known:
        raise ConfigError(
            f"{file.path} was written by a newer whyrank (revision {revision}): upgrade this "
            "installation, or restore an older copy",
            param="store.url",
        )
    if revision is None and tables:
        raise file.damaged("it holds tables, but not ours")
    if revision == known[-1]:
        return
    from alembic import command  # takes a third of a second, at the first start of a version
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", f"{MIGRATIONS}")
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Yields a connection in a transaction that takes the write lock first, commits at the end and
    rolls back on any error."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


def on_thread(work: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Turns a function that waits for the disk into a coroutine function that runs it on a
    thread."""

    @wraps(work)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(work, *args, **kwargs)

    return run


class StoredTable:
    """What the classes of all tables share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _rows(self, query: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
        """Reads all rows of a query, in a transaction of their own."""
        with self._engine.connect() as connection:
            return connection.execute(query).all()

    def _value(self, query: Select[T]) -> T | None:
        """Reads the first value of a query's first row; None if there is no row."""
        with self._engine.connect() as connection:
            return connection.scalar(query)

    def _write(self, statement: UpdateBase, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """Executes a statement, for each of `rows` if there are any, in its own transaction."""
        with writing(self._engine) as connection:
            connection.execute(statement, rows or None)


def matching(*wanted: tuple[ColumnElement[Any], object]) -> list[ColumnElement[bool]]:
    """Returns the condition `column == value` for each pair of `wanted`, except pairs whose value
    is None."""
    return [column == value for column, value in wanted if value is not None]


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
