"""API keys."""

import secrets
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from service.schema.values import Id, Moment, Value

MAX_RATE = 100_000
"""Requests a minute. The limiter keeps the time of every request of the last minute."""
KeyScope = Literal["read", "write", "admin"]


class ApiKey(Value):
    """Who may call, for what, how often and until when; without the secret. `rate`: requests a
    minute (None: `limits.rate`); `budget`: US dollars a day that models may cost for its requests
    (None: unlimited)."""

    key_id: str = Field(default_factory=lambda: secrets.token_hex(6))
    name: Id
    scopes: tuple[KeyScope, ...] = Field(min_length=1)
    rate: int | None = Field(None, ge=1, le=MAX_RATE)
    budget: float | None = Field(None, ge=0)
    created_at: Moment = Field(default_factory=lambda: datetime.now(UTC))
    expires_at: Moment | None = None
    revoked_at: Moment | None = None

    def allows(self, scope: KeyScope) -> bool:
        """Whether the key has this scope; `admin` includes all."""
        return scope in self.scopes or "admin" in self.scopes

    def valid(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
