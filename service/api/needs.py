"""FastAPI dependencies and parameter types that routes share: parts of the service, feeds, the
caller, ids, paging."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import starmap
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import unquote

from fastapi import Depends, Path, Query, Request, Response
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt
from pydantic_core import from_json, to_json

from service.build import Service
from service.chat.conversation import Conversation
from service.config import Settings
from service.context import CallContext
from service.diagnostics import Diagnostics
from service.embeddings import EmbeddingSpace
from service.errors import BadRequest, InvalidJson, UnsupportedMedia
from service.ingest import Ingest
from service.models import Models
from service.pipeline import Recommender
from service.preview import Previewer
from service.records import Records
from service.schema import Id, IngestReport, ItemField, Label, Locale, Name, Rejection, Text


def _part(get: Callable[[Service], Any]) -> Any:
    """A part of the service that answers now: another may take its place at a reload."""

    def read(request: Request) -> Any:
        return get(request.app.state.service)

    return Depends(read)


def _call(request: Request) -> CallContext:
    """Charges the model calls of a request to the caller's key."""
    return CallContext(payer=request.state.key)


JSON = "application/json"
LINES = "application/x-ndjson"


class JsonRoute(APIRoute):
    """A route whose body, if it takes one, must be JSON and say so in its content type.

    A page of another site can't send that content type without asking first (CORS), so no browser
    can be made to feed an open service. The body is parsed here, because the framework's parser
    also takes NaN and lone surrogates, and would call every mistake 'an error parsing the body'.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def strict(request: Request) -> Response:
            body = await request.body() if self.body_field is not None else b""
            if body:
                require_content_type(request, JSON)
                request._json = parse_json(body)  # what `request.json()` gives from now on
            return await answer(request)

        return strict


def require_content_type(request: Request, *kinds: str) -> None:
    """Raises `UnsupportedMedia` unless the content type is one of `kinds`, or another of JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in kinds and not (kind.startswith("application/") and kind.endswith("+json")):
        hint = "; a CSV file is for 'whyrank ingest'" if kind == "text/csv" else ""
        raise UnsupportedMedia(f"send the body with 'content-type: {' or '.join(kinds)}'{hint}")


def parse_json(body: bytes) -> Any:
    """The value in a body. Raises `InvalidJson`."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidJson(f"not JSON: {error}") from error


class NothingTaken(BadRequest, code="nothing_accepted"):
    """No element of a feed was accepted."""


class FeedBody:
    """The elements of a feed's body: one object, an array, or JSON lines. A line that isn't
    JSON is replaced by a `Rejection`; `rows` are the elements that aren't rejections."""

    def __init__(self, elements: list[Any]) -> None:
        self._broken = [element for element in elements if isinstance(element, Rejection)]
        self._places = [n for n, row in enumerate(elements) if not isinstance(row, Rejection)]
        self.rows = [elements[place] for place in self._places]

    def only(self) -> Any:
        """The only element. Raises `BadRequest` for several."""
        if len(self.rows) + len(self._broken) != 1:
            raise BadRequest("one object a request is needed")
        return self.rows[0]

    def report(self, ingested: IngestReport) -> IngestReport:
        """The report, with the indexes that elements have in the body. Raises `NothingTaken` if
        every element was rejected."""
        refused = [
            rejection.model_copy(update={"index": self._places[rejection.index]})
            for rejection in ingested.rejected
        ]
        rejected = sorted([*self._broken, *refused], key=lambda rejection: rejection.index)
        if rejected and not ingested.accepted and not ingested.duplicates:
            more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
            raise NothingTaken(f"element {rejected[0].index}: {rejected[0].message}{more}")
        return ingested.model_copy(update={"rejected": rejected})


