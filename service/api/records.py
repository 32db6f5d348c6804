"""`/v1/events`, `/v1/items`, `/v1/users`: what people do, what can be shown, and what is known of
whom."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Self

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from service.api.edge import REFUSALS
from service.api.needs import (
    LINES,
    CursorQuery,
    FeedDep,
    IngestDep,
    JsonRoute,
    LimitQuery,
    Page,
    PathId,
    PreviewerDep,
    RecordsDep,
    feed_body,
    page_of,
    place_of,
    refuse_unknown_queries,
)
from service.schema import (
    Attributes,
    Event,
    IngestReport,
    Item,
    LoggedRanking,
    ProfileSource,
    Ranked,
    Ranking,
    Recent,
    ShadowRanking,
    User,
    UserPatch,
    UserState,
    Value,
)

router = APIRouter(
    prefix="/v1",
    tags=["feeds"],
    route_class=JsonRoute,
    dependencies=[Depends(refuse_unknown_queries)],
    responses=REFUSALS,
)


# ── events ────────────────────────────────────────────────────────────────────────────────────────


@router.post("/events", summary="Take events, one or many", openapi_extra=feed_body(Event))
async def events(feed: FeedDep, ingest: IngestDep) -> IngestReport:
    """Stores events. Those accepted are on disk before this answers, and the very next ranking
    uses them. Sending an event again is harmless."""
    return feed.report(await ingest.events(feed.rows))


# ── items ─────────────────────────────────────────────────────────────────────────────────────────


@router.post(
    "/items", summary="Insert or replace items, one or many", openapi_extra=feed_body(Item)
)
async def put_items(feed: FeedDep, ingest: IngestDep) -> IngestReport:
    """Accepted items are on disk before this answers; their vectors are computed in the background
    (`/readyz` shows how many wait)."""
    return feed.report(await ingest.items(feed.rows))


@router.get("/items", summary="All items, a page at a time")
async def list_items(
    records: RecordsDep, cursor: CursorQuery = None, limit: LimitQuery = 100
) -> Page[Item]:
    """By id. Items that were there at the first page come once, whatever arrives or changes
    meanwhile."""
    return await page_of("items", cursor, limit, records.list_items, lambda item: item.id)


@router.get("/items/{item_id}", summary="One item")
async def get_item(item_id: PathId, records: RecordsDep) -> Item:
    """As it was last sent, with defaults filled in."""
    return await records.item(item_id)


@router.delete("/items/{item_id}", status_code=204, summary="Take an item out of the catalogue")
async def delete_item(item_id: PathId, records: RecordsDep) -> None:
    """Events about it are kept, and count again if the item returns."""
    await records.delete_item(item_id)


# ── users ─────────────────────────────────────────────────────────────────────────────────────────


class State(BaseModel):
    """What a ranking may know of a person, except vectors."""

    version: int = Field(description="Raised by everything that they do or declare.")
    source: ProfileSource = Field(description="What there is to go by.")
    recent: list[Recent] = Field(
        description="What a model is shown: the latest likes and searches, oldest first."
    )
    interests: list[float] = Field(
        description="The weight of each of their tastes, heaviest first; they sum to 1."
    )
    likes: dict[str, float] = Field(
        description="By id of the latest liked items, oldest first, a weight in (0, 1]."
    )
    attributes: Attributes = Field(description="What they declared.")
    locale: str | None = Field(description="Language of what they read; null: the prompts' own.")
    allow_hosted: bool = Field(description="May a hosted model see them?")
    seen: list[str] = Field(description="Ids of what is not shown again: consumed, or blocked.")
    avoid: list[str] = Field(description="What they don't like, in their own words.")

    @classmethod
    def of(cls, person: UserState) -> Self:
        return cls(
            version=person.version,
            source=person.source,
            recent=list(person.recent),
            interests=[taste.weight for taste in person.interests],
            likes=dict(person.likes),
            attributes=person.attributes,
            locale=person.locale,
            allow_hosted=person.allow_hosted,
            seen=sorted(person.seen),
            avoid=sorted(person.avoid),
        )


KINDS: dict[type[Value], str] = {
    User: "user",
    Event: "event",
    LoggedRanking: "shown",
    ShadowRanking: "unshown",
}
"""What the lines of an export are called."""


def _line(value: Value) -> str:
    """A line of an export, under the name of the value's kind."""
    return f'{{"{KINDS[type(value)]}": {value.model_dump_json()}}}\n'


