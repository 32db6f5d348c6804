"""Who may call: keys, and whose account a call is on."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from datetime import datetime

from service.config import Settings
from service.errors import Unauthorized
from service.schema import ApiKey
from service.store import Store

OWNER = ApiKey(key_id="owner", name="WHYRANK_API_KEY", scopes=("admin",))
"""Who sends the key that stands in the environment."""
ANYONE = ApiKey(key_id="anyone", name="anyone", scopes=("admin",))
"""Whoever calls while there is no key."""


class Access:
    def __init__(self, settings: Settings, store: Store, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock

    async def caller(self, given: bytes) -> ApiKey:
        """Whose key that is as of now; while there is no key at all, everybody may do everything.
        Raises `Unauthorized`."""
        own = self._settings.api_key
        if own is not None and hmac.compare_digest(given, own.get_secret_value().encode()):
            return OWNER
        key = await self._store.keys.find(given.decode(errors="replace"), self._clock())
        if key is not None:
            return key
        if own is None and not await asyncio.to_thread(self._store.keys.exist):
            return ANYONE
        raise Unauthorized("a valid key is needed: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
