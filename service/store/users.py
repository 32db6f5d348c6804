"""What people declared about themselves, and the version of each person's state."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    Select,
    Table,
    Text,
    literal,
    select,
    true,
)
from sqlalchemy.dialects.sqlite import insert

from service.schema import User, UserPatch
from service.store.database import VISITOR, metadata, writing

users = Table(
    "users",
    metadata,
    Column("who", Text, primary_key=True),
    Column("version", Integer, nullable=False, default=0),
    Column("attributes", JSON, nullable=False, default=dict),
    Column("locale", Text),
    Column("allow_hosted", Boolean, nullable=False, default=True),
    Column("profile", Boolean, nullable=False, default=True),
)


def bump_versions(connection: Connection, times: Select[Any, Any]) -> None:
    """Raises people's versions: `times` selects who, and by how much."""
    declared = literal({}, JSON), literal(True), literal(True)
    upsert = insert(users).from_select(
        ["who", "version", "attributes", "allow_hosted", "profile"],
        times.add_columns(*declared).where(true()),  # without a WHERE, SQLite takes ON for a join's
    )
    raised = {"version": users.c.version + upsert.excluded.version}
    connection.execute(upsert.on_conflict_do_update(index_elements=["who"], set_=raised))


class Users:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def put(self, batch: Sequence[User], only: Set[str] | None = None) -> None:
        """Insert or replace what users declared; later ones of the same id win. `only`: of known
        users these fields alone, so that what is said of the others meanwhile stays. Durable on
        return."""
        await asyncio.to_thread(self._put, batch, only)

    def _put(self, batch: Sequence[User], only: Set[str] | None) -> None:
        with writing(self._engine) as connection:
            for user in batch:
                declared = user.model_dump(exclude={"user_id"})
                row = insert(users).values(who=user.user_id, version=1, **declared)
                told = {
                    name: value for name, value in declared.items() if only is None or name in only
                }
                change = {**told, "version": users.c.version + 1}
                connection.execute(row.on_conflict_do_update(index_elements=["who"], set_=change))

    async def patch(self, user_id: str, change: UserPatch) -> User | None:
        """Apply the fields that `change` sets; None for a user nobody has heard of."""
        return await asyncio.to_thread(self._patch, user_id, change)

    def _patch(self, user_id: str, change: UserPatch) -> User | None:
        with writing(self._engine) as connection:
            row = connection.execute(select(users).where(users.c.who == user_id)).first()
            if row is None:
                return None
            fields = change.model_dump(exclude_unset=True)
            given = {
                name: value
                for name, value in fields.items()
                if value is not None or name == "locale"
            }
            connection.execute(
                users.update()
                .where(users.c.who == user_id)
                .values(**given, version=users.c.version + 1)
            )
        found = self._get(user_id)
        return found[0] if found else None

    async def get(self, who: str) -> tuple[User, int] | None:
        """The declared user and the version of their state; None if there was never an event or a
        declaration."""
        return await asyncio.to_thread(self._get, who)

    def _get(self, who: str) -> tuple[User, int] | None:
        with self._engine.connect() as connection:
            return self.read(connection, who)

    def read(self, connection: Connection, who: str) -> tuple[User, int] | None:
        row = connection.execute(select(users).where(users.c.who == who)).first()
        if row is None:
            return None
        return _user(row), row.version

    async def known(self, ids: Sequence[str]) -> dict[str, User]:
        """Those of `ids` that there was ever a declaration or an event of."""
        return await asyncio.to_thread(self._find, select(users).where(users.c.who.in_(ids)))

    async def page(self, after: str, limit: int) -> list[User]:
        """The first users, by id, whose id comes after. Visitors, whose keys begin with a control
        character, are no users."""
        people = select(users).where(users.c.who > after, ~users.c.who.startswith(VISITOR))
        return list(
            (
                await asyncio.to_thread(self._find, people.order_by(users.c.who).limit(limit))
            ).values()
        )

    def _find(self, query: Select[Any]) -> dict[str, User]:
        with self._engine.connect() as connection:
            return {row.who: _user(row) for row in connection.execute(query)}


def _user(row: Any) -> User:
    """Rows were checked when they came in: no second validation on the read path."""
    return User.model_construct(
        user_id=row.who,
        attributes=row.attributes,
        locale=row.locale,
        allow_hosted=row.allow_hosted,
        profile=row.profile,
    )