def _example_export() -> str:
    """An export with a line of each kind, for OpenAPI."""
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    ranking = Ranking(
        ranking_id="rk-ff0d8b5b754c4e53",
        items=[Ranked(rank=1, item_id="181", score=0.908)],
        strategy="prior",
    )
    values = (
        User(user_id="127"),
        Event(
            user_id="127",
            item_id="181",
            type="play",
            occurred_at=at,
            ranking_id=ranking.ranking_id,
            position=0,
        ),
        LoggedRanking(shown_at=at, domain="movies", ranking=ranking),
    )
    return "".join(map(_line, values))


@router.post(
    "/users", summary="Insert or replace users, one or many", openapi_extra=feed_body(User)
)
async def put_users(feed: FeedDep, ingest: IngestDep) -> IngestReport:
    """Fields that are left out get their defaults; `PATCH` changes some fields only. Events of the
    users stay."""
    return feed.report(await ingest.users(feed.rows))


@router.get("/users", summary="All users, a page at a time")
async def list_users(
    records: RecordsDep, cursor: CursorQuery = None, limit: LimitQuery = 100
) -> Page[User]:
    """By id. Users who acted without declaring anything are among them; visitors, who have only a
    session, are not."""
    return await page_of("users", cursor, limit, records.list_users, lambda user: user.user_id)


@router.get("/users/{user_id}/events", summary="What a user did, a page at a time")
async def list_events(
    user_id: PathId,
    records: RecordsDep,
    cursor: CursorQuery = None,
    limit: LimitQuery = 100,
) -> Page[Event]:
    """In the order in which they arrived."""
    page = await page_of(
        "events",
        cursor,
        limit,
        lambda key, most: records.list_events(user_id, place_of(key), most),
        lambda row: row[0],
    )
    return Page(data=[event for _, event in page.data], next_cursor=page.next_cursor)


@router.get("/users/{user_id}", summary="One user")
async def get_user(user_id: PathId, records: RecordsDep) -> User:
    """What they declared; defaults for a user who only acted."""
    return await records.user(user_id)


@router.patch("/users/{user_id}", summary="Change some fields of a user")
async def patch_user(user_id: PathId, change: UserPatch, records: RecordsDep) -> User:
    """Answers with all fields, as the next ranking will see them."""
    return await records.patch_user(user_id, change)


@router.delete("/users/{user_id}", status_code=204, summary="Forget a user")
async def delete_user(user_id: PathId, records: RecordsDep) -> None:
    """Deletes them with their events and what they were shown. The popularity of items, which names
    nobody, stays."""
    await records.forget(user_id)


@router.get("/users/{user_id}/state", summary="What a ranking would know of a user now")
async def get_state(user_id: PathId, previewer: PreviewerDep) -> State:
    """As of every event accepted so far."""
    return State.of(await previewer.state(user_id))


@router.get(
    "/users/{user_id}/export",
    summary="All that is stored of a user",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "JSON lines",
            "content": {LINES: {"schema": {"type": "string"}, "example": _example_export()}},
        }
    },
)
async def export_user(user_id: PathId, records: RecordsDep) -> StreamingResponse:
    """JSON lines. `user` is what they declared; each `event` is what they did, in the order in
    which it arrived; each `shown` is a ranking and when they were shown it, the earliest first;
    each `unshown` is what a shadow model would have shown."""
    return StreamingResponse(_lines(await records.export(user_id)), media_type=LINES)


async def _lines(parts: AsyncGenerator[Value, None]) -> AsyncGenerator[str, None]:
    async with aclosing(parts):
        async for part in parts:
            yield _line(part)
