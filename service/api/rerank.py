"""`/rerank` in everybody's dialect: Cohere v1 and v2, Jina, DashScope, LiteLLM, vLLM, Infinity,
TEI.

One permissive body for all of them and one answer for nearly all; TEI's `texts` gets TEI's bare
list. Who asks may be said in six places, as clients can turn different knobs.
"""

from __future__ import annotations

import time
import uuid
from math import ceil
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt, ValidationError
from pydantic_core import from_json

from service.api.needs import Asker, CallDep, JsonRoute, RecommenderDep, SettingsDep, who
from service.api.shapes import document, either, own_id, words_in
from service.errors import BadRequest, reasons
from service.schema import Id, InlineEvent, ItemFields, Reranked, RerankRequest, Text, Value

router = APIRouter(tags=["rerank"], route_class=JsonRoute)

ROUTES = (
    "/v1/rerank",
    "/v2/rerank",
    "/rerank",
    "/v1/reranks",
    "/reranks",
    "/compatible-api/v1/reranks",
)
SEARCH_UNIT = 100
"""Documents that Cohere counts as one search."""
SHOWN: list[JsonValue] = [
    "a space horror film",
    {"id": "183"},
    {"id": "m7", "title": "Emma", "genre": ["Romance"]},
]
"""Documents of each kind, for OpenAPI."""

Said = Annotated[Text | dict[str, Any], either("a text or an object")]
Ignored = Annotated[Any, Field(description="Taken and without effect.")]


class NoDocuments(BadRequest):
    """400: with an empty 200, Gorse would wipe the list of whoever asked."""

    code = "no_documents"
    status = 400


