"""Metarank's `POST /feedback`, which takes events about items and users, rankings and interactions
in one list."""

import time
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from service.api.needs import FeedDep, IngestDep, JsonRoute, shown_body
from service.schema import Rejection

router = APIRouter(tags=["Metarank"], route_class=JsonRoute)


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
