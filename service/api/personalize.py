"""Amazon Personalize's PutEvents, PutItems and PutUsers, at the paths of its own API.

Its clients read only the status of an answer; our answers also say what was taken.
"""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from service.api.needs import FeedBody, FeedDep, IngestDep, JsonRoute, shown_body
from service.api.shapes import by_field
from service.schema import Feed, IngestReport

router = APIRouter(tags=["Amazon Personalize"], route_class=JsonRoute)

PROPERTIES = "A JSON object in a string; `Comedy|Romance` is a list of two."
ARN = "arn:aws:personalize:us-west-2:123456789012:dataset/films/ITEMS"


class Camel(BaseModel):
    """In Personalize's spelling."""

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
    "/events", summary="PutEvents", openapi_extra=shown_body(PutEvents, eventList=PersonalizeEvent)
)
async def put_events(feed: FeedDep, ingest: IngestDep) -> IngestReport:
    """An accepted event is on disk before this answers. Each event of `eventList` is accepted or
    rejected by itself; `index` is its place there."""
    return await _take(ingest, "events", "eventList", feed)


@router.post(
    "/items", summary="PutItems", openapi_extra=shown_body(PutItems, items=PersonalizeItem)
)
async def put_items(feed: FeedDep, ingest: IngestDep) -> IngestReport:
    """Durable before this answers; vectors follow in the background."""
    return await _take(ingest, "items", "items", feed)


@router.post(
    "/users", summary="PutUsers", openapi_extra=shown_body(PutUsers, users=PersonalizeUser)
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
