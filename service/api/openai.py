"""`/v1/chat/completions`, `/v1/models` and `/v1/embeddings`, as OpenAI clients expect them:
recommendations by conversation, and texts as vectors, by the embedder of the catalogue."""

import json
import time
import uuid
from base64 import b64encode
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt, ValidationError
from pydantic_core import to_jsonable_python
from sse_starlette import EventSourceResponse, ServerSentEvent

from service.api.edge import REFUSALS, enveloped
from service.api.needs import (
    Asker,
    CallDep,
    ConversationDep,
    EmbeddingsDep,
    JsonRoute,
    ModelsDep,
    Segment,
    SettingsDep,
    user_id_of,
)
from service.api.shapes import document, either, words_in
from service.errors import BadRequest, NotFound, reasons
from service.schema import (
    ChatReply,
    ChatRequest,
    Filter,
    Id,
    ItemField,
    ItemFields,
    Key,
    Text,
    Turn,
    Usage,
)

router = APIRouter(prefix="/v1", route_class=JsonRoute, responses=REFUSALS)

READ_ROLES = {"user", "assistant"}
"""Roles whose messages are read. Those of the system, of developers and of tools are taken and not
followed: what the service does here is fixed."""
EXAMPLE: list[JsonValue] = [
    {"role": "user", "content": "Something scary for tonight, but no zombies."}
]
"""A conversation, for OpenAPI."""


class NoToolCalls(BadRequest, code="no_tool_calls", status=400):
    """A tool call is demanded, and there are none."""


class OneChoice(BadRequest, status=400):
    """More than one choice was asked for. The status is OpenAI's."""


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = Field(
        description="Who speaks; what others than user and assistant say is not followed."
    )
    content: Annotated[
        Text | list[dict[str, Any]] | None, either("a text, or a list of parts that are objects")
    ] = Field(None, description="Words, or parts of which `text` is read.")


class ChatBody(Asker):
    """OpenAI's request, extended by what a recommendation needs to know. Fields of OpenAI's that
    are not listed are taken without effect."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "whyrank", "user_id": "127", "top_n": 3, "messages": EXAMPLE}]
        }
    )

    model: Text = Field(
        "whyrank", description="An id of `/v1/models`: a strategy or a configured model."
    )
    messages: Annotated[list[Message], Field(min_length=1)] = Field(
        description="The conversation; the last message is the user's.",
        examples=[EXAMPLE],
    )
    stream: bool | None = Field(None, description="Answer by server-sent chunks.")
    stream_options: dict[str, Any] | None = Field(
        None, description="`include_usage`: a last chunk with the tokens."
    )
    response_format: dict[str, Any] | None = Field(
        None,
        description=(
            "`json_object`, or `json_schema` with a schema of yours: the content is that JSON."
        ),
    )
    n: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None, description="1: there is one best answer."
    )
    tools: Any = Field(None, description="Taken and without effect: no tool is ever called.")
    tool_choice: str | dict[str, Any] | None = Field(
        None, description="`auto` or `none`: a call can't be forced, as there are none."
    )
    candidates: Annotated[list[Id], Field(min_length=1)] | None = Field(
        None, description="Choose among these items only."
    )
    documents: (
        Annotated[
            list[Annotated[str | dict[str, Any], either("a text or an object")]],
            Field(min_length=1),
        ]
        | None
    ) = Field(
        None,
        description=(
            "Choose among these only, of which the catalogue need not know: as on /v1/rerank."
        ),
    )
    top_n: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None,
        description=(
            "How many picks, or fewer if a turn asks for fewer. Left out: as many as "
            "it asks for, else 5."
        ),
    )
    filters: dict[Key, Filter] = Field({}, description="As on /v1/recommendations.")
    exclude: Annotated[list[Id], Field(max_length=10_000)] = Field(
        [], description="Items never to pick."
    )
    prompt_id: Text | None = Field(None, description="As on /v1/recommendations.")
    prompt_version: Text | None = Field(None, description="As on /v1/recommendations.")
    explain: Literal["none", "short", "full"] = Field("short", description="Reasons for the picks.")


class Pick(ItemFields):
    """One recommendation of the answer, as data."""

    rank: int = Field(description="From 1.")
    item_id: str = Field(description="The catalogue's.")
    title: str = Field(description="Empty where the item has none.")
    score: float = Field(description="In (0, 1), strictly falling along the list.")
    reason: str | None = Field(None, description="Why; null if no reasons were asked for.")
    evidence: list[str] = Field(
        [], description="Ids of the person's own items that the reason rests on."
    )


class Noted(BaseModel):
    """Something that the person said of themselves, which is now an event."""

    type: str = Field(description="The event's: `seen` or `dislike`.")
    item_id: str | None = Field(None, description="Of which item.")
    text: str | None = Field(None, description="Or of what, in words.")


class ChatAnswer(BaseModel):
    role: Literal["assistant"] = Field("assistant", description="Always this.")
    content: str = Field(description="Words, or JSON if `response_format` asks for it.")
    refusal: None = Field(None, description="Always null.")


class ChatChoice(BaseModel):
    index: int = Field(0, description="Always 0.")
    message: ChatAnswer = Field(description="The answer.")
    finish_reason: Literal["stop"] = Field("stop", description="Always this: no answer is cut.")
    logprobs: None = Field(None, description="Always null.")


class Completion(BaseModel):
    """OpenAI's answer, extended by the recommendation as data."""

    id: str = Field(description="Of this answer.")
    object: Literal["chat.completion"] = Field("chat.completion", description="Always this.")
    created: int = Field(description="When, in seconds since 1970.")
    model: str = Field(description="As asked for.")
    choices: list[ChatChoice] = Field(description="One.")
    usage: dict[str, Any] = Field(description="Tokens over all model calls, as OpenAI counts them.")
    recommendations: list[Pick] = Field([], description="The picks in the words, the best first.")
    ranking_id: str | None = Field(
        None, description="Of the ranking that they come from; null: none was needed."
    )
    noted: list[Noted] = Field(
        [], description="What the person said of themselves; it counts from now on."
    )
    strategy: str | None = Field(None, description="Which one ranked.")
    degraded: dict[str, str] | None = Field(
        None, description="`from`, `to` and `reason`, where something else ranked than was wanted."
    )
    warnings: list[str] = Field(
        [], description="What was done otherwise than one might think, in words."
    )


