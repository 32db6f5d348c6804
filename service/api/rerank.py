"""`/rerank` as Cohere (v1, v2), Jina, DashScope, LiteLLM, vLLM, Infinity and TEI have it.

One permissive body serves all of them, and one answer nearly all: to TEI's `texts` the answer is
TEI's bare list. The user may be named in several places, as clients differ in what they let one
set.
"""

import time
import uuid
from math import ceil
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt, ValidationError
from pydantic_core import from_json

from service.api.edge import REFUSALS
from service.api.needs import Asker, CallDep, JsonRoute, RecommenderDep, SettingsDep, user_id_of
from service.api.shapes import document, either, own_id, words_in
from service.config import Rerank
from service.errors import BadRequest, reasons
from service.schema import (
    Document,
    Id,
    InlineEvent,
    ItemFields,
    Ranked,
    Ranking,
    RerankRequest,
    Text,
    Value,
)

router = APIRouter(tags=["rerank"], route_class=JsonRoute, responses=REFUSALS)

ROUTES = (
    "/v1/rerank",
    "/v2/rerank",
    "/rerank",
    "/v1/reranks",
    "/reranks",
    "/compatible-api/v1/reranks",
)
EXAMPLE: list[JsonValue] = [
    "a space horror film",
    {"id": "183"},
    {"id": "m7", "title": "Emma", "genre": ["Romance"]},
]
"""Documents of each kind, for OpenAPI."""

TextOrObject = Annotated[Text | dict[str, Any], either("a text or an object")]
Ignored = Annotated[Any, Field(description="Taken and without effect.")]


class NoDocuments(BadRequest, code="no_documents", status=400):
    """There is nothing to rank. With an empty list in a 200, Gorse would delete the user's list."""


class RerankBody(Asker):
    """The fields of all dialects. Fields that none of them has are accepted too, and named in
    `meta.warnings`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "space films", "user_id": "127", "documents": EXAMPLE}]
        }
    )

    query: TextOrObject = Field("", description="What is looked for. With a user it may be empty.")
    documents: list[TextOrObject] | None = Field(
        None,
        description=(
            "Texts, or objects with `text`, `title`, `id` and others; an id of the "
            "catalogue brings what it knows."
        ),
        examples=[EXAMPLE],
    )
    texts: list[TextOrObject] | None = Field(
        None, description="TEI's `documents`; gets TEI's bare list."
    )
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
    documents_are_ids: bool | None = Field(
        None,
        description="Is a document that is a bare string the id of a catalogue item, if there is "
        "one of it? Default: as rerank.documents_are_ids, and where the query is a JSON object.",
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
    """A query that is a JSON object, for clients that can send nothing but a query
    (`rerank.json_query`)."""

    user_id: Id
    history: Annotated[list[InlineEvent], Field(max_length=1_000)] = []
    instruction: Text = ""


def _optional(description: str) -> Any:
    """A field that is left out of the answer if it is null."""
    return Field(None, exclude_if=lambda value: value is None, description=description)


class Told(BaseModel):
    text: str = Field(description="The document's words.")


class Result(ItemFields):
    """A document in its place among the results."""

    index: int = Field(description="Its place in the request, from 0.")
    relevance_score: float = Field(
        description="How probably the document answers the query, comparable between requests: in "
        "(0, 1), strictly falling along the results. Without a query, it only orders."
    )
    rank: int = Field(description="From 1.")
    item_id: str | None = _optional("The id that the document came with.")
    title: str | None = _optional("What it is called; only if `fields` asks for it.")
    reason: str | None = _optional("Why, if `explain` asks for it.")
    evidence: list[str] | None = _optional("Ids of the person's own items that speak for it.")
    document: Told | None = _optional("If `return_documents` asks for it.")


class TeiResult(BaseModel):
    index: int = Field(description="The text's place in the request, from 0.")
    score: float = Field(
        description="How probably the text answers the query; in (0, 1), strictly falling."
    )
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
        "`reason`), `understood` (what the query was taken to ask for) and `warnings`, which "
        "tell in words what was not done as asked; the rest is Cohere's."
    )


async def rerank(
    request: Request,
    body: RerankBody,
    settings: SettingsDep,
    recommender: RecommenderDep,
    call: CallDep,
) -> RerankAnswer | list[TeiResult]:
    """Every document exactly once (or the `top_n` best), the best first, for the query, for the
    person if one is named, or for both; always within `deadline_ms`. No model is asked about a
    single document, or where no document holds any text.

    Takes up to `limits.documents` documents. A model judges the first of them by prior, and
    `meta.warnings` says what it was not shown.
    """
    given = body.documents if body.documents is not None else body.texts
    if not given:
        raise NoDocuments(
            "documents: nothing to rank; send at least one document", param="documents"
        )
    if body.documents is None and body.fields:
        raise BadRequest(
            "fields: TEI's bare list has no room for them; send `documents` instead of `texts`",
            param="fields",
        )
    sent, too_long = zip(*(document(raw, body.rank_fields) for raw in given), strict=True)
    wanted = _rerank_request(request, body, [*sent], settings.rerank)
    reranked = await recommender.rerank(wanted, call)
    ranked = list(zip(reranked.places, reranked.ranking.items, strict=True))
    if body.documents is None:
        return [
            TeiResult(
                index=place,
                score=_relevance(row),
                text=words_in(given[place]) if body.return_text else None,
            )
            for place, row in ranked
        ]
    repeat = bool(body.return_documents) and not request.url.path.startswith("/v2")
    results = [
        _result(place, row, given[place], wanted.documents[place], body, repeat=repeat)
        for place, row in ranked
    ]
    warnings = [*reranked.warnings, *_warnings(body, too_long)]
    return _answer(request, body, reranked.ranking, results, len(given), warnings)


for _path in ROUTES:
    router.post(
        _path,
        summary="Rank documents for a query, a person, or both",
        response_model=RerankAnswer | list[TeiResult],
    )(rerank)


def _warnings(body: RerankBody, too_long: tuple[bool, ...]) -> list[str]:
    """What of the body was not taken. `too_long`: of each document, whether it had to be cut."""
    cut = [str(place) for place, is_too_long in enumerate(too_long) if is_too_long]
    told = {
        "cut to what a document may hold": cut[:100],
        "fields nobody reads": sorted(body.model_extra or ()),
    }
    return [f"{what}: {', '.join(names)}" for what, names in told.items() if names]


def _rerank_request(
    request: Request, body: RerankBody, documents: list[Document], configured: Rerank
) -> RerankRequest:
    """The request in the recommender's terms. Raises `BadRequest`."""
    query = words_in(body.query)
    parsed = _parsed_query(query) if configured.json_query else None
    instructions = (parsed.instruction if parsed else query, body.instruction, body.instruct)
    try:
        return RerankRequest(
            query=" ".join(filter(None, instructions)),
            documents=documents,
            documents_are_ids=(parsed is not None or configured.documents_are_ids)
            if body.documents_are_ids is None
            else body.documents_are_ids,
            top_n=body.top_n or None,
            user_id=user_id_of(request, body) or (parsed.user_id if parsed else None),
            session_id=body.session_id,
            history=parsed.history if parsed else [],
            line_tokens=body.max_tokens_per_doc,
            domain=body.domain,
            locale=body.locale,
            strategy=body.strategy,
            model=body.model,
            explain=body.explain,
            deadline_ms=body.deadline_ms,
            redact=body.redact,
        )
    except ValidationError as error:
        raise BadRequest(reasons(error), param=str(error.errors()[0]["loc"][0])) from error


