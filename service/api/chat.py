"""`/v1/chat/completions` and `/v1/models`, as any OpenAI client expects them: a conversation
refines the recommendation."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt, ValidationError
from sse_starlette import EventSourceResponse, ServerSentEvent

from service.api.envelope import enveloped
from service.api.needs import (
    Asker,
    CallDep,
    ConversationDep,
    EmbeddingsDep,
    JsonRoute,
    ModelsDep,
    Segment,
    SettingsDep,
    who,
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
    Ranked,
    Text,
    Turn,
    Usage,
)

router = APIRouter(prefix="/v1", tags=["chat"], route_class=JsonRoute)

SAYS = {"user", "assistant"}
"""Whose words count. What the system, developers or tools say is taken and not followed: the role
here is fixed."""
SHOWN: list[JsonValue] = [
    {"role": "user", "content": "Something scary for tonight, but no zombies."}
]
"""A conversation, for OpenAPI."""


class OneChoice(BadRequest):
    """400, as OpenAI's."""

    status = 400


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = Field(
        description="Who speaks; what others than user and assistant say is not followed."
    )
    content: Annotated[
        Text | list[dict[str, Any]] | None, either("a text, or a list of parts that are objects")
    ] = Field(None, description="Words, or parts of which `text` is read.")


class ChatBody(Asker):
    """OpenAI's, and beside it what a recommendation needs to know; further fields of OpenAI's are
    taken without effect."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "whyrank", "user_id": "127", "top_n": 3, "messages": SHOWN}]
        }
    )

    model: Text = Field(
        "whyrank", description="An id of `/v1/models`: a strategy or a configured model."
    )
    messages: Annotated[list[Message], Field(min_length=1)] = Field(
        description="The conversation; the last message is the user's.",
        examples=[SHOWN],
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
    deadline_ms: Annotated[StrictInt, Field(ge=1, le=600_000)] | None = Field(
        None, description="Answer within this time."
    )


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
    """What the person said of themselves and is now an event."""

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
    """OpenAI's answer, and beside it the recommendation as data."""

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
    summary="Talk about what to show next",
    response_model=Completion,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def complete(
    request: Request,
    asked: ChatBody,
    conversation: ConversationDep,
    settings: SettingsDep,
    call: CallDep,
) -> Completion | EventSourceResponse:
    """Picks for this person, as the conversation wants them, with a reason for each. "I have seen
    the second one" and "I don't like horror" become events and count from then on; "why the first?"
    is answered from what is known.

    Works without a user, from the conversation alone; a key that may not write notes nothing. Only
    words of ours and checked reasons are ever said.
    """
    parts = await conversation.answer(_wanted(request, asked), call)
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked.model}
    first = await anext(parts)  # what fails before the first word still has a status of its own
    if not asked.stream:
        return Completion(**head, **_whole(await _last(first, parts), asked.fields))
    events = _chunks(request, asked, head, first, parts)
    return EventSourceResponse(
        events,
        ping=settings.service.ping_s,
        shutdown_grace_period=settings.service.deadline_ms / 1000,
    )


@router.get("/models", summary="What `model` may name")
async def models(models: ModelsDep, space: EmbeddingsDep) -> ModelList:
    """Strategies as ids, configured models, and the embedding."""
    return ModelList(data=[Listed(id=one) for one in [*models.names, space.name]])


@router.get("/models/{model_id:path}", summary="One of what `model` may name")
async def model(
    model_id: Annotated[str, Segment, Path(description="An id of the list.", examples=["whyrank"])],
    models: ModelsDep,
    space: EmbeddingsDep,
) -> Listed:
    """404 for what it may not, with all that it may."""
    known = [*models.names, space.name]
    if model_id not in known:
        raise NotFound("model", model_id, param="model", known=", ".join(known))
    return Listed(id=model_id)


