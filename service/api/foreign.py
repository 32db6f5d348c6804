"""Feeds in the formats of Metarank and of Amazon Personalize, at the paths of their own APIs.

Metarank's `POST /feedback` takes events about items and users, rankings and interactions in one
list. Personalize has PutEvents, PutItems and PutUsers; its clients read only the status of an
answer, and our answers also say what was taken.
"""

import time
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from service.api.edge import REFUSALS
from service.api.needs import FeedBody, FeedDep, IngestDep, JsonRoute, shown_body
from service.api.shapes import by_field
from service.schema import Feed, IngestReport, Rejection

router = APIRouter(route_class=JsonRoute, responses=REFUSALS)

# ── Metarank ──────────────────────────────────────────────────────────────────────────────────────

CLICK: dict[str, JsonValue] = {
    "event": "interaction",
    "id": "0f4c0036",
    "timestamp": "1599391467000",
    "user": "127",
    "item": "181",
    "type": "click",
}


class MetarankEvent(BaseModel):
    """One of four kinds. One or many, as an array or as JSON lines."""

    model_config = ConfigDict(json_schema_extra={"examples": [CLICK]})

    event: Literal["item", "user", "ranking", "interaction"] = Field(
        description="Which kind.", examples=["interaction"]
    )
    id: str = Field(
        description="Of the event; of a ranking: what interactions name it by.",
        examples=["0f4c0036"],
    )
    timestamp: str | int = Field(
        description="Milliseconds since 1970, as a string or number, or ISO 8601.",
        examples=["1599391467000"],
    )
    item: str | None = Field(
        None, description="The item that changed, or that was interacted with.", examples=["181"]
    )
    user: str | None = Field(
        None, description="The user that changed, who was shown, or who acted.", examples=["127"]
    )
    session: str | None = Field(
        None, description="Whose visit; alone: a visitor without an id.", examples=["s1"]
    )
    type: str | None = Field(
        None, description="Of an interaction: the event's type.", examples=["click"]
    )
    ranking: str | None = Field(
        None, description="Of an interaction: the `id` of what was shown.", examples=["81f46c34"]
    )
    items: list[dict[str, Any]] | None = Field(
        None,
        description="Of a ranking: each becomes an impression at its place.",
        examples=[[{"id": "181"}, {"id": "50"}]],
    )
    fields: list[dict[str, Any]] = Field(
        [],
        description="Of an item or user: attributes that changed (`title`, `text`, `url` and "
        "`image_url` are the item's own); "
        "of an interaction: `value`.",
        examples=[
            [
                {"name": "title", "value": "Return of the Jedi"},
                {"name": "genre", "value": ["Sci-Fi"]},
            ]
        ],
    )


class Accepted(BaseModel):
    status: str = Field(
        "ok", description="Always ok: if nothing was taken the answer is an error.", examples=["ok"]
    )
    accepted: int = Field(description="How many of the events were taken.", examples=[1])
    updated: int = Field(
        description="How many rows of ours are new: impressions, events, items, users.",
        examples=[3],
    )
    took_millis: int = Field(alias="tookMillis", description="How long it took.", examples=[4])
    rejected: list[Rejection] | None = Field(
        None, description="Why others were not taken; absent if all were."
    )
    skipped: int | None = Field(
        None, description="How many rankings were shown to nobody in particular; absent if none."
    )
    warnings: list[str] | None = Field(
        None, description="What may not be as it was meant, in words; absent if nothing."
    )


@router.post(
    "/feedback",
    tags=["Metarank"],
    summary="Take Metarank's events",
    response_model_exclude_none=True,
    openapi_extra=shown_body(MetarankEvent),
)
async def feedback(feed: FeedDep, ingest: IngestDep) -> Accepted:
    """Items and users keep the attributes that an event does not name. Accepted events are on disk
    before this answers."""
    start = time.perf_counter()
    taken = await ingest.foreign_rows("metarank", feed.rows)
    report = feed.report(taken)
    return Accepted(
        accepted=len(feed.rows) - len(taken.rejected) - taken.skipped,
        updated=report.accepted,
        tookMillis=round((time.perf_counter() - start) * 1_000),
        rejected=report.rejected or None,
        skipped=taken.skipped or None,
        warnings=report.warnings or None,
    )


# ── Amazon Personalize ────────────────────────────────────────────────────────────────────────────

PROPERTIES = "A JSON object in a string; `Comedy|Romance` is a list of two."
ARN = "arn:aws:personalize:us-west-2:123456789012:dataset/films/ITEMS"


