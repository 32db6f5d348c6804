"""What happens to every request before and after its route.

`Edge` wraps everything: it sets the request id and the path as routes match it, and counts and
times requests. `Gate` stands within CORS, so that a page may read a refusal: it checks key, scope,
rate and size before the body is read, and answers whatever crashes behind it. `enveloped` makes the
body of error responses, which is the same for all errors.
"""

import math
import time
import uuid
from typing import Any, cast
from urllib.parse import quote, unquote

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.build import Service
from service.config import Limits
from service.errors import (
    BadRequest,
    Forbidden,
    ModelError,
    RateLimited,
    Unauthorized,
    WhyrankError,
    in_words,
    path_of,
)
from service.schema import ApiKey, KeyScope

OPEN = {"GET /healthz", "GET /readyz"}
"""Routes that need no key."""
READS = (
    *(
        "GET /docs",
        "GET /docs/swagger-ui-bundle.js",
        "GET /docs/swagger-ui.css",
        "GET /openapi.json",
    ),
    *("GET /v1/models", "GET /v1/models/{model_id:path}"),
    *("POST /v1/recommendations", "POST /v1/chat/completions", "POST /v1/embeddings"),
    *("POST /v1/rerank", "POST /v2/rerank", "POST /rerank"),
    *("POST /v1/reranks", "POST /reranks", "POST /compatible-api/v1/reranks"),
    *("GET /v1/items", "GET /v1/items/{item_id}"),
    *("GET /v1/users", "GET /v1/users/{user_id}", "GET /v1/users/{user_id}/events"),
    *("GET /v1/users/{user_id}/state", "GET /v1/users/{user_id}/export"),
    *("GET /api/items", "GET /api/item/{item_id}", "GET /api/users", "GET /api/user/{user_id}"),
    *("GET /api/feedback", "GET /api/feedback/{feedback_type}"),
    *("GET /api/user/{user_id}/feedback", "GET /api/user/{user_id}/feedback/{feedback_type}"),
    *(
        "GET /api/recommend/{user_id}",
        "GET /api/recommend/{user_id}/",
        "GET /api/recommend/{user_id}/{category}",
    ),
)
WRITES = (
    *("POST /v1/events", "POST /v1/items", "DELETE /v1/items/{item_id}"),
    *("POST /v1/users", "PATCH /v1/users/{user_id}", "DELETE /v1/users/{user_id}"),
    *(
        "POST /api/feedback",
        "PUT /api/feedback",
        "POST /api/item",
        "POST /api/items",
        "POST /api/user",
        "POST /api/users",
    ),
    *(
        "PATCH /api/item/{item_id}",
        "DELETE /api/item/{item_id}",
        "PATCH /api/user/{user_id}",
        "DELETE /api/user/{user_id}",
    ),
    *(
        "DELETE /api/feedback/{user_id}/{item_id}",
        "DELETE /api/feedback/{feedback_type}/{user_id}/{item_id}",
    ),
    *("POST /feedback", "POST /events", "POST /items", "POST /users"),
)
SCOPES: dict[str, KeyScope] = {
    **dict.fromkeys(READS, "read"),
    **dict.fromkeys(WRITES, "write"),
    "GET /metrics": "admin",
    "POST /v1/admin/reload": "admin",
}
"""The scope that a key must have, route by route. A route that isn't here needs `admin`; a test
allows none."""
SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": (
            "`whyrank keys create` makes one; while there is none, none is needed. "
            "`admin` is good for all."
        ),
    },
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same, for those who can't send a bearer.",
    },
}
"""The ways to send a key, for OpenAPI."""
PLAIN = ":@!$&'()*+,;=~"
"""Characters that a segment of a path may hold unencoded, beside letters, digits and `-._` (RFC
3986, `pchar`)."""
GONE = 499
"""The status that is counted where the client left before the answer."""
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
ROUTING_CODES = {404: "route_not_found", 405: "method_not_allowed"}
MOST_CHARS = 1_000
"""Longest message of an error."""


