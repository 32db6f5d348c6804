"""`POST /v1/recommendations`: a ranking in one piece, or as server-sent events."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Depends, Request
from sse_starlette import EventSourceResponse, ServerSentEvent

from service.api.edge import REFUSALS, enveloped
from service.api.needs import (
    CallDep,
    JsonRoute,
    RecommenderDep,
    SettingsDep,
    refuse_unknown_queries,
)
from service.schema import ItemField, Ranked, Ranking, Reason, RecommendRequest

router = APIRouter(
    prefix="/v1",
    tags=["recommend"],
    route_class=JsonRoute,
    dependencies=[Depends(refuse_unknown_queries)],
    responses=REFUSALS,
)

REASON = {"item_id", "rank", "reason", "evidence"}
"""Fields of a reason that are sent."""


def _example_answers() -> dict[str, Any]:
    """An answer in one piece and one as events, for OpenAPI."""
    why = Reason(
        item_id="181",
        rank=1,
        reason='Shares Sci-Fi with "Alien", which you rated 5.',
        evidence=["183"],
        grounded=False,
    )
    first = Ranked(
        rank=1, item_id="181", score=0.908, title="Return of the Jedi", signals={"prior": 1.4}
    )
    plain = Ranking(
        ranking_id="rk-ff0d8b5b754c4e53",
        items=[first],
        strategy="listwise",
        model="small",
        state_version=12,
    )
    reasoned = {
        "reason": why.reason,
        "evidence": why.evidence,
        "signals": {**first.signals, "grounded": why.grounded},
    }
    whole = plain.model_copy(update={"items": [first.model_copy(update=reasoned)]})
    events = (_event("ranking", plain), _event("reason", why), _event("done", whole))
    return {
        "application/json": {"example": whole.model_dump(mode="json")},
        "text/event-stream": {"example": b"".join(event.encode() for event in events).decode()},
    }


def _with_fields(ranking: Ranking, names: Sequence[ItemField]) -> Ranking:
    """The ranking with these fields of the items in its rows."""
    return ranking.model_copy(
        update={"items": [row.model_copy(update=row.item_fields(names)) for row in ranking.items]}
    )


def _event(name: str, value: Ranking | Reason) -> ServerSentEvent:
    return ServerSentEvent(
        value.model_dump_json(include=REASON if isinstance(value, Reason) else None), event=name
    )


@router.post(
    "/recommendations",
    summary="Rank for one person, and say why",
    response_model=Ranking,
    responses={
        200: {
            "description": "The ranking; with `stream: true` as events",
            "content": _example_answers(),
        }
    },
)
async def recommendations(
    request: Request,
    body: RecommendRequest,
    recommender: RecommenderDep,
    settings: SettingsDep,
    call: CallDep,
) -> Ranking | EventSourceResponse:
    """Retrieves candidates (or takes yours), ranks them for this person as they are now, and gives
    reasons for the best.

    The ranking is always complete, and there within `deadline_ms`: if the model can't answer in
    time, the prior does, and `degraded` says so.

    With `stream: true` the answer comes as events, each with JSON as `data`: `ranking` as soon as
    the order is decided, a `reason` for each item of the catalogue as soon as it is written, and
    `done`, which is the answer that would have come in one piece. An error in the request is
    answered as without `stream`; if anything fails later, the last event is an `error` with the
    same body. Closing the connection stops the model's work.

    With `fields` the items, in the events `ranking` and `done` too, bring what a page shows of
    them.
    """
    if not body.stream:
        return _with_fields(await recommender.recommend(body, call), body.fields)
    return EventSourceResponse(
        _events(request, await recommender.stream(body, call), body.fields),
        ping=settings.service.ping_s,
        shutdown_grace_period=settings.service.deadline_ms / 1000,
    )


async def _events(
    request: Request, parts: AsyncGenerator[Ranking | Reason, None], fields: Sequence[ItemField]
) -> AsyncGenerator[ServerSentEvent, None]:
    """The first ranking as `ranking`, the last as `done`, reasons between them."""
    name = "ranking"
    try:
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Reason):
                    yield _event("reason", part)
                else:
                    yield _event(name, _with_fields(part, fields))
                    name = "done"
    except Exception as error:
        yield ServerSentEvent(bytes(enveloped(request, error).body).decode(), event="error")
