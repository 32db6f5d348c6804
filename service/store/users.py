"""What people declared about themselves, and the version of each person's state."""

from collections.abc import Sequence, Set
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
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
from service.store.database import VISITOR, StoredTable, metadata, on_thread, writing

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
    """Raises the versions of people's states: `times` selects (log key, by how much)."""
    upsert = insert(users).from_select(
        ["who", "version", "attributes", "allow_hosted", "profile"],
        # without a WHERE, SQLite takes the ON of ON CONFLICT for a join's
        times.add_columns(literal({}, JSON), literal(True), literal(True)).where(true()),
    )
    raised = {"version": users.c.version + upsert.excluded.version}
    connection.execute(upsert.on_conflict_do_update(index_elements=["who"], set_=raised))


class Users(StoredTable):
    @on_thread
    def put(self, batch: Sequence[User], only: Set[str] | None = None) -> None:
        """Inserts users' declarations or replaces them; the last of several with the same id wins.
        `only`: the fields to replace for users who exist already, so that another process's change
        of other fields stays. Durable on return."""
        with writing(self._engine) as connection:
            for user in batch:
                declared = user.model_dump(exclude={"user_id"})
                row = insert(users).values(who=user.user_id, version=1, **declared)
                change = {
                    name: value for name, value in declared.items() if only is None or name in only
                }
                connection.execute(
                    row.on_conflict_do_update(
                        index_elements=["who"], set_={**change, "version": users.c.version + 1}
                    )
                )

    @on_thread
    def patch(self, user_id: str, change: UserPatch) -> User | None:
        """Applies the fields that `change` sets and returns the changed user; None if the user
        never acted and never declared anything."""
        fields = {
            name: value
            for name, value in change.model_dump(exclude_unset=True).items()
            if value is not None or name == "locale"  # the one field that None can empty
        }
        update = users.update().where(users.c.who == user_id)
        with writing(self._engine) as connection:
            connection.execute(update.values(**fields, version=users.c.version + 1))
            known = self.read(connection, user_id)
        return known[0] if known else None

    @on_thread
    def get(self, who: str) -> tuple[User, int] | None:
        """What the user `who` (a log key) declared, and the version of their state; None if they
        never acted and never declared anything."""
        with self._engine.connect() as connection:
            return self.read(connection, who)

    def read(self, connection: Connection, who: str) -> tuple[User, int] | None:
        """As `get`, within a transaction."""
        row = connection.execute(select(users).where(users.c.who == who)).first()
        return None if row is None else (_user(row), row.version)

    @on_thread
    def known(self, ids: Sequence[str]) -> dict[str, User]:
        """Returns those of `ids` who ever acted or declared anything, by id."""
        return {
            row.who: _user(row) for row in self._rows(select(users).where(users.c.who.in_(ids)))
        }

    @on_thread
    def page(self, after: str, limit: int) -> list[User]:
        """Returns the first `limit` users, ordered by id, whose id is greater than `after`. Leaves
        out visitors, whose keys begin with a control character."""
        query = select(users).where(users.c.who > after, ~users.c.who.startswith(VISITOR))
        return [_user(row) for row in self._rows(query.order_by(users.c.who).limit(limit))]


def _user(row: Any) -> User:
    """Makes a `User` of a row without validating it: it was validated before it was stored."""
    return User.model_construct(
        user_id=row.who,
        attributes=row.attributes,
        locale=row.locale,
        allow_hosted=row.allow_hosted,
        profile=row.profile,
    )