class Listed(BaseModel):
    id: str = Field(description="What `model` may name.")
    object: Literal["model"] = Field("model", description="Always this.")
    created: int = Field(0, description="Always 0.")
    owned_by: str = Field("whyrank", description="Always this.")


class ModelList(BaseModel):
    object: Literal["list"] = Field("list", description="Always this.")
    data: list[Listed] = Field(description="Strategies, configured models, the embedder.")


@router.post(
    "/chat/completions",
    tags=["chat"],
    summary="Talk about what to show next",
    response_model=Completion,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def complete(
    request: Request,
    body: ChatBody,
    conversation: ConversationDep,
    settings: SettingsDep,
    call: CallDep,
) -> Completion | EventSourceResponse:
    """Picks for this person, by what the conversation asks for, with a reason for each. "I have
    seen the second one" and "I don't like horror" become events and count from then on; "why the
    first?" is answered from what is known.

    It works without a user, from the conversation alone. With a key that may not write, nothing
    becomes an event. Answers consist of fixed sentences and checked reasons only.
    """
    parts = await conversation.answer(_chat_request(request, body), call)
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body.model}
    first = await anext(parts)  # an error before the first word still gets its own status
    if not body.stream:
        async with aclosing(parts):
            *_, reply = [part async for part in parts if isinstance(part, ChatReply)]
        return Completion(
            **head,
            choices=[ChatChoice(message=ChatAnswer(content=reply.text))],
            usage=_usage(reply.usage),
            **_extras(reply, body.fields),
        )
    return EventSourceResponse(
        _chunks(request, body, head, first, parts),
        ping=settings.service.ping_s,
        shutdown_grace_period=settings.service.deadline_ms / 1000,
    )


@router.get("/models", tags=["chat"], summary="What `model` may name")
async def models(models: ModelsDep, space: EmbeddingsDep) -> ModelList:
    """Strategies as ids, configured models, and the embedding."""
    return ModelList(data=[Listed(id=model_id) for model_id in (*models.names, space.name)])


@router.get("/models/{model_id:path}", tags=["chat"], summary="One of what `model` may name")
async def model(
    model_id: Annotated[str, Segment, Path(description="An id of the list.", examples=["whyrank"])],
    models: ModelsDep,
    space: EmbeddingsDep,
) -> Listed:
    """404 for an unknown id, with a list of the known ones."""
    known = [*models.names, space.name]
    if model_id not in known:
        raise NotFound("model", model_id, param="model", known=", ".join(known))
    return Listed(id=model_id)


def _chat_request(request: Request, body: ChatBody) -> ChatRequest:
    """The request in the recommender's terms. Raises `BadRequest` for a conversation that it can't
    answer."""
    if body.n not in (None, 1):
        raise OneChoice("n: only 1 is answered", param="n")
    if body.tool_choice not in (None, "auto", "none"):
        raise NoToolCalls(
            "tool_choice: no tool is ever called; leave it out, or send auto or none",
            param="tool_choice",
        )
    same = ChatRequest.model_fields.keys() & ChatBody.model_fields.keys() - {"user_id", "documents"}
    try:
        return ChatRequest(
            turns=[
                Turn.model_validate({"role": message.role, "text": words_in(message.content)})
                for message in body.messages
                if message.role in READ_ROLES
            ],
            shape=_shape(body.response_format),
            note=request.state.key.allows("write"),
            user_id=user_id_of(request, body),
            documents=[document(given)[0] for given in body.documents or ()] or None,
            **{name: getattr(body, name) for name in same},
        )
    except ValidationError as error:
        location = error.errors()[0]["loc"]
        param = "messages" if location[:1] in {(), ("turns",)} else str(location[0])
        raise BadRequest(reasons(error).replace("turns", "messages"), param=param) from error


