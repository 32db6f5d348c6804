"""The API keys with which callers identify themselves.

Only the hash of a key's secret is stored. A key reads `wr-<id>-<secret>`: the id selects the row,
the secret's hash is compared in constant time. A secret is 256 random bits, so a plain SHA-256
protects it. Rows are never deleted: a service that ever had a key is never again open to everybody.
"""

import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, Integer, Row, Table, Text, select

from service.errors import BadRequest, NotFound
from service.schema import ApiKey
from service.store.database import (
    StoredTable,
    metadata,
    micros,
    moment,
    on_thread,
    writing,
)

keys = Table(
    "keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("hash", Text, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("rate", Integer),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("budget", Float),
)

SHAPE = re.compile(r"wr-([0-9a-f]{12})-([0-9a-f]{64})")


class Keys(StoredTable):
    @on_thread
    def create(self, key: ApiKey) -> str:
        """Stores a new key and returns its text, which callers have to send; the text can't be read
        again. Raises `BadRequest` for a name that was used before."""
        secret = secrets.token_hex(32)
        with writing(self._engine) as connection:
            if connection.scalar(select(keys.c.key_id).where(keys.c.name == key.name)):
                raise BadRequest(
                    f"there is a key {key.name!r}, or was: choose another name", param="name"
                )
            connection.execute(
                keys.insert().values(
                    hash=_hash(secret),
                    created_at=micros(key.created_at),
                    expires_at=None if key.expires_at is None else micros(key.expires_at),
                    **key.model_dump(include={"key_id", "name", "scopes", "rate", "budget"}),
                )
            )
        return f"wr-{key.key_id}-{secret}"

    async def find(self, given: str, now: datetime) -> ApiKey | None:
        """Returns the valid key whose text is `given`; None if there is none, or if it has expired
        or was revoked. Reads nothing if `given` hasn't the shape of a key."""
        match = SHAPE.fullmatch(given)
        for row in await self._with_id(match[1]) if match is not None else []:
            key = _key(row)
            if match and hmac.compare_digest(row.hash, _hash(match[2])) and key.valid(now):
                return key
        return None

    @on_thread
    def _with_id(self, key_id: str) -> Sequence[Row[Any]]:
        return self._rows(select(keys).where(keys.c.key_id == key_id))

    @on_thread
    def all(self) -> list[ApiKey]:
        """Returns all keys, the oldest first, also those that expired or were revoked."""
        query = select(keys).order_by(keys.c.created_at, keys.c.name)
        return [_key(row) for row in self._rows(query)]

    @on_thread
    def revoke(self, name: str, now: datetime) -> None:
        """Revokes a key, in all processes at once. A key that was revoked before keeps its earlier
        time. Raises `NotFound` for an unknown name."""
        with writing(self._engine) as connection:
            if connection.scalar(select(keys.c.key_id).where(keys.c.name == name)) is None:
                raise NotFound("key", name)
            update = keys.update().where(keys.c.name == name, keys.c.revoked_at.is_(None))
            connection.execute(update.values(revoked_at=micros(now)))

    def exist(self) -> bool:
        """Returns whether a key was ever created. Blocks for one read."""
        return self._value(select(keys.c.key_id).limit(1)) is not None


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey.model_construct(
        key_id=row.key_id,
        name=row.name,
        scopes=tuple(row.scopes),
        rate=row.rate,
        budget=row.budget,
        created_at=moment(row.created_at),
        expires_at=None if row.expires_at is None else moment(row.expires_at),
        revoked_at=None if row.revoked_at is None else moment(row.revoked_at),
    )