class Camel(BaseModel):
    """Base of bodies whose fields are written in camelCase, as Amazon Personalize has them."""

    model_config = ConfigDict(alias_generator=to_camel, json_schema_extra=by_field)


class PersonalizeEvent(Camel):
    event_type: str = Field(
        description="The event's type; `AddToCart` is `add_to_cart`.", examples=["Click"]
    )
    sent_at: float = Field(description="When, in seconds since 1970.", examples=[1769860800])
    event_id: str | None = Field(
        None, description="The caller's own id: sent again, it changes nothing.", examples=["e-1"]
    )
    item_id: str | None = Field(None, description="With which item.", examples=["181"])
    event_value: float | None = Field(None, description="As a rating of 1 to 5.", examples=[4.5])
    recommendation_id: str | None = Field(
        None, description="The `ranking_id` of what was shown.", examples=["rk-ff0d8b5b754c4e53"]
    )
    impression: list[str] | None = Field(
        None,
        description="What was shown, in this order: each becomes an impression.",
        examples=[["181", "50"]],
    )
    properties: str | None = Field(
        None,
        description="Of it `itemId` and `eventValue` are read.",
        examples=['{"itemId": "181"}'],
    )


class PutEvents(Camel):
    tracking_id: str | None = Field(None, description="Not used.", examples=["films"])
    user_id: str | None = Field(None, description="By whom; absent: a visitor.", examples=["127"])
    session_id: str = Field(description="In which visit.", examples=["s1"])
    event_list: list[PersonalizeEvent] = Field(description="What was done.")


class PersonalizeItem(Camel):
    item_id: str = Field(description="The caller's own id.", examples=["181"])
    properties: str | None = Field(
        None,
        description=f"{PROPERTIES} `title` or `name`, `text` or `description`, `url`, "
        f"`imageUrl` and `creationTimestamp` are "
        "the item's own, the rest are attributes.",
        examples=[
            '{"title": "Return of the Jedi", "genres": "Action|Sci-Fi", "creationTimestamp": '
            "422668800}"
        ],
    )


class PutItems(Camel):
    dataset_arn: str | None = Field(None, description="Not used.", examples=[ARN])
    items: list[PersonalizeItem] = Field(description="Inserted or replaced.")


class PersonalizeUser(Camel):
    user_id: str = Field(description="The caller's own id.", examples=["127"])
    properties: str | None = Field(
        None, description=f"{PROPERTIES} All are attributes.", examples=['{"age": 33}']
    )


class PutUsers(Camel):
    dataset_arn: str | None = Field(
        None, description="Not used.", examples=[ARN.replace("ITEMS", "USERS")]
    )
    users: list[PersonalizeUser] = Field(
        description="Inserted or replaced; `locale`, `allow_hosted` and `profile` stay."
    )


@router.post(
    "/events",
    tags=["Amazon Personalize"],
    summary="PutEvents",
    openapi_extra=shown_body(PutEvents, eventList=PersonalizeEvent),
)
async def put_events(feed: FeedDep, ingest: IngestDep) -> IngestReport:
    """An accepted event is on disk before this answers. Each event of `eventList` is accepted or
    rejected by itself; `index` is its place there."""
    return await _take(ingest, "events", "eventList", feed)


@router.post(
    "/items",
    tags=["Amazon Personalize"],
    summary="PutItems",
    openapi_extra=shown_body(PutItems, items=PersonalizeItem),
)
async def put_items(feed: FeedDep, ingest: IngestDep) -> IngestReport:
    """Durable before this answers; vectors follow in the background."""
    return await _take(ingest, "items", "items", feed)


@router.post(
    "/users",
    tags=["Amazon Personalize"],
    summary="PutUsers",
    openapi_extra=shown_body(PutUsers, users=PersonalizeUser),
)
async def put_users(feed: FeedDep, ingest: IngestDep) -> IngestReport:
    """Durable before this answers, and the next ranking knows it."""
    return await _take(ingest, "users", "users", feed)


async def _take(ingest: IngestDep, name: Feed, key: str, feed: FeedDep) -> IngestReport:
    """Ingests each element of the body's list `key` as a row of its own, so that a bad element
    stops no other. A body without such a list is ingested whole, which refuses it."""
    body = feed.only()
    elements = body.get(key) if isinstance(body, dict) else None
    several = elements if isinstance(elements, list) else []
    rows = [{**body, key: [element]} for element in several] or [body]
    return FeedBody(rows).report(await ingest.foreign_rows("personalize", rows, name))