async def _feed(request: Request) -> FeedBody:
    """Reads a feed's body. Raises `BadRequest` for none, or for too many elements."""
    body = await request.body()
    if body:
        require_content_type(request, JSON, LINES)
    try:
        value = parse_json(body)
        elements = value if isinstance(value, list) else [value]
    except InvalidJson:
        lines = [line for line in body.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        elements = list(starmap(_element, enumerate(lines)))
    if not elements and not request.url.path.startswith("/api/"):  # Gorse takes an empty list
        raise BadRequest("the body holds nothing: send one object, an array, or JSON lines")
    limit = request.app.state.service.settings.limits.batch
    if len(elements) > limit:
        raise BadRequest(f"{len(elements)} elements; at most {limit} a request (limits.batch)")
    return FeedBody(elements)


def _element(index: int, line: bytes) -> Any:
    """The value in a line of JSON, or the rejection of a line that is none."""
    try:
        return parse_json(line)
    except InvalidJson as error:
        return Rejection(index=index, code="invalid", message=error.message)


EMPTY_AS_NONE = BeforeValidator(lambda value: None if value == "" else value)
"""Takes an empty text for a missing one."""


class Asker(BaseModel):
    """Fields that extend the body of another API: who asks, and how they are to be answered. Other
    fields are taken too."""

    model_config = ConfigDict(extra="allow")

    user_id: Annotated[Id | None, EMPTY_AS_NONE] = Field(
        None,
        description="For whom; else `user`, `metadata.user_id`, X-User-Id, X-OpenWebUI-User-Id.",
    )
    user: Annotated[Id | None, EMPTY_AS_NONE] = Field(None, description="As `user_id`.")
    metadata: dict[str, Any] | None = Field(None, description="`user_id` in it is read.")
    session_id: Id | None = Field(None, description="A visitor's session.")
    domain: Label | None = Field(None, description="As on /v1/recommendations.")
    locale: Locale | None = Field(
        None,
        description="Language of the answer; by default the last message's, else the user's.",
    )
    strategy: Text | None = Field(None, description="As on /v1/recommendations.")
    deadline_ms: Annotated[StrictInt, Field(ge=1, le=600_000)] | None = Field(
        None, description="Answer within this time."
    )
    redact: Annotated[list[Name], Field(max_length=100)] = Field(
        [], description="As on /v1/recommendations."
    )
    fields: list[ItemField] = Field(
        [], description="What to tell of each item, as on /v1/recommendations."
    )


def user_id_of(request: Request, body: Asker) -> str | None:
    """The id of the user that a request is for: from the first of several places that isn't
    empty."""
    in_metadata = (body.metadata or {}).get("user_id")
    if in_metadata is not None and not isinstance(in_metadata, str):
        raise BadRequest("metadata.user_id: a string is needed", param="metadata.user_id")
    in_headers = _header(request, "x-user-id") or _header(request, "x-openwebui-user-id")
    return body.user_id or body.user or in_metadata or in_headers or None


def _header(request: Request, name: str) -> str:
    """A header in the encoding that most clients mean; it was read as Latin-1."""
    header = request.headers.get(name, "")
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def refuse_unknown_queries(request: Request) -> None:
    """Raises `BadRequest` for query parameters that the route does not declare, and names those
    that it does.

    A dependency of the routers of our own API, where such a parameter is a mistake that would
    otherwise go unnoticed. Routes that imitate another API go without it: its clients send
    parameters of their own, such as Azure's `api-version`.
    """
    route: APIRoute = request.scope["route"]
    known = [parameter.alias for parameter in get_flat_dependant(route.dependant).query_params]
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise BadRequest(
            f"{', '.join(unknown)}: no query parameter of {request.method} {route.path}; it has "
            f"{', '.join(known) or 'none'}",
            param=unknown[0],
        )


RecommenderDep = Annotated[Recommender, _part(lambda service: service.recommender)]
ConversationDep = Annotated[Conversation, _part(lambda service: service.chat)]
IngestDep = Annotated[Ingest, _part(lambda service: service.ingest)]
RecordsDep = Annotated[Records, _part(lambda service: service.records)]
PreviewerDep = Annotated[Previewer, _part(lambda service: service.previewer)]
EmbeddingsDep = Annotated[EmbeddingSpace, _part(lambda service: service.embeddings)]
DiagnosticsDep = Annotated[Diagnostics, _part(lambda service: service.diagnostics)]
ModelsDep = Annotated[Models, _part(lambda service: service.models)]
SettingsDep = Annotated[Settings, _part(lambda service: service.settings)]
CallDep = Annotated[CallContext, Depends(_call)]
FeedDep = Annotated[FeedBody, Depends(_feed)]
Segment = BeforeValidator(unquote)
"""Decodes a parameter that is part of the path; routes match it percent-encoded
(`service.api.edge.canonical`)."""
PathId = Annotated[
    Id, Segment, Path(description="The caller's own id; `/` in it is sent as `%2F`.")
]


def feed_body(noun: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI for a feed's body of one or many `noun`s."""
    single = noun.model_json_schema()
    example = single["examples"][0]
    return {
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {"anyOf": [single, {"type": "array", "items": single}]},
                    "examples": {"one": {"value": example}, "many": {"value": [example]}},
                },
                LINES: {"example": f"{to_json(example).decode()}\n"},
            },
        }
    }


