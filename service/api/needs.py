"""What routes need, said once as types."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, Path, Request, Response
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
    """What models cost is on the account of the caller's key."""
    return CallContext(payer=request.state.key)


JSON = "application/json"
LINES = "application/x-ndjson"


class JsonRequest(Request):
    """JSON as the standard has it: the framework's own parser also takes NaN and lone
    surrogates."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = parsed(await self.body())
        return self._json


class JsonRoute(APIRoute):
    """A route whose body, if it takes one, is JSON and says so.

    A page of another site can't send that without being asked first (CORS), so that no browser
    feeds an open service. What is wrong with a body is found here because the framework would call
    all of it 'an error parsing the body'.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def strict(request: Request) -> Response:
            asked = JsonRequest(request.scope, request.receive)
            if self.body_field is not None and await asked.body():
                must_be(asked, JSON)
                await asked.json()
            return await answer(asked)

        return strict


def must_be(request: Request, *kinds: str) -> None:
    """Raises `UnsupportedMedia` for a body that says to be something else, or nothing."""
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said not in kinds and not (said.startswith("application/") and said.endswith("+json")):
        hint = "; a CSV file is for 'whyrank ingest'" if said == "text/csv" else ""
        wanted = " or ".join(kinds)
        raise UnsupportedMedia(f"send the body with 'content-type: {wanted}'{hint}")


def parsed(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidJson(f"not JSON: {error}") from error


class NothingTaken(BadRequest):
    """Every element of a feed was refused."""

    code = "nothing_accepted"


class FeedBody:
    """The elements of a feed's body: one object, an array, or JSON lines; a line that isn't JSON
    costs itself only."""

    def __init__(self, rows: list[Any], places: list[int], broken: list[Rejection]) -> None:
        self.rows = rows
        self._places = places
        self._broken = broken

    def only(self) -> Any:
        """The one element. Raises `BadRequest` for many."""
        if len(self.rows) + len(self._broken) != 1:
            raise BadRequest("one object a request is needed")
        return self.rows[0]

    def report(self, taken: IngestReport) -> IngestReport:
        """The report with indexes of the body. Raises `NothingTaken` if not one element was."""
        moved = [
            one.model_copy(update={"index": self._places[one.index]}) for one in taken.rejected
        ]
        rejected = sorted([*self._broken, *moved], key=lambda one: one.index)
        if rejected and not taken.accepted and not taken.duplicates:
            more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
            raise NothingTaken(f"element {rejected[0].index}: {rejected[0].message}{more}")
        return taken.model_copy(update={"rejected": rejected})


async def _feed(request: Request) -> FeedBody:
    body = await request.body()
    if body:
        must_be(request, JSON, LINES)
    limit = request.app.state.service.settings.limits.batch
    broken: list[Rejection] = []
    try:
        whole = parsed(body)
        rows = whole if isinstance(whole, list) else [whole]
        places = list(range(len(rows)))
    except InvalidJson:
        lines = [line for line in body.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        rows, places = [], []
        for index, line in enumerate(lines):
            try:
                rows.append(parsed(line))
                places.append(index)
            except InvalidJson as error:
                broken.append(Rejection(index=index, code="invalid", message=error.message))
    if (
        not rows and not broken and not request.url.path.startswith("/api/")
    ):  # to Gorse an empty list is one
        raise BadRequest("the body holds nothing: send one object, an array, or JSON lines")
    if len(rows) + len(broken) > limit:
        raise BadRequest(
            f"{len(rows) + len(broken)} elements; at most {limit} a request (limits.batch)"
        )
    return FeedBody(rows, places, broken)


UNSAID = BeforeValidator(lambda value: None if value == "" else value)
"""What is empty wasn't said."""


class Asker(BaseModel):
    """What a body of another's dialect may say of who asks, and of how they are to be answered;
    other fields are taken too."""

    model_config = ConfigDict(extra="allow")

    user_id: Annotated[Id | None, UNSAID] = Field(
        None,
        description="For whom; else `user`, `metadata.user_id`, X-User-Id, X-OpenWebUI-User-Id.",
    )
    user: Annotated[Id | None, UNSAID] = Field(None, description="As `user_id`.")
    metadata: dict[str, Any] | None = Field(None, description="`user_id` in it is read.")
    session_id: Id | None = Field(None, description="A visitor's session.")
    domain: Label | None = Field(None, description="As on /v1/recommendations.")
    locale: Locale | None = Field(None, description="Language of the answer.")
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


def who(request: Request, asked: Asker) -> str | None:
    """Whom a request is for: the first place that says it; an empty one doesn't."""
    said = (asked.metadata or {}).get("user_id")
    if said is not None and not isinstance(said, str):
        raise BadRequest("metadata.user_id: a string is needed", param="metadata.user_id")
    headers = (
        _utf8(request.headers.get("x-user-id")),
        _utf8(request.headers.get("x-openwebui-user-id")),
    )
    return asked.user_id or asked.user or said or headers[0] or headers[1] or None


def _utf8(header: str | None) -> str | None:
    """Headers come as Latin-1; most clients mean UTF-8."""
    try:
        return header.encode("latin-1").decode() if header is not None else None
    except UnicodeError:
        return header


def refuse_unknown_queries(request: Request) -> None:
    """Raises `BadRequest` for query parameters that the route does not declare, and names those
    that it does.

    A dependency of the routes of our own API, where such a parameter is a mistake that would change
    nothing and say nothing. Routes that imitate another API go without it: its clients send
    parameters of their own, as Azure's `api-version`.
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
"""For a parameter that is a part of the path: routes match it percent-encoded
(`service.api.edge.canonical`)."""
PathId = Annotated[
    Id, Segment, Path(description="The caller's own id; `/` in it is sent as `%2F`.")
]


def feed_body(noun: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI for a feed's body."""
    one = noun.model_json_schema()
    schema, example = {"anyOf": [one, {"type": "array", "items": one}]}, one["examples"][0]
    shown = {"one": {"value": example}, "many": {"value": [example]}}
    content = {
        JSON: {"schema": schema, "examples": shown},
        LINES: {"example": f"{to_json(example).decode()}\n"},
    }
    return {"requestBody": {"required": True, "content": content}}


def shown_body(model: type[BaseModel], **lists: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI for a body that is checked element by element. `lists`: what the elements of its
    lists look like."""
    schema = {key: part for key, part in model.model_json_schema().items() if key != "$defs"}
    for name, one in lists.items():
        schema["properties"][name]["items"] = inner = one.model_json_schema()
        schema["examples"][0][name] = inner["examples"]
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}