class RerankBody(Asker):
    """All that any dialect sends. What nobody of them sends is accepted too, and named in
    `meta.warnings`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "space films", "user_id": "127", "documents": SHOWN}]
        }
    )

    query: Said = Field("", description="What is looked for. With a user it may be empty.")
    documents: list[Said] | None = Field(
        None,
        description=(
            "Texts, or objects with `text`, `title`, `id` and others; an id of the "
            "catalogue brings what it knows."
        ),
        examples=[SHOWN],
    )
    texts: list[Said] | None = Field(None, description="TEI's `documents`; gets TEI's bare list.")
    top_n: Annotated[StrictInt, Field(ge=0)] | None = Field(
        None, description="How many come back; null or 0: all."
    )
    model: Text | None = Field(
        None,
        description="An id of `/v1/models`; others are answered by the default, with a warning.",
    )
    return_documents: bool | None = Field(
        None, description="Repeat each document as `{text}`; not on /v2."
    )
    return_text: bool | None = Field(None, description="TEI's `return_documents`.")
    rank_fields: list[Text] | None = Field(
        None, description="Fields of an object that are its text (Cohere v1)."
    )
    max_tokens_per_doc: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None, description="A model sees no more of one."
    )
    instruction: Text | None = Field(None, description="What to look for, beside the query.")
    instruct: Text | None = Field(None, description="DashScope's `instruction`.")
    explain: Literal["none", "short", "full"] = Field(
        "none", description="Reasons and evidence in the results."
    )
    raw_scores: Any = Field(
        None, description="Taken and without effect: scores always lie in (0, 1)."
    )
    truncate: Ignored = None
    truncation_direction: Ignored = None
    truncate_prompt_tokens: Ignored = None
    max_chunks_per_doc: Ignored = None
    priority: Ignored = None
    cache_salt: Ignored = None
    client_name: Ignored = None


class JsonQuery(Value):
    """A query that is a JSON object, for clients that can send nothing else
    (`rerank.json_query`)."""

    user_id: Id
    history: Annotated[list[InlineEvent], Field(max_length=1_000)] = []
    instruction: Text = ""


def _optional(description: str) -> Any:
    """A field that is left out where it is null."""
    return Field(None, exclude_if=lambda value: value is None, description=description)


class Told(BaseModel):
    text: str = Field(description="The document's words.")


class Result(ItemFields):
    """A document in its place."""

    index: int = Field(description="Its place in the request, from 0.")
    relevance_score: float = Field(description="In (0, 1), strictly falling along the results.")
    rank: int = Field(description="From 1.")
    item_id: str | None = _optional("The id that the document came with.")
    title: str | None = _optional("What it is called; only if `fields` asks for it.")
    reason: str | None = _optional("Why, if `explain` asks for it.")
    evidence: list[str] | None = _optional("Ids of the person's own items that speak for it.")
    document: Told | None = _optional("If `return_documents` asks for it.")


class TeiResult(BaseModel):
    index: int = Field(description="The text's place in the request, from 0.")
    score: float = Field(description="In (0, 1), strictly falling along the list.")
    text: str | None = _optional("If `return_text` asks for it.")


class RerankAnswer(BaseModel):
    id: str = Field(description="Of this answer.")
    object: Literal["rerank"] = Field("rerank", description="Always this.")
    created: int = Field(description="When, in seconds since 1970.")
    model: str = Field(description="As asked for; else what ranked.")
    results: list[Result] = Field(
        description="Every document once, or the `top_n` best; the best first."
    )
    usage: dict[str, int] = Field(
        description="Over all model calls: `prompt_tokens`, `completion_tokens`, `total_tokens`."
    )
    meta: dict[str, Any] = Field(
        description="Ours are `ranking_id`, `strategy`, `degraded` (null, or `from`, `to` and "
        "`reason`) and `warnings`, which "
        "tell in words what was not done as asked; the rest is Cohere's."
    )


async def rerank(
    request: Request,
    asked: RerankBody,
    settings: SettingsDep,
    recommender: RecommenderDep,
    call: CallDep,
) -> RerankAnswer | list[TeiResult]:
    """Every document exactly once, the best first (or the `top_n` best), for the query, for the
    person if one is named, or both; always within `deadline_ms`. One document, or none that says
    anything, asks no model.

    Up to `limits.documents` documents; a model judges the first by prior, and `meta.warnings` says
    what it was not shown.
    """
    given = asked.documents if asked.documents is not None else asked.texts
    if not given:
        raise NoDocuments(
            "documents: nothing to rank; send at least one document", param="documents"
        )
    if asked.documents is None and asked.fields:
        raise BadRequest(
            "fields: TEI's bare list has no room for them; send `documents` instead of `texts`",
            param="fields",
        )
    cut: list[int] = []
    wanted = _wanted(request, asked, given, cut, json_query=settings.rerank.json_query)
    found = await recommender.rerank(wanted, call)
    if asked.documents is None:
        return [
            TeiResult(
                index=place,
                score=item.score,
                text=words_in(given[place]) if asked.return_text else None,
            )
            for place, item in zip(found.places, found.ranking.items, strict=True)
        ]
    shown = asked.return_documents and not request.url.path.startswith("/v2")
    warnings = [
        *found.warnings,
        *([f"cut to what a document may hold: {', '.join(map(str, cut[:100]))}"] if cut else []),
    ]
    return _answer(request, asked, wanted, found, given, warnings, repeat=bool(shown))


for _path in ROUTES:
    router.post(
        _path,
        summary="Rank documents for a query, a person, or both",
        response_model=RerankAnswer | list[TeiResult],
    )(rerank)


def _wanted(
    request: Request, asked: RerankBody, given: list[Any], cut: list[int], *, json_query: bool
) -> RerankRequest:
    query = words_in(asked.query)
    told = _told(query) if json_query else None
    more = [
        part
        for part in (told.instruction if told else query, asked.instruction, asked.instruct)
        if part
    ]
    return _made(
        query=" ".join(more),
        documents=[document(one, place, asked.rank_fields, cut) for place, one in enumerate(given)],
        top_n=asked.top_n or None,
        user_id=who(request, asked) or (told.user_id if told else None),
        session_id=asked.session_id,
        history=told.history if told else [],
        line_tokens=asked.max_tokens_per_doc,
        domain=asked.domain,
        locale=asked.locale,
        strategy=asked.strategy,
        model=asked.model,
        explain=asked.explain,
        deadline_ms=asked.deadline_ms,
        redact=asked.redact,
    )


def _made(**fields: Any) -> RerankRequest:
    try:
        return RerankRequest(**fields)
    except ValidationError as error:
        raise BadRequest(reasons(error), param=str(error.errors()[0]["loc"][0])) from error


def _told(query: str) -> JsonQuery | None:
    """None for a query that is no JSON object: words."""
    if not query.lstrip().startswith("{"):
        return None
    try:
        return JsonQuery.model_validate(from_json(query, allow_inf_nan=False))
    except ValidationError as error:
        raise BadRequest(
            f"query: {reasons(error)} (rerank.json_query is on)", param="query"
        ) from error
    except ValueError:
        return None


def _answer(
    request: Request,
    asked: RerankBody,
    wanted: RerankRequest,
    found: Reranked,
    given: list[Any],
    warnings: list[str],
    *,
    repeat: bool,
) -> RerankAnswer:
    ranking = found.ranking
    usage = ranking.usage
    results = [
        Result(
            index=place,
            relevance_score=item.score,
            rank=item.rank,
            item_id=own_id(given[place])
            or (item.item_id if item.item_id == wanted.documents[place].text else None),
            reason=item.reason,
            evidence=item.evidence if item.reason else None,
            document=Told(text=words_in(given[place])) if repeat else None,
            **item.item_fields(asked.fields),
        )
        for place, item in zip(found.places, ranking.items, strict=True)
    ]
    version = "1" if request.url.path.startswith("/v1") else "2"
    strange = sorted(asked.model_extra or ())
    return RerankAnswer(
        id=f"rr-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=asked.model or ranking.model or "whyrank",
        results=results,
        usage=usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}),
        meta={
            "api_version": {"version": version},
            "billed_units": {"search_units": ceil(len(wanted.documents) / SEARCH_UNIT)},
            "tokens": {
                "input_tokens": usage.prompt_tokens,
                "output_tokens": usage.completion_tokens,
            },
            "warnings": [
                *warnings,
                *([f"fields nobody reads: {', '.join(strange)}"] if strange else []),
            ],
            "ranking_id": ranking.ranking_id,
            "strategy": ranking.strategy,
            "degraded": ranking.degraded,
        },
    )
