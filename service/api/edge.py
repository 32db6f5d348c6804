"""What happens to every request before and after its route: request id, key, body limit, count and time."""

from __future__ import annotations

import hmac
import time
import uuid

import structlog
from starlette.datastructures import State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.envelope import respond
from service.config import Settings
from service.errors import BadRequest, Unauthorized
from service.telemetry import Telemetry

OPEN = {"/healthz", "/readyz"}
"""Routes that need no key."""


class TooLarge(BadRequest):
    code = "body_too_large"
    status = 413


class Edge:
    """ASGI middleware around everything else. `state`: the app's, which holds the recommender once it has started."""

    def __init__(self, app: ASGIApp, settings: Settings, state: State) -> None:
        self._app = app
        self._state = state
        self._key = settings.api_key.get_secret_value() if settings.api_key else None
        self._limit = settings.limits.body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500
        request_id = scope.setdefault("state", {})["request_id"] = f"req-{uuid.uuid4().hex[:20]}"
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            headers = dict(scope["headers"])
            if refused := self._refused(scope["path"], headers):
                await respond(refused, request_id)(scope, receive, answer)
            else:
                await self._app(scope, self._bounded(receive), answer)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            telemetry: Telemetry = self._state.recommender.telemetry
            telemetry.requests.labels(route, status).inc()
            telemetry.latency.labels(route).observe(time.perf_counter() - start)
            structlog.contextvars.clear_contextvars()

    def _refused(self, path: str, headers: dict[bytes, bytes]) -> BadRequest | None:
        if self._key is not None and path not in OPEN:
            scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
            given = bearer.strip() if scheme.lower() == b"bearer" and bearer.strip() else headers.get(b"x-api-key", b"")
            if not hmac.compare_digest(given, self._key.encode()):
                return Unauthorized("a key is needed: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limit:
            return self._too_large()
        return None

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body exceeds {self._limit} bytes (limits.body_bytes)")

    def _bounded(self, receive: Receive) -> Receive:
        """A body that does not say its length is counted as it comes."""
        taken = 0

        async def next_message() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                raise self._too_large()
            return message

        return next_message