def _wanted(request: Request, asked: ChatBody) -> ChatRequest:
    if asked.n not in (None, 1):
        raise OneChoice("n: only 1 is answered", param="n")
    same = ChatRequest.model_fields.keys() & ChatBody.model_fields.keys() - {"user_id", "documents"}
    documents = [document(one, place) for place, one in enumerate(asked.documents or ())]
    try:
        return ChatRequest(
            turns=[
                Turn.model_validate({"role": one.role, "text": words_in(one.content)})
                for one in asked.messages
                if one.role in SAYS
            ],
            shape=_shape(asked.response_format),
            note=request.state.key.allows("write"),
            user_id=who(request, asked),
            documents=documents or None,
            **{name: getattr(asked, name) for name in same},
        )
    except ValidationError as error:
        where = (
            "messages"
            if error.errors()[0]["loc"][:1] in {(), ("turns",)}
            else str(error.errors()[0]["loc"][0])
        )
        raise BadRequest(reasons(error).replace("turns", "messages"), param=where) from error


def _shape(wanted: dict[str, Any] | None) -> dict[str, Any] | None:
    """A JSON schema; {} for any JSON object; None for words."""
    kind = (wanted or {}).get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return {}
    inner = (wanted or {}).get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        raise BadRequest(
            "response_format: text, json_object, or json_schema with a json_schema.schema",
            param="response_format",
        )
    return schema


async def _last(first: str | ChatReply, parts: AsyncGenerator[str | ChatReply, None]) -> ChatReply:
    last = first
    async with aclosing(parts):
        async for part in parts:
            last = part
    assert isinstance(last, ChatReply)
    return last


def _usage(usage: Usage) -> dict[str, Any]:
    counted = usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"})
    return {**counted, "prompt_tokens_details": {"cached_tokens": usage.cached_tokens}}


def _beside(reply: ChatReply, fields: Sequence[ItemField]) -> dict[str, Any]:
    """What no field of OpenAI's has room for."""
    ranking = reply.ranking
    return {
        "recommendations": [
            _pick(row, fields) for row in (ranking.items if ranking is not None else [])
        ],
        "ranking_id": ranking.ranking_id if ranking is not None else None,
        "noted": [Noted.model_validate(event.model_dump()) for event in reply.noted],
        "strategy": ranking.strategy if ranking is not None else None,
        "degraded": ranking.degraded.model_dump()
        if ranking is not None and ranking.degraded is not None
        else None,
        "warnings": ranking.warnings if ranking is not None else [],
    }


def _pick(row: Ranked, fields: Sequence[ItemField]) -> Pick:
    return Pick.model_validate({**row.model_dump(), **row.item_fields(fields)})


def _whole(reply: ChatReply, fields: Sequence[ItemField]) -> dict[str, Any]:
    return {
        "choices": [ChatChoice(message=ChatAnswer(content=reply.text))],
        "usage": _usage(reply.usage),
        **_beside(reply, fields),
    }


async def _chunks(
    request: Request,
    asked: ChatBody,
    head: dict[str, Any],
    first: str | ChatReply,
    parts: AsyncGenerator[str | ChatReply, None],
) -> AsyncGenerator[ServerSentEvent, None]:
    """The role, the words, the end with everything beside; and `[DONE]`, whatever happens."""

    def chunk(choices: list[dict[str, Any]], **more: Any) -> ServerSentEvent:
        return ServerSentEvent(
            json.dumps({**head, "object": "chat.completion.chunk", "choices": choices, **more})
        )

    def delta(said: dict[str, str], finish: str | None = None, **more: Any) -> ServerSentEvent:
        return chunk(
            [{"index": 0, "delta": said, "finish_reason": finish, "logprobs": None}], **more
        )

    yield delta({"role": "assistant", "content": ""})
    try:
        async with aclosing(parts):
            part: str | ChatReply = first
            while isinstance(part, str):
                yield delta({"content": part})
                part = await anext(parts)
        yield delta({}, "stop", **{k: _plain(v) for k, v in _beside(part, asked.fields).items()})
        if (asked.stream_options or {}).get("include_usage"):
            yield chunk([], usage=_usage(part.usage))
    except Exception as error:
        body = json.loads(bytes(enveloped(request, error).body))
        yield ServerSentEvent(json.dumps({"error": body["error"]}))
    yield ServerSentEvent("[DONE]")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [one.model_dump(mode="json") if isinstance(one, BaseModel) else one for one in value]
    return value