def _shape(response_format: dict[str, Any] | None) -> dict[str, Any] | None:
    """The JSON schema that is asked for; {} for any JSON object, None for text."""
    match {"type": "text", **(response_format or {})}:
        case {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
    raise BadRequest(
        "response_format: text, json_object, or json_schema with a json_schema.schema",
        param="response_format",
    )


def _usage(usage: Usage) -> dict[str, Any]:
    """The tokens as OpenAI counts them."""
    return {
        **usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}),
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _extras(reply: ChatReply, fields: Sequence[ItemField]) -> dict[str, Any]:
    """The fields of an answer that OpenAI's doesn't have."""
    ranking = reply.ranking
    degraded = ranking.degraded if ranking is not None else None
    return {
        "recommendations": [
            Pick.model_validate({**row.model_dump(), **row.item_fields(fields)})
            for row in (ranking.items if ranking is not None else [])
        ],
        "ranking_id": ranking.ranking_id if ranking is not None else None,
        "noted": [Noted.model_validate(event.model_dump()) for event in reply.noted],
        "strategy": ranking.strategy if ranking is not None else None,
        "degraded": degraded.model_dump() if degraded is not None else None,
        "warnings": ranking.warnings if ranking is not None else [],
    }


async def _chunks(
    request: Request,
    body: ChatBody,
    head: dict[str, Any],
    first: str | ChatReply,
    parts: AsyncGenerator[str | ChatReply, None],
) -> AsyncGenerator[ServerSentEvent, None]:
    """The answer as chunks: the role, the words, the end with all extras, and `[DONE]`, which comes
    after an error too."""

    def chunk(choices: list[dict[str, Any]], **fields: Any) -> ServerSentEvent:
        data = {**head, "object": "chat.completion.chunk", "choices": choices, **fields}
        return ServerSentEvent(json.dumps(data, default=to_jsonable_python))

    def delta(content: dict[str, str], finish: str | None = None, **fields: Any) -> ServerSentEvent:
        return chunk(
            [{"index": 0, "delta": content, "finish_reason": finish, "logprobs": None}], **fields
        )

    yield delta({"role": "assistant", "content": ""})
    try:
        async with aclosing(parts):
            part: str | ChatReply = first
            while isinstance(part, str):
                yield delta({"content": part})
                part = await anext(parts)
        yield delta({}, "stop", **_extras(part, body.fields))
        if (body.stream_options or {}).get("include_usage"):
            yield chunk([], usage=_usage(part.usage))
    except Exception as error:
        envelope = json.loads(bytes(enveloped(request, error).body))
        yield ServerSentEvent(json.dumps({"error": envelope["error"]}))
    yield ServerSentEvent("[DONE]")


# ── embeddings ────────────────────────────────────────────────────────────────────────────────────

Tokens = Annotated[list[Annotated[StrictInt, Field(ge=0)]], Field(min_length=1)]
Input = Annotated[
    Text
    | Annotated[list[Text], Field(min_length=1)]
    | Tokens
    | Annotated[list[Tokens], Field(min_length=1)],
    either("a text, some texts, or their token ids; at least one"),
]


class EmbeddingsBody(BaseModel):
    """OpenAI's request. Fields of OpenAI's that are not listed are taken without effect."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"input": ["a space horror film"]}]}
    )

    input: Input = Field(
        description="One text or several; or their token ids by the embedder's own tokenizer.",
        examples=[["a space horror film"]],
    )
    model: Text | None = Field(
        None, description="Any: there is one space. Its name is in the answer."
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="base64: little-endian float32; else floats."
    )
    dimensions: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None, description="Only the space's own number."
    )


class Embedding(BaseModel):
    object: Literal["embedding"] = Field("embedding", description="Always this.")
    index: int = Field(description="The text's place in the request, from 0.")
    embedding: list[float] | str = Field(description="A unit vector, or its bytes in base64.")


class Embeddings(BaseModel):
    object: Literal["list"] = Field("list", description="Always this.")
    data: list[Embedding] = Field(description="One for each text, in input order.")
    model: str = Field(description="The embedder that made them.")
    usage: dict[str, int] = Field(description="Tokens read: `prompt_tokens`, `total_tokens`.")


@router.post(
    "/embeddings", tags=["embeddings"], summary="Texts as vectors of the catalogue's space"
)
async def embeddings(body: EmbeddingsBody, space: EmbeddingsDep) -> Embeddings:
    """Unit vectors in input order. Their inner products with items' vectors are the cosines by
    which items are retrieved."""
    single = isinstance(body.input, str) or isinstance(body.input[0], int)
    inputs: Any = [body.input] if single else body.input
    if body.dimensions not in (None, space.dimension):
        raise BadRequest(f"dimensions: this space has {space.dimension}", param="dimensions")
    vectors, tokens = await space.embed(inputs)
    written = (
        [b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
        if body.encoding_format == "base64"
        else vectors.tolist()
    )
    return Embeddings(
        data=[Embedding(index=n, embedding=vector) for n, vector in enumerate(written)],
        model=space.name,
        usage={"prompt_tokens": tokens, "total_tokens": tokens},
    )