def shown_body(model: type[BaseModel], **lists: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI for a body that is checked element by element. `lists`: by field name, the models of
    its lists' elements."""
    schema = model.model_json_schema()
    schema.pop("$defs", None)
    for name, element in lists.items():
        schema["properties"][name]["items"] = inner = element.model_json_schema()
        schema["examples"][0][name] = inner["examples"]
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


# ── pages ─────────────────────────────────────────────────────────────────────────────────────────

Row = TypeVar("Row")
LimitQuery = Annotated[int, Query(ge=1, le=1_000, description="How many at most.", examples=[100])]
CursorQuery = Annotated[
    str | None,
    Query(
        description="`next_cursor` of the page before; absent: from the start.",
        examples=["aXRlbXM6MTgx"],
    ),
]


class Page(BaseModel, Generic[Row]):
    """A part of a list. Rows that were there at the first page come once, whatever arrives
    meanwhile."""

    data: list[Row] = Field(description="The rows, in the order of their key.")
    next_cursor: str | None = Field(
        description="`cursor` of the next page; null: this is the last.",
        examples=["aXRlbXM6MTgx", None],
    )


def cursor_of(name: str, key: str | int) -> str:
    """The cursor after a row's key: of the key, not of a count, so that rows that arrive meanwhile
    neither repeat nor hide others. `name`: the list's, so that no cursor works on another list."""
    return urlsafe_b64encode(f"{name}:{key}".encode()).decode().rstrip("=")


def key_of(name: str, cursor: str | None) -> str:
    """The key in a cursor; empty, which is before all keys, for none. Raises `BadRequest` for a
    cursor that this list never gave."""
    if not cursor:
        return ""
    try:
        decoded = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode()
    except ValueError:
        decoded = ""
    if not decoded.startswith(f"{name}:"):
        raise BadRequest(
            "cursor: not one of this list; send next_cursor as it came, or none to begin",
            param="cursor",
        )
    return decoded.removeprefix(f"{name}:")


def place_of(key: str) -> int:
    """The place in the log that a cursor's key is; 0 for none."""
    if key and not (key.isascii() and key.isdigit() and len(key) <= 18):
        raise BadRequest(
            "cursor: holds no place in the log; send next_cursor as it came, or none to begin",
            param="cursor",
        )
    return int(key or 0)


def walk_of(name: str, cursor: str | None) -> tuple[int, int] | None:
    """Two places in the log that a cursor holds: where the next page begins, and where the last one
    ends. None for no cursor."""
    key = key_of(name, cursor)
    places = re.fullmatch(r"(\d{1,18})-(\d{1,18})", key, flags=re.ASCII)
    if key and places is None:
        raise BadRequest(
            "cursor: holds no places in the log; send Cursor as it came, or none to begin",
            param="cursor",
        )
    return (int(places[1]), int(places[2])) if places is not None else None


async def page_of(
    name: str,
    cursor: str | None,
    limit: int,
    read: Callable[[str, int], Awaitable[Sequence[Row]]],
    key: Callable[[Row], str | int],
) -> Page[Row]:
    """The page of at most `limit` rows after a cursor, with a cursor if there are more. `read`:
    reads so many rows after a key; `key`: what a cursor names a row by."""
    rows = await read(key_of(name, cursor), limit + 1)
    data = list(rows[:limit])
    return Page(
        data=data, next_cursor=cursor_of(name, key(data[-1])) if len(rows) > limit else None
    )
