"""The body of error responses, which is the same for all errors."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.errors import BadRequest, ModelError, Unauthorized, WhyrankError, in_words, path_of

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
MOST_CHARS = 1_000
"""Longest message of an error."""


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


def respond(error: WhyrankError, request_id: str) -> JSONResponse:
    """The response for an error of ours."""
    answer = _body(error.status, error.code, error.message, request_id, error.param)
    if answer.status_code in {429, 503}:
        answer.headers["retry-after"] = str(error.retry_after_s)
    return answer


def enveloped(request: Request, error: Exception) -> JSONResponse:
    """The response for whatever a route raised. What is our fault is logged, under the same request
    id."""
    log = request.app.state.service.telemetry.log
    if isinstance(error, WhyrankError):
        if not isinstance(error, BadRequest | ModelError):
            log.error("failed", code=error.code, error=error.message)
        return respond(error, request.state.request_id)
    log.error("crashed", exc_info=error, route=request.url.path)
    return _body(
        500,
        "internal",
        "an error on our side; the log has it under this id",
        request.state.request_id,
    )


def _body(
    status: int, code: str, message: str, request_id: str, param: str | None = None
) -> JSONResponse:
    text, param = _sendable(message), param and _sendable(param)
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    inner = {"message": text, "type": kind, "param": param, "code": code}
    headers = {"www-authenticate": "Bearer"} if status == Unauthorized.status else {}
    return JSONResponse(
        {"error": inner, "message": text, "detail": text, "id": request_id}, status, headers
    )


def _sendable(text: str) -> str:
    """A text as it can be sent: without lone surrogates, which a message may quote from a request,
    and not too long."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MOST_CHARS else text[:MOST_CHARS] + "…"


def install(app: FastAPI) -> None:
    """Makes the app answer every error with the envelope."""

    @app.exception_handler(WhyrankError)
    async def ours(request: Request, error: WhyrankError) -> JSONResponse:
        return enveloped(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        details: list[ErrorDetails] = list(error.errors())
        for detail in details:
            if detail["loc"][0] == "body":
                detail["loc"] = detail["loc"][1:]
        first = ".".join(path_of(details[0]["loc"]))
        return _body(
            422, "invalid_request", in_words(details), request.state.request_id, first or None
        )

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        names = {404: "route_not_found", 405: "method_not_allowed"}
        code = names.get(error.status_code, "invalid_request")
        message = f"{request.method} {request.url.path}: {error.detail}"
        answer = _body(error.status_code, code, message, request.state.request_id)
        answer.headers.update(error.headers or {})
        if error.status_code == 405:
            answer.headers["allow"] = _methods(request)
        return answer


def _methods(request: Request) -> str:
    """All methods of the path; the framework names those of the first route only."""
    routes = [
        route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE
    ]
    return ", ".join(sorted({method for route in routes for method in route.methods}))
