"""What the tables share: how the database is opened and written, their metadata, and how a time is
stored."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, MetaData, create_engine, event

from service.errors import ConfigError, DiskFull, StorageError
from service.store.file import DatabaseFile

metadata = MetaData()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VISITOR = "\x1f"
"""How the log key of a visitor known by a session alone begins; an id can't hold control
characters."""


MIGRATIONS = Path(__file__).with_name("migrations")


def connected(file: DatabaseFile) -> Engine:
    """An engine whose connections are durable, and whose errors are ours where the file is at
    fault. Opens nothing yet."""
    _make_folder(file.path)

    def parsed(text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise file.damaged(f"a row holds no JSON: {error}") from error

    def explained(context: ExceptionContext) -> BaseException | None:
        return file.explained(context.original_exception)

    def begin(connection: Connection) -> None:
        """Writers queue at the start of their transaction, so that none fails half-way as
        'locked'."""
        writes = connection.get_execution_options().get("writes", False)
        if writes:
            file.check_identity()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    url = URL.create("sqlite", database=f"{file.path}")

    def written(_connection: Connection) -> None:
        file.full = None

    engine = create_engine(
        url, hide_parameters=True, json_deserializer=parsed
    )  # parameters hold what people wrote
    event.listen(engine, "connect", _durable)
    event.listen(engine, "begin", begin)
    event.listen(engine, "commit", written)
    event.listen(engine, "handle_error", explained, retval=True)
    return engine


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        kind = DiskFull if error.errno == errno.ENOSPC else StorageError
        raise kind(f"the folder of {path} can't be made: {error}") from error


def _durable(connection: Any, _record: object) -> None:
    connection.isolation_level = (
        None  # the driver must not open transactions of its own; `begin` does
    )
    connection.execute("PRAGMA busy_timeout=15000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")


def up_to_date(engine: Engine, file: DatabaseFile) -> None:
    """Open the database and bring its tables to this version's. Raises `ConfigError` for those of a
    newer one."""
    known = sorted(
        file.stem.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py")
    )
    with engine.connect() as connection:
        tables = set(
            connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).scalars()
        )
        asked = "SELECT version_num FROM alembic_version"
        revision = (
            connection.exec_driver_sql(asked).scalar() if "alembic_version" in tables else None
        )
    file.look_after()
    if revision is not None and revision not in known:
        raise ConfigError(
            f"{file.path} was written by a newer whyrank (revision {revision}): upgrade this "
            f"installation, "
            "or restore an older copy",
            param="store.url",
        )
    if revision is None and tables:
        raise file.damaged("it holds tables, but not ours")
    if revision != known[-1]:
        _migrate(engine)


def _migrate(engine: Engine) -> None:
    from alembic import command  # a third of a second, for the first start of a version
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", f"{MIGRATIONS}")
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that takes the write lock first, commits at the end and rolls back on any
    error."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