def _parsed_query(query: str) -> JsonQuery | None:
    """The query as JSON; None for one that is no JSON object. Raises `BadRequest` for an object
    with wrong fields."""
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


def _relevance(row: Ranked) -> float:
    """How probably a document answers the query; without a query, its score in the order."""
    return float(row.signals.get("relevance", row.score))


def _result(
    place: int, row: Ranked, given: Any, sent: Document, body: RerankBody, *, repeat: bool
) -> Result:
    """A row of the ranking. `given`: the document as it came; `sent`: as it was ranked; `repeat`:
    with its text."""
    return Result(
        index=place,
        relevance_score=_relevance(row),
        rank=row.rank,
        item_id=own_id(given) or (row.item_id if row.item_id == sent.text else None),
        reason=row.reason,
        evidence=row.evidence if row.reason else None,
        document=Told(text=words_in(given)) if repeat else None,
        **row.item_fields(body.fields),
    )


def _answer(
    request: Request,
    body: RerankBody,
    ranking: Ranking,
    results: list[Result],
    count: int,
    warnings: list[str],
) -> RerankAnswer:
    """The answer of every dialect but TEI's. `count`: of the documents."""
    usage = ranking.usage
    return RerankAnswer(
        id=f"rr-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=body.model or ranking.model or "whyrank",
        results=results,
        usage=usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}),
        meta={
            "api_version": {"version": "1" if request.url.path.startswith("/v1") else "2"},
            # Cohere bills 100 documents as one search
            "billed_units": {"search_units": ceil(count / 100)},
            "tokens": {
                "input_tokens": usage.prompt_tokens,
                "output_tokens": usage.completion_tokens,
            },
            "warnings": warnings,
            "ranking_id": ranking.ranking_id,
            "strategy": ranking.strategy,
            "degraded": ranking.degraded,
            "understood": ranking.understood,
        },
    )
