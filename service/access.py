"""Identifies callers by their API key."""

import asyncio
import hmac
from collections.abc import Callable
from datetime import datetime

from service.config import Settings
from service.errors import Unauthorized
from service.schema import ApiKey
from service.store import Store

OWNER = ApiKey(key_id="owner", name="WHYRANK_API_KEY", scopes=("admin",))
"""The caller that sends the key set in the environment variable WHYRANK_API_KEY."""
ANYONE = ApiKey(key_id="anyone", name="anyone", scopes=("admin",))
"""Every caller, as long as no API key exists."""


class Access:
    def __init__(self, settings: Settings, store: Store, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock

    async def caller(self, given: bytes) -> ApiKey:
        """Returns the key that a caller sent. As long as no key exists, everybody may do
        everything. Raises `Unauthorized` for a key that is unknown, expired or revoked."""
        own = self._settings.api_key
        if own is not None and hmac.compare_digest(given, own.get_secret_value().encode()):
            return OWNER
        if key := await self._store.keys.find(given.decode(errors="replace"), self._clock()):
            return key
        if own is None and not await asyncio.to_thread(self._store.keys.exist):
            return ANYONE
        raise Unauthorized("a valid key is needed: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