def with_required_keys(openapi: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI with the scope that each route needs: as a role of either scheme, and in words."""
    openapi["components"]["securitySchemes"] = SCHEMES
    for name, scope in SCOPES.items():
        method, path = name.replace(":path}", "}").split()
        if operation := openapi["paths"].get(path, {}).get(method.lower()):
            operation["security"] = [{scheme: [scope]} for scheme in SCHEMES]
            operation["description"] += f"\n\nNeeds a key that is good for `{scope}`."
    return openapi


def canonical(raw_path: bytes) -> str:
    """The path with each segment in one spelling: what may stand there unencoded is unencoded, all
    else percent-encoded.

    Servers decode the whole path before routes match it, so `/v1/users/u%2Fstate` would read the
    state of `u`. Here `%2F` never becomes a slash: it stays part of the id, which `Segment`
    decodes.
    """
    return "/".join(
        quote(unquote(segment), safe=PLAIN) for segment in raw_path.decode("ascii").split("/")
    )


class TooLarge(BadRequest, code="body_too_large", status=413):
    """A body of more bytes than `limits.body_bytes`."""


class Edge:
    """The outermost middleware: request ids, canonical paths, counts and times."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), GONE
        scope["path"] = canonical(scope["raw_path"])
        request_id = scope.setdefault("state", {})["request_id"] = f"req-{uuid.uuid4().hex[:20]}"
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            telemetry = _service(scope).telemetry
            telemetry.requests.labels(route, status).inc()
            telemetry.latency.labels(route).observe(time.perf_counter() - start)
            structlog.contextvars.clear_contextvars()


class Gate:
    """The middleware that lets requests in: by key, scope, rate and size."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._windows = MovingWindowRateLimiter(MemoryStorage())
        """The requests of each key in the last minute, in the memory of this process."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            limits = _service(scope).settings.limits
            await self._admit(scope, limits)
            await self._app(scope, _bounded(receive, limits), answer)
        except ClientDisconnect:
            return
        except Exception as error:
            refusal = enveloped(Request(scope), error)
            if begun:
                raise  # cut off, lest half an answer pass for a whole one
            await refusal(scope, receive, send)

    async def _admit(self, scope: Scope, limits: Limits) -> None:
        """Raises an error for a caller, or an announced size, that may not pass.

        Only requests that a route is going to answer count towards the rate of a key: neither those
        that its scopes forbid, nor those for a path or a method that no route answers.
        """
        headers = dict(scope["headers"])
        name = _route(scope)
        if name not in OPEN:
            key = await _service(scope).access.caller(_key_in(headers))
            scope["state"]["key"] = key
            if name:
                needed = SCOPES.get(name, "admin")
                if not key.allows(needed):
                    raise Forbidden(
                        f"key {key.name!r} is for {' and '.join(key.scopes)}; this needs {needed}"
                    )
                self._count(key, limits.rate)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limits.body_bytes:
            raise _too_large(limits)

    def _count(self, key: ApiKey, otherwise: int | None) -> None:
        """Counts a request of a key. Raises `RateLimited`, which says when the next one is let
        through. `otherwise`: requests a minute for a key without a rate of its own; None: any
        number."""
        rate = key.rate or otherwise
        if rate is None:
            return
        limit = RateLimitItemPerMinute(rate)
        if not self._windows.hit(limit, key.key_id):
            reset_time = self._windows.get_window_stats(limit, key.key_id).reset_time
            wait = max(math.ceil(reset_time - time.time()), 1)
            raise RateLimited(f"at most {rate} requests a minute; the next in {wait} s", wait)


def _service(scope: Scope) -> Service:
    return cast(Service, scope["app"].state.service)


def _route(scope: Scope) -> str:
    """The route that will answer, as `GET /v1/items/{item_id}`; empty if none will."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    routes = (route for route in scope["app"].routes if route.matches(scope)[0] is Match.FULL)
    return next((f"{method} {route.path}" for route in routes), "")


def _key_in(headers: dict[bytes, bytes]) -> bytes:
    """The key of a request; empty for an anonymous one. An empty bearer counts as none."""
    scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and bearer.strip():
        return bearer.strip()
    return headers.get(b"x-api-key", b"")


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"the body exceeds {limits.body_bytes} bytes (limits.body_bytes)")


def _bounded(receive: Receive, limits: Limits) -> Receive:
    """Wraps `receive` so that a body's bytes are counted, as it may not announce its size; the
    wrapper raises `TooLarge` past the limit."""
    received = 0

    async def next_message() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limits.body_bytes:
            raise _too_large(limits)
        return message

    return next_message


# ── errors ────────────────────────────────────────────────────────────────────────────────────────


class Wrong(BaseModel):
    """What is wrong."""

    message: str = Field(
        description="In words, with what would mend it.",
        examples=["top_n: at most 100 (limits.top_n)"],
    )
    type: str = Field(description="Of which kind, as OpenAI's.", examples=["invalid_request_error"])
    param: str | None = Field(
        description="The field or setting, if one is wrong.", examples=["top_n"]
    )
    code: str = Field(description="For programs.", examples=["invalid_request"])


class Refusal(BaseModel):
    """The body of every error."""

    error: Wrong = Field(description="As OpenAI's clients read it.")
    message: str = Field(description="The error's, for clients that look here.")
    detail: str = Field(description="The error's, for clients that look here.")
    id: str = Field(
        description="The request's, as in `x-request-id` and in the log.",
        examples=["req-124a585a1b4b401982fd"],
    )


REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Refusal, "description": "The request can't be answered so"},
    "5XX": {"model": Refusal, "description": "Not the caller's fault; 503 says when to come back"},
}
"""The error responses of every route, for OpenAPI."""


def enveloped(request: Request, error: Exception) -> JSONResponse:
    """The response for whatever a route raised. What is our fault is logged, under the same request
    id."""
    log = request.app.state.service.telemetry.log
    if not isinstance(error, WhyrankError):
        log.error("crashed", exc_info=error, route=request.url.path)
        error = WhyrankError("an error on our side; the log has it under this id")
    elif not isinstance(error, BadRequest | ModelError):
        log.error("failed", code=error.code, error=error.message)
    message, param = _sendable(error.message), error.param and _sendable(error.param)
    kind = TYPES.get(
        error.status, "invalid_request_error" if error.status < 500 else "server_error"
    )
    body = {
        "error": {"message": message, "type": kind, "param": param, "code": error.code},
        "message": message,
        "detail": message,
        "id": request.state.request_id,
    }
    answer = JSONResponse(body, error.status)
    if isinstance(error, Unauthorized):
        answer.headers["www-authenticate"] = "Bearer"
    if error.status in {429, 503}:
        answer.headers["retry-after"] = str(error.retry_after_s)
    return answer


def _sendable(text: str) -> str:
    """A text as it can be sent: without lone surrogates, which a message may quote from a request,
    and not too long."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MOST_CHARS else text[:MOST_CHARS] + "…"


async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    details = error.errors()
    for detail in details:
        if detail["loc"][0] == "body":
            detail["loc"] = detail["loc"][1:]
    param = path_of(details[0]["loc"]) or None
    return enveloped(request, BadRequest(in_words(details), param=param))


async def _unrouted(request: Request, error: HTTPException) -> JSONResponse:
    refusal = BadRequest(f"{request.method} {request.url.path}: {error.detail}")
    refusal.status = error.status_code
    refusal.code = ROUTING_CODES.get(error.status_code, BadRequest.code)
    answer = enveloped(request, refusal)
    answer.headers.update(error.headers or {})
    if error.status_code == 405:  # the framework names the methods of the path's first route only
        allowed = (
            route.methods
            for route in request.app.routes
            if route.matches(request.scope)[0] is not Match.NONE
        )
        answer.headers["allow"] = ", ".join(sorted(set().union(*allowed)))
    return answer


HANDLERS: dict[int | type[Exception], Any] = {
    RequestValidationError: _invalid,
    HTTPException: _unrouted,
}
"""Answer the framework's own refusals with the envelope. All other errors reach `Gate`, which
does."""
